//! What operators may ask of the reference and this version does not do. It does not start then:
//! a relay that ignores what it was told is worse than none.

use super::reader::Reader;
use super::{AcmeDirectory, Config, Tls};
use crate::settings::{
    ACE, ACME_IP_CERTS, MESH_WITH, SECRETS_URL, Setting, TLS_MODE, UNPUBLISHED_DNS,
};

pub(super) fn check(reader: &mut Reader<'_>, config: &Config) {
    if let Tls::Acme(acme) = &config.tls {
        let authority = match acme.directory {
            AcmeDirectory::LetsEncrypt => "Let's Encrypt",
            AcmeDirectory::Google => "Google",
        };
        let mode = reader.name_of(&TLS_MODE);
        let host = &config.host;
        reader.problem(format!(
            "{mode}: this version cannot get certificates from {authority}; get one for {host} \
             with another tool and use manual mode, or use a self-signed one (derper quickstart)"
        ));
    }
    let ace = reader.switch(&ACE);
    let ip_certs = reader.switch(&ACME_IP_CERTS);
    let asked: [(&Setting, bool, &str); 5] = [
        (
            &ACME_IP_CERTS,
            ip_certs,
            "this version cannot order certificates for addresses; use -certmode manual with an \
             address as -hostname, which makes a self-signed one",
        ),
        (
            &MESH_WITH,
            !config.mesh.with.is_empty(),
            "this version cannot connect to other relays; give each relay a region of its own",
        ),
        (
            &SECRETS_URL,
            reader.given(&SECRETS_URL).is_some(),
            "this version cannot fetch secrets; put the mesh key into a file and name it with \
             -mesh-psk-file",
        ),
        (
            &ACE,
            ace,
            "this version is no CONNECT proxy; remove the flag",
        ),
        (
            &UNPUBLISHED_DNS,
            reader.given(&UNPUBLISHED_DNS).is_some(),
            "this version can only publish names; use -bootstrap-dns-names",
        ),
    ];
    for (setting, _, what) in asked.into_iter().filter(|(_, asked, _)| *asked) {
        let name = reader.name_of(setting);
        reader.problem(format!("{name}: {what}"));
    }
}
