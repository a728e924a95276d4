//! Addresses to listen on, written as in Go, and binding them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;
use tokio::net::TcpListener;

/// Connections that wait to be accepted; what the reference's listeners get from Linux.
const BACKLOG: i32 = 4096;

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddr {
    /// The address, or `None` for all of this machine's, IPv4 and IPv6.
    pub ip: Option<IpAddr>,
    /// The port; 0 for any free one.
    pub port: u16,
}

impl ListenAddr {
    /// What Go binds where it is told this address.
    fn at(ip: IpAddr, port: u16) -> Self {
        let ip = ip.to_canonical();
        Self {
            ip: Some(ip).filter(|ip| !ip.is_unspecified()),
            port,
        }
    }

    /// The same address with another port.
    #[must_use]
    pub const fn with_port(self, port: u16) -> Self {
        Self { ip: self.ip, port }
    }

    /// The address to bind; for all addresses, the one that takes IPv4 as well.
    #[must_use]
    pub fn socket_addr(self) -> SocketAddr {
        SocketAddr::new(
            self.ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
            self.port,
        )
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(ip) => SocketAddr::new(ip, self.port).fmt(f),
            None => write!(f, ":{}", self.port),
        }
    }
}

impl FromStr for ListenAddr {
    type Err = String;

    /// Reads `:port`, `ip:port` or `[ip6]:port`, and `https` for a port, as Go does. A name is
    /// looked up, for the reference takes `localhost:8443`. To Go `0.0.0.0` and `::` are all
    /// addresses of both families, and an IPv4 address written as IPv6 is the IPv4 address.
    fn from_str(text: &str) -> Result<Self, String> {
        const FORMS: &str = "write it like :443, 192.0.2.1:443 or [2001:db8::1]:443";
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(format!("there is no port; {FORMS}"));
        };
        let port = match port {
            "https" => 443,
            "http" => 80,
            port => port
                .parse()
                .map_err(|_| format!("{port:?} is not a port; {FORMS}"))?,
        };
        if let Some(inner) = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            let ip = inner.parse::<Ipv6Addr>();
            let ip = ip.map_err(|_| format!("{inner:?} is not an IPv6 address; {FORMS}"))?;
            return Ok(Self::at(ip.into(), port));
        }
        if host.is_empty() {
            return Ok(Self { ip: None, port });
        }
        if host.contains(':') {
            return Err(format!("an IPv6 address needs brackets; {FORMS}"));
        }
        if let Ok(ip) = host.parse() {
            return Ok(Self::at(ip, port));
        }
        let found: Vec<SocketAddr> = match (host, port).to_socket_addrs() {
            Ok(found) => found.collect(),
            Err(_) => {
                return Err(format!(
                    "{host:?} is not an address of this machine; {FORMS}"
                ));
            }
        };
        // Go listens on the first IPv4 address of a name.
        let first = found
            .iter()
            .find(|addr| addr.is_ipv4())
            .or_else(|| found.first());
        match first {
            Some(addr) => Ok(Self::at(addr.ip(), port)),
            None => Err(format!("{host:?} has no address; {FORMS}")),
        }
    }
}

/// A port that cannot be had. `Display` says what to do.
#[derive(Debug, Error)]
#[error("cannot listen on {protocol} {address} ({flag}){}", remedy(source, address.port()))]
pub struct BindError {
    /// TCP or UDP.
    pub protocol: &'static str,
    /// What was to be bound.
    pub address: SocketAddr,
    /// What the operator calls it.
    pub flag: &'static str,
    /// Why not.
    pub source: io::Error,
}

fn remedy(err: &io::Error, port: u16) -> String {
    match err.kind() {
        io::ErrorKind::AddrInUse => {
            format!("; another program has the port: ss -lnptu 'sport = :{port}' shows which")
        }
        io::ErrorKind::PermissionDenied if port < 1024 => {
            "; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address".to_owned(),
        _ => String::new(),
    }
}

/// Binds a TCP port; `flag` is the one that chooses it. Within a runtime of tokio.
///
/// # Errors
/// [`BindError`], with what to do.
pub fn bind_tcp(address: ListenAddr, flag: &'static str) -> Result<TcpListener, BindError> {
    let bound = bind(address.socket_addr()).or_else(|err| match address.ip {
        // A machine without IPv6 still has IPv4.
        None if err.raw_os_error() == Some(no_such_family()) => bind(SocketAddr::new(
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            address.port,
        )),
        _ => Err(err),
    });
    bound.map_err(|source| BindError {
        protocol: "TCP",
        address: address.socket_addr(),
        flag,
        source,
    })
}

/// What the system says that has no IPv6.
#[must_use]
pub fn no_such_family() -> i32 {
    rustix::io::Errno::AFNOSUPPORT.raw_os_error()
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // A program that restarts finds its port full of connections that linger.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_in_go() {
        let addr = |ip: &str, port| ListenAddr {
            ip: ip.parse().ok(),
            port,
        };
        let cases = [
            (":443", addr("", 443)),
            (":https", addr("", 443)),
            (":0", addr("", 0)),
            ("192.0.2.1:8443", addr("192.0.2.1", 8443)),
            ("0.0.0.0:443", addr("", 443)),
            ("[::]:443", addr("", 443)),
            ("[::ffff:192.0.2.1]:443", addr("192.0.2.1", 443)),
            ("[2001:db8::1]:443", addr("2001:db8::1", 443)),
            ("localhost:8010", addr("127.0.0.1", 8010)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!(addr("", 443).to_string(), ":443");
        assert_eq!(addr("2001:db8::1", 443).to_string(), "[2001:db8::1]:443");
        assert_eq!(addr("", 443).socket_addr().to_string(), "[::]:443");
    }

    #[tokio::test]
    async fn whoever_listens_on_all_addresses_of_ipv4_is_reached_by_ipv6_too() {
        let address: ListenAddr = "0.0.0.0:0".parse().unwrap();
        let listener = bind_tcp(address, "-a").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut loopback = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
        // A machine may have no IPv6 at all.
        if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            loopback.push(Ipv6Addr::LOCALHOST.into());
        }
        for ip in loopback {
            let reached = tokio::net::TcpStream::connect((ip, port)).await;
            assert!(reached.is_ok(), "{ip}: {reached:?}");
        }
    }

    #[test]
    fn what_is_no_address_says_how_one_looks() {
        let cases = [
            ("443", "there is no port"),
            (":", "\"\" is not a port"),
            (":99999", "\"99999\" is not a port"),
            (":-1", "\"-1\" is not a port"),
            ("2001:db8::1:443", "an IPv6 address needs brackets"),
            ("[192.0.2.1]:443", "\"192.0.2.1\" is not an IPv6 address"),
            (
                "256.0.2.1.invalid:443",
                "\"256.0.2.1.invalid\" is not an address of this machine",
            ),
        ];
        for (text, what) in cases {
            let forms = "write it like :443, 192.0.2.1:443 or [2001:db8::1]:443";
            assert_eq!(
                text.parse::<ListenAddr>(),
                Err(format!("{what}; {forms}")),
                "{text}"
            );
        }
    }
}
