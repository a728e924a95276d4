//! How an authority checks that a subject is ours, and who answers it.

use std::sync::Arc;

use instant_acme::{ChallengeType, KeyAuthorization};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair, SanType};
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivatePkcs8KeyDer;

use crate::subject::Subject;

/// A way to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChallengeKind {
    /// A page on port 80 (RFC 8555, 8.3).
    Http01,
    /// A certificate on port 443 (RFC 8737). It comes through proxies that pass TLS on by its
    /// server name.
    TlsAlpn01,
}

impl ChallengeKind {
    /// ACME's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }

    /// The port that the authority connects to.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Http01 => 80,
            Self::TlsAlpn01 => 443,
        }
    }

    pub(super) fn wire(self) -> ChallengeType {
        match self {
            Self::Http01 => ChallengeType::Http01,
            Self::TlsAlpn01 => ChallengeType::TlsAlpn01,
        }
    }
}

/// What the authority must find.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Challenge {
    /// The page `/.well-known/acme-challenge/<token>` on port 80.
    Page {
        /// The end of its path.
        token: String,
        /// What it says.
        content: String,
    },
    /// A certificate, for whoever offers the protocol `acme-tls/1` alone.
    Certificate {
        /// The server name that the authority sends.
        server_name: String,
        /// The certificate.
        certificate: Arc<CertifiedKey>,
    },
}

impl Challenge {
    /// A page, by the end of its path and what it says.
    #[must_use]
    pub fn page(token: &str, content: &str) -> Self {
        Self::Page {
            token: token.to_owned(),
            content: content.to_owned(),
        }
    }
}

/// Answers an authority's checks.
pub trait Responder: Send + Sync {
    /// Answers `challenge` from now on.
    fn present(&self, challenge: &Challenge);

    /// No longer.
    fn withdraw(&self, challenge: &Challenge);
}

/// A challenge that is answered while this lives.
pub(super) struct Presented {
    responder: Arc<dyn Responder>,
    challenge: Challenge,
}

impl Presented {
    pub(super) fn new(responder: &Arc<dyn Responder>, challenge: Challenge) -> Self {
        responder.present(&challenge);
        Self {
            responder: Arc::clone(responder),
            challenge,
        }
    }
}

impl Drop for Presented {
    fn drop(&mut self) {
        self.responder.withdraw(&self.challenge);
    }
}

pub(super) fn answer(
    kind: ChallengeKind,
    subject: &Subject,
    token: &str,
    authorization: &KeyAuthorization,
) -> Result<Challenge, String> {
    match kind {
        ChallengeKind::Http01 => Ok(Challenge::page(token, authorization.as_str())),
        ChallengeKind::TlsAlpn01 => Ok(Challenge::Certificate {
            server_name: subject.sni(),
            certificate: certificate(subject, authorization.digest().as_ref())
                .map_err(|err| err.to_string())?,
        }),
    }
}

/// A certificate that carries `digest` (RFC 8737, 3).
fn certificate(subject: &Subject, digest: &[u8]) -> Result<Arc<CertifiedKey>, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![alt_name(subject)?];
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let key = aws_lc_rs::sign::any_supported_type(&key)
        .map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    // Not checked against each other as usual: what checks refuses an extension that is critical
    // and unknown to it, and that is what this certificate is about.
    let chain = vec![certificate.der().clone()];
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

pub(super) fn alt_name(subject: &Subject) -> Result<SanType, rcgen::Error> {
    Ok(match subject {
        Subject::Name(name) => SanType::DnsName(name.as_ref().try_into()?),
        Subject::Ip(ip) => SanType::IpAddress(*ip),
    })
}

#[cfg(test)]
mod tests {
    use x509_parser::parse_x509_certificate;

    use super::*;

    #[test]
    fn the_certificate_of_a_check_is_what_rfc_8737_wants() {
        let name = rustls_pki_types::DnsName::try_from("derp.example.com").unwrap();
        for subject in [
            Subject::Name(name),
            Subject::Ip("192.0.2.1".parse().unwrap()),
        ] {
            let certified = certificate(&subject, &[7; 32]).unwrap();
            let [only] = certified.cert.as_slice() else {
                panic!("{} certificates", certified.cert.len())
            };
            let (_, parsed) = parse_x509_certificate(only).unwrap();
            let names = parsed.subject_alternative_name().unwrap().unwrap();
            assert_eq!(names.value.general_names.len(), 1);
            let digest = parsed
                .extensions()
                .iter()
                .find(|extension| extension.oid.to_id_string() == "1.3.6.1.5.5.7.1.31")
                .unwrap();
            assert!(digest.critical);
            assert_eq!(digest.value, [&[4, 32][..], &[7; 32]].concat());
        }
    }
}
