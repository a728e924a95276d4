//! Files that hold secrets: reading them without leaving copies, and judging who else may read
//! them.
//!
//! What the text means is for [`crate::keyfile`] and [`crate::meshkey`] to say.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, fstatvfs};
use thiserror::Error;
use zeroize::Zeroizing;

/// No key file is anywhere near this long; it keeps `/dev/zero` from filling memory.
const MAX_LEN: usize = 64 * 1024;

/// What to do about a secret that others than its owner may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Use it and say so: for files that Go's flags name, where the reference never looks.
    Warn,
    /// Refuse it, unless the mode is not the operator's to choose: under `/run/secrets` and on
    /// read-only mounts, where container runtimes set such modes, it stays a warning.
    Refuse,
}

/// The text of a secret file.
pub struct SecretText {
    /// The text, wiped when dropped.
    pub text: Zeroizing<String>,
    /// Set where others than the file's owner may read it.
    pub too_open: Option<TooOpen>,
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretText")
            .field("too_open", &self.too_open)
            .finish_non_exhaustive()
    }
}

/// A secret that others than its owner may read. `Display` says so with the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooOpen {
    /// The file.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
}

impl fmt::Display for TooOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, mode } = self;
        write!(
            f,
            "{0} holds a secret and others than its owner may read it (mode {mode:04o}); \
             run: chmod 600 {0}",
            path.display()
        )
    }
}

/// A secret file that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SecretFileError {
    /// The file is not there.
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// The path leads to a directory.
    #[error("{0} is a directory, not a file")]
    Directory(PathBuf),
    /// The file is there and cannot be read.
    #[error("cannot read {0}")]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file is too long to be a key.
    #[error("{0} is longer than {MAX_LEN} bytes; a key file is much shorter")]
    TooLong(PathBuf),
    /// The file is no text.
    #[error("{0} is not a text file")]
    NotText(PathBuf),
    /// Others than the owner may read it, and the caller wants that refused.
    #[error("{0}")]
    TooOpen(TooOpen),
}

impl SecretFileError {
    /// Whether the file simply is not there.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }
}

/// Reads a secret file.
///
/// # Errors
/// Where it cannot be read, is no key file at all, or is too open and `on_open` refuses that.
pub fn read(path: &Path, on_open: OpenMode) -> Result<SecretText, SecretFileError> {
    let failed = |err: io::Error| match err.kind() {
        io::ErrorKind::NotFound => SecretFileError::Missing(path.to_owned()),
        io::ErrorKind::IsADirectory => SecretFileError::Directory(path.to_owned()),
        _ => SecretFileError::Unreadable(path.to_owned(), err),
    };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(SecretFileError::Directory(path.to_owned()));
    }
    let mode = metadata.permissions().mode() & 0o7777;
    let too_open = (mode & 0o077 != 0).then(|| TooOpen {
        path: path.to_owned(),
        mode,
    });
    if let Some(too_open) = &too_open
        && on_open == OpenMode::Refuse
        && !mode_is_given(path, &file)
    {
        return Err(SecretFileError::TooOpen(too_open.clone()));
    }
    // With the room reserved, reading never moves the secret and leaves an unwiped copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN + 1));
    (&file)
        .take(MAX_LEN as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > MAX_LEN {
        return Err(SecretFileError::TooLong(path.to_owned()));
    }
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Err(SecretFileError::NotText(path.to_owned()));
    };
    Ok(SecretText {
        text: Zeroizing::new(text.to_owned()),
        too_open,
    })
}

/// Whether the mode was chosen by a container runtime and not by whoever runs us.
fn mode_is_given(path: &Path, file: &File) -> bool {
    path.starts_with("/run/secrets")
        || fstatvfs(file).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file(mode: u32, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn only_the_owner_should_read_a_secret() {
        for (mode, open) in [
            (0o600, false),
            (0o400, false),
            (0o700, false),
            (0o640, true),
            (0o644, true),
            (0o602, true),
        ] {
            let (_dir, path) = file(mode, b"text");
            let too_open = open.then(|| TooOpen {
                path: path.clone(),
                mode,
            });
            let got = read(&path, OpenMode::Warn).unwrap();
            assert_eq!(
                (got.text.as_str(), &got.too_open),
                ("text", &too_open),
                "{mode:o}"
            );
            match read(&path, OpenMode::Refuse) {
                Ok(got) => assert_eq!((got.too_open, open), (None, false), "{mode:o}"),
                Err(SecretFileError::TooOpen(refused)) => assert_eq!(Some(refused), too_open),
                Err(other) => panic!("{mode:o}: {other}"),
            }
        }
    }

    #[test]
    fn a_symlink_is_judged_by_what_it_leads_to() {
        let (dir, path) = file(0o644, b"text");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(path, &link).unwrap();
        let refused = read(&link, OpenMode::Refuse).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "{0} holds a secret and others than its owner may read it (mode 0644); \
                 run: chmod 600 {0}",
                link.display()
            )
        );
    }

    #[test]
    fn each_fault_has_its_own_message() {
        let (dir, path) = file(0o600, b"\xff\xfe");
        assert_eq!(
            read(&path, OpenMode::Warn).unwrap_err().to_string(),
            format!("{} is not a text file", path.display())
        );
        let missing = dir.path().join("nothing");
        let err = read(&missing, OpenMode::Warn).unwrap_err();
        assert!(err.is_missing());
        assert_eq!(
            err.to_string(),
            format!("{} does not exist", missing.display())
        );
        assert_eq!(
            read(dir.path(), OpenMode::Warn).unwrap_err().to_string(),
            format!("{} is a directory, not a file", dir.path().display())
        );
        let (_dir, path) = file(0o600, &vec![b'a'; 70_000]);
        assert_eq!(
            read(&path, OpenMode::Warn).unwrap_err().to_string(),
            format!(
                "{} is longer than 65536 bytes; a key file is much shorter",
                path.display()
            )
        );
    }
}
