//! Where the relay can be asked whether it works, by whoever is on its machine.
//!
//! Only what that takes is read of a configuration: a relay whose certificate files have gone bad
//! goes on with the old ones, and is healthy although its configuration is not good any more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use derp_server::ProxyProtocol;

use super::listen::Listen;
use super::places::Place;
use super::reader::Reader;
use super::{Surroundings, identity, proxies, tls};
use crate::gather::Gathered;
use crate::host::Host;
use crate::problem::Mistakes;
use crate::settings::DEV;

/// The relay's main listener, as seen from its own machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doorway {
    /// Where it is; never an unspecified address.
    pub place: Door,
    /// Whether a connection from this machine begins with a PROXY header.
    pub wants_proxy_header: bool,
    /// Whom to ask for by TLS; `None` for plain HTTP.
    pub tls: Option<Host>,
}

/// What to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A Unix socket with this path.
    Unix(std::path::PathBuf),
}

impl Doorway {
    /// Reads where the relay listens, and how.
    ///
    /// # Errors
    /// All mistakes in the settings that say so.
    pub fn read(gathered: Gathered, surroundings: &Surroundings) -> Result<Self, Mistakes> {
        let mut reader = Reader::new(gathered, surroundings);
        let reader = &mut reader;
        let dev = reader.switch(&DEV);
        let listen = Listen::read(reader, dev);
        let host = identity::host(reader);
        let is_tls = tls::is_wanted(reader, &listen, dev);
        let policy = proxies::proxy_protocol(reader, &listen);
        let place = match listen.main() {
            Place::Unix(path) => Door::Unix(path),
            Place::Tcp(address) => {
                if address.port == 0 {
                    reader.problem("the relay listens on any free port, and only it knows which");
                }
                let ip = near(address.socket_addr().ip());
                Door::Tcp(SocketAddr::new(ip, address.port))
            }
        };
        let wants_proxy_header = match (&policy, &place) {
            (ProxyProtocol::Off, _) => false,
            (ProxyProtocol::From(networks), Door::Tcp(address)) => {
                // Whoever connects to an address of this machine comes from that address.
                networks
                    .iter()
                    .any(|network| network.contains(&address.ip()))
            }
            _ => true,
        };
        reader.finish()?;
        Ok(Self {
            place,
            wants_proxy_header,
            tls: is_tls.then(|| host.unwrap_or_else(identity::default_host)),
        })
    }
}

/// The address to connect to where `ip` is listened on. Sockets of all addresses take IPv4, and
/// there may be no IPv6.
const fn near(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) | IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        }
        ip => ip,
    }
}
