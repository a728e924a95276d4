//! Whether TLS is served, and with which certificate.
//!
//! With the reference's flags the port decides (`tsweb.IsProd443`); with our file the mode does.

mod acme;

use std::path::PathBuf;
use std::time::Duration;

use derp_certs::{AcmeOptions, GOOGLE, LETS_ENCRYPT};
use derp_ops::secret_file::OpenMode;
use rustls::crypto::aws_lc_rs;

use super::Manner;
use super::identity::state_dir;
use super::listen::Listen;
use super::reader::Reader;
use crate::host::Host;
use crate::problem::chain;
use crate::settings::{
    ACME_IP_CERTS, CERT_DIR, HOSTNAME, TLS_CERT, TLS_CERTIFICATES, TLS_HOOK, TLS_HOOK_EVERY,
    TLS_HOOK_TIMEOUT, TLS_KEY, TLS_MODE,
};
use crate::tls::hook::Hook;
use crate::tls::load::{self, CertError};
use crate::tls::self_signed::{ONE_YEAR, TEN_YEARS};
use crate::tls::{CertFiles, Certificates, Files, NameRule, Pair};

/// What is served on the main address.
#[derive(Debug)]
pub enum Tls {
    /// Plain HTTP.
    Off,
    /// TLS with the certificates in these files.
    Files(Files),
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
    /// Which authority, and how it is asked.
    pub options: AcmeOptions,
    /// Where account and certificates are kept.
    pub dir: PathBuf,
    /// Whom a certificate is ordered for.
    pub host: Host,
    /// The kind of certificate, by the authority's name for it.
    pub profile: Option<String>,
    /// Whether certificates for the machine's own addresses are ordered.
    pub ip_certs: bool,
}

impl Acme {
    /// Whether the authority is one that only reaches what the whole internet does.
    #[must_use]
    pub fn is_public(&self) -> bool {
        [LETS_ENCRYPT, GOOGLE].contains(&self.options.directory.as_str())
    }
}

/// A certificate authority that has a mode of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AcmeDirectory {
    LetsEncrypt,
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
        let Some(mode) = mode(reader, listen, dev) else {
            return Self::Off;
        };
        if mode != Mode::Manual {
            for setting in [&TLS_CERT, &TLS_KEY, &TLS_CERTIFICATES, &TLS_HOOK] {
                if reader.given(setting).is_some() {
                    reader.reject(setting, "this is for manual mode only; remove it");
                }
            }
        }
        if mode == Mode::Off {
            return Self::Off;
        }
        if !matches!(mode, Mode::Acme(AcmeDirectory::LetsEncrypt)) && reader.switch(&ACME_IP_CERTS)
        {
            let name = reader.name_of(&TLS_MODE);
            reader.reject(
                &ACME_IP_CERTS,
                format_args!("Let's Encrypt gives such certificates; set {name} to letsencrypt"),
            );
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
            Mode::Acme(directory) => acme::read(reader, listen, host, directory),
        }
    }
}

/// Whether TLS is served. Certificates are not looked at.
pub(super) fn is_wanted(reader: &mut Reader<'_>, listen: &Listen, dev: bool) -> bool {
    mode(reader, listen, dev).is_some_and(|mode| mode != Mode::Off)
}

