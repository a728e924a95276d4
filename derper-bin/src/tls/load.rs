//! Certificates from files, and all that can be wrong with them.
//!
//! What makes clients fail for certain is an error here, with the file and the remedy. A wrong
//! date is a warning to [`load`], which is how the reference starts, and an error to
//! [`load_in_date`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use derp_certs::schedule::Life;
use derp_ops::secret_file::{self, OpenMode, SecretFileError, TooOpen};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{ASN1Time, X509Certificate};

use super::{CertFiles, Certificates};
use crate::host::Host;

/// 2026-01-01: no clock that is right says less.
const THIS_WAS_WRITTEN: Duration = Duration::from_secs(1_767_225_600);

/// Certificate files that cannot be served. `Display` names the file and the remedy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CertError {
    /// The certificate file is not there.
    #[error("{0} does not exist; put the certificate chain (PEM) there")]
    NoCertFile(PathBuf),
    /// The certificate is there and its key is not.
    #[error(
        "{key} does not exist, though {cert} does; put the certificate's private key (PEM) there"
    )]
    NoKeyFile {
        /// The missing key.
        key: PathBuf,
        /// The certificate.
        cert: PathBuf,
    },
    /// The key is there and its certificate is not.
    #[error("{cert} does not exist, though {key} does; put the certificate chain (PEM) there")]
    KeyWithoutCert {
        /// The missing certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// The path leads to a directory.
    #[error("{0} is a directory, not a file")]
    Directory(PathBuf),
    /// The file is there and cannot be read.
    #[error("cannot read {0}; the relay's user needs the right to read it")]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file is empty.
    #[error("{0} is empty")]
    Empty(PathBuf),
    /// The certificate file holds a key and no certificate.
    #[error("{0} holds a private key and no certificate; are certificate and key swapped?")]
    KeyInCertFile(PathBuf),
    /// The key file holds certificates and no key.
    #[error("{0} holds a certificate and no private key; are certificate and key swapped?")]
    CertInKeyFile(PathBuf),
    /// No PEM block of the wanted kind.
    #[error("{path} holds no {wanted}; a PEM file with a line \"-----BEGIN …-----\" is wanted")]
    NoPem {
        /// The file.
        path: PathBuf,
        /// What is looked for.
        wanted: &'static str,
    },
    /// Broken PEM.
    #[error("{0} is broken: its PEM blocks cannot be read")]
    BrokenPem(PathBuf),
    /// The bytes in a PEM block are no certificate.
    #[error("certificate {number} in {path} is broken")]
    BrokenCert {
        /// The file.
        path: PathBuf,
        /// Which of its certificates, from 1.
        number: usize,
    },
    /// The key is protected by a password.
    #[error(
        "{0} is protected by a password, which the relay cannot type; take it off with: \
         openssl pkey -in KEY -out NEW"
    )]
    Encrypted(PathBuf),
    /// The key is of a kind that TLS has no use for, or broken.
    #[error(
        "the private key in {0} cannot be used; RSA, ECDSA (P-256, P-384, P-521) and Ed25519 can"
    )]
    UnusableKey(PathBuf),
    /// The key belongs to another certificate.
    #[error(
        "the private key in {key} does not belong to the first certificate in {cert}; the relay's \
         own certificate must come first"
    )]
    WrongKey {
        /// The key.
        key: PathBuf,
        /// The certificate.
        cert: PathBuf,
    },
    /// The certificate is for other hosts.
    #[error(
        "the certificate in {cert} is not for {host}; it is for {}",
        listed(covers)
    )]
    WrongHost {
        /// The certificate.
        cert: PathBuf,
        /// The host that it should be for.
        host: Host,
        /// The hosts that it is for.
        covers: Vec<String>,
    },
    /// The certificate's time is over.
    #[error("the certificate in {cert} expired on {on}; clients refuse it; put a new one there")]
    Expired {
        /// The certificate.
        cert: PathBuf,
        /// Its last day.
        on: String,
    },
    /// The certificate's time has not begun.
    #[error(
        "the certificate in {cert} is valid only from {from}; clients refuse it until then; check \
         this machine's clock"
    )]
    NotYet {
        /// The certificate.
        cert: PathBuf,
        /// Its first day.
        from: String,
    },
    /// The key's file is not for a secret.
    #[error(transparent)]
    Secret(SecretFileError),
}

