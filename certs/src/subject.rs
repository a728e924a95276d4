//! Whom a certificate is for.

use std::fmt;
use std::net::IpAddr;

use rustls_pki_types::{DnsName, ServerName};

/// A DNS name or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A DNS name.
    Name(DnsName<'static>),
    /// An address (RFC 8738).
    Ip(IpAddr),
}

impl Subject {
    /// The subject as TLS clients know it.
    #[must_use]
    pub fn server_name(&self) -> ServerName<'static> {
        match self {
            Self::Name(name) => ServerName::DnsName(name.clone()),
            Self::Ip(ip) => ServerName::from(*ip),
        }
    }

    /// What an authority sends as server name when it checks by TLS: an address stands there as
    /// its reverse name (RFC 8738, 6).
    pub(crate) fn sni(&self) -> String {
        match self {
            Self::Name(name) => name.as_ref().to_ascii_lowercase(),
            Self::Ip(IpAddr::V4(ip)) => {
                let [a, b, c, d] = ip.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            Self::Ip(IpAddr::V6(ip)) => {
                let digits: String = ip
                    .octets()
                    .iter()
                    .rev()
                    .map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4))
                    .collect();
                format!("{digits}ip6.arpa")
            }
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name.as_ref()),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_asked_for_by_their_reverse_names() {
        let sni = |ip: &str| Subject::Ip(ip.parse().unwrap()).sni();
        assert_eq!(sni("192.0.2.1"), "1.2.0.192.in-addr.arpa");
        assert_eq!(
            sni("2001:db8::1"),
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }
}
