//! The command line.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::relay::Relay;
use crate::report::Times;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "torture",
    about = "Attacks a relay on this machine and tells whether it stood"
)]
pub(crate) struct Cli {
    /// The relay's process.
    #[arg(long)]
    pid: u32,
    /// Where it listens.
    #[arg(long)]
    addr: SocketAddr,
    /// It speaks plain HTTP.
    #[arg(long)]
    plain: bool,
    /// Where it speaks plain HTTP beside TLS, on the same machine.
    #[arg(long)]
    http_port: Option<u16>,
    /// Where its STUN server listens, on the same machine.
    #[arg(long)]
    pub(crate) stun_port: Option<u16>,
    /// The file that it logs to.
    #[arg(long)]
    pub(crate) log: Option<PathBuf>,
    /// The folder with its certificate.
    #[arg(long)]
    pub(crate) cert_dir: Option<PathBuf>,
    /// The port at which it looks for an admission controller.
    #[arg(long)]
    pub(crate) controller_port: Option<u16>,
    /// The socket at which it looks for a tailscaled.
    #[arg(long)]
    pub(crate) tailscaled: Option<PathBuf>,
    /// The file with the keys that it admits; it follows what the file says.
    #[arg(long)]
    pub(crate) allowlist: Option<PathBuf>,
    /// The folder of the control group that it runs in.
    #[arg(long)]
    pub(crate) control_group: Option<PathBuf>,
    /// The socket at which it tells its operators of its clients.
    #[arg(long)]
    pub(crate) admin_socket: Option<PathBuf>,
    /// The address of the one whose PROXY headers it believes.
    #[arg(long)]
    pub(crate) proxy: Option<Ipv4Addr>,
    /// How often it says that it is there, in seconds.
    #[arg(long, default_value_t = 60)]
    pub(crate) keep_alive: u64,
    /// Smaller and shorter; times and CPU are told, and do not decide.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Deadlines are only told as well: for a machine that has other work.
    #[arg(long)]
    times_told: bool,
    /// What to do.
    #[arg(value_enum)]
    pub(crate) row: Row,
}

impl Cli {
    pub(crate) fn relay(&self) -> Result<Relay> {
        let mut relay = Relay::new(self.addr, self.pid, self.plain)?;
        relay.wants_proxy_header = matches!(self.row, Row::ProxyHeader | Row::StallStagesProxy);
        Ok(relay)
    }

    /// The relay as it is reached over plain HTTP beside TLS.
    pub(crate) fn port_80(&self) -> Result<Relay> {
        let port = self.http_port.context("--http-port")?;
        Relay::new(SocketAddr::new(self.addr.ip(), port), self.pid, true)
    }

    /// How much times weigh.
    pub(crate) const fn times(&self) -> Times {
        match (self.times_told, self.quick) {
            (true, _) => Times::Told,
            (false, true) => Times::Deadlines,
            (false, false) => Times::Decide,
        }
    }

    /// `full` in a full run, `quick` in a quick one.
    pub(crate) const fn scale<T: Copy>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// After this time something is stuck.
    pub(crate) const fn limit(&self) -> Duration {
        Duration::from_secs(self.scale(1500, 200))
    }
}

/// A way to attack a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Row {
    /// Streams that are almost, or not at all, what a relay expects.
    MalformedStreams,
    /// Memory of clients that do nothing, over TLS 1.3.
    IdleMemoryTls13,
    /// The same over TLS 1.2.
    IdleMemoryTls12,
    /// The same over WebSocket.
    IdleMemoryWebsocket,
    /// Connections on which nothing is sent.
    SilentConnections,
    /// The same on the port for plain HTTP.
    #[value(name = "silent-connections-port-80")]
    SilentConnectionsPort80,
    /// Connections that stop, or go on a byte at a time, at each step.
    StallStages,
    /// The same on the port for plain HTTP.
    #[value(name = "stall-stages-port-80")]
    StallStagesPort80,
    /// The same where each connection must begin with a PROXY header.
    StallStagesProxy,
    /// Many logins of a size that is announced and never comes.
    AnnouncedLengths,
    /// Clients that no longer read what is sent to them.
    StalledReaders,
    /// TLS handshakes as fast as it goes, and what packets feel of it.
    HandshakeFlood,
    /// More connections than the relay may have files.
    DescriptorExhaustion,
    /// Many more connections than the relay takes in a second.
    AcceptLimit,
    /// An admission controller that lies, breaks or is gone.
    VerifierFaults,
    /// A tailscaled that never answers.
    HungTailscaled,
    /// SIGTERM under load.
    Drain,
    /// New certificates under load.
    CertificateRotation,
    /// Clients that come, send one packet and leave.
    Churn,
    /// Many connections with one key.
    DuplicateKeys,
    /// Datagrams that are no STUN requests.
    StunHostile,
    /// Connections in which the relay's own code panics.
    PanicIsolation,
    /// Everything at once in little memory.
    MemoryCeiling,
    /// How much a million strangers make the relay write.
    LogVolume,
    /// The same by many that are not admitted.
    LogVolumeDenied,
    /// Requests for pages, with long queries and many names.
    PageMemory,
    /// What is no PROXY header, where each connection must begin with one.
    ProxyHeader,
    /// Good PROXY headers from those who are no proxy.
    ProxySpoofed,
    /// Clients that are cut off the network.
    DeadPeer,
    /// Not an attack: two clients that log in and do nothing until standard input ends.
    HoldTwo,
}
