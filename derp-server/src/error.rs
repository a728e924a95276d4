//! How connections end.

use std::io;
use std::time::Duration;

use derp_proto::{DecodeError, FrameType, HandshakeError};
use derp_verify::VerifyError;
use thiserror::Error;

use crate::outcomes::Outcome;
use crate::proxy_protocol::ProxyHeaderError;

/// Why a connection did not become a client's.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The connection broke.
    #[error("connection broke")]
    Io(#[from] io::Error),
    /// The proxy in front did not say, as it should, where the connection comes from.
    #[error(transparent)]
    Proxy(#[from] ProxyHeaderError),
    /// The TLS handshake failed.
    #[error("TLS handshake failed")]
    Tls(#[source] io::Error),
    /// No certificate matches the name that the client asked for.
    #[error("no certificate for this connection")]
    NoCertificate,
    /// The request is none that is answered.
    #[error("bad request: {0}")]
    Request(&'static str),
    /// The login failed.
    #[error("login failed")]
    Handshake(#[from] HandshakeError),
    /// The client was not done in time.
    #[error("{stage} not done within {limit:?}")]
    TooSlow {
        /// What the client was doing.
        stage: &'static str,
        /// How long that may take.
        limit: Duration,
    },
    /// The verifier turned the client away.
    #[error("turned away: {0}")]
    Denied(String),
    /// The verifier had no answer, and without one nobody is admitted.
    #[error("cannot be verified")]
    Unverified(#[source] VerifyError),
    /// There are as many as may be.
    #[error(transparent)]
    Full(#[from] Budget),
    /// It had said nothing or had not proven a key, and there was no room for others.
    #[error("made room for another connection")]
    GaveWay,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// The client had been admitted, and its session ended.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// What there is no more of for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Budget {
    /// [`Tunables::max_clients`](crate::Tunables::max_clients).
    #[error("too many clients")]
    Clients,
    /// [`Tunables::max_logins_pending`](crate::Tunables::max_logins_pending).
    #[error("too many connections on their way to a login")]
    Logins,
    /// [`Tunables::max_pending_bytes`](crate::Tunables::max_pending_bytes).
    #[error("connections on their way to a login hold too many bytes")]
    PendingBytes,
    /// [`Tunables::network_login_rate`](crate::Tunables::network_login_rate).
    #[error("too many connections from this network")]
    NetworkRate,
    /// [`Tunables::key_login_rate`](crate::Tunables::key_login_rate).
    #[error("too many logins with this key")]
    KeyRate,
}

impl Budget {
    /// What a connection came to that found it used up.
    pub(crate) const fn outcome(self) -> Outcome {
        match self {
            Self::Clients => Outcome::FullOfClients,
            Self::Logins => Outcome::FullOfLogins,
            Self::PendingBytes => Outcome::FullOfBytes,
            Self::NetworkRate => Outcome::NetworkRate,
            Self::KeyRate => Outcome::KeyRate,
        }
    }
}

impl AcceptError {
    /// Whether this is the peer's doing, of which an operator need not hear.
    #[must_use]
    pub const fn is_peer_fault(&self) -> bool {
        !matches!(
            self,
            Self::Unverified(_) | Self::NoCertificate | Self::Stopping
        )
    }
}

/// Why a client's session ended.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The connection broke.
    #[error("connection broke")]
    Io(#[from] io::Error),
    /// The client's bytes are no frames.
    #[error("bad frame")]
    Frame(#[source] DecodeError),
    /// The client's TLS records are broken.
    #[error("bad TLS record: {0}")]
    Record(String),
    /// Only mesh peers may send such frames.
    #[error("{0:?} frame from a client that is no mesh peer")]
    NotAllowed(FrameType),
    /// The connection took no byte for so long.
    #[error("no byte could be written for {0:?}")]
    WriteTimeout(Duration),
    /// A frame was begun and not finished.
    #[error("frame not finished in time")]
    UnfinishedFrame,
    /// Somebody who may asked for it.
    #[error("closed by request")]
    Closed,
    /// A fault of ours, which ended this one connection.
    #[error("internal error")]
    Panicked,
}
