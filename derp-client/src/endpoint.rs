//! One server as the steps of a connection need it, from a node of a map or from a URL.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use derp_proto::DerpNode;
use derp_proto::http::DERP_PATH;

use crate::target::{TargetError, UrlTarget, node_name};
use crate::tls::CertCheck;
use crate::url::{Host, host_header};

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
            host: url.host().clone(),
            port: url.port(),
            path: url.path().to_owned(),
            tls: url.is_tls().then(|| check.clone()),
            addresses: Addresses::of_host(dial_host.as_ref().unwrap_or_else(|| url.host())),
            ideal_node: None,
        }
    }

    /// The value of the `Host` header.
    pub(crate) fn host_header(&self) -> String {
        host_header(&self.host, self.port, self.tls.is_some())
    }
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
}
