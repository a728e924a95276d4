//! Which proxy the environment names, by the rules of Go (`golang.org/x/net/http/httpproxy`).

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Proxy, ProxyError};
use crate::url::{Host, split_port};

/// The proxies of an environment, read once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyEnvironment {
    /// For servers that are spoken to by TLS.
    https: Option<Proxy>,
    /// For servers that are spoken to without.
    http: Option<Proxy>,
    /// Servers that are reached without a proxy.
    direct: Vec<Rule>,
}

/// An entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Everything,
    Net(IpNet),
    Address(IpAddr, Option<u16>),
    /// Names that end in this, which begins with a dot; and the name itself, without the dot, if
    /// `itself`.
    Domain {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl ProxyEnvironment {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// [`ProxyError::Url`] where a variable is set and names no HTTP proxy.
    pub fn from_env() -> Result<Self, ProxyError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, or else their lowercase twins, with a
    /// function that finds the value of a variable.
    ///
    /// # Errors
    /// [`ProxyError::Url`] where a variable is set and names no HTTP proxy.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ProxyError> {
        let find = |name: &str| {
            let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
            set(name).or_else(|| set(&name.to_lowercase()))
        };
        let proxy = |name: &str| find(name).map(|text| text.parse()).transpose();
        // In a CGI program, HTTP_PROXY is what the client sent in a header named Proxy.
        let is_cgi = lookup("REQUEST_METHOD").is_some();
        let http = if is_cgi { None } else { proxy("HTTP_PROXY")? };
        let direct = find("NO_PROXY").unwrap_or_default();
        let direct = direct.split(',').filter_map(Rule::parse).collect();
        Ok(Self {
            https: proxy("HTTPS_PROXY")?,
            http,
            direct,
        })
    }

    /// The proxy for a server, or `None` where it is reached directly.
    #[must_use]
    pub fn proxy_for(&self, host: &Host, port: u16, tls: bool) -> Option<&Proxy> {
        let proxy = if tls { &self.https } else { &self.http };
        let name = host.to_string().to_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let is_local = name == "localhost" || host.ip().is_some_and(|ip| ip.is_loopback());
        if is_local
            || self
                .direct
                .iter()
                .any(|rule| rule.covers(name, host.ip(), port))
        {
            return None;
        }
        proxy.as_ref()
    }
}

impl Rule {
    /// An entry, or `None` for one that is empty or means nothing.
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_lowercase();
        if entry == "*" {
            return Some(Self::Everything);
        }
        if let Ok(net) = entry.parse() {
            return Some(Self::Net(net));
        }
        if let Ok(ip) = entry.parse() {
            return Some(Self::Address(ip, None));
        }
        let (name, port) = split_port(&entry)?;
        if let Ok(ip) = name.parse() {
            return Some(Self::Address(ip, port));
        }
        let name = name.strip_prefix('*').unwrap_or(name);
        match name.strip_prefix('.') {
            Some("") => None,
            Some(_) => Some(Self::Domain {
                suffix: name.to_owned(),
                itself: false,
                port,
            }),
            None if name.is_empty() => None,
            None => Some(Self::Domain {
                suffix: format!(".{name}"),
                itself: true,
                port,
            }),
        }
    }

    fn covers(&self, name: &str, ip: Option<IpAddr>, port: u16) -> bool {
        let same_port = |of_rule: &Option<u16>| of_rule.is_none_or(|of_rule| of_rule == port);
        match self {
            Self::Everything => true,
            Self::Net(net) => ip.is_some_and(|ip| net.contains(&ip)),
            Self::Address(of_rule, of_port) => ip == Some(*of_rule) && same_port(of_port),
            Self::Domain {
                suffix,
                itself,
                port: of_port,
            } => {
                let same = *itself && suffix.strip_prefix('.') == Some(name);
                ip.is_none() && (same || name.ends_with(suffix)) && same_port(of_port)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(vars: &[(&str, &str)]) -> ProxyEnvironment {
        let find = |name: &str| vars.iter().find(|(var, _)| *var == name);
        let lookup = |name: &str| find(name).map(|(_, value)| (*value).to_owned());
        ProxyEnvironment::from_lookup(lookup).unwrap()
    }

    fn proxy_for(vars: &[(&str, &str)], host: &str, port: u16, tls: bool) -> Option<String> {
        let environment = environment(vars);
        let proxy = environment.proxy_for(&host.parse().unwrap(), port, tls);
        proxy.map(ToString::to_string)
    }

    #[test]
    fn each_scheme_has_its_variable() {
        let vars = [
            ("HTTPS_PROXY", "a.test"),
            ("http_proxy", "b.test"),
            ("HTTP_PROXY", ""),
        ];
        let to = |tls| proxy_for(&vars, "derp.test", 443, tls);
        assert_eq!(to(true).as_deref(), Some("http://a.test:80"));
        assert_eq!(to(false).as_deref(), Some("http://b.test:80"));
        assert_eq!(proxy_for(&[], "derp.test", 443, true), None);
        let upper_first = [("HTTPS_PROXY", "a.test"), ("https_proxy", "b.test")];
        let found = proxy_for(&upper_first, "derp.test", 443, true);
        assert_eq!(found.as_deref(), Some("http://a.test:80"));
    }

    #[test]
    fn a_clients_header_is_no_variable() {
        let vars = [("HTTP_PROXY", "a.test"), ("REQUEST_METHOD", "GET")];
        assert_eq!(proxy_for(&vars, "derp.test", 80, false), None);
    }

    #[test]
    fn a_proxy_that_is_none_is_an_error() {
        let set = |name: &str| (name == "HTTPS_PROXY").then(|| "socks5://x".to_owned());
        assert!(ProxyEnvironment::from_lookup(set).is_err());
    }

    #[test]
    fn no_proxy_lists_names_addresses_and_networks() {
        let direct = |list: &str, host: &str| {
            let vars = [("HTTPS_PROXY", "a.test"), ("NO_PROXY", list)];
            proxy_for(&vars, host, 443, true).is_none()
        };
        let table = [
            ("*", "derp.test", true),
            ("derp.test", "derp.test", true),
            ("derp.test", "DERP.test.", true),
            ("derp.test", "a.derp.test", true),
            ("derp.test", "xderp.test", false),
            (".derp.test", "a.derp.test", true),
            (".derp.test", "derp.test", false),
            ("*.derp.test", "a.derp.test", true),
            ("*.derp.test", "derp.test", false),
            ("x, derp.test:443", "derp.test", true),
            ("derp.test:8443", "derp.test", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1:443", "192.0.2.1", true),
            ("192.0.2.1:444", "192.0.2.1", false),
            ("192.0.2.0/24", "192.0.2.1", true),
            ("192.0.3.0/24", "192.0.2.1", false),
            ("2001:db8::/32", "2001:db8::1", true),
            ("[2001:db8::1]:443", "2001:db8::1", true),
            ("2.1", "192.0.2.1", false),
            (", ,.", "derp.test", false),
            // Whoever is on this machine is never reached through a proxy.
            ("", "localhost", true),
            ("", "127.0.0.9", true),
            ("", "::1", true),
        ];
        for (list, host, expected) in table {
            assert_eq!(direct(list, host), expected, "{list:?} {host}");
        }
    }
}
