//! Whose certificate is believed: a pinned one, those of a certificate authority, or anybody's.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use derp_proto::http::CERT_PIN_PREFIX;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

/// Whom a client trusts.
pub enum Trust {
    /// Whoever answers.
    Anybody,
    /// Whoever has the certificate with this SHA-256.
    Pin([u8; 32]),
    /// Whom these authorities know.
    Roots(Arc<WebPkiServerVerifier>),
}

impl Trust {
    /// A pin as it stands in DERP maps: `sha256-raw:` and 64 digits (`net/tlsdial`).
    ///
    /// # Errors
    /// Where it is something else.
    pub fn from_pin(text: &str) -> anyhow::Result<Self> {
        let digits = text
            .strip_prefix(CERT_PIN_PREFIX)
            .with_context(|| format!("a pin begins with {CERT_PIN_PREFIX}"))?;
        let bytes = data_encoding::HEXLOWER_PERMISSIVE
            .decode(digits.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .context("a pin has 64 hexadecimal digits")?;
        Ok(Self::Pin(bytes))
    }

    /// The authorities in a PEM file.
    ///
    /// # Errors
    /// Where it cannot be read, or has none.
    pub fn from_ca_file(path: &Path) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        let context = || path.display().to_string();
        for certificate in CertificateDer::pem_file_iter(path).with_context(context)? {
            let certificate = certificate.with_context(context)?;
            roots.add(certificate).with_context(context)?;
        }
        ensure!(!roots.is_empty(), "no certificate in {}", path.display());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::new(provider()));
        Ok(Self::Roots(verifier.build()?))
    }
}

/// What ciphers and signatures clients have.
pub(crate) fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anybody => "Anybody",
            Self::Pin(_) => "Pin",
            Self::Roots(_) => "Roots",
        })
    }
}

/// Believes as [`Trust`] says, and takes the server's name from the URL: cases put other names
/// into their hellos.
#[derive(Debug)]
pub(crate) struct Verifier {
    pub(crate) trust: Arc<Trust>,
    pub(crate) name: ServerName<'static>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &*self.trust {
            Trust::Anybody => Ok(ServerCertVerified::assertion()),
            Trust::Pin(pin) if Sha256::digest(end_entity)[..] == pin[..] => {
                Ok(ServerCertVerified::assertion())
            }
            Trust::Pin(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
            Trust::Roots(verifier) => verifier.verify_server_cert(
                end_entity,
                intermediates,
                &self.name,
                ocsp_response,
                now,
            ),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
