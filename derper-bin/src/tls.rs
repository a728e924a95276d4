//! The certificate that the relay shows its clients: read from files or made by itself.
//!
//! What comes out is a chain and a key ([`Certificates`]), and for the server which names they are
//! for. The server's own constructor adds the certificate that carries the relay's DERP key and
//! sets protocol versions; nothing here does.

pub mod load;
pub mod self_signed;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use derp_ops::secret_file::TooOpen;
use derp_server::tls::{CertifiedChain, ServedCertificate, SniPolicy, TlsError};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use crate::host::Host;

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
    pub fn in_dir(dir: &Path, host: &Host) -> Self {
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
    /// Whether the relay's own certificate vouches for itself.
    pub is_self_signed: bool,
    /// Set where others than the owner of the key's file may read it.
    pub too_open: Option<TooOpen>,
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

    /// Both for the server, with the rule of the reference's manual mode
    /// (`cmd/derper/cert.go`): a name is served to those who ask for it, an address to all, for
    /// clients name no address in their hello.
    ///
    /// # Errors
    /// The key cannot be used; [`load::load`] has tried that already.
    pub fn served(&self, host: &Host) -> Result<ServedCertificate, TlsError> {
        let names = match host {
            Host::Ip(_) => SniPolicy::Any,
            Host::Name(name) => SniPolicy::Exact(name.trim_end_matches('.').to_owned()),
        };
        let chain = CertifiedChain::from_der(self.chain.clone(), self.key.clone_key())?;
        Ok(ServedCertificate { names, chain })
    }
}