fn listed(covers: &[String]) -> String {
    match covers {
        [] => "no host at all (it has no subject alternative name)".to_owned(),
        covers => covers.join(", "),
    }
}

impl CertError {
    /// Whether neither of the files is there.
    #[must_use]
    pub const fn both_missing(&self) -> bool {
        matches!(self, Self::NoCertFile(_))
    }
}

/// Reads a certificate and its key, and checks them as clients will: for `host`, or for whatever
/// names are in it where `host` is `None`.
///
/// # Errors
/// Whatever would keep every client from connecting.
pub fn load(
    files: &CertFiles,
    host: Option<&Host>,
    on_open: OpenMode,
    now: SystemTime,
    provider: &CryptoProvider,
) -> Result<Certificates, CertError> {
    let chain = read_chain(files)?;
    let (key, too_open) = read_key(files, on_open)?;
    let leaf = parse(files, &chain)?;
    match CertifiedKey::from_der(chain.clone(), key.clone_key(), provider) {
        Ok(_) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            let CertFiles { cert, key } = files.clone();
            return Err(CertError::WrongKey { key, cert });
        }
        Err(_) => return Err(CertError::UnusableKey(files.key.clone())),
    }
    if let Some(host) = host {
        check_host(files, &chain, &leaf, host)?;
    }
    let life = chain.first().and_then(Life::of);
    let life = life.ok_or_else(|| CertError::BrokenCert {
        path: files.cert.clone(),
        number: 1,
    })?;
    let warnings = check_dates(files, life, now)
        .iter()
        .map(ToString::to_string)
        .collect();
    let is_self_signed = leaf.issuer() == leaf.subject();
    let covers = names(&leaf);
    Ok(Certificates {
        chain,
        key,
        files: files.clone(),
        life,
        covers,
        is_self_signed,
        too_open,
        warnings,
    })
}

/// The same, where a certificate with wrong dates is to be refused as well.
///
/// # Errors
/// Whatever would keep every client from connecting. A date in the future is no error where the
/// clock must be wrong, for then it is no use to wait.
pub fn load_in_date(
    files: &CertFiles,
    host: Option<&Host>,
    on_open: OpenMode,
    now: SystemTime,
    provider: &CryptoProvider,
) -> Result<Certificates, CertError> {
    let loaded = load(files, host, on_open, now, provider)?;
    match check_dates(files, loaded.life, now) {
        Some(CertError::NotYet { .. }) if now < SystemTime::UNIX_EPOCH + THIS_WAS_WRITTEN => {
            Ok(loaded)
        }
        Some(wrong) => Err(wrong),
        None => Ok(loaded),
    }
}

fn read_chain(files: &CertFiles) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let path = &files.cert;
    let pem = match fs::read(path) {
        Ok(pem) => pem,
        Err(err) => return Err(unreadable(path, err, |path| no_cert_file(path, files))),
    };
    if pem.trim_ascii().is_empty() {
        return Err(CertError::Empty(path.clone()));
    }
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| CertError::BrokenPem(path.clone()))?;
    if !chain.is_empty() {
        return Ok(chain);
    }
    if contains(&pem, b"PRIVATE KEY-----") {
        return Err(CertError::KeyInCertFile(path.clone()));
    }
    Err(CertError::NoPem {
        path: path.clone(),
        wanted: "certificate",
    })
}

fn no_cert_file(path: PathBuf, files: &CertFiles) -> CertError {
    if files.key.exists() {
        return CertError::KeyWithoutCert {
            cert: path,
            key: files.key.clone(),
        };
    }
    CertError::NoCertFile(path)
}

