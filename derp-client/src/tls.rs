//! Whether the server is the one that is meant: its certificate against roots, a name or a pin.
//!
//! Every way of checking also checks that the server holds the key of its first certificate. No
//! sessions are resumed: each connection is checked by the rules that hold when it is made.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use derp_proto::DerpNode;
use derp_proto::http::CERT_PIN_PREFIX;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use thiserror::Error;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::metacert;
use crate::target::{TargetError, printable};

/// The certificates that a server's chain may end in.
#[derive(Debug, Clone, Default)]
pub enum Roots {
    /// Those that the system trusts. They are read when they are first needed.
    #[default]
    System,
    /// These and no others.
    Custom(Arc<RootCertStore>),
}

impl Roots {
    /// The roots, read if they have to be. Blocks while files are read.
    pub(crate) fn load(&self) -> io::Result<Arc<RootCertStore>> {
        match self {
            Self::Custom(roots) => Ok(Arc::clone(roots)),
            Self::System => {
                let mut roots = RootCertStore::empty();
                let found = rustls_native_certs::load_native_certs();
                // Systems hold roots that nobody can use any more; the others still count.
                let (usable, _) = roots.add_parsable_certificates(found.certs);
                match found.errors.into_iter().next() {
                    Some(err) if usable == 0 => Err(io::Error::other(err)),
                    None if usable == 0 => Err(io::Error::from(io::ErrorKind::NotFound)),
                    _ => Ok(Arc::new(roots)),
                }
            }
        }
    }
}

/// How a server's certificate is checked (`net/tlsdial/tlsdial.go`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertCheck {
    /// It must be valid for the host that is connected to.
    HostName,
    /// It must be valid for this name, while the host's is what others see ("domain fronting").
    OtherName(ServerName<'static>),
    /// It must be the one certificate with this hash.
    Pin(CertPin),
    /// It may be any. For tests.
    Insecure,
}

impl CertCheck {
    /// What a node's `CertName` and `InsecureForTests` ask for.
    ///
    /// # Errors
    /// [`TargetError::Pin`] and [`TargetError::CertName`]: what looks like a pin and is none never
    /// makes for a weaker check.
    pub fn of_node(node: &DerpNode) -> Result<Self, TargetError> {
        let name = &node.cert_name;
        if let Some(digits) = name.strip_prefix(CERT_PIN_PREFIX) {
            let pin = CertPin::from_hex(digits);
            return pin
                .map(Self::Pin)
                .map_err(|err| TargetError::Pin(printable(name), err));
        }
        if !name.is_empty() && *name != node.host_name {
            let name = ServerName::try_from(name.clone());
            let bad = |_| TargetError::CertName(printable(&node.cert_name));
            return name.map(Self::OtherName).map_err(bad);
        }
        Ok(if node.insecure_for_tests {
            Self::Insecure
        } else {
            Self::HostName
        })
    }

    /// Whether chains are checked against roots.
    pub(crate) const fn needs_roots(&self) -> bool {
        matches!(self, Self::HostName | Self::OtherName(_))
    }
}

/// The SHA-256 of a certificate's DER form: no other certificate will do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CertPin([u8; 32]);

impl CertPin {
    /// The pin of a certificate.
    #[must_use]
    pub fn of(cert: &CertificateDer<'_>) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, cert).as_ref());
        Self(hash)
    }

    /// Reads 64 lowercase hexadecimal digits, which is what other clients compare with.
    ///
    /// # Errors
    /// [`PinError::NotAHash`] for anything else.
    pub fn from_hex(digits: &str) -> Result<Self, PinError> {
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return Err(PinError::NotAHash);
        }
        match HEXLOWER.decode_mut(digits.as_bytes(), &mut hash) {
            Ok(_) => Ok(Self(hash)),
            Err(_) => Err(PinError::NotAHash),
        }
    }

    /// Whether `chain`, shown by `server`, is what the pin stands for at the time `now`.
    ///
    /// Meta certificates aside there must be one certificate; it must be the first, which is the
    /// one whose key the server proves to hold; and it must be valid for the server's name, where
    /// the server has one.
    fn check(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let cert = parse(first)?;
        if metacert::is_meta(&cert) {
            return Err(PinError::NoCertificate.into());
        }
        for other in rest {
            if !metacert::is_meta(&parse(other)?) {
                return Err(PinError::SeveralCertificates.into());
            }
        }
        let seen = Self::of(first);
        if seen != *self {
            return Err(PinError::AnotherCertificate { seen }.into());
        }
        if matches!(server, ServerName::DnsName(_)) {
            verify_server_name(&ParsedCertificate::try_from(first)?, server)?;
        }
        let validity = cert.validity();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if seconds < validity.not_before.timestamp() {
            return Err(CertificateError::NotValidYet.into());
        }
        if validity.not_after.timestamp() < seconds {
            return Err(CertificateError::Expired.into());
        }
        Ok(())
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, rustls::Error> {
    match X509Certificate::from_der(der) {
        Ok((_, cert)) => Ok(cert),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}

impl std::fmt::Display for CertPin {
    /// As it stands in a DERP map.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{CERT_PIN_PREFIX}{}", HEXLOWER.encode(&self.0))
    }
}

impl std::fmt::Debug for CertPin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// A pin that is none, or certificates that are not the pinned one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PinError {
    /// Not 64 lowercase hexadecimal digits.
    #[error("a pin must be sha256-raw: and 64 lowercase hexadecimal digits")]
    NotAHash,
    /// The server's first certificate is not one of a web server.
    #[error("the server shows no certificate that could be pinned")]
    NoCertificate,
    /// There are several beside the meta certificate. A pinned server shows one, without a chain.
    #[error("the server shows several certificates")]
    SeveralCertificates,
    /// The server's certificate is another one.
    #[error("the server's certificate is {seen}, not the pinned one")]
    AnotherCertificate {
        /// The certificate that it showed.
        seen: CertPin,
    },
}

impl From<PinError> for rustls::Error {
    fn from(err: PinError) -> Self {
        CertificateError::Other(OtherError(Arc::new(err))).into()
    }
}

/// The checks that need roots; made once for all connections.
pub(crate) fn chain_verifier(roots: Arc<RootCertStore>) -> io::Result<Arc<WebPkiServerVerifier>> {
    let builder = WebPkiServerVerifier::builder_with_provider(roots, provider());
    builder.build().map_err(io::Error::other)
}

/// The TLS settings for one connection. `chains` is needed where [`CertCheck::needs_roots`].
pub(crate) fn client_config(
    check: CertCheck,
    chains: Option<Arc<WebPkiServerVerifier>>,
) -> ClientConfig {
    let provider = provider();
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier {
            check,
            chains,
            provider,
        }))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

/// Named in one place: the process-wide default is whoever's who came first.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A [`CertCheck`] at work.
#[derive(Debug)]
struct Verifier {
    check: CertCheck,
    chains: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = match &self.check {
            CertCheck::HostName => server,
            CertCheck::OtherName(name) => name,
            CertCheck::Pin(pin) => {
                pin.check(first, rest, server, now)?;
                return Ok(ServerCertVerified::assertion());
            }
            CertCheck::Insecure => return Ok(ServerCertVerified::assertion()),
        };
        let Some(chains) = &self.chains else {
            return Err(rustls::Error::General("no roots were loaded".into()));
        };
        chains.verify_server_cert(first, rest, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
