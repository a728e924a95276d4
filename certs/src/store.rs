//! The directory in which account and certificates are kept, by the names and in the formats of
//! the reference.
//!
//! A certificate for a name is one file with the key before the chain, as `autocert` has it; one
//! for an address is two, as in `cmd/derper/ipcert.go`. All are replaced as a whole, and only
//! their owner may read them.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::authority::Issued;
use crate::held::{Held, HeldError};
use crate::subject::Subject;

/// The account's key, as `autocert` calls it.
const ACCOUNT_KEY: &str = "acme_account+key";

/// A directory of certificates.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// A file that cannot be used. `Display` names it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The file is there and cannot be read.
    #[error("cannot read {0}; the relay's user needs the right to read it")]
    Read(PathBuf, #[source] io::Error),
    /// The file cannot be written.
    #[error("cannot write {0}; make the directory writable for the relay's user, or name another")]
    Write(PathBuf, #[source] io::Error),
    /// What is in the file is of no use.
    #[error("{0} is of no use and will be replaced")]
    Certificate(PathBuf, #[source] HeldError),
    /// The account's key is of no use.
    #[error(
        "{0} holds no ECDSA P-256 key in PEM; restore it from a backup, or remove it to get a new \
         account"
    )]
    AccountKey(PathBuf),
}

/// How an order last failed, which must outlive a restart: a relay that is restarted again and
/// again would ask the authority each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// How many times in a row.
    pub failures: u32,
    /// When the next attempt is due.
    pub until: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct PauseDocument {
    failures: u32,
    /// Seconds since 1970.
    until: u64,
}

impl Store {
    /// Uses `dir`, and makes it if it is not there.
    ///
    /// # Errors
    /// It cannot be made, or nothing can be written to it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let failed = |err| StoreError::Write(dir.to_owned(), err);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed)?;
        tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(dir)
            .map_err(failed)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    /// The file with a subject's certificate.
    #[must_use]
    pub fn certificate_file(&self, subject: &Subject) -> PathBuf {
        match subject {
            Subject::Name(name) => self.dir.join(name.as_ref().to_ascii_lowercase()),
            Subject::Ip(ip) => self.dir.join(format!("{}.crt", ip_stem(*ip))),
        }
    }

    /// What is kept for `subject`, whatever its dates; `None` where there is nothing.
    ///
    /// # Errors
    /// There is something, which cannot be read or is of no use.
    pub fn load(&self, subject: &Subject) -> Result<Option<Held>, StoreError> {
        let path = self.certificate_file(subject);
        let Some(chain) = read(&path)? else {
            return Ok(None);
        };
        let key = match subject {
            Subject::Name(_) => None,
            Subject::Ip(_) => match read(&path.with_extension("key"))? {
                Some(key) => Some(key),
                None => return Ok(None),
            },
        };
        Held::from_pem(&chain, key.as_ref().unwrap_or(&chain), subject)
            .map(Some)
            .map_err(|err| StoreError::Certificate(path, err))
    }

    /// Keeps a new certificate.
    ///
    /// # Errors
    /// A file could not be written; then the old ones stay.
    pub fn save(&self, subject: &Subject, issued: &Issued) -> Result<(), StoreError> {
        let path = self.certificate_file(subject);
        match subject {
            Subject::Name(_) => {
                let both = Zeroizing::new(format!("{}{}", *issued.key, issued.chain));
                write(&path, both.as_bytes(), 0o600)
            }
            Subject::Ip(_) => {
                // A certificate with another's key is read as none, and ordered anew.
                write(&path.with_extension("key"), issued.key.as_bytes(), 0o600)?;
                write(&path, issued.chain.as_bytes(), 0o644)
            }
        }
    }

    /// The account's key, if there is one.
    ///
    /// # Errors
    /// There is a file, and no key that can be used in it.
    pub(crate) fn account_key(&self) -> Result<Option<PrivatePkcs8KeyDer<'static>>, StoreError> {
        let path = self.dir.join(ACCOUNT_KEY);
        let Some(pem) = read(&path)? else {
            return Ok(None);
        };
        let bad = || StoreError::AccountKey(path.clone());
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| bad())?;
        // The reference writes RFC 5915's format.
        let pair =
            EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_der())
                .map_err(|_| bad())?;
        let pkcs8 = pair.to_pkcs8v1().map_err(|_| bad())?;
        Ok(Some(PrivatePkcs8KeyDer::from(pkcs8.as_ref().to_vec())))
    }

    /// Keeps the account's key; one that was there is kept as well, under another name.
    ///
    /// # Errors
    /// No file could be written.
    pub(crate) fn save_account_key(&self, key: &PrivatePkcs8KeyDer<'_>) -> Result<(), StoreError> {
        let path = self.dir.join(ACCOUNT_KEY);
        let aside = self.dir.join(format!("{ACCOUNT_KEY}.old"));
        match fs::rename(&path, aside) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Write(path, err));
            }
            _ => {}
        }
        // In RFC 5915's format, which the reference reads as well as this one.
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der())
                .map_err(|_| StoreError::AccountKey(path.clone()))?;
        let der: aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_> = pair
            .private_key()
            .as_der()
            .map_err(|_| StoreError::AccountKey(path.clone()))?;
        let pem = Zeroizing::new(pem("EC PRIVATE KEY", der.as_ref()));
        write(&path, pem.as_bytes(), 0o600)
    }

    /// How the last order for `subject` failed, if it did.
    #[must_use]
    pub fn pause(&self, subject: &Subject) -> Option<Pause> {
        let text = fs::read(self.pause_file(subject)).ok()?;
        let document: PauseDocument = serde_json::from_slice(&text).ok()?;
        let until = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(document.until))?;
        Some(Pause {
            failures: document.failures,
            until,
        })
    }

    /// Remembers a failure; with `None`, forgets it. A disk that is full is no reason to stop.
    pub fn set_pause(&self, subject: &Subject, pause: Option<Pause>) {
        let path = self.pause_file(subject);
        let result = match pause {
            None => fs::remove_file(&path).or_else(|err| match err.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(err),
            }),
            Some(Pause { failures, until }) => {
                let until = until
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap_or_default()
                    .as_secs();
                let document = PauseDocument { failures, until };
                serde_json::to_vec(&document)
                    .map_err(io::Error::other)
                    .and_then(|text| replace(&path, &text, 0o600))
            }
        };
        if let Err(error) = result {
            tracing::warn!(file = %path.display(), %error, "cannot remember when an order failed");
        }
    }

    fn pause_file(&self, subject: &Subject) -> PathBuf {
        let stem = match subject {
            Subject::Name(name) => name.as_ref().to_ascii_lowercase(),
            Subject::Ip(ip) => ip_stem(*ip),
        };
        self.dir.join(format!("{stem}.acme-pause"))
    }
}

fn read(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(StoreError::Read(path.to_owned(), err)),
    }
}

/// As in `cmd/derper/ipcert.go`.
fn ip_stem(ip: IpAddr) -> String {
    ip.to_string().replace(':', ".")
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), StoreError> {
    replace(path, content, mode).map_err(|err| StoreError::Write(path.to_owned(), err))
}

/// Writes a file as a whole or not at all.
fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    // The temporary file is made with O_EXCL and mode 0600.
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
    file.write_all(content)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|err| err.error)?;
    // Without this a power cut could forget the file's name.
    File::open(dir)?.sync_all()
}

fn pem(label: &str, der: &[u8]) -> String {
    const LINE: usize = 64;
    let base64 = Zeroizing::new(data_encoding::BASE64.encode(der));
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in base64.as_bytes().chunks(LINE) {
        text.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests;
