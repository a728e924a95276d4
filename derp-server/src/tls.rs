//! TLS as the relay speaks it, made in one place.
//!
//! [`ServerTls`] is the only constructor of a configuration. What all of them have in common:
//! TLS 1.2 and 1.3; AES-128-GCM wherever the client can do it, for a relay encrypts every packet
//! twice and 128 bits are enough for what is encrypted end to end already; no session tickets, no
//! session store and no early data, so that a login can neither be replayed nor cost memory
//! after its connection; and the meta certificate as the last of the chain.
//!
//! A client that offers no application protocol is served, as Go's DERP clients are. One that
//! offers only others than `http/1.1` is refused with the alert `no_application_protocol`
//! (RFC 7301, 3.2): over HTTP/2 there is no upgrade to DERP.
//!
//! While an authority is about to check that the relay controls a name ([`AlpnChallenges`]), the
//! protocol of that check is understood as well; its connections end with the handshake.
//!
//! Not here: reading certificates from files, ordering them, or deciding when to reload.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use derp_proto::NodePublic;
use derp_verify::ConnMeta;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{KeyLog, ServerConfig, SupportedCipherSuite};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use crate::metacert::MetaCert;
use crate::tls13::SecretCapture;

/// In order of preference, which is the relay's and not the client's.
const CIPHER_SUITES: [SupportedCipherSuite; 9] = [
    TLS13_AES_128_GCM_SHA256,
    TLS13_AES_256_GCM_SHA384,
    TLS13_CHACHA20_POLY1305_SHA256,
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The only application protocol.
const ALPN_HTTP11: &[u8] = b"http/1.1";
/// What an authority offers, and nothing else, to see a challenge's certificate (RFC 8737, 6.2).
pub(crate) const ALPN_ACME: &[u8] = b"acme-tls/1";

/// Chooses the TLS configuration of a connection.
///
/// Asked after the connection was accepted and before its handshake, so that neither SNI nor the
/// application protocol is known yet.
pub trait ConfigFor: Debug + Send + Sync + 'static {
    /// The configuration, made by a [`ServerTls`]; `None` closes the connection.
    fn config_for(&self, conn: &ConnMeta) -> Option<Arc<ServerConfig>>;
}

/// A certificate for each name, which can be replaced while connections come in.
///
/// Cheap to share: clone the `Arc` around it.
pub struct ServerTls {
    server_key: NodePublic,
    config: Arc<ServerConfig>,
    /// The same, for authorities too.
    challenge_config: Arc<ServerConfig>,
    served: Arc<Served>,
}

impl ServerTls {
    /// Serves `certificates`, and tells TLS 1.3 clients `server_key` in the handshake.
    ///
    /// The first certificate wins whose policy accepts the client's server name.
    ///
    /// # Errors
    /// [`TlsError::MetaCert`] only.
    pub fn new(
        server_key: NodePublic,
        certificates: Vec<ServedCertificate>,
        now: SystemTime,
    ) -> Result<Self, TlsError> {
        Self::with_key_log(server_key, certificates, Arc::new(SecretCapture), now)
    }

    /// The same, with a `key_log` that gets the secrets of every connection.
    fn with_key_log(
        server_key: NodePublic,
        certificates: Vec<ServedCertificate>,
        key_log: Arc<dyn KeyLog>,
        now: SystemTime,
    ) -> Result<Self, TlsError> {
        let meta = MetaCert::new(&server_key, now)?;
        let served = Arc::new(Served {
            current: RwLock::new(Current::new(certificates, meta)),
            challenges: RwLock::default(),
        });
        let config = server_config(served.clone(), key_log);
        let mut challenge_config = config.clone();
        challenge_config.alpn_protocols.push(ALPN_ACME.to_vec());
        Ok(Self {
            server_key,
            config: Arc::new(config),
            challenge_config: Arc::new(challenge_config),
            served,
        })
    }

    /// Answers the authorities that `challenges` expects from now on, too.
    pub fn set_challenges(&self, challenges: AlpnChallenges) {
        *self
            .served
            .challenges
            .write()
            .unwrap_or_else(PoisonError::into_inner) = challenges;
    }

