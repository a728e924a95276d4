//! Which server to connect to, as its parts are needed: from a DERP map or from a URL.
//!
//! What maps and operators write is checked here, before anything is sent: host names end up in
//! HTTP heads.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use derp_proto::http::DERP_PATH;
use derp_proto::{DerpNode, DerpRegion};
use rustls_pki_types::ServerName;
use thiserror::Error;

use crate::tls::{CertCheck, PinError};

/// A server to connect to, or several of which the first that can be reached will do.
#[derive(Debug, Clone)]
pub enum Target {
    /// The nodes of a region in their order, `STUNOnly` ones left out.
    Region(DerpRegion),
    /// One node of a map.
    Node(DerpNode),
    /// A server that is in no map.
    Url(UrlTarget),
}

/// A server that is known by its URL.
#[derive(Debug, Clone)]
pub struct UrlTarget {
    /// Its URL.
    pub url: ServerUrl,
    /// Another name or address to connect to; TLS and HTTP go on using the URL's.
    pub dial_host: Option<Host>,
    /// How its certificate is checked.
    pub check: CertCheck,
}

impl From<ServerUrl> for Target {
    fn from(url: ServerUrl) -> Self {
        Self::Url(UrlTarget {
            url,
            dial_host: None,
            check: CertCheck::HostName,
        })
    }
}

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
fn host_header(host: &Host, port: u16, tls: bool) -> String {
    if port == default_port(tls) {
        host.in_url()
    } else {
        host.with_port(port)
    }
}

/// A server's description that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The region has no nodes.
    #[error("region {0} has no nodes")]
    NoNodes(String),
    /// The region's nodes have STUN and no DERP.
    #[error("region {0} has only nodes without DERP")]
    OnlyStun(String),
    /// Neither a DNS name nor an address.
    #[error("{0:?} is no host name")]
    HostName(String),
    /// Not a port.
    #[error("{0} is no port")]
    Port(i32),
    /// A certificate's name that is neither a host name nor a pin.
    #[error("certificate name {0:?} is no host name")]
    CertName(String),
    /// A pin that is none. Nothing is connected to without it.
    #[error("certificate pin {0:?} is not usable")]
    Pin(String, #[source] PinError),
    /// Neither IPv4 nor IPv6 may be used.
    #[error("both IPv4 and IPv6 are disabled")]
    NoFamily,
    /// Not the URL of a server.
    #[error("{0:?} is no http or https URL of a server")]
    Url(String),
}

/// Text of somebody else's, fit for an error message.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}

/// One server, checked, and in the parts that the steps of a connection need.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// How errors and logs call it.
    pub(crate) name: String,
    /// The node's name in its map.
    pub(crate) node: Option<String>,
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) path: String,
    /// How the certificate is checked, or `None` for plain HTTP.
    pub(crate) tls: Option<CertCheck>,
    pub(crate) addresses: Addresses,
    /// The node of the region that should rather have been reached.
    pub(crate) ideal_node: Option<String>,
}

/// Where to connect to, by family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) ipv4: Family<Ipv4Addr>,
    pub(crate) ipv6: Family<Ipv6Addr>,
    /// What [`Family::Lookup`] looks up.
    pub(crate) host: Host,
}

/// How the addresses of one family are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family<A> {
    /// By DNS.
    Lookup,
    /// It is this one.
    Literal(A),
    /// There are none.
    Off,
}

impl<A: FromStr> Family<A> {
    /// Reads a map's field: empty for DNS, an address of this family, or anything else for none.
    fn of_field(field: &str) -> Self {
        match field.parse() {
            Ok(ip) => Self::Literal(ip),
            Err(_) if field.is_empty() => Self::Lookup,
            Err(_) => Self::Off,
        }
    }
}

impl Addresses {
    /// All addresses of `host`.
    pub(crate) fn of_host(host: &Host) -> Self {
        let (ipv4, ipv6) = match host.ip() {
            None => (Family::Lookup, Family::Lookup),
            Some(IpAddr::V4(ip)) => (Family::Literal(ip), Family::Off),
            Some(IpAddr::V6(ip)) => (Family::Off, Family::Literal(ip)),
        };
        Self {
            ipv4,
            ipv6,
            host: host.clone(),
        }
    }

    fn of_node(node: &DerpNode, host: &Host) -> Self {
        // What a field leaves to DNS, a host that is an address answers itself.
        let by_host = Self::of_host(host);
        let ipv4 = match Family::of_field(&node.ipv4) {
            Family::Lookup => by_host.ipv4,
            given => given,
        };
        let ipv6 = match Family::of_field(&node.ipv6) {
            Family::Lookup => by_host.ipv6,
            given => given,
        };
        Self {
            ipv4,
            ipv6,
            host: host.clone(),
        }
    }
}

