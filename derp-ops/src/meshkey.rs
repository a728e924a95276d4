//! The file with the key that the relays of one region share: 64 hexadecimal digits, with white
//! space around them (`types/key/derp.go`).
//!
//! It may have a second one, on a line of its own, so that keys can be exchanged while the region
//! runs: the first is shown to other relays, and both are accepted from them.

use std::path::{Path, PathBuf};

use derp_proto::{KeyError, MeshKey};
use thiserror::Error;

use crate::secret_file::{self, OpenMode, SecretFileError, TooOpen};

/// A mesh key and what is to be said of its file.
#[derive(Debug)]
pub struct MeshKeyFile {
    /// The key.
    pub key: MeshKey,
    /// Another one, which is accepted as well.
    pub other: Option<MeshKey>,
    /// Set where others than the file's owner may read it.
    pub too_open: Option<TooOpen>,
}

/// A mesh key file that cannot be used. `Display` names the file and the remedy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MeshKeyFileError {
    /// The file itself cannot be used.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The file holds something else.
    #[error(
        "{path} does not hold a mesh key: exactly 64 hexadecimal digits, or twice as many on two \
         lines while keys are exchanged; make one with: openssl rand -hex 32"
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// The key is all zero, which stands for "no key".
    #[error(
        "the mesh key in {0} is all zero, which means none; make one with: openssl rand -hex 32"
    )]
    Zero(PathBuf),
}

/// Loads the mesh key in `path`.
///
/// # Errors
/// No usable key is there, or the file is too open and `on_open` refuses that.
pub fn load(path: &Path, on_open: OpenMode) -> Result<MeshKeyFile, MeshKeyFileError> {
    let file = secret_file::read(path, on_open)?;
    let text = file.text.trim();
    let (first, second) = match text.split_once(['\r', '\n']) {
        Some((first, second)) => (first, Some(second)),
        None => (text, None),
    };
    let read = |text: &str| {
        MeshKey::from_secret_text(text).map_err(|err| match err {
            KeyError::Zero => MeshKeyFileError::Zero(path.to_owned()),
            source => MeshKeyFileError::NotAKey {
                path: path.to_owned(),
                source,
            },
        })
    };
    Ok(MeshKeyFile {
        key: read(first)?,
        other: second.map(read).transpose()?,
        too_open: file.too_open,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const DIGITS: &str = "6d529e9d4ef632d22d4a4214cb49da8f1ba1b72697061fb24e312984c35ec8d8";

    fn load_text(content: &str) -> Result<MeshKeyFile, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mesh.key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        load(&path, OpenMode::Refuse)
            .map_err(|err| err.to_string().replace(&path.display().to_string(), "FILE"))
    }

    #[test]
    fn digits_of_either_case_with_space_around_are_a_key() {
        let key = MeshKey::from_secret_text(DIGITS).unwrap();
        for content in [
            DIGITS.to_owned(),
            format!("{DIGITS}\n"),
            format!("  {DIGITS}  "),
            DIGITS.to_uppercase(),
        ] {
            assert!(load_text(&content).unwrap().key.ct_eq(&key));
        }
    }

    #[test]
    fn a_second_line_is_another_key() {
        let second = "ab".repeat(32);
        for between in ["\n", "\r\n", " \n\n "] {
            let file = load_text(&format!("{DIGITS}{between}{second}\n")).unwrap();
            let keys = [DIGITS, &second].map(|digits| MeshKey::from_secret_text(digits).unwrap());
            assert!(file.key.ct_eq(&keys[0]));
            assert!(file.other.unwrap().ct_eq(&keys[1]));
        }
        assert!(load_text(DIGITS).unwrap().other.is_none());
    }

    #[test]
    fn anything_else_is_refused_with_a_remedy() {
        let not_a_key = "FILE does not hold a mesh key: exactly 64 hexadecimal digits, or twice \
                         as many on two lines while keys are exchanged; make one with: \
                         openssl rand -hex 32";
        for content in [
            "",
            "badf00d",
            &DIGITS[1..],
            &format!("{DIGITS}0"),
            &DIGITS.replace('6', "g"),
            &format!("{DIGITS} {DIGITS}"),
            &format!("{DIGITS}\n{DIGITS}\n{DIGITS}"),
            &format!("{DIGITS}\nbadf00d"),
        ] {
            assert_eq!(load_text(content).unwrap_err(), not_a_key, "{content:?}");
        }
        assert_eq!(
            load_text(&"0".repeat(64)).unwrap_err(),
            "the mesh key in FILE is all zero, which means none; make one with: openssl rand -hex 32"
        );
    }
}