fn mode(reader: &mut Reader<'_>, listen: &Listen, dev: bool) -> Option<Mode> {
    match reader.manner() {
        Manner::Go => go_mode(reader, listen, dev),
        Manner::Ours => our_mode(reader),
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
                listen.main()
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
    const MODES: &str = "manual, self-signed, letsencrypt, gcp or off";
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
    if reader.given(&TLS_CERTIFICATES).is_some() {
        return several(reader, host);
    }
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
        (None, None) => match in_cert_dir(reader, host) {
            Some(files) => files,
            None => return Tls::Off,
        },
    };
    let hook = hook(reader);
    match load(reader, &files, Some(host)) {
        Ok(loaded) => one(reader, files, host, Some(loaded), hook),
        Err(err) if err.both_missing() && hook.is_some() => one(reader, files, host, None, hook),
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

/// The files in the directory for certificates; in a container of ours the two that other images
/// take from a fixed place, where nobody has named a directory.
fn in_cert_dir(reader: &mut Reader<'_>, host: &Host) -> Option<CertFiles> {
    if let Some(dir) = reader.path(&CERT_DIR) {
        return Some(CertFiles::in_dir(&dir, host));
    }
    if let Some((cert, key)) = reader.surroundings.mounted_cert() {
        return Some(CertFiles { cert, key });
    }
    let dir = reader.surroundings.cert_dir();
    if dir.is_none() {
        reader.problem(
            "-certdir: there is no place for certificates, for neither HOME nor XDG_CACHE_HOME is \
             set; name a directory",
        );
    }
    dir.map(|dir| CertFiles::in_dir(&dir, host))
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
    match load(reader, &files, Some(host)) {
        Ok(loaded) => one(reader, files, host, Some(loaded), None),
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

/// The one certificate of the relay, which keeps the reference's rule of who gets it.
fn one(
    reader: &Reader<'_>,
    files: CertFiles,
    host: &Host,
    loaded: Option<Certificates>,
    hook: Option<Hook>,
) -> Tls {
    let rule = NameRule::Host(host.clone());
    Tls::Files(Files {
        pairs: vec![Pair {
            files,
            rule,
            loaded,
        }],
        on_open: reader.on_open(&TLS_MODE),
        hook,
    })
}

/// Several certificates, each for the names that it covers.
fn several(reader: &mut Reader<'_>, host: &Host) -> Tls {
    for setting in [&TLS_CERT, &TLS_KEY, &CERT_DIR] {
        if let Some(given) = reader.given(setting) {
            reader.reject(
                &TLS_CERTIFICATES,
                format_args!("{} is set too; remove one", given.origin),
            );
        }
    }
    let hook = hook(reader);
    let mut pairs = Vec::new();
    for text in reader.list(&TLS_CERTIFICATES) {
        let Some((cert, key)) = text.split_once(':') else {
            reader.reject(
                &TLS_CERTIFICATES,
                format_args!("{text:?} names no key; write CERTIFICATE:KEY"),
            );
            continue;
        };
        let files = CertFiles {
            cert: cert.trim().into(),
            key: key.trim().into(),
        };
        let loaded = match load(reader, &files, None) {
            Ok(loaded) => Some(loaded),
            Err(err) if err.both_missing() && hook.is_some() => None,
            Err(err) => {
                let name = reader.name_of(&TLS_CERTIFICATES);
                reader.problem(format!("{name}: {}", chain(&err)));
                continue;
            }
        };
        let is_default = pairs.is_empty();
        pairs.push(Pair {
            files,
            rule: NameRule::Covered { is_default },
            loaded,
        });
    }
    let is_for_host = |pair: &Pair| {
        pair.loaded
            .as_ref()
            .is_none_or(|loaded| load::is_for(loaded, host))
    };
    if !pairs.is_empty() && !pairs.iter().any(is_for_host) {
        reader.reject(
            &TLS_CERTIFICATES,
            format_args!("none of the certificates is for {host}, which clients ask for"),
        );
    }
    if pairs.is_empty() {
        return Tls::Off;
    }
    Tls::Files(Files {
        pairs,
        on_open: reader.on_open(&TLS_CERTIFICATES),
        hook,
    })
}

fn hook(reader: &mut Reader<'_>) -> Option<Hook> {
    let command = reader.list(&TLS_HOOK);
    let timeout = reader.duration_above_zero(&TLS_HOOK_TIMEOUT);
    let every = reader.duration_above_zero(&TLS_HOOK_EVERY);
    (!command.is_empty()).then_some(Hook {
        command,
        timeout,
        every,
    })
}

fn load(
    reader: &mut Reader<'_>,
    files: &CertFiles,
    host: Option<&Host>,
) -> Result<Certificates, CertError> {
    let on_open = reader.on_open(&TLS_MODE);
    let provider = aws_lc_rs::default_provider();
    let now = reader.surroundings.now;
    // The reference starts with whatever the dates are, and its flags alone must.
    let mut loaded = match reader.manner() {
        Manner::Go => load::load(files, host, on_open, now, &provider)?,
        Manner::Ours => load::load_in_date(files, host, on_open, now, &provider)?,
    };
    reader.warn_too_open(loaded.too_open.take());
    for warning in loaded.warnings.drain(..) {
        reader.warn(warning);
    }
    Ok(loaded)
}
