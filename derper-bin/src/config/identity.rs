//! Who the relay is: its name and its private key.

use std::path::PathBuf;

use derp_ops::keyfile::{self, KeyFileError};
use derp_ops::secret_file::OpenMode;
use derp_proto::NodePrivate;

use super::Manner;
use super::reader::Reader;
use crate::host::Host;
use crate::problem::chain;
use crate::settings::{HOSTNAME, KEY_FILE, STATE_DIR};

/// The reference's default, which is right for nobody else's relay but keeps its behaviour.
pub(super) fn default_host() -> Host {
    HOSTNAME
        .default
        .parse()
        .expect("the default is a host name")
}

/// The relay's name, where one was given (or the reference's rules supply one).
pub(super) fn host(reader: &mut Reader<'_>) -> Option<Host> {
    let given = reader.given(&HOSTNAME).is_some();
    let host = reader.optional(&HOSTNAME, |text| {
        text.parse::<Host>().map_err(|err| err.to_string())
    });
    match reader.manner() {
        Manner::Go if !given => Some(default_host()),
        _ => host,
    }
}

/// Where the relay's private key comes from.
#[derive(Debug)]
pub enum KeyPlan {
    /// Made at each start and never written.
    Ephemeral,
    /// Read from this file.
    Loaded {
        /// The key.
        key: NodePrivate,
        /// The file.
        path: PathBuf,
    },
    /// To be made and written to this file, which is not there yet.
    Create {
        /// The file.
        path: PathBuf,
        /// What to do if somebody else makes it first, with a mode that is too open.
        on_open: OpenMode,
    },
}

impl KeyPlan {
    pub(super) fn read(reader: &mut Reader<'_>, dev: bool) -> Self {
        if dev {
            return Self::Ephemeral;
        }
        let Some(path) = Self::path(reader) else {
            return Self::Ephemeral;
        };
        let on_open = reader.on_open(&KEY_FILE);
        match keyfile::load(&path, on_open) {
            Ok(Some(file)) => {
                reader.warn_too_open(file.too_open);
                Self::Loaded {
                    key: file.key,
                    path,
                }
            }
            Ok(None) => Self::Create { path, on_open },
            Err(err) => {
                reader.problem(format!("{}: {}", reader.name_of(&KEY_FILE), chain(&err)));
                Self::Ephemeral
            }
        }
    }

    fn path(reader: &mut Reader<'_>) -> Option<PathBuf> {
        if let Some(path) = reader.path(&KEY_FILE) {
            return Some(path);
        }
        match reader.manner() {
            Manner::Go if reader.given(&STATE_DIR).is_some() => {
                Some(state_dir(reader)?.join("derper.key"))
            }
            Manner::Go if reader.surroundings.is_root => Some("/var/lib/derper/derper.key".into()),
            Manner::Go => {
                reader.problem(
                    "-c: no key file is named; only root has a default (/var/lib/derper/derper.key)",
                );
                None
            }
            Manner::Ours => Some(state_dir(reader)?.join("derper.key")),
        }
    }

    /// The key; makes it and writes it where the plan says so.
    ///
    /// # Errors
    /// The file cannot be written, or somebody else has just made it and it is unusable.
    pub fn private_key(
        &self,
        new_key: impl FnOnce() -> NodePrivate,
    ) -> Result<NodePrivate, KeyFileError> {
        match self {
            Self::Ephemeral => Ok(new_key()),
            Self::Loaded { key, .. } => Ok(key.clone()),
            Self::Create { path, on_open } => {
                Ok(keyfile::load_or_create(path, *on_open, new_key)?.key)
            }
        }
    }
}

/// The state directory, or a problem.
pub(super) fn state_dir(reader: &mut Reader<'_>) -> Option<PathBuf> {
    let dir = reader
        .path(&STATE_DIR)
        .or_else(|| reader.surroundings.state_dir());
    if dir.is_none() {
        reader.problem(
            "--state-dir: there is no place for keys, for neither HOME nor XDG_STATE_HOME is set; \
             name a directory",
        );
    }
    dir
}
