//! Which names a certificate is shown for.

use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::host::Host;

/// Which server names in a client's hello get the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SniRule {
    /// Any name and none: for addresses, which no client names in its hello.
    Any,
    /// This name alone, in any case of letters. A hello without it fails, so that a scanner of
    /// addresses learns nothing.
    Only(String),
}

impl SniRule {
    /// The rule of the reference's manual mode (`cmd/derper/cert.go`).
    #[must_use]
    pub fn for_host(host: &Host) -> Self {
        match host {
            Host::Ip(_) => Self::Any,
            Host::Name(name) => Self::Only(name.trim_end_matches('.').to_owned()),
        }
    }

    /// Whether a hello with this name gets the certificate.
    #[must_use]
    pub fn admits(&self, name: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::Only(only) => name.is_some_and(|name| name.eq_ignore_ascii_case(only)),
        }
    }
}

/// Shows one certificate to hellos that a rule admits.
#[derive(Debug)]
pub struct SniGate {
    rule: SniRule,
    key: Arc<CertifiedKey>,
}

impl SniGate {
    /// Shows `key` to hellos that `rule` admits.
    #[must_use]
    pub const fn new(rule: SniRule, key: Arc<CertifiedKey>) -> Self {
        Self { rule, key }
    }
}

impl ResolvesServerCert for SniGate {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.rule
            .admits(hello.server_name())
            .then(|| Arc::clone(&self.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_for_itself_and_an_address_for_all() {
        let name = SniRule::for_host(&"derp.example.com.".parse().unwrap());
        let ip = SniRule::for_host(&"192.0.2.1".parse().unwrap());
        let cases = [
            (Some("derp.example.com"), true),
            (Some("DERP.example.com"), true),
            (Some("example.com"), false),
            (Some("x.derp.example.com"), false),
            (None, false),
        ];
        for (sni, admitted) in cases {
            assert_eq!(name.admits(sni), admitted, "{sni:?}");
            assert!(ip.admits(sni), "{sni:?}");
        }
    }
}