impl Endpoint {
    /// The endpoint of a node, to be spoken to without TLS if `plain_http`.
    pub(crate) fn of_node(node: &DerpNode, plain_http: bool) -> Result<Self, TargetError> {
        let host: Host = node.host_name.parse()?;
        let port = match (node.derp_port, plain_http) {
            // The port of relays in development (`derp/derphttp/derphttp_client.go`).
            (0, true) => 3340,
            _ => node.derp_port().ok_or(TargetError::Port(node.derp_port))?,
        };
        let tls = match plain_http {
            true => None,
            false => Some(CertCheck::of_node(node)?),
        };
        let addresses = Addresses::of_node(node, &host);
        if (addresses.ipv4, addresses.ipv6) == (Family::Off, Family::Off) {
            return Err(TargetError::NoFamily);
        }
        Ok(Self {
            name: node_name(node),
            node: Some(node.name.clone()),
            host,
            port,
            path: DERP_PATH.to_owned(),
            tls,
            addresses,
            ideal_node: None,
        })
    }

    /// The endpoint of a URL.
    pub(crate) fn of_url(target: &UrlTarget) -> Self {
        let UrlTarget {
            url,
            dial_host,
            check,
        } = target;
        Self {
            name: url.to_string(),
            node: None,
            host: url.host.clone(),
            port: url.port,
            path: url.path.clone(),
            tls: url.tls.then(|| check.clone()),
            addresses: Addresses::of_host(dial_host.as_ref().unwrap_or(&url.host)),
            ideal_node: None,
        }
    }

    /// The value of the `Host` header.
    pub(crate) fn host_header(&self) -> String {
        host_header(&self.host, self.port, self.tls.is_some())
    }
}

/// How errors and logs call a node.
pub(crate) fn node_name(node: &DerpNode) -> String {
    let (name, host) = (printable(&node.name), printable(&node.host_name));
    match node.derp_port {
        0 => format!("node {name} ({host})"),
        port => format!("node {name} ({host}, port {port})"),
    }
}

/// How errors and logs call a region.
pub(crate) fn region_name(region: &DerpRegion) -> String {
    format!("{} ({})", region.region_id, printable(&region.region_code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host_name: &str, ipv4: &str, ipv6: &str) -> DerpNode {
        DerpNode {
            name: "1a".into(),
            host_name: host_name.into(),
            ipv4: ipv4.into(),
            ipv6: ipv6.into(),
            ..DerpNode::default()
        }
    }

    #[test]
    fn each_family_is_looked_up_given_or_disabled() {
        let v4 = Ipv4Addr::new(192, 0, 2, 1);
        let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let table = [
            ("derp.test", "", "", (Family::Lookup, Family::Lookup)),
            (
                "derp.test",
                "192.0.2.1",
                "",
                (Family::Literal(v4), Family::Lookup),
            ),
            (
                "derp.test",
                "none",
                "2001:db8::1",
                (Family::Off, Family::Literal(v6)),
            ),
            (
                "derp.test",
                "192.0.2.1",
                "none",
                (Family::Literal(v4), Family::Off),
            ),
            ("derp.test", "", "192.0.2.1", (Family::Lookup, Family::Off)),
            (
                "derp.test",
                "::ffff:192.0.2.1",
                "",
                (Family::Off, Family::Lookup),
            ),
            ("192.0.2.1", "", "", (Family::Literal(v4), Family::Off)),
            ("2001:db8::1", "", "", (Family::Off, Family::Literal(v6))),
            (
                "2001:db8::1",
                "192.0.2.1",
                "",
                (Family::Literal(v4), Family::Literal(v6)),
            ),
        ];
        for (host, ipv4, ipv6, expected) in table {
            let endpoint = Endpoint::of_node(&node(host, ipv4, ipv6), false).unwrap();
            let Addresses {
                ipv4: v4, ipv6: v6, ..
            } = endpoint.addresses;
            assert_eq!((v4, v6), expected, "{host} {ipv4:?} {ipv6:?}");
        }
    }

    #[test]
    fn a_node_that_cannot_be_used_says_why() {
        let refused = |node: DerpNode| Endpoint::of_node(&node, false).unwrap_err();
        assert_eq!(
            refused(node("derp.test", "none", "none")),
            TargetError::NoFamily
        );
        assert_eq!(
            refused(node("192.0.2.1", "none", "")),
            TargetError::NoFamily
        );
        let hostile = node("a\r\nX: b", "", "");
        assert_eq!(refused(hostile), TargetError::HostName("aX: b".into()));
        assert_eq!(
            refused(node("", "", "")),
            TargetError::HostName(String::new())
        );
        let no_port = DerpNode {
            derp_port: -1,
            ..node("derp.test", "", "")
        };
        assert_eq!(refused(no_port), TargetError::Port(-1));
        let named = DerpNode {
            cert_name: "no name".into(),
            ..node("derp.test", "", "")
        };
        assert_eq!(refused(named), TargetError::CertName("no name".into()));
    }

    #[test]
    fn the_host_header_leaves_out_the_schemes_own_port() {
        let header = |host: &str, derp_port, plain| {
            let node = DerpNode {
                derp_port,
                ..node(host, "", "")
            };
            Endpoint::of_node(&node, plain).unwrap().host_header()
        };
        assert_eq!(header("derp.test", 0, false), "derp.test");
        assert_eq!(header("derp.test", 443, false), "derp.test");
        assert_eq!(header("derp.test", 8443, false), "derp.test:8443");
        assert_eq!(header("2001:db8::1", 80, true), "[2001:db8::1]");
        assert_eq!(header("derp.test", 0, true), "derp.test:3340");
    }

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
