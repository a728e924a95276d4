//! Who asks to be admitted, and how it came here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use derp_proto::NodePublic;

/// A client that has proved which key it holds.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Candidate<'a> {
    /// The client's key.
    pub key: NodePublic,
    /// What program the client says it is; empty for most. Its own claim: it proves nothing.
    pub app_name: &'a str,
    /// The client says that it is a prober. Its own claim.
    pub is_prober: bool,
    /// The client is connected already, and the question is whether it may stay. What was
    /// answered before is then no answer.
    pub is_recheck: bool,
    /// Who admitted the client that is connected, by [`Verdict::admitted_by`]; that others give no
    /// answer is then no reason for it to stay.
    ///
    /// [`Verdict::admitted_by`]: crate::Verdict::admitted_by
    pub admitted_by: Option<&'a str>,
    /// How the client is connected.
    pub conn: &'a ConnMeta,
}

impl<'a> Candidate<'a> {
    /// A candidate that says nothing of itself.
    #[must_use]
    pub const fn new(key: NodePublic, conn: &'a ConnMeta) -> Self {
        Self {
            key,
            app_name: "",
            is_prober: false,
            is_recheck: false,
            admitted_by: None,
            conn,
        }
    }
}

/// Which of the relay's listeners a connection came in by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ListenerId(Arc<str>);

impl ListenerId {
    /// A listener called `name`.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The listener's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The version of TLS that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl TlsVersion {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::V1_2, Self::V1_3];

    /// The version in two digits, as in the reference's metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        }
    }
}

/// Everything that is known of a connection, for verifiers, limits and logs.
///
/// Up to three parties may claim where a connection comes from. Whoever fills them in has
/// checked that the claimant is trusted; [`Self::client_addr`] says which of them counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ConnMeta {
    /// The listener that accepted it.
    pub listener: ListenerId,
    /// The relay's own address on this connection.
    pub local_addr: Option<SocketAddr>,
    /// The other end of the socket: the client, or the proxy in front of the relay.
    pub socket_peer: Option<SocketAddr>,
    /// The other end of the socket is a process of this machine, which came by a Unix socket.
    pub is_unix: bool,
    /// The client's address according to a trusted proxy's PROXY protocol header.
    pub proxy_peer: Option<SocketAddr>,
    /// The client's address according to a trusted proxy's HTTP header.
    pub header_peer: Option<IpAddr>,
    /// The name that the client asked for in its TLS hello.
    pub sni: Option<String>,
    /// The application protocol that TLS agreed on.
    pub alpn: Option<Vec<u8>>,
    /// The version of TLS, or `None` for plain HTTP.
    pub tls: Option<TlsVersion>,
}

impl ConnMeta {
    /// The client's own address: what an HTTP header of a trusted proxy says, else what its PROXY
    /// header says, else the other end of the socket. IPv4 addresses are never in IPv6 form.
    ///
    /// The port is zero where only an HTTP header knows the address.
    #[must_use]
    pub fn client_addr(&self) -> Option<SocketAddr> {
        let addr = match self.header_peer {
            Some(ip) => Some(SocketAddr::new(ip, 0)),
            None => self.proxy_peer.or(self.socket_peer),
        };
        addr.map(|addr| SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_trusted_claim_wins() {
        let addr = |text: &str| text.parse::<SocketAddr>().ok();
        let mut conn = ConnMeta {
            socket_peer: addr("[::ffff:10.0.0.1]:1"),
            ..ConnMeta::default()
        };
        assert_eq!(conn.client_addr(), addr("10.0.0.1:1"));
        conn.proxy_peer = addr("192.0.2.7:2");
        assert_eq!(conn.client_addr(), addr("192.0.2.7:2"));
        conn.header_peer = "198.51.100.3".parse().ok();
        assert_eq!(conn.client_addr(), addr("198.51.100.3:0"));
        assert_eq!(ConnMeta::default().client_addr(), None);
    }
}
