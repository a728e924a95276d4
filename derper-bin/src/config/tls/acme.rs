//! Certificates from an authority: which one, and by which checks.

use std::fs;

use derp_certs::{AcmeOptions, ChallengeKind, Eab, GOOGLE, LETS_ENCRYPT};
use derp_ops::secret_file;
use zeroize::Zeroizing;

use super::{Acme, AcmeDirectory, Tls};
use crate::args::PROGRAM;
use crate::config::Manner;
use crate::config::identity::state_dir;
use crate::config::listen::Listen;
use crate::config::reader::Reader;
use crate::host::Host;
use crate::problem::chain;
use crate::settings::{
    ACME_CA_FILE, ACME_CHALLENGES, ACME_DIRECTORY, ACME_EAB_KEY, ACME_EAB_KEY_FILE, ACME_EAB_KID,
    ACME_EMAIL, ACME_IP_CERTS, ACME_PROFILE, CERT_DIR, HOSTNAME, TLS_MODE,
};

pub(super) fn read(
    reader: &mut Reader<'_>,
    listen: &Listen,
    host: &Host,
    authority: AcmeDirectory,
) -> Tls {
    if reader.given(&HOSTNAME).is_none() {
        let name = reader.name_of(&TLS_MODE);
        reader.problem(format!(
            "{name}: {} is not set; give the name that certificates are to be ordered for",
            HOSTNAME.name()
        ));
        return Tls::Off;
    }
    let ip_certs = reader.switch(&ACME_IP_CERTS);
    match (host, authority) {
        (Host::Ip(_), AcmeDirectory::LetsEncrypt) if !ip_certs => reader.reject(
            &HOSTNAME,
            "an authority gives certificates for addresses only with -acme-ip-certs; set that, or \
             give a name",
        ),
        (Host::Ip(_), AcmeDirectory::Google) => {
            reader.reject(
                &HOSTNAME,
                "Google gives no certificates for addresses; give a name",
            );
        }
        _ => {}
    }
    let eab = eab(reader);
    let email = reader.given(&ACME_EMAIL).map(|given| given.text);
    if authority == AcmeDirectory::Google && (eab.is_none() || email.is_none()) {
        let name = reader.name_of(&TLS_MODE);
        reader.problem(format!(
            "{name}: Google wants to know whose account it is; set {}, {} and {}",
            ACME_EMAIL.name(),
            ACME_EAB_KID.name(),
            ACME_EAB_KEY.name()
        ));
    }
    let default = match authority {
        AcmeDirectory::LetsEncrypt => LETS_ENCRYPT,
        AcmeDirectory::Google => GOOGLE,
    };
    let directory = reader.optional(&ACME_DIRECTORY, |text| {
        if text.starts_with("https://") {
            Ok(text.to_owned())
        } else {
            Err("an ACME directory is an https:// URL".to_owned())
        }
    });
    let ca_file = reader.path(&ACME_CA_FILE);
    if let Some(file) = &ca_file
        && let Err(err) = fs::File::open(file)
    {
        reader.reject(&ACME_CA_FILE, format_args!("cannot read it: {err}"));
    }
    let options = AcmeOptions {
        directory: directory.unwrap_or_else(|| default.to_owned()),
        email,
        eab,
        ca_file,
        challenges: challenges(reader, listen),
        user_agent: format!("{}/{}", PROGRAM.program, PROGRAM.version),
    };
    let dir = reader.path(&CERT_DIR).or_else(|| match reader.manner() {
        Manner::Go => reader.surroundings.cert_dir(),
        Manner::Ours => state_dir(reader).map(|dir| dir.join("certs")),
    });
    let Some(dir) = dir else {
        reader.problem(
            "-certdir: there is no place for certificates, for neither HOME nor XDG_CACHE_HOME is \
             set; name a directory",
        );
        return Tls::Off;
    };
    Tls::Acme(Acme {
        options,
        dir,
        host: host.clone(),
        profile: reader.given(&ACME_PROFILE).map(|given| given.text),
        ip_certs,
    })
}

/// The credentials that bind an account to one made elsewhere.
fn eab(reader: &mut Reader<'_>) -> Option<Eab> {
    let kid = reader.given(&ACME_EAB_KID);
    let (setting, key) = match (reader.given(&ACME_EAB_KEY), reader.path(&ACME_EAB_KEY_FILE)) {
        (Some(_), Some(_)) => {
            let other = reader.name_of(&ACME_EAB_KEY);
            reader.reject(
                &ACME_EAB_KEY_FILE,
                format_args!("{other} is set too; remove one"),
            );
            return None;
        }
        (Some(key), None) => (&ACME_EAB_KEY, Some(Zeroizing::new(key.text))),
        (None, Some(file)) => {
            let on_open = reader.on_open(&ACME_EAB_KEY_FILE);
            match secret_file::read(&file, on_open) {
                Ok(secret) => {
                    reader.warn_too_open(secret.too_open);
                    (&ACME_EAB_KEY_FILE, Some(secret.text))
                }
                Err(err) => {
                    reader.reject(&ACME_EAB_KEY_FILE, chain(&err));
                    return None;
                }
            }
        }
        (None, None) => (&ACME_EAB_KEY, None),
    };
    match (kid, key) {
        (None, None) => None,
        (Some(kid), Some(key)) => match Eab::new(&kid.text, &key) {
            Ok(eab) => Some(eab),
            Err(err) => {
                reader.reject(
                    setting,
                    format_args!("the key is {err}; copy it as it was given"),
                );
                None
            }
        },
        (Some(_), None) => {
            let other = ACME_EAB_KEY.name();
            reader.reject(
                &ACME_EAB_KID,
                format_args!("{other} is not set; both are needed"),
            );
            None
        }
        (None, Some(_)) => {
            let other = ACME_EAB_KID.name();
            reader.reject(setting, format_args!("{other} is not set; both are needed"));
            None
        }
    }
}

/// The checks that can succeed. Without a port for plain HTTP there is only the one by TLS.
fn challenges(reader: &mut Reader<'_>, listen: &Listen) -> Vec<ChallengeKind> {
    let given = reader.given(&ACME_CHALLENGES).is_some();
    let names = match reader.list(&ACME_CHALLENGES) {
        names if names.is_empty() => {
            let default = ACME_CHALLENGES.default.split(',');
            default.map(str::to_owned).collect()
        }
        names => names,
    };
    let mut kinds = Vec::new();
    for name in names {
        match name.as_str() {
            "tls-alpn-01" => kinds.push(ChallengeKind::TlsAlpn01),
            "http-01" if listen.http.is_some() => kinds.push(ChallengeKind::Http01),
            "http-01" if given => reader.reject(
                &ACME_CHALLENGES,
                "http-01 needs the port for plain HTTP, which is off; remove one",
            ),
            "http-01" => {}
            "dns-01" => reader.reject(
                &ACME_CHALLENGES,
                "for dns-01 use manual mode and tls.hook with a tool that knows your DNS",
            ),
            _ => reader.reject(&ACME_CHALLENGES, "write tls-alpn-01, http-01 or both"),
        }
    }
    kinds
}
