//! The authorities that this machine trusts, and TLS with them.

use std::sync::Arc;

use rustls::client::{Resumption, VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateRevocationListDer;

/// The roots of trust. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Trust {
    roots: Arc<RootCertStore>,
}

impl Trust {
    /// These roots and no others.
    #[must_use]
    pub fn of(roots: impl Into<Arc<RootCertStore>>) -> Self {
        Self {
            roots: roots.into(),
        }
    }

    /// Those that the system trusts, which may be none: then only pinned certificates can be
    /// checked, and each other one is reported. Blocks while files are read.
    #[must_use]
    pub fn of_system() -> Self {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Systems hold roots that nobody can use any more; the others still count.
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            let errors = found
                .errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>();
            tracing::warn!(errors = %errors.join("; "), "this machine has no root certificates");
        }
        Self::of(roots)
    }

    /// The roots.
    #[must_use]
    pub fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }

    /// Checks chains against the roots.
    ///
    /// # Errors
    /// There are no roots.
    pub(crate) fn verifier(&self) -> Result<Arc<WebPkiServerVerifier>, VerifierBuilderError> {
        WebPkiServerVerifier::builder_with_provider(self.roots(), provider()).build()
    }

    /// The same; and the first certificate of a chain must not be on `list`, which must be one of
    /// its issuer.
    ///
    /// # Errors
    /// There are no roots, or the list cannot be read.
    pub(crate) fn verifier_with_list(
        &self,
        list: CertificateRevocationListDer<'static>,
    ) -> Result<Arc<WebPkiServerVerifier>, VerifierBuilderError> {
        WebPkiServerVerifier::builder_with_provider(self.roots(), provider())
            .with_crls([list])
            .only_check_end_entity_revocation()
            .build()
    }

    /// TLS to a server that an authority vouches for.
    pub(crate) fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for TLS 1.2 and 1.3")
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config
    }
}

/// Draws this thread's first random number for TLS, which takes tens of milliseconds that no probe
/// is to measure.
pub fn warm_up() {
    // Where there is no randomness, the first handshake says so.
    let _drawn = provider().secure_random.fill(&mut [0; 1]);
}

/// Named in one place: the process-wide default is whoever's who came first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