    /// Serves `certificates` instead from the next handshake on, whose chains end in a new meta
    /// certificate where the old one is old at the time `now`.
    ///
    /// # Errors
    /// [`TlsError::MetaCert`]; then the former certificates stay.
    pub fn set_certificates(
        &self,
        certificates: Vec<ServedCertificate>,
        now: SystemTime,
    ) -> Result<(), TlsError> {
        let meta = self.served.meta();
        let meta = if meta.is_old(now) {
            MetaCert::new(&self.server_key, now)?
        } else {
            meta
        };
        self.served.replace(Current::new(certificates, meta));
        Ok(())
    }

    /// Renews the meta certificate where it is old at the time `now`. To be called every day or
    /// so by a relay that replaces no certificates.
    ///
    /// # Errors
    /// [`TlsError::MetaCert`]; then the old one stays.
    pub fn renew_meta_certificate(&self, now: SystemTime) -> Result<(), TlsError> {
        if !self.served.meta().is_old(now) {
            return Ok(());
        }
        self.set_certificates(self.served.certificates(), now)
    }

    /// The configuration for every connection.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}

impl ConfigFor for ServerTls {
    fn config_for(&self, _: &ConnMeta) -> Option<Arc<ServerConfig>> {
        if self.served.challenges().is_empty() {
            return Some(self.config());
        }
        Some(self.challenge_config.clone())
    }
}

impl Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("server_key", &self.server_key)
            .field("served", &self.served)
            .finish_non_exhaustive()
    }
}

/// A certificate, and who gets it.
#[derive(Debug, Clone)]
pub struct ServedCertificate {
    /// The server names that it is for.
    pub names: SniPolicy,
    /// The certificate.
    pub chain: CertifiedChain,
}

/// Which server names a certificate is served for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SniPolicy {
    /// This DNS name only: a client that sends another name or none is refused.
    ///
    /// Names are compared without regard to case, as RFC 6066, 3 has it.
    Exact(String),
    /// Any of these DNS names; where one begins with `*.`, that stands for any one label.
    OneOf {
        /// The names, as a certificate has them.
        names: Vec<String>,
        /// Whether clients that send no name get it too.
        or_none: bool,
    },
    /// Every name, and clients that send none, as those do that connect to an address.
    Any,
}

impl SniPolicy {
    fn accepts(&self, server_name: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => server_name.is_some_and(|sent| sent.eq_ignore_ascii_case(name)),
            Self::OneOf { names, or_none } => match server_name {
                Some(sent) => names.iter().any(|name| covers(name, sent)),
                None => *or_none,
            },
        }
    }
}

/// Whether a certificate's `name` stands for what a client `sent` (RFC 9525, 6.3).
fn covers(name: &str, sent: &str) -> bool {
    match name.strip_prefix("*.") {
        None => name.eq_ignore_ascii_case(sent),
        Some(domain) => sent
            .split_once('.')
            .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain)),
    }
}

/// Certificates that show authorities who controls a name (RFC 8737), while they are about to
/// look. Cloning gives another handle of the same.
#[derive(Clone, Default)]
pub struct AlpnChallenges(Arc<RwLock<BTreeMap<String, Arc<CertifiedKey>>>>);

impl AlpnChallenges {
    /// Shows `certificate` to whoever asks for `name` by the protocol of RFC 8737.
    pub fn insert(&self, name: &str, certificate: Arc<CertifiedKey>) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_ascii_lowercase(), certificate);
    }

    /// No longer.
    pub fn remove(&self, name: &str) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&name.to_ascii_lowercase());
    }

    /// Whether nobody is expected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    fn get(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&name.to_ascii_lowercase())
            .cloned()
    }
}

impl Debug for AlpnChallenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(names.keys()).finish()
    }
}

/// A certificate with its chain and its private key.
#[derive(Clone)]
pub struct CertifiedChain(Arc<CertifiedKey>);

