//! The certificate that the relay shows its clients: read from files or made by itself.
//!
//! What comes out is a chain and a key ([`Certificates`]) and a rule which names it is for
//! ([`sni`]). The server's own constructor adds the certificate that carries the relay's DERP key
//! and sets protocol versions; nothing here does.

pub mod load;
pub mod self_signed;
pub mod sni;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertFiles {
    /// The chain, the relay's own certificate first (PEM).
    pub cert: PathBuf,
    /// The private key (PEM).
    pub key: PathBuf,
}

impl CertFiles {
    /// The files that `cmd/derper/cert.go` uses for `host` in the directory `dir`.
    #[must_use]
    pub fn in_dir(dir: &std::path::Path, host: &crate::host::Host) -> Self {
        let stem = host.file_stem();
        Self {
            cert: dir.join(format!("{stem}.crt")),
            key: dir.join(format!("{stem}.key")),
        }
    }
}

/// A chain of certificates and the key of the first.
pub struct Certificates {
    /// The relay's own certificate, and those that lead to its authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the relay's own certificate.
    pub key: PrivateKeyDer<'static>,
    /// The files that they are in.
    pub files: CertFiles,
    /// Until when the relay's own certificate is valid.
    pub not_after: SystemTime,
    /// What an operator should look at, though it does not stop the relay.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates")
            .field("certificates", &self.chain.len())
            .field("files", &self.files)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Certificates {
    /// The text that a DERP map's `CertName` needs for clients to accept exactly this
    /// certificate, whoever issued it.
    ///
    /// `None` for a chain: clients want exactly one certificate beside the one with the relay's
    /// DERP key.
    #[must_use]
    pub fn pin(&self) -> Option<String> {
        let [only] = self.chain.as_slice() else {
            return None;
        };
        let digest = Sha256::digest(only);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(format!("sha256-raw:{hex}"))
    }

    /// Both as rustls wants them.
    ///
    /// # Errors
    /// The provider cannot use the key; [`load::load`] has tried that already.
    pub fn certified_key(
        &self,
        provider: &CryptoProvider,
    ) -> Result<Arc<CertifiedKey>, rustls::Error> {
        let key = provider
            .key_provider
            .load_private_key(self.key.clone_key())?;
        Ok(Arc::new(CertifiedKey::new(self.chain.clone(), key)))
    }
}
