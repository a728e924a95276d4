//! Whether TLS is served, and with which certificate.
//!
//! With the reference's flags the port decides (`tsweb.IsProd443`); with our file the mode does.

use std::path::PathBuf;
use std::time::Duration;

use derp_ops::secret_file::OpenMode;
use rustls::crypto::aws_lc_rs;

use super::Manner;
use super::identity::state_dir;
use super::listen::Listen;
use super::reader::Reader;
use crate::host::Host;
use crate::problem::chain;
use crate::settings::{
    ACME_EAB_KEY, ACME_EAB_KID, ACME_EMAIL, ACME_IP_CERTS, CERT_DIR, HOSTNAME, TLS_CERT, TLS_KEY,
    TLS_MODE,
};
use crate::tls::load::{self, CertError};
use crate::tls::self_signed::{ONE_YEAR, TEN_YEARS};
use crate::tls::{CertFiles, Certificates};

/// What is served on the main address.
#[derive(Debug)]
pub enum Tls {
    /// Plain HTTP.
    Off,
    /// TLS with these certificates.
    Loaded(Certificates),
    /// TLS with a certificate that is to be made, for its files are not there yet.
    Create {
        /// Where it is to be.
        files: CertFiles,
        /// How long it is to be valid.
        lifetime: Duration,
        /// What to do where others may read its key, once it is made.
        on_open: OpenMode,
    },
    /// TLS with certificates from an authority.
    Acme(Acme),
}

/// How to get certificates from an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acme {
    /// Which authority.
    pub directory: AcmeDirectory,
    /// Where account and certificates are kept.
    pub dir: PathBuf,
    /// Contact for the authority.
    pub email: Option<String>,
    /// Whether there are credentials for External Account Binding.
    pub has_eab: bool,
    /// Whether certificates for the machine's own addresses are ordered.
    pub ip_certs: bool,
}

/// A certificate authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcmeDirectory {
    /// Let's Encrypt.
    LetsEncrypt,
    /// Google Trust Services.
    Google,
}

/// What `-certmode` and `tls.mode` can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Off,
    Manual,
    SelfSigned,
    Acme(AcmeDirectory),
}

impl Tls {
    /// Whether TLS is served at all.
    #[must_use]
    pub const fn is_served(&self) -> bool {
        !matches!(self, Self::Off)
    }

    pub(super) fn read(
        reader: &mut Reader<'_>,
        listen: &Listen,
        host: Option<&Host>,
        dev: bool,
    ) -> Self {
        let mode = match reader.manner() {
            Manner::Go => go_mode(reader, listen, dev),
            Manner::Ours => our_mode(reader),
        };
        let Some(mode) = mode else { return Self::Off };
        if mode != Mode::Manual {
            for setting in [&TLS_CERT, &TLS_KEY] {
                if reader.given(setting).is_some() {
                    reader.reject(setting, "this is for manual mode only; remove it");
                }
            }
        }
        if mode == Mode::Off {
            return Self::Off;
        }
        let Some(host) = host else {
            if reader.given(&HOSTNAME).is_none() {
                reader.problem(
                    "hostname is not set; give the name or address that clients reach the relay by",
                );
            }
            return Self::Off;
        };
        match mode {
            Mode::Off => Self::Off,
            Mode::Manual => manual(reader, host),
            Mode::SelfSigned => self_signed(reader, host),
            Mode::Acme(directory) => Self::Acme(Acme {
                directory,
                dir: reader
                    .path(&CERT_DIR)
                    .or_else(|| reader.surroundings.cert_dir())
                    .unwrap_or_default(),
                email: reader.given(&ACME_EMAIL).map(|given| given.text),
                has_eab: reader.given(&ACME_EAB_KID).is_some()
                    && reader.given(&ACME_EAB_KEY).is_some(),
                ip_certs: reader.switch(&ACME_IP_CERTS),
            }),
        }
    }
}

