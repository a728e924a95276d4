//! Hosts, and the URLs of servers. They end up in HTTP heads: what is accepted here can stand there.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use derp_proto::http::DERP_PATH;
use rustls_pki_types::ServerName;

use crate::target::{TargetError, printable};

/// A host name, or a literal address.
#[derive(Clone, PartialEq, Eq)]
pub struct Host(ServerName<'static>);

impl Host {
    pub(crate) const fn server_name(&self) -> &ServerName<'static> {
        &self.0
    }

    /// The literal address, where it is one.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.0 {
            ServerName::IpAddress(ip) => Some((*ip).into()),
            _ => None,
        }
    }

    /// Host and port as they stand in a URL: IPv6 addresses in brackets.
    #[must_use]
    pub fn with_port(&self, port: u16) -> String {
        format!("{}:{port}", self.in_url())
    }

    fn in_url(&self) -> String {
        match self.ip() {
            Some(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_str())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Host {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let name = ServerName::try_from(text.to_owned());
        name.map(Self)
            .map_err(|_| TargetError::HostName(printable(text)))
    }
}

/// The URL of a server: `http` or `https`, a host, perhaps a port, and a path.
///
/// Without a path it means the path that all relays have, `/derp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl {
    tls: bool,
    host: Host,
    port: u16,
    path: String,
}

impl ServerUrl {
    /// Whether TLS is spoken.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host.
    #[must_use]
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The port; the scheme's own where the URL has none.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The path; never empty.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let authority = host_header(&self.host, self.port, self.tls);
        write!(f, "{scheme}://{authority}{}", self.path)
    }
}

impl FromStr for ServerUrl {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let bad = || TargetError::Url(printable(text));
        if !text.bytes().all(|b| b.is_ascii_graphic()) || text.contains(['?', '#', '@']) {
            return Err(bad());
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(bad)?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(bad()),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = split_port(authority).ok_or_else(bad)?;
        let port = port.unwrap_or_else(|| default_port(tls));
        let path = if path.len() > 1 { path } else { DERP_PATH };
        Ok(Self {
            tls,
            host: host.parse()?,
            port,
            path: path.to_owned(),
        })
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`; `None` where it is none of these.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(inside) => {
            let (host, rest) = inside.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Some((host, None)),
        None => None,
        // `u16::from_str` would take a plus sign.
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
            let port = port.parse().ok().filter(|&port| port != 0)?;
            Some((host, Some(port)))
        }
        Some(_) => None,
    }
}

const fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

/// The value of a `Host` header: the port is left out where it is the scheme's own.
pub(crate) fn host_header(host: &Host, port: u16, tls: bool) -> String {
    if port == default_port(tls) {
        host.in_url()
    } else {
        host.with_port(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_strictly() {
        let shown = |text: &str| text.parse::<ServerUrl>().map(|url| url.to_string());
        let table = [
            ("https://derp.test", "https://derp.test/derp"),
            ("HTTPS://derp.test/", "https://derp.test/derp"),
            ("https://derp.test:443/derp", "https://derp.test/derp"),
            ("http://127.0.0.1:3340/derp", "http://127.0.0.1:3340/derp"),
            ("http://127.0.0.1:443", "http://127.0.0.1:443/derp"),
            (
                "https://[2001:db8::1]:8443/x/y",
                "https://[2001:db8::1]:8443/x/y",
            ),
            ("https://[::1]", "https://[::1]/derp"),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text).as_deref(), Ok(expected));
        }
        for text in [
            "derp.test",
            "ftp://derp.test",
            "https://",
            "https://derp.test:0",
            "https://derp.test:+1",
            "https://derp.test:65536",
            "https://derp.test:",
            "https://user@derp.test/",
            "https://derp.test/?q",
            "https://derp.test/#f",
            "https://derp.test/a b",
            "https://derp.test/\r\nX: y",
            "https://[::1",
            "https://[derp.test]/",
            "https://[::1]x",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text:?}");
        }
    }
}
