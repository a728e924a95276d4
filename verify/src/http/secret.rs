//! Credentials from files. They are read anew for each request, so that they can be exchanged
//! while the relay runs, and are never printed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

/// How a request proves where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// `Authorization: Bearer`, and what the file holds.
    BearerFile(PathBuf),
    /// A header of this name, and what the file holds.
    HeaderFile {
        /// The header's name.
        name: String,
        /// Where its value is.
        path: PathBuf,
    },
}

/// Credentials that cannot be used. What the file holds is not repeated.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds something that cannot stand in a header.
    #[error("{} must hold one line of at most {MAX_LEN} visible ASCII characters", path.display())]
    NotOneLine {
        /// The file.
        path: PathBuf,
    },
    /// No header can have this name, or ours have it.
    #[error("`{0}` cannot be the name of a header for a secret")]
    HeaderName(String),
}

impl Credentials {
    /// Checks what can be checked before a request. Blocks while the file is read.
    pub(super) fn check(&self) -> Result<(), SecretError> {
        let (name, path) = self.parts();
        let is_token = name.parse::<http::HeaderName>().is_ok();
        if !is_token || OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
            return Err(SecretError::HeaderName(name.to_owned()));
        }
        let cannot_read = |source| SecretError::Read {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(cannot_read)?;
        io::Read::read_to_end(&mut io::Read::take(file, MAX_LEN + 2), &mut bytes)
            .map_err(cannot_read)?;
        usable(path, bytes).map(drop)
    }

    /// The header's name, and what stands before the secret in its value.
    pub(super) fn header_name(&self) -> &str {
        self.parts().0
    }

    /// The header's value.
    pub(super) async fn value(&self) -> Result<Secret, SecretError> {
        let (_, path) = self.parts();
        let cannot_read = |source| SecretError::Read {
            path: path.to_owned(),
            source,
        };
        let mut bytes = Vec::new();
        let file = File::open(path).await.map_err(cannot_read)?;
        let mut file = file.take(MAX_LEN + 2);
        file.read_to_end(&mut bytes).await.map_err(cannot_read)?;
        let secret = usable(path, bytes)?;
        Ok(match self {
            Self::BearerFile(_) => Secret(format!("Bearer {secret}")),
            Self::HeaderFile { .. } => Secret(secret),
        })
    }

    fn parts(&self) -> (&str, &Path) {
        match self {
            Self::BearerFile(path) => ("Authorization", path),
            Self::HeaderFile { name, path } => (name, path),
        }
    }
}

/// The value of a header, not to be printed.
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

fn usable(path: &Path, bytes: Vec<u8>) -> Result<String, SecretError> {
    let text = String::from_utf8(bytes).unwrap_or_default();
    let text = text.trim();
    let is_line = text.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    if text.is_empty() || text.len() as u64 > MAX_LEN || !is_line {
        return Err(SecretError::NotOneLine {
            path: path.to_owned(),
        });
    }
    Ok(text.to_owned())
}

/// The longest secret, in bytes.
const MAX_LEN: u64 = 4 << 10;
/// Headers that say how a request is to be read.
const OURS: &[&str] = &[
    "host",
    "user-agent",
    "content-length",
    "transfer-encoding",
    "accept-encoding",
    "connection",
];
