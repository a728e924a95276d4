//! What the relay will do: everything checked, files read, defaults applied, nothing left to
//! contradict.
//!
//! [`Config::build`] turns what an operator gave ([`Gathered`]) into a [`Config`], or tells *all*
//! that is wrong with it. It changes nothing: keys and certificates that are missing are made when
//! the relay starts, so that `derper check-config` can build a configuration too.
//!
//! The reference's flags alone give the reference's behaviour; with a configuration file (or
//! `quickstart`) some rules are stricter. [`Manner`] says which it is.

mod access;
mod admission;
mod doorway;
mod identity;
mod limits;
mod listen;
mod logs;
mod mesh;
mod pages;
mod paths;
mod places;
mod proxies;
mod rates;
mod reader;
mod tls;
mod unbuilt;

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use derp_ops::debug_access::DebugAccess;
use derp_ops::logging::Logging;
use derp_server::{AcceptLimit, DrainPlan, ProxyProtocol, SocketOptions, TrustedProxies, Tunables};

pub use self::admission::{Admission, GoVerify, Lists, Opened, OurVerify, Policy, Remote, Source};
pub use self::doorway::{Door, Doorway};
pub use self::identity::KeyPlan;
pub use self::listen::{Listen, ListenAddr, OnBindFailure, Stun};
pub use self::mesh::{Mesh, MeshPeer};
pub use self::pages::Pages;
pub use self::places::{ExtraPlace, Place};
use self::reader::Reader;
pub use self::tls::{Acme, Tls};
use crate::env::Vars;
use crate::gather::Gathered;
use crate::host::Host;
use crate::problem::Mistakes;
use crate::settings;

/// Whose rules apply where the reference's and ours differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// The reference's: TLS by port, a STUN port in use is a warning, other people's access to
    /// key files too.
    Go,
    /// Ours: TLS by mode, and what is wrong stops the start.
    Ours,
}

/// What the relay will do.
#[derive(Debug)]
pub struct Config {
    /// Whose rules apply.
    pub manner: Manner,
    /// `-dev`: for development, on this machine.
    pub dev: bool,
    /// What clients reach the relay by.
    pub host: Host,
    /// Whether the operator said so; otherwise it is the reference's default.
    pub host_is_given: bool,
    /// Ports.
    pub listen: Listen,
    /// The port that clients connect to, where it is a proxy's.
    pub public_port: Option<u16>,
    /// Which connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
    /// Whose HTTP headers are believed.
    pub trusted_proxies: TrustedProxies,
    /// STUN, unless it is off.
    pub stun: Option<Stun>,
    /// Certificates.
    pub tls: Tls,
    /// The relay's private key.
    pub key: KeyPlan,
    /// The region's other relays.
    pub mesh: Mesh,
    /// Who may use the relay.
    pub admission: Admission,
    /// How fast new connections are taken; `None` for as fast as they come.
    pub accept_limit: Option<AcceptLimit>,
    /// How much clients may use, and how long things may take.
    pub tunables: Tunables,
    /// What is set on every connection.
    pub socket: SocketOptions,
    /// Whether the kernel is asked for round-trip times.
    pub rtt_stats: bool,
    /// How the relay stops.
    pub drain: DrainPlan,
    /// What the web pages say.
    pub pages: Pages,
    /// Who may see the pages under `/debug/`.
    pub debug: DebugAccess,
    /// What is logged, and how.
    pub logging: Logging,
    /// How many files with secrets others than their owner may read.
    pub too_open: u64,
    /// What an operator should look at, though it does not stop the relay.
    pub warnings: Vec<String>,
}

/// How long a login may wait for its turn where many ask a verifier at once, besides the time
/// that an answer may take.
const VERIFY_QUEUE_TIME: Duration = Duration::from_secs(7);

/// What a configuration depends on besides what the operator gave.
#[derive(Clone)]
pub struct Surroundings {
    /// The environment, for directories such as `HOME`.
    pub vars: Vars,
    /// Whether the user is root.
    pub is_root: bool,
    /// The wall clock, for certificates.
    pub now: SystemTime,
    /// How many bytes of memory this process may use, where that is limited.
    pub memory_limit: Option<u64>,
    /// How many files this process may have open, where that is limited.
    pub file_limit: Option<u64>,
}

impl fmt::Debug for Surroundings {
    // Variables may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("is_root", &self.is_root)
            .field("now", &self.now)
            .field("memory_limit", &self.memory_limit)
            .field("file_limit", &self.file_limit)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Checks everything.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn build(gathered: Gathered, surroundings: &Surroundings) -> Result<Self, Mistakes> {
        let mut reader = Reader::new(gathered, surroundings);
        let reader = &mut reader;
        let dev = reader.switch(&settings::DEV);
        let listen = Listen::read(reader, dev);
        let host = identity::host(reader);
        let tls = Tls::read(reader, &listen, host.as_ref(), dev);
        let mut config = Self {
            manner: reader.manner(),
            dev,
            public_port: None,
            proxy_protocol: proxies::proxy_protocol(reader, &listen),
            trusted_proxies: proxies::trusted(reader),
            stun: Stun::read(reader, &listen),
            key: KeyPlan::read(reader, dev),
            mesh: Mesh::read(reader, dev),
            admission: Admission::read(reader, listen.derp),
            accept_limit: limits::accept_limit(reader),
            tunables: limits::tunables(reader),
            socket: limits::socket_options(reader),
            rtt_stats: reader.switch(&settings::TCP_RTT_STATS),
            drain: limits::drain_plan(reader),
            pages: Pages::read(reader),
            debug: access::read(reader),
            logging: logs::read(reader),
            host_is_given: reader.given(&settings::HOSTNAME).is_some(),
            host: host.unwrap_or_else(identity::default_host),
            listen: listen.with_tls(tls.is_served()),
            tls,
            too_open: 0,
            warnings: Vec::new(),
        };
        if config.admission.asks_others() {
            config.tunables.verify_timeout += VERIFY_QUEUE_TIME;
        }
        config.public_port = proxies::public_port(reader, &config);
        proxies::check_stun(reader, &config);
        unbuilt::check(reader);
        let too_open = reader.too_open();
        let warnings = reader.finish()?;
        Ok(Self {
            too_open,
            warnings,
            ..config
        })
    }

    /// Whether proxies in front say where clients connect from.
    #[must_use]
    pub fn is_told_where_clients_are(&self) -> bool {
        self.proxy_protocol != ProxyProtocol::Off
            || self.trusted_proxies != TrustedProxies::default()
    }
}

/// The admin socket alone, for commands that ask a relay whose configuration may have gone bad since
/// it was started.
///
/// # Errors
/// There is none, and there are mistakes.
pub fn admin_socket(
    gathered: Gathered,
    surroundings: &Surroundings,
) -> Result<Option<PathBuf>, Mistakes> {
    let mut reader = Reader::new(gathered, surroundings);
    match listen::admin_socket(&mut reader) {
        // Mistakes in the rest are no reason not to ask.
        Some(socket) => Ok(Some(socket)),
        None => reader.finish().map(|_| None),
    }
}
