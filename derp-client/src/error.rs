//! How connecting, receiving and sending fail, by whose fault.

use std::io;
use std::time::Duration;

use derp_proto::{DecodeError, FrameType, HandshakeError};
use thiserror::Error;

use crate::proxy::ProxyError;
use crate::target::TargetError;
use crate::upgrade::UpgradeError;
use crate::websocket::WebSocketError;

/// A connection that did not come about: to which server, and why.
#[derive(Debug, Error)]
#[error("cannot connect to {server}")]
pub struct ConnectError {
    server: String,
    #[source]
    fault: Fault,
}

impl ConnectError {
    pub(crate) fn new(server: impl Into<String>, fault: Fault) -> Self {
        Self {
            server: server.into(),
            fault,
        }
    }

    /// The server as an operator knows it: the node's name, host and port, or the URL.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// What went wrong.
    #[must_use]
    pub const fn fault(&self) -> &Fault {
        &self.fault
    }
}

/// Why a connection did not come about.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The map's or the operator's: the server's description cannot be used. Nothing was sent.
    #[error("its description cannot be used")]
    Target(#[source] TargetError),
    /// This machine's: the system has no root certificates that can be read.
    #[error("no root certificates to trust")]
    Roots(#[source] io::Error),
    /// The resolver's: the host name could not be looked up.
    #[error("its name cannot be looked up")]
    Dns(#[source] io::Error),
    /// The resolver's: the host name has no address of a family that may be used.
    #[error("its name has no usable address")]
    NoAddress,
    /// The network's or the server's: no TCP connection.
    #[error("no TCP connection")]
    Tcp(#[source] io::Error),
    /// Somebody's on the way: a step took too long.
    #[error("{stage} took longer than {within:?}")]
    Timeout {
        /// The step that was under way.
        stage: Stage,
        /// The time that there was for this step or, if that is shorter, for the rest of them.
        within: Duration,
    },
    /// The proxy's.
    #[error("the proxy does not connect")]
    Proxy(#[source] ProxyError),
    /// The server's: it did not prove that it is the one meant.
    #[error("its certificate is refused")]
    Certificate(#[source] rustls::Error),
    /// The server's or the network's: TLS did not come about for another reason.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// The server's: it speaks HTTP, and does not offer DERP.
    #[error("the upgrade to DERP failed")]
    Upgrade(#[source] UpgradeError),
    /// The server's: it speaks DERP, and not correctly.
    #[error("the login failed")]
    Login(#[source] LoginError),
}

/// A step on the way to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Name lookup and TCP.
    Dial,
    /// The tunnel through a proxy.
    Proxy,
    /// The TLS handshake.
    Tls,
    /// The HTTP upgrade.
    Upgrade,
    /// The server's greeting, and our answer to it.
    Login,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Dial => "connecting by TCP",
            Self::Proxy => "the proxy's tunnel",
            Self::Tls => "the TLS handshake",
            Self::Upgrade => "the HTTP upgrade",
            Self::Login => "the DERP login",
        })
    }
}

/// A login that failed before the server could admit anybody.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoginError {
    /// The server's: its greeting breaks the protocol, or its key is unusable.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The server's: it closed the connection instead of greeting.
    #[error("the server closed the connection")]
    Closed,
    /// The server's: the WebSocket framing is broken.
    #[error(transparent)]
    WebSocket(#[from] WebSocketError),
    /// The network's.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The server's: no greeting in time. Only where no [`crate::Connector`] keeps the time.
    #[error("no greeting within {0:?}")]
    Timeout(Duration),
}

/// The end of a connection, as its reader learns of it. Nothing can be received after it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The server closed the connection. Before [`crate::Received::ServerInfo`], that is how it
    /// refuses a client.
    #[error("the server closed the connection")]
    ServerClosed,
    /// This side closed the connection.
    #[error("the connection was closed here: {0}")]
    ClosedHere(CloseReason),
    /// The server sent no complete frame for this long; it is dead, or the way to it is.
    #[error("no complete frame within {0:?}")]
    Silent(Duration),
    /// The server neither admitted nor refused the client in this time.
    #[error("not admitted within {0:?}")]
    NotAdmitted(Duration),
    /// The server sent this frame to a client that it has not admitted.
    #[error("{0:?} frame before the client was admitted")]
    OutOfTurn(FrameType),
    /// The server broke the framing; nothing after it can be understood.
    #[error("the server broke the protocol")]
    Protocol(#[from] DecodeError),
    /// The server did not prove that it holds the key that it greeted with.
    #[error("the server's information is not to be trusted")]
    ServerInfo(#[from] HandshakeError),
    /// The WebSocket under the connection was closed with an error, or is broken.
    #[error("the WebSocket failed")]
    WebSocket(#[from] WebSocketError),
    /// The network broke the connection.
    #[error("the connection broke")]
    Io(#[from] io::Error),
}

/// Why this side closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// It was asked to, or dropped its reader.
    Asked,
    /// A write failed.
    WriteFailed,
    /// The server, or the way to it, took no bytes for too long.
    WriteStalled,
    /// The server did not answer pings.
    PingsUnanswered,
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Asked => "it was asked to",
            Self::WriteFailed => "a write failed",
            Self::WriteStalled => "a write stalled",
            Self::PingsUnanswered => "pings were not answered",
        })
    }
}

/// A frame that was not sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SendError {
    /// The caller's: servers close the connection of whoever sends a longer packet.
    #[error("packet of {len} bytes is longer than the {max} that relays take")]
    TooLong {
        /// The packet's length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// There is no connection, or no longer.
    #[error("client not connected")]
    NotConnected,
    /// The server, or the way to it, took no bytes for this long. The connection is closed.
    #[error("nothing could be written for {0:?}")]
    Stalled(Duration),
    /// The network broke the connection.
    #[error("the connection broke")]
    Io(#[from] io::Error),
}

/// A ping without an answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PingError {
    /// The ping could not be sent.
    #[error("the ping was not sent")]
    Send(#[from] SendError),
    /// No pong came in this time. Another task must be receiving for one to be seen.
    #[error("no pong within {0:?}")]
    Timeout(Duration),
    /// The connection ended first.
    #[error("the connection ended before the pong came")]
    Ended,
    /// The caller's: this many pings wait for their pongs already.
    #[error("{0} pings are waiting for their pongs already")]
    TooMany(usize),
}