fn go_mode(reader: &mut Reader<'_>, listen: &Listen, dev: bool) -> Option<Mode> {
    let given = reader.given(&TLS_MODE);
    let mode = given.as_ref().map_or(TLS_MODE.default, |given| &given.text);
    if mode == "manual" {
        return Some(Mode::Manual);
    }
    if !listen.is_https_port? {
        if !dev {
            reader.warn(format!(
                "plain HTTP is served on {}, for its port is not 443 and -certmode is not manual; \
                 Tailscale clients need TLS in front of it",
                listen.address
            ));
        }
        return Some(Mode::Off);
    }
    match mode {
        "letsencrypt" => Some(Mode::Acme(AcmeDirectory::LetsEncrypt)),
        "gcp" => Some(Mode::Acme(AcmeDirectory::Google)),
        "self-signed" | "off" | "acme" => {
            reader.reject(
                &TLS_MODE,
                "this mode needs a configuration file; see --config",
            );
            None
        }
        _ => {
            reader.reject(&TLS_MODE, "write letsencrypt, manual or gcp");
            None
        }
    }
}

fn our_mode(reader: &mut Reader<'_>) -> Option<Mode> {
    const MODES: &str = "manual, self-signed, acme or off";
    if reader.given(&TLS_MODE).is_none() {
        reader.problem(format!("tls.mode is not set; write {MODES}"));
        return None;
    }
    reader.optional(&TLS_MODE, |text| match text {
        "off" => Ok(Mode::Off),
        "manual" => Ok(Mode::Manual),
        "self-signed" => Ok(Mode::SelfSigned),
        "acme" | "letsencrypt" => Ok(Mode::Acme(AcmeDirectory::LetsEncrypt)),
        "gcp" => Ok(Mode::Acme(AcmeDirectory::Google)),
        _ => Err(format!("write {MODES}")),
    })
}

fn manual(reader: &mut Reader<'_>, host: &Host) -> Tls {
    let files = match (reader.path(&TLS_CERT), reader.path(&TLS_KEY)) {
        (Some(cert), Some(key)) => {
            if let Some(dir) = reader.given(&CERT_DIR) {
                reader.reject(
                    &TLS_CERT,
                    format_args!("{} is set too; remove one", dir.origin),
                );
            }
            CertFiles { cert, key }
        }
        (Some(_), None) => {
            reader.reject(
                &TLS_CERT,
                "tls.key is not set; the certificate's key is needed too",
            );
            return Tls::Off;
        }
        (None, Some(_)) => {
            reader.reject(
                &TLS_KEY,
                "tls.cert is not set; the key's certificate is needed too",
            );
            return Tls::Off;
        }
        (None, None) => {
            let dir = reader
                .path(&CERT_DIR)
                .or_else(|| reader.surroundings.cert_dir());
            let Some(dir) = dir else {
                reader.problem(
                    "-certdir: there is no place for certificates, for neither HOME nor \
                     XDG_CACHE_HOME is set; name a directory",
                );
                return Tls::Off;
            };
            CertFiles::in_dir(&dir, host)
        }
    };
    match load(reader, &files, host) {
        Ok(tls) => tls,
        // The reference makes a certificate for an address, as no authority used to.
        Err(err) if err.both_missing() && host.ip().is_some() => Tls::Create {
            files,
            lifetime: ONE_YEAR,
            on_open: reader.on_open(&TLS_MODE),
        },
        Err(err) => {
            reader.problem(format!("{}: {}", reader.name_of(&TLS_MODE), chain(&err)));
            Tls::Off
        }
    }
}

fn self_signed(reader: &mut Reader<'_>, host: &Host) -> Tls {
    let dir = match reader.path(&CERT_DIR) {
        Some(dir) => dir,
        None => match state_dir(reader) {
            Some(dir) => dir.join("certs"),
            None => return Tls::Off,
        },
    };
    let files = CertFiles::in_dir(&dir, host);
    match load(reader, &files, host) {
        Ok(tls) => tls,
        Err(err) if err.both_missing() => Tls::Create {
            files,
            lifetime: TEN_YEARS,
            on_open: reader.on_open(&TLS_MODE),
        },
        Err(err) => {
            reader.problem(format!("{}: {}", reader.name_of(&TLS_MODE), chain(&err)));
            Tls::Off
        }
    }
}

fn load(reader: &mut Reader<'_>, files: &CertFiles, host: &Host) -> Result<Tls, CertError> {
    let on_open = reader.on_open(&TLS_MODE);
    let provider = aws_lc_rs::default_provider();
    let now = reader.surroundings.now;
    let mut loaded = load::load(files, Some(host), on_open, now, &provider)?;
    reader.warn_too_open(loaded.too_open.take());
    for warning in loaded.warnings.drain(..) {
        reader.warn(warning);
    }
    Ok(Tls::Loaded(loaded))
}
