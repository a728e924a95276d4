//! The file with a relay's private key: `{"PrivateKey":"privkey:…"}`, as `cmd/derper/derper.go`
//! reads and writes it.
//!
//! The key is the relay's identity: clients that knew the old one refuse a relay with a new one
//! until they reconnect. So a file that is there and cannot be read is never replaced.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use derp_proto::go_json::Field;
use derp_proto::{KeyError, NodePrivate, go_struct};
use serde::de::MapAccess;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::secret_file::{self, OpenMode, SecretFileError, TooOpen};

/// A private key and the file that it is in.
#[derive(Debug)]
pub struct KeyFile {
    /// The key.
    pub key: NodePrivate,
    /// Set where others than the file's owner may read it.
    pub too_open: Option<TooOpen>,
}

/// A key file that cannot be used. `Display` names the file and the remedy.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file itself cannot be used.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// The file is empty.
    #[error("{0} is empty; restore it from a backup, or remove it to get a new key")]
    Empty(PathBuf),
    /// The file is no JSON object, or its key is no text.
    #[error(
        "{path} is not a key file (line {line}, column {column}): it must be JSON like \
         {{\"PrivateKey\":\"privkey:…\"}}"
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// Where reading stopped.
        line: usize,
        /// Where reading stopped.
        column: usize,
    },
    /// The object has no `PrivateKey`.
    #[error("{0} has no \"PrivateKey\"; restore it from a backup, or remove it to get a new key")]
    NoKey(PathBuf),
    /// The key is all zero, which stands for "no key".
    #[error("the key in {0} is all zero; restore it from a backup, or remove it to get a new key")]
    ZeroKey(PathBuf),
    /// The key is no key.
    #[error("the \"PrivateKey\" in {path} is unusable")]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// The file could not be made.
    #[error("cannot write a new key to {path}; make the directory writable, or name another file")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Only what matters to us: the reference ignores other members, and so do we.
#[derive(Default)]
struct Document {
    private_key: SecretText,
}

go_struct!(Document {
    private_key = "PrivateKey"
});

/// Text that is wiped.
#[derive(Default)]
struct SecretText(Zeroizing<String>);

impl Field for SecretText {
    fn set<'de, A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<(), A::Error> {
        let mut text = Zeroizing::<String>::default();
        text.set(map)?;
        self.0 = text;
        Ok(())
    }
}

/// Loads the key in `path`, or `None` where there is no such file.
///
/// # Errors
/// The file is there and no usable key is in it, or it is too open and `on_open` refuses that.
pub fn load(path: &Path, on_open: OpenMode) -> Result<Option<KeyFile>, KeyFileError> {
    let file = match secret_file::read(path, on_open) {
        Ok(file) => file,
        Err(err) if err.is_missing() => return Ok(None),
        Err(err) => return Err(err.into()),
    };
    if file.text.trim().is_empty() {
        return Err(KeyFileError::Empty(path.to_owned()));
    }
    let document: Option<Document> =
        serde_json::from_str(&file.text).map_err(|err| KeyFileError::Json {
            path: path.to_owned(),
            line: err.line(),
            column: err.column(),
        })?;
    let SecretText(text) = document.unwrap_or_default().private_key;
    if text.is_empty() {
        return Err(KeyFileError::NoKey(path.to_owned()));
    }
    let key = NodePrivate::from_secret_text(&text).map_err(|err| match err {
        KeyError::Zero => KeyFileError::ZeroKey(path.to_owned()),
        source => KeyFileError::BadKey {
            path: path.to_owned(),
            source,
        },
    })?;
    Ok(Some(KeyFile {
        key,
        too_open: file.too_open,
    }))
}