/// The key, and whether others may read it.
fn read_key(
    files: &CertFiles,
    on_open: OpenMode,
) -> Result<(PrivateKeyDer<'static>, Option<TooOpen>), CertError> {
    let path = &files.key;
    let secret = secret_file::read(path, on_open).map_err(|err| match err {
        SecretFileError::Missing(key) => CertError::NoKeyFile {
            key,
            cert: files.cert.clone(),
        },
        SecretFileError::Directory(path) => CertError::Directory(path),
        SecretFileError::Unreadable(path, source) => CertError::Unreadable(path, source),
        SecretFileError::NotText(path) => CertError::NoPem {
            path,
            wanted: "private key",
        },
        other => CertError::Secret(other),
    })?;
    let pem = secret.text.as_bytes();
    if pem.trim_ascii().is_empty() {
        return Err(CertError::Empty(path.clone()));
    }
    // PKCS #8 says so in its label, the older formats in a header.
    if contains(pem, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(pem, b"Proc-Type: 4,ENCRYPTED") {
        return Err(CertError::Encrypted(path.clone()));
    }
    let key = match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => key,
        Err(rustls_pki_types::pem::Error::NoItemsFound) => {
            if contains(pem, b"BEGIN CERTIFICATE") {
                return Err(CertError::CertInKeyFile(path.clone()));
            }
            return Err(CertError::NoPem {
                path: path.clone(),
                wanted: "private key",
            });
        }
        Err(_) => return Err(CertError::BrokenPem(path.clone())),
    };
    Ok((key, secret.too_open))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn unreadable(
    path: &Path,
    err: io::Error,
    missing: impl FnOnce(PathBuf) -> CertError,
) -> CertError {
    match err.kind() {
        io::ErrorKind::NotFound => missing(path.to_owned()),
        io::ErrorKind::IsADirectory => CertError::Directory(path.to_owned()),
        _ => CertError::Unreadable(path.to_owned(), err),
    }
}

/// Reads the whole chain, for a broken one in the middle breaks clients too; returns the first.
fn parse<'c>(
    files: &CertFiles,
    chain: &'c [CertificateDer<'static>],
) -> Result<X509Certificate<'c>, CertError> {
    let mut first = None;
    for (number, der) in (1..).zip(chain) {
        let broken = || CertError::BrokenCert {
            path: files.cert.clone(),
            number,
        };
        let (_, parsed) = x509_parser::parse_x509_certificate(der).map_err(|_| broken())?;
        first.get_or_insert(parsed);
    }
    first.ok_or_else(|| CertError::NoPem {
        path: files.cert.clone(),
        wanted: "certificate",
    })
}

/// Asks the library that our own clients use, so that what passes here passes there.
fn check_host(
    files: &CertFiles,
    chain: &[CertificateDer<'static>],
    leaf: &X509Certificate<'_>,
    host: &Host,
) -> Result<(), CertError> {
    if chain.first().is_some_and(|der| verifies(der, host)) {
        return Ok(());
    }
    let covers = names(leaf);
    Err(CertError::WrongHost {
        cert: files.cert.clone(),
        host: host.clone(),
        covers,
    })
}

/// Whether clients that connect to `host` accept the certificate.
#[must_use]
pub fn is_for(loaded: &Certificates, host: &Host) -> bool {
    loaded.chain.first().is_some_and(|der| verifies(der, host))
}

fn verifies(der: &CertificateDer<'_>, host: &Host) -> bool {
    ParsedCertificate::try_from(der).is_ok_and(|parsed| {
        rustls::client::verify_server_name(&parsed, &host.server_name()).is_ok()
    })
}

fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = leaf.subject_alternative_name() else {
        return Vec::new();
    };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|ip| std::net::IpAddr::from(ip).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|ip| std::net::IpAddr::from(ip).to_string()),
        },
        _ => None,
    };
    extension
        .value
        .general_names
        .iter()
        .filter_map(name)
        .collect()
}

fn check_dates(files: &CertFiles, life: Life, now: SystemTime) -> Option<CertError> {
    if life.not_after < now {
        return Some(CertError::Expired {
            cert: files.cert.clone(),
            on: date(life.not_after),
        });
    }
    if now < life.not_before {
        return Some(CertError::NotYet {
            cert: files.cert.clone(),
            from: date(life.not_before),
        });
    }
    None
}

fn date(time: SystemTime) -> String {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH);
    let seconds = i64::try_from(since_1970.unwrap_or_default().as_secs());
    let time = seconds.map(ASN1Time::from_timestamp);
    let Ok(Ok(time)) = time else {
        return "a day beyond all calendars".to_owned();
    };
    let date = time.to_datetime().date();
    format!(
        "{:04}-{:02}-{:02}",
        date.year(),
        u8::from(date.month()),
        date.day()
    )
}
