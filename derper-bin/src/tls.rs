//! The certificates that the relay shows its clients: read from files, made by itself, fetched by
//! somebody's command, or ordered from an authority.
//!
//! [`mod@load`] judges files, and [`watch`] sees when they change. [`Caretaker`] does what has to be
//! done while the relay runs, and [`serving`] is what it changes.
//!
//! What comes out is a chain and a key ([`Certificates`]), and for the server which names they are
//! for. The server's own constructor adds the certificate that carries the relay's DERP key and
//! sets protocol versions; nothing here does. How to talk to authorities is for `derp-certs`.

mod by_address;
pub mod caretaker;
pub mod challenges;
pub mod hook;
pub mod load;
pub mod numbers;
pub mod self_signed;
pub mod serving;
pub mod watch;

pub use self::caretaker::Caretaker;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use derp_certs::schedule::Life;
use derp_ops::secret_file::{OpenMode, TooOpen};
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

/// Certificates in files: what a relay serves that gets none from an authority.
#[derive(Debug)]
pub struct Files {
    /// Certificates and whom they are for, never none; the first is for clients of which nothing
    /// else is known.
    pub pairs: Vec<Pair>,
    /// What to do where others may read a key.
    pub on_open: OpenMode,
    /// What gets new ones.
    pub hook: Option<hook::Hook>,
}

impl Files {
    /// The hash by which clients know the one certificate that no authority vouches for.
    #[must_use]
    pub fn self_signed_pin(&self) -> Option<String> {
        let [
            Pair {
                loaded: Some(loaded),
                ..
            },
        ] = self.pairs.as_slice()
        else {
            return None;
        };
        loaded.is_self_signed.then(|| loaded.pin()).flatten()
    }
}

/// One certificate of several.
#[derive(Debug)]
pub struct Pair {
    /// Where it is.
    pub files: CertFiles,
    /// Whom it is served to.
    pub rule: NameRule,
    /// What was in the files; `None` where a command is yet to make them.
    pub loaded: Option<Certificates>,
}

/// Whom a certificate is served to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameRule {
    /// The rule of the reference's manual mode (`cmd/derper/cert.go`): a name is served to those
    /// who ask for it, an address to all, for clients name no address in their hello.
    Host(Host),
    /// Whoever asks for a name that it covers; where it covers an address, or is the default, also
    /// those who name nobody.
    Covered {
        /// Whether it is for those who name nobody.
        is_default: bool,
    },
}

/// A chain of certificates and the key of the first.
pub struct Certificates {
    /// The relay's own certificate, and those that lead to its authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key of the relay's own certificate.
    pub key: PrivateKeyDer<'static>,
    /// The files that they are in.
    pub files: CertFiles,
    /// From when until when the relay's own certificate is valid.
    pub life: Life,
    /// The names and addresses that it is for.
    pub covers: Vec<String>,
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
            .field("life", &self.life)
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

    /// Both for the server, to be served by `rule`.
    ///
    /// # Errors
    /// The key cannot be used; [`load::load`] has tried that already.
    pub fn served(&self, rule: &NameRule) -> Result<ServedCertificate, TlsError> {
        let names = match rule {
            NameRule::Host(Host::Ip(_)) => SniPolicy::Any,
            NameRule::Host(Host::Name(name)) => {
                SniPolicy::Exact(name.trim_end_matches('.').to_owned())
            }
            NameRule::Covered { is_default } => {
                let is_address = |name: &String| name.parse::<IpAddr>().is_ok();
                let names = self.covers.iter().filter(|name| !is_address(name));
                SniPolicy::OneOf {
                    names: names.cloned().collect(),
                    or_none: *is_default || self.covers.iter().any(is_address),
                }
            }
        };
        let chain = CertifiedChain::from_der(self.chain.clone(), self.key.clone_key())?;
        Ok(ServedCertificate { names, chain })
    }
}
