//! The region's other relays, and the key that they share.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use derp_client::{Roots, ServerUrl};
use derp_ops::meshkey::{self, MeshKeyFile};
use derp_proto::{KeyError, MeshKey};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::Manner;
use super::reader::Reader;
use crate::problem::chain;
use crate::settings::{MESH_CA_FILE, MESH_KEY_TEXT, MESH_NAME, MESH_PSK_FILE, MESH_WITH};

/// The relay's place in its region.
#[derive(Debug, Default)]
pub struct Mesh {
    /// The key; `None` for a relay on its own.
    pub key: Option<MeshKey>,
    /// Another key that is accepted from other relays.
    pub other_key: Option<MeshKey>,
    /// The relays that it watches.
    pub with: Vec<MeshPeer>,
    /// A name whose addresses are relays that it watches.
    pub name: Option<ServerUrl>,
    /// The authorities of the other relays' certificates.
    pub roots: Roots,
}

/// Another relay of the region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshPeer {
    /// As it was written.
    pub text: String,
    /// Where it is; its certificate is for this host.
    pub url: ServerUrl,
    /// Where to connect to instead.
    pub dial: Option<derp_client::Host>,
}

impl FromStr for MeshPeer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, dial) = match text.split_once('/') {
            Some((host, dial)) => (host, Some(dial)),
            None => (text, None),
        };
        let dial = dial.map(str::parse).transpose();
        match (url(host), dial) {
            (Ok(url), Ok(dial)) => Ok(Self {
                text: text.to_owned(),
                url,
                dial,
            }),
            _ => Err(format!(
                "{text:?} is not a relay; write host, or host/where-to-connect"
            )),
        }
    }
}

/// The relay at `host`, which may have a port (`cmd/derper/mesh.go`).
fn url(host: &str) -> Result<ServerUrl, String> {
    let url = format!("https://{host}/derp").parse();
    match url {
        Ok(url) if !host.contains(['/', '@', '?', '#']) => Ok(url),
        _ => Err(format!("{host:?} is no host, or host:port")),
    }
}

impl Mesh {
    pub(super) fn read(reader: &mut Reader<'_>, dev: bool) -> Self {
        let mut mesh = Self::default();
        if dev {
            mesh.key = key_from_env(reader);
        } else {
            mesh.read_keys(reader);
        }
        for entry in reader.list(&MESH_WITH) {
            match entry.parse() {
                Ok(peer) if mesh.with.contains(&peer) => {}
                Ok(peer) => mesh.with.push(peer),
                Err(what) => reader.reject(&MESH_WITH, what),
            }
        }
        mesh.name = reader.optional(&MESH_NAME, url);
        if let Some(path) = reader.path(&MESH_CA_FILE) {
            match roots(&path) {
                Ok(roots) => mesh.roots = roots,
                Err(what) => reader.reject(&MESH_CA_FILE, what),
            }
        }
        for (setting, is_set) in [
            (&MESH_WITH, !mesh.with.is_empty()),
            (&MESH_NAME, mesh.name.is_some()),
        ] {
            let has_key_setting = reader.given(&MESH_PSK_FILE).is_some();
            if is_set && mesh.key.is_none() && !has_key_setting {
                let name = reader.name_of(setting);
                reader.problem(format!(
                    "{name}: other relays want the key that the region shares; put it into a \
                     file and name that with -mesh-psk-file"
                ));
            }
        }
        mesh
    }

    /// Whether there are other relays to watch.
    #[must_use]
    pub const fn has_others(&self) -> bool {
        !self.with.is_empty() || self.name.is_some()
    }

    fn read_keys(&mut self, reader: &mut Reader<'_>) {
        let Some(file) = key_from_file(reader) else {
            return;
        };
        self.key = Some(file.key);
        self.other_key = file.other;
    }
}

fn roots(path: &Path) -> Result<Roots, String> {
    let pem = fs::read(path).map_err(|err| format!("cannot read it: {err}"))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let added = certificate
            .map_err(|err| err.to_string())
            .and_then(|der| roots.add(der).map_err(|err| err.to_string()));
        added.map_err(|err| format!("not a file of certificates: {err}"))?;
    }
    if roots.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(Roots::Custom(Arc::new(roots)))
}

fn key_from_env(reader: &mut Reader<'_>) -> Option<MeshKey> {
    reader.optional(&MESH_KEY_TEXT, |text| {
        MeshKey::from_secret_text(text).map_err(|err| match err {
            KeyError::Zero => "the mesh key is all zero, which means none".to_owned(),
            _ => "a mesh key is exactly 64 hexadecimal digits".to_owned(),
        })
    })
}

fn key_from_file(reader: &mut Reader<'_>) -> Option<MeshKeyFile> {
    if reader.given(&MESH_KEY_TEXT).is_some() {
        let name = reader.name_of(&MESH_KEY_TEXT);
        reader.warn(format!(
            "{name} counts only with -dev, as in the reference; put the key into a file and name \
             it with -mesh-psk-file"
        ));
    }
    let path = reader
        .path(&MESH_PSK_FILE)
        .or_else(|| default_path(reader))?;
    match meshkey::load(&path, reader.on_open(&MESH_PSK_FILE)) {
        Ok(mut file) => {
            reader.warn_too_open(file.too_open.take());
            Some(file)
        }
        Err(err) => {
            reader.problem(format!(
                "{}: {}",
                reader.name_of(&MESH_PSK_FILE),
                chain(&err)
            ));
            None
        }
    }
}

/// The first that exists of the places where the reference looks.
fn default_path(reader: &Reader<'_>) -> Option<PathBuf> {
    if reader.manner() == Manner::Ours || reader.is_declined(&MESH_PSK_FILE) {
        return None;
    }
    let home = reader
        .surroundings
        .home()
        .map(|home| home.join("keys/derp-mesh.key"));
    [Some(PathBuf::from("/home/derp/keys/derp-mesh.key")), home]
        .into_iter()
        .flatten()
        .find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_a_host_and_perhaps_where_to_connect() {
        let parsed = |text: &str| {
            let peer: MeshPeer = text.parse().unwrap();
            assert_eq!(peer.text, text);
            let host = peer.url.host().with_port(peer.url.port());
            (
                host,
                peer.url.path().to_owned(),
                peer.dial.map(|dial| dial.to_string()),
            )
        };
        let peer = |host: &str, dial: Option<&str>| {
            (host.to_owned(), "/derp".to_owned(), dial.map(str::to_owned))
        };
        assert_eq!(
            parsed("derp1a.example.com"),
            peer("derp1a.example.com:443", None)
        );
        assert_eq!(parsed("derp1a:8443"), peer("derp1a:8443", None));
        assert_eq!(
            parsed("derp1a:8443/10.0.0.1"),
            peer("derp1a:8443", Some("10.0.0.1"))
        );
        assert_eq!(parsed("[2001:db8::1]:443/b").1, "/derp");
        for text in ["a/b/c", "/b", "a/", "", "a b", "me@a", "a?b", "a:x"] {
            assert_eq!(
                text.parse::<MeshPeer>(),
                Err(format!(
                    "{text:?} is not a relay; write host, or host/where-to-connect"
                ))
            );
        }
    }
}
