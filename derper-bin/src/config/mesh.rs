//! The region's other relays, and the key that they share.

use std::path::PathBuf;
use std::str::FromStr;

use derp_ops::meshkey;
use derp_proto::{KeyError, MeshKey};

use super::Manner;
use super::reader::Reader;
use crate::problem::chain;
use crate::settings::{MESH_KEY_TEXT, MESH_PSK_FILE, MESH_WITH};

/// The relay's place in its region.
#[derive(Debug)]
pub struct Mesh {
    /// The key; `None` for a relay on its own.
    pub key: Option<MeshKey>,
    /// The relays that it watches.
    pub with: Vec<MeshPeer>,
}

/// Another relay of the region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshPeer {
    /// Its host, perhaps with a port.
    pub host: String,
    /// Where to connect to instead; TLS still wants `host`.
    pub dial: Option<String>,
}

impl FromStr for MeshPeer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split('/').collect();
        match parts.as_slice() {
            [host] if !host.is_empty() => Ok(Self {
                host: (*host).to_owned(),
                dial: None,
            }),
            [host, dial] if !host.is_empty() && !dial.is_empty() => Ok(Self {
                host: (*host).to_owned(),
                dial: Some((*dial).to_owned()),
            }),
            _ => Err(format!(
                "{text:?} is not a relay; write host, or host/where-to-connect"
            )),
        }
    }
}

impl Mesh {
    pub(super) fn read(reader: &mut Reader<'_>, dev: bool) -> Self {
        let key = if dev {
            key_from_env(reader)
        } else {
            key_from_file(reader)
        };
        let mut with = Vec::new();
        for entry in reader.list(&MESH_WITH) {
            match entry.parse() {
                Ok(peer) => with.push(peer),
                Err(what) => reader.reject(&MESH_WITH, what),
            }
        }
        Self { key, with }
    }
}

fn key_from_env(reader: &mut Reader<'_>) -> Option<MeshKey> {
    reader.optional(&MESH_KEY_TEXT, |text| {
        MeshKey::from_secret_text(text).map_err(|err| match err {
            KeyError::Zero => "the mesh key is all zero, which means none".to_owned(),
            _ => "a mesh key is exactly 64 hexadecimal digits".to_owned(),
        })
    })
}

fn key_from_file(reader: &mut Reader<'_>) -> Option<MeshKey> {
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
        Ok(file) => {
            reader.warn_too_open(file.too_open);
            Some(file.key)
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
    if reader.manner() == Manner::Ours {
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
        let peer = |host: &str, dial: Option<&str>| MeshPeer {
            host: host.to_owned(),
            dial: dial.map(str::to_owned),
        };
        assert_eq!(
            "derp1a.example.com".parse(),
            Ok(peer("derp1a.example.com", None))
        );
        assert_eq!("derp1a:8443".parse(), Ok(peer("derp1a:8443", None)));
        assert_eq!(
            "derp1a/10.0.0.1".parse(),
            Ok(peer("derp1a", Some("10.0.0.1")))
        );
        for text in ["a/b/c", "/b", "a/", ""] {
            assert_eq!(
                text.parse::<MeshPeer>(),
                Err(format!(
                    "{text:?} is not a relay; write host, or host/where-to-connect"
                ))
            );
        }
    }
}
