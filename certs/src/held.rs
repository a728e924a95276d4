//! A certificate with its key, as it is held in memory.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use x509_parser::prelude::ParsedExtension;

use crate::schedule::Life;
use crate::subject::Subject;

/// A certificate's chain and its key.
#[derive(Clone)]
pub struct Held {
    certified: Arc<CertifiedKey>,
    life: Life,
}

/// What is no certificate with its key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HeldError {
    /// No PEM, or not what is wanted in it.
    #[error("not a certificate and a key in PEM")]
    Pem,
    /// The certificate's bytes make no sense.
    #[error("not a certificate")]
    Certificate,
    /// The key cannot be used, or belongs to another certificate.
    #[error("the key does not fit the certificate")]
    Key(#[source] rustls::Error),
    /// The certificate is for others.
    #[error("the certificate is not for {0}")]
    Subject(Subject),
}

impl Held {
    /// Reads a key and a chain, the own certificate first, which must be for `subject`.
    ///
    /// # Errors
    /// What is wrong with them. Dates are not looked at.
    pub fn from_pem(chain: &[u8], key: &[u8], subject: &Subject) -> Result<Self, HeldError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| HeldError::Pem)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| HeldError::Pem)?;
        let leaf = chain.first().ok_or(HeldError::Pem)?;
        let life = Life::of(leaf).ok_or(HeldError::Certificate)?;
        let parsed = ParsedCertificate::try_from(leaf).map_err(|_| HeldError::Certificate)?;
        rustls::client::verify_server_name(&parsed, &subject.server_name())
            .map_err(|_| HeldError::Subject(subject.clone()))?;
        let provider = aws_lc_rs::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(HeldError::Key)?;
        Ok(Self {
            certified: Arc::new(certified),
            life,
        })
    }

    /// Chain and key, for a TLS server.
    #[must_use]
    pub fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    /// From when until when the own certificate is valid.
    #[must_use]
    pub const fn life(&self) -> Life {
        self.life
    }

    /// The own certificate.
    #[must_use]
    pub fn leaf(&self) -> &CertificateDer<'static> {
        self.certified
            .cert
            .first()
            .expect("a chain without certificates was refused when it was read")
    }

    /// The authority's key identifier and the serial number, by which authorities know the
    /// certificate when asked for its renewal (RFC 9773, 4.1); `None` without the former.
    pub(crate) fn renewal_id(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let (_, parsed) = x509_parser::parse_x509_certificate(self.leaf()).ok()?;
        let key =
            parsed
                .iter_extensions()
                .find_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::AuthorityKeyIdentifier(id) => {
                        id.key_identifier.as_ref().map(|id| id.0.to_vec())
                    }
                    _ => None,
                })?;
        Some((key, parsed.tbs_certificate.raw_serial().to_vec()))
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("certificates", &self.certified.cert.len())
            .field("life", &self.life)
            .finish_non_exhaustive()
    }
}

/// The certificates that a PEM file holds, as roots to trust.
///
/// # Errors
/// Text that says what is wrong.
pub(crate) fn roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(pem) {
        let cert = cert.map_err(|err| format!("not PEM: {err}"))?;
        roots
            .add(cert)
            .map_err(|err| format!("not a certificate: {err}"))?;
    }
    if roots.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(roots)
}