/// Loads the key in `path`; where there is no such file, makes one with `new_key`.
///
/// Where another process makes the file at the same moment, its key is the one that counts.
///
/// # Errors
/// See [`load`]; and [`KeyFileError::Write`].
pub fn load_or_create(
    path: &Path,
    on_open: OpenMode,
    new_key: impl FnOnce() -> NodePrivate,
) -> Result<KeyFile, KeyFileError> {
    if let Some(file) = load(path, on_open)? {
        return Ok(file);
    }
    let key = new_key();
    match create(path, &key) {
        Ok(()) => Ok(KeyFile {
            key,
            too_open: None,
        }),
        Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {
            match load(path, on_open)? {
                Some(file) => Ok(file),
                None => Err(KeyFileError::Write {
                    path: path.to_owned(),
                    source,
                }),
            }
        }
        Err(source) => Err(KeyFileError::Write {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Writes a new key file with mode 0600: whole or not at all, and never over an existing one.
fn create(path: &Path, key: &NodePrivate) -> io::Result<()> {
    let secret = key.to_secret_text();
    // Byte for byte what the reference writes: a tab, and no newline at the end.
    let text = Zeroizing::new(format!("{{\n\t\"PrivateKey\": \"{}\"\n}}", *secret));
    write_new(path, text.as_bytes())
}

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where there is such a file, and what the file system says.
pub fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // The temporary file is made with O_EXCL and mode 0600.
    let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(dir)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|err| err.error)?;
    // Without this a power cut could forget the file's name.
    File::open(dir)?.sync_all()
}

/// Writes a file that anybody may read, such as a certificate, whole or not at all.
///
/// # Errors
/// See [`write_new`].
pub fn write_new_public(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    write_new(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const KEY: &str = "privkey:1011111111111111111111111111111111111111111111111111111111111151";

    fn fresh() -> NodePrivate {
        NodePrivate::from_random([0x11; 32])
    }

    fn never() -> NodePrivate {
        panic!("a new key was made");
    }

    fn written(content: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("derper.key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_new_key_file_is_byte_for_byte_the_references() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("some/where/derper.key");
        let made = load_or_create(&path, OpenMode::Refuse, fresh).unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!("{{\n\t\"PrivateKey\": \"{KEY}\"\n}}")
        );
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        let parent = fs::metadata(dir.path().join("some")).unwrap();
        assert_eq!(parent.permissions().mode() & 0o777, 0o700);
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing is left over"
        );

        let again = load_or_create(&path, OpenMode::Refuse, never).unwrap();
        assert_eq!(again.key.public(), made.key.public());
    }

    #[test]
    fn the_references_other_members_and_spellings_are_read() {
        for content in [
            format!("{{\"PrivateKey\":\"{KEY}\"}}"),
            format!("{{\"Other\":{{}},\"PrivateKey\":\"{KEY}\"}}\n"),
            format!("{{\"privatekey\":\"{KEY}\"}}"),
            format!("{{\"PrivateKey\":\"privkey:12\",\"PrivateKey\":\"{KEY}\"}}"),
            format!(
                "{{\"PrivateKey\":\"{}\"}}",
                KEY.replace("privkey:1", "privkey:\\u0031")
            ),
        ] {
            let (_dir, path) = written(&content);
            let got = load(&path, OpenMode::Refuse).unwrap().unwrap();
            assert_eq!(got.key.public(), fresh().public(), "{content}");
        }
    }

    #[test]
    fn a_file_that_is_there_is_never_replaced() {
        let cases = [
            (
                "",
                "{} is empty; restore it from a backup, or remove it to get a new key",
            ),
            (
                " \n",
                "{} is empty; restore it from a backup, or remove it to get a new key",
            ),
            (
                "{}",
                "{} has no \"PrivateKey\"; restore it from a backup, or remove it to get a new key",
            ),
            (
                "privkey:00",
                "{} is not a key file (line 1, column 1): it must be JSON like \
                 {\"PrivateKey\":\"privkey:…\"}",
            ),
            (
                "{\n\"PrivateKey\": 5}",
                "{} is not a key file (line 2, column 15): it must be JSON like \
                 {\"PrivateKey\":\"privkey:…\"}",
            ),
            (
                "{\"PrivateKey\":\"privkey:0000000000000000000000000000000000000000000000000000000000000000\"}",
                "the key in {} is all zero; restore it from a backup, or remove it to get a new key",
            ),
            (
                "{\"PrivateKey\":\"privkey:12\"}",
                "the \"PrivateKey\" in {} is unusable",
            ),
            (
                "{\"PrivateKey\":\"nodekey:12\"}",
                "the \"PrivateKey\" in {} is unusable",
            ),
        ];
        for (content, message) in cases {
            let (_dir, path) = written(content);
            let err = load_or_create(&path, OpenMode::Refuse, never).unwrap_err();
            assert_eq!(
                err.to_string(),
                message.replacen("{}", &path.display().to_string(), 1)
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn errors_do_not_quote_the_key() {
        let broken = format!("{{\"PrivateKey\":\"{KEY}\" junk");
        let (_dir, path) = written(&broken);
        let err = load(&path, OpenMode::Warn).unwrap_err();
        assert!(!format!("{err:?} {err}").contains("1111111"), "{err:?}");
    }

    #[test]
    fn a_mode_that_lets_others_read_is_told_or_refused() {
        let (_dir, path) = written(&format!("{{\"PrivateKey\":\"{KEY}\"}}"));
        for (mode, open) in [(0o600, false), (0o400, false), (0o640, true), (0o644, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let warned = load(&path, OpenMode::Warn).unwrap().unwrap().too_open;
            assert_eq!(
                warned,
                open.then(|| TooOpen {
                    path: path.clone(),
                    mode
                })
            );
            assert_eq!(load(&path, OpenMode::Refuse).is_err(), open, "{mode:o}");
        }
    }

    #[test]
    fn a_directory_is_no_key_file() {
        let dir = tempfile::tempdir().unwrap();
        let err = load_or_create(dir.path(), OpenMode::Warn, never).unwrap_err();
        assert_eq!(
            err.to_string(),
            format!("{} is a directory, not a file", dir.path().display())
        );
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let (dir, file) = written("not a directory");
        let path = file.join("derper.key");
        // Reading below a plain file fails with "not a directory", which is not "missing".
        let err = load_or_create(&path, OpenMode::Warn, never).unwrap_err();
        assert_eq!(err.to_string(), format!("cannot read {}", path.display()));
        drop(dir);
    }

    #[test]
    fn whoever_writes_first_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("derper.key");
        let other = NodePrivate::from_random([0x22; 32]);
        let got = load_or_create(&path, OpenMode::Warn, || {
            // Another process comes first, between our look and our write.
            create(&path, &other).unwrap();
            fresh()
        })
        .unwrap();
        assert_eq!(got.key.public(), other.public());
    }
}
