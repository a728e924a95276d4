//! What clients reach the relay by: a DNS name or an address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustls_pki_types::{DnsName, ServerName};
use thiserror::Error;

/// The relay's own name or address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A DNS name, as the operator wrote it.
    Name(String),
    /// An address.
    Ip(IpAddr),
}

/// Text that is neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HostError {
    /// There is nothing.
    #[error("a host name or an IP address is wanted here")]
    Empty,
    /// There is a port, a path or a scheme with it.
    #[error("only a host name or an IP address is wanted here, without scheme, port or path")]
    MoreThanAHost,
    /// DNS allows no such name.
    #[error(
        "not a host name: letters, digits and hyphens are allowed, in parts of at most 63 \
         characters between dots"
    )]
    Invalid,
}

impl Host {
    /// The host as TLS knows it. The dot at the end of a full name is no part of that.
    #[must_use]
    pub fn server_name(&self) -> ServerName<'static> {
        match self {
            Self::Ip(ip) => ServerName::from(*ip),
            Self::Name(name) => {
                let name = DnsName::try_from(name.trim_end_matches('.').to_owned())
                    .expect("the name was checked when the host was read");
                ServerName::DnsName(name)
            }
        }
    }

    /// The stem of certificate files, as in `cmd/derper/cert.go`: all but letters, digits, hyphens
    /// and dots left out.
    #[must_use]
    pub fn file_stem(&self) -> String {
        let text = self.to_string();
        text.chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
            .collect()
    }

    /// The address, if it is one.
    #[must_use]
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Name(_) => None,
        }
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if let Ok(ip) = text.parse() {
            return Ok(Self::Ip(ip));
        }
        if text.contains(['/', ':', '[', ']']) {
            return Err(HostError::MoreThanAHost);
        }
        match DnsName::try_from(text.strip_suffix('.').unwrap_or(text)) {
            Ok(_) => Ok(Self::Name(text.to_owned())),
            Err(_) => Err(HostError::Invalid),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(ip) => ip.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        let name = |text: &str| Ok(Host::Name(text.to_owned()));
        let ip = |text: &str| Ok(Host::Ip(text.parse().unwrap()));
        let cases = [
            ("derp.example.com", name("derp.example.com")),
            ("derp.example.com.", name("derp.example.com.")),
            ("localhost", name("localhost")),
            ("192.0.2.1", ip("192.0.2.1")),
            ("2001:db8::1", ip("2001:db8::1")),
            ("", Err(HostError::Empty)),
            ("https://derp.example.com", Err(HostError::MoreThanAHost)),
            ("derp.example.com:443", Err(HostError::MoreThanAHost)),
            ("[::1]", Err(HostError::MoreThanAHost)),
            ("derp example", Err(HostError::Invalid)),
            ("*.example.com", Err(HostError::Invalid)),
            (".", Err(HostError::Invalid)),
        ];
        for (text, host) in cases {
            assert_eq!(text.parse(), host, "{text}");
        }
    }

    #[test]
    fn file_names_are_the_references() {
        let stem = |text: &str| text.parse::<Host>().unwrap().file_stem();
        assert_eq!(stem("derp.Example-1.com"), "derp.Example-1.com");
        assert_eq!(stem("192.0.2.1"), "192.0.2.1");
        assert_eq!(stem("2001:db8::1"), "2001db81");
    }
}