impl CertifiedChain {
    /// Takes a chain, the server's own certificate first, and the key of that.
    ///
    /// # Errors
    /// [`TlsError::EmptyChain`], or [`TlsError::Certificate`] where the first certificate or the
    /// key cannot be read, or they do not belong together.
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        if chain.is_empty() {
            return Err(TlsError::EmptyChain);
        }
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(TlsError::Certificate)?;
        Ok(Self(Arc::new(key)))
    }

    /// The chain as it was given, without the meta certificate.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0.cert
    }

    /// A copy of the chain with `meta` behind it. The chain itself may be somebody else's.
    fn with(&self, meta: &MetaCert) -> Arc<CertifiedKey> {
        let mut chain = Vec::with_capacity(self.0.cert.len() + 1);
        chain.extend_from_slice(&self.0.cert);
        chain.push(meta.der().clone());
        let mut key = CertifiedKey::new(chain, self.0.key.clone());
        key.ocsp.clone_from(&self.0.ocsp);
        Arc::new(key)
    }
}

impl From<Arc<CertifiedKey>> for CertifiedChain {
    /// Takes a key that was loaded elsewhere, perhaps into hardware. It is not changed.
    fn from(key: Arc<CertifiedKey>) -> Self {
        Self(key)
    }
}

impl Debug for CertifiedChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CertifiedChain({} certificates, key redacted)",
            self.0.cert.len()
        )
    }
}

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A chain without certificates.
    #[error("certificate chain is empty")]
    EmptyChain,
    /// The certificate or its key is of no use.
    #[error("certificate or private key cannot be used")]
    Certificate(#[source] rustls::Error),
    /// The meta certificate could not be made.
    #[error("cannot make the certificate that carries the relay's key")]
    MetaCert(#[from] rcgen::Error),
}

/// What handshakes are served with, swapped as a whole.
struct Served {
    current: RwLock<Arc<Current>>,
    challenges: RwLock<AlpnChallenges>,
}

struct Current {
    certificates: Vec<ServedCertificate>,
    /// The same with the meta certificate, in the same order.
    with_meta: Vec<Arc<CertifiedKey>>,
    meta: MetaCert,
}

impl Current {
    fn new(certificates: Vec<ServedCertificate>, meta: MetaCert) -> Arc<Self> {
        let with_meta = certificates
            .iter()
            .map(|served| served.chain.with(&meta))
            .collect();
        Arc::new(Self {
            certificates,
            with_meta,
            meta,
        })
    }

    fn resolve(&self, server_name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let index = self
            .certificates
            .iter()
            .position(|served| served.names.accepts(server_name))?;
        self.with_meta.get(index).cloned()
    }
}

impl Served {
    fn current(&self) -> Arc<Current> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn challenges(&self) -> AlpnChallenges {
        self.challenges
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn replace(&self, current: Arc<Current>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = current;
    }

    fn meta(&self) -> MetaCert {
        self.current().meta.clone()
    }

    fn certificates(&self) -> Vec<ServedCertificate> {
        self.current().certificates.clone()
    }
}

impl Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(&self.current().certificates)
            .finish()
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_authority = hello
            .alpn()
            .is_some_and(|mut offers| offers.next() == Some(ALPN_ACME) && offers.next().is_none());
        if is_authority {
            return self.challenges().get(hello.server_name()?);
        }
        self.current().resolve(hello.server_name())
    }
}

fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: CIPHER_SUITES.to_vec(),
        ..rustls::crypto::aws_lc_rs::default_provider()
    }
}

fn server_config(served: Arc<Served>, key_log: Arc<dyn KeyLog>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider has cipher suites and key exchanges for both versions")
        .with_no_client_auth()
        .with_cert_resolver(served);
    config.ignore_client_order = true;
    config.alpn_protocols = vec![ALPN_HTTP11.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    // The relay goes on without rustls once the handshake is over.
    config.enable_secret_extraction = true;
    config.key_log = key_log;
    config
}

#[cfg(test)]
pub(crate) mod tests;
