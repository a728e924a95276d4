//! The PROXY protocol: a proxy in front says, before the first byte of TLS or HTTP, where a
//! connection comes from.
//!
//! Whether a connection must begin with a header is decided by the listener and the other end's
//! address, never by what the connection begins with: whoever may send a header and need not can
//! claim any address.

mod header;

use std::net::SocketAddr;
use std::time::Duration;

use derp_verify::ConnMeta;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt};

#[cfg(feature = "fuzzing")]
pub(crate) use self::header::MAX_V1_LEN;
pub use self::header::ProxyHeaderError;
pub(crate) use self::header::{Header, MAX_V2_LEN, Progress, read};
use crate::metrics::{Gauge, MetricKind, MetricVisitor, Sample, Value};
use crate::network::contains;

/// Which of a listener's connections begin with a PROXY header.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ProxyProtocol {
    /// None.
    #[default]
    Off,
    /// All of them. Whoever reaches the listener can then claim any address.
    FromAll,
    /// Those of TCP from these networks, and all of a Unix socket. From elsewhere there is none,
    /// and one that is sent all the same is taken for a bad TLS handshake or request.
    From(Vec<IpNet>),
}

impl ProxyProtocol {
    /// Whether a connection from here has to begin with a header; `None` is a Unix socket's.
    pub(crate) fn is_due(&self, peer: Option<SocketAddr>) -> bool {
        match (self, peer) {
            (Self::Off, _) => false,
            (Self::FromAll, _) | (Self::From(_), None) => true,
            (Self::From(networks), Some(peer)) => contains(networks, peer.ip()),
        }
    }
}

/// Reads the header of a connection that has to begin with one, and not a byte more, and writes
/// down what it says of the client's address. A proxy sends it with the first segment, so it may
/// not take longer than `limit`.
///
/// # Errors
/// Each is the end of the connection.
pub(crate) async fn receive<S: AsyncRead + Unpin>(
    socket: &mut S,
    conn: &mut ConnMeta,
    limit: Duration,
    counts: &ProxyCounts,
) -> Result<(), ProxyHeaderError> {
    // In a box, for few connections need it, and all carry the place of each step's variables.
    let header = Box::pin(read_from(socket));
    let header = tokio::time::timeout(limit, header).await;
    let header = header.unwrap_or(Err(ProxyHeaderError::TooSlow));
    counts.count(&header, conn);
    match header? {
        Header::Client(addr) => conn.proxy_peer = Some(addr),
        // The proxy's address must not stand for its client's: it may open doors.
        Header::Unknown => {
            conn.socket_peer = None;
            conn.is_unix = false;
        }
        Header::Local => {}
    }
    Ok(())
}

async fn read_from<S: AsyncRead + Unpin>(socket: &mut S) -> Result<Header, ProxyHeaderError> {
    let mut bytes = [0; MAX_V2_LEN];
    let mut len = 0;
    loop {
        let more = match read(&bytes[..len])? {
            Progress::Complete(header) => return Ok(header),
            Progress::Needs(more) => more,
        };
        match socket.read(&mut bytes[len..len + more]).await {
            Ok(0) | Err(_) => return Err(ProxyHeaderError::Ended),
            Ok(read) => len += read,
        }
    }
}

/// What became of the connections that had to begin with a header; together they are all of them.
#[derive(Debug, Default)]
pub struct ProxyCounts([Gauge; OUTCOMES.len()]);

const OUTCOMES: [&str; 9] = [
    "client",
    "unknown",
    "local",
    "missing",
    "malformed",
    "too_long",
    "checksum",
    "too_slow",
    "ended",
];

impl ProxyCounts {
    fn count(&self, header: &Result<Header, ProxyHeaderError>, conn: &ConnMeta) {
        let outcome = match header {
            Ok(Header::Client(_)) => 0,
            Ok(Header::Unknown) => 1,
            Ok(Header::Local) => 2,
            Err(ProxyHeaderError::Missing) => 3,
            Err(ProxyHeaderError::Malformed) => 4,
            Err(ProxyHeaderError::TooLong) => 5,
            Err(ProxyHeaderError::Checksum) => 6,
            Err(ProxyHeaderError::TooSlow) => 7,
            Err(ProxyHeaderError::Ended) => 8,
        };
        // An operator wants to know of a proxy that does not do its part, and once is enough.
        if let Err(error) = header
            && self.0[outcome].get() == 0
        {
            tracing::warn!(proxy = ?conn.socket_peer, %error, "connection refused; further ones are only counted");
        }
        self.0[outcome].add(1);
    }

    /// How many ended like this: the metric's label.
    #[must_use]
    pub fn get(&self, outcome: &str) -> u64 {
        let at = OUTCOMES.iter().position(|known| *known == outcome);
        at.map_or(0, |at| self.0[at].get())
    }

    pub(crate) fn visit(&self, visitor: &mut dyn MetricVisitor) {
        for (outcome, count) in OUTCOMES.iter().zip(&self.0) {
            visitor.sample(&Sample {
                name: "derper_proxy_headers",
                kind: MetricKind::Counter,
                labels: &[("outcome", outcome)],
                value: Value::Whole(count.get()),
            });
        }
    }
}

#[cfg(test)]
mod tests;
