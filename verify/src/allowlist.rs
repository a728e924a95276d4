//! A list of keys, kept in a file by whoever runs the relay.
//!
//! The file has one of three forms, told apart by their first character:
//!
//! * text: one `nodekey:<64 hexadecimal digits>` per line, `#` and what follows is a comment;
//! * JSON, `["nodekey:…", …]`;
//! * JSON, the output of `tailscale status --json`: the node itself and all its peers.
//!
//! A list is taken whole or not at all: one bad entry refuses it, so that a slip of the editor
//! never locks out half a tailnet, and all bad entries are reported together. A file with nothing
//! in it is refused too: it may be one that is just being written, and whoever means nobody says so
//! by `[]` or a comment.
//!
//! Nothing here watches the file. Whoever holds the list calls [`Allowlist::reload`].

mod entries;
mod error;
mod json;

pub use error::{AllowlistError, BadEntry, Place};

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_trait::async_trait;
use derp_proto::NodePublic;

use self::entries::Entries;
use crate::Verifier;
use crate::candidate::Candidate;
use crate::verdict::{Verdict, VerifyError};

/// Admits the clients whose keys are on a list, and nobody else.
///
/// An empty list is legal and admits nobody: it is how the last key is revoked.
pub struct Allowlist {
    /// Keys are chosen by strangers, so the set hashes them with a secret of its own.
    ///
    /// The lock is held for one lookup or one exchange of pointers, never while a file is read.
    keys: RwLock<Arc<HashSet<NodePublic>>>,
    path: Option<PathBuf>,
    /// Held from the first byte read to the exchange, so that of two reloads the one that read
    /// the older file cannot be the last to write.
    reloading: Mutex<()>,
}

/// How a reload changed a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowlistChange {
    /// Keys that were not on the list before.
    pub added: usize,
    /// Keys that are no longer on the list.
    pub removed: usize,
}

impl Allowlist {
    /// Reads a list from text in any of the forms that a file may have.
    ///
    /// # Errors
    /// [`AllowlistError`], with all bad entries at once.
    pub fn parse(text: &str) -> Result<Self, AllowlistError> {
        let keys = parse(text, "the list of allowed keys")?;
        Ok(Self::new(keys, None))
    }

    /// Reads a list from a file of at most 64 MiB, which holds some 900 000 keys as text.
    ///
    /// Blocks while the file is read.
    ///
    /// # Errors
    /// [`AllowlistError`], which names the file.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, AllowlistError> {
        let path = path.into();
        let keys = read(&path)?;
        Ok(Self::new(keys, Some(path)))
    }

    /// Reads the file again. Clients that are already admitted are not asked about.
    ///
    /// Blocks while the file is read; lookups go on meanwhile, with the old keys.
    ///
    /// # Errors
    /// [`AllowlistError`]; the list stays as it was.
    pub fn reload(&self) -> Result<AllowlistChange, AllowlistError> {
        let path = self.path.as_deref().ok_or(AllowlistError::NoFile)?;
        let _reloading = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let new = read(path)?;
        let old = self.snapshot();
        let kept = new.intersection(&old).count();
        let change = AllowlistChange {
            added: new.len() - kept,
            removed: old.len() - kept,
        };
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(change)
    }

    /// Whether `key` is on the list.
    #[must_use]
    pub fn contains(&self, key: &NodePublic) -> bool {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(key)
    }

    /// How many different keys are on the list.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Whether the list admits nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file that [`Self::reload`] reads.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn new(keys: HashSet<NodePublic>, path: Option<PathBuf>) -> Self {
        Self {
            keys: RwLock::new(Arc::new(keys)),
            path,
            reloading: Mutex::new(()),
        }
    }

    fn snapshot(&self) -> Arc<HashSet<NodePublic>> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Allowlist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Allowlist")
            .field("path", &self.path)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Verifier for Allowlist {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        if !self.contains(&client.key) {
            return Ok(Verdict::deny("not on the list of allowed keys"));
        }
        Ok(Verdict::allow())
    }
}

fn read(path: &Path) -> Result<HashSet<NodePublic>, AllowlistError> {
    let cannot_read = |source| AllowlistError::Read {
        path: path.to_owned(),
        source,
    };
    let bytes = read_bounded(path).map_err(cannot_read)?;
    if bytes.len() as u64 > MAX_FILE_LEN {
        return Err(AllowlistError::TooLong {
            path: path.to_owned(),
            max: MAX_FILE_LEN,
        });
    }
    let origin = path.display().to_string();
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(AllowlistError::Utf16 { origin });
    }
    // Bytes that are not UTF-8 do no harm in a comment, and elsewhere are reported with their
    // line as any other entry that is no key.
    let text = String::from_utf8_lossy(&bytes);
    if without_mark(&text).trim().is_empty() {
        return Err(AllowlistError::Empty {
            path: path.to_owned(),
        });
    }
    parse(&text, &origin)
}

/// The file's bytes, and one more than is allowed where it is too long.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE_LEN + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(text: &str, origin: &str) -> Result<HashSet<NodePublic>, AllowlistError> {
    let text = without_mark(text);
    let mut entries = Entries::default();
    if text.trim_start().starts_with(['[', '{']) {
        json::collect(text, origin, &mut entries)?;
    } else {
        collect_lines(text, &mut entries);
    }
    entries.into_keys(origin)
}

/// The text without the mark that some editors begin files with.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

fn collect_lines(text: &str, entries: &mut Entries) {
    for (index, line) in text.lines().enumerate() {
        let entry = line
            .split_once('#')
            .map_or(line, |(entry, _comment)| entry)
            .trim();
        if !entry.is_empty() {
            entries.take(Place::Line(index + 1), entry);
        }
    }
}

/// Far more than anybody's list, and little enough that a wrong path does not fill the memory.
const MAX_FILE_LEN: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_keys_fit_into_16_mib() {
        let text: String = (0..100_000_u32)
            .map(|n| {
                let mut bytes = [0x42; 32];
                bytes[..4].copy_from_slice(&n.to_le_bytes());
                format!("{}\n", NodePublic::from_bytes(bytes))
            })
            .collect();
        let list = Allowlist::parse(&text).unwrap();
        assert_eq!(list.len(), 100_000);
        // A table has at most twice as many buckets as it has room for keys, each of them the
        // key and a byte of control.
        let bound = 2 * list.snapshot().capacity() * (size_of::<NodePublic>() + 1);
        assert!(bound <= 16 << 20, "{bound} bytes");
    }
}
