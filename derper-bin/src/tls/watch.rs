//! Certificate files that change while the relay runs.
//!
//! Whoever replaces them may write them in place, rename others over them, or exchange a symbolic
//! link somewhere on the way (as certbot and Kubernetes do), and never both at one moment. So the
//! files are looked at every few seconds, by path, and a pair that does not fit together is given
//! until the next look.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use derp_certs::schedule::Life;
use derp_ops::secret_file::OpenMode;
use rustls::crypto::aws_lc_rs;

use super::load::{self, CertError};
use super::{CertFiles, Certificates, NameRule, Pair};

/// How often the files are looked at.
pub const EVERY: Duration = Duration::from_secs(5);

/// What identifies one state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None` for a file that is not there, or that nothing can be said of.
    fn of(path: &Path) -> Option<Self> {
        // Symbolic links are followed: where they lead to is what counts.
        let found: Metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// A pair of files that is watched.
#[derive(Debug, Clone)]
pub struct Watched {
    files: CertFiles,
    rule: NameRule,
    stamps: (Option<Stamp>, Option<Stamp>),
    /// The served certificate, by its bytes, and when it is valid.
    served: Option<(Vec<u8>, Life)>,
    /// What is wrong with the files as they are.
    trouble: Option<Trouble>,
}

#[derive(Debug, Clone)]
struct Trouble {
    message: String,
    /// Whether it has been there for more than one look.
    is_told: bool,
}

/// What a look at the files has shown.
#[derive(Debug)]
pub enum Seen {
    /// Nothing new.
    Same,
    /// A certificate to be served.
    New(Box<Certificates>),
    /// The files are of no use; the old certificate stays.
    Bad(CertError),
}

impl Watched {
    /// Watches the files of `pair`, what was loaded from which is served.
    #[must_use]
    pub fn new(pair: &Pair) -> Self {
        let served = pair.loaded.as_ref().and_then(identity);
        // Without a stamp the first look loads them: they may have changed since.
        Self {
            files: pair.files.clone(),
            rule: pair.rule.clone(),
            stamps: (None, None),
            served,
            trouble: None,
        }
    }

    /// Where the files are.
    #[must_use]
    pub const fn files(&self) -> &CertFiles {
        &self.files
    }

    /// Whom the certificate is served to.
    #[must_use]
    pub const fn rule(&self) -> &NameRule {
        &self.rule
    }

    /// Until when the served certificate is valid; `None` without one.
    #[must_use]
    pub fn not_after(&self) -> Option<SystemTime> {
        self.life().map(|life| life.not_after)
    }

    /// When the served certificate is valid; `None` without one.
    #[must_use]
    pub fn life(&self) -> Option<Life> {
        self.served.as_ref().map(|(_, life)| *life)
    }

    /// Whether the files as they are can not be served.
    #[must_use]
    pub const fn is_bad(&self) -> bool {
        self.trouble.is_some()
    }

    /// Looks at the files. Blocks while they are read.
    ///
    /// Trouble is told once, when it is there for a second look. A certificate whose time is not
    /// now is trouble while there is a better one.
    pub fn look(&mut self, on_open: OpenMode, now: SystemTime) -> Seen {
        let stamps = (Stamp::of(&self.files.cert), Stamp::of(&self.files.key));
        // Trouble may lie elsewhere, as in a directory's mode, and go without a trace.
        if stamps == self.stamps && self.trouble.is_none() && self.served.is_some() {
            return Seen::Same;
        }
        let is_still = stamps == self.stamps;
        self.stamps = stamps;
        let provider = aws_lc_rs::default_provider();
        let host = match &self.rule {
            NameRule::Host(host) => Some(host),
            NameRule::Covered { .. } => None,
        };
        let has_good = self.not_after().is_some_and(|not_after| not_after > now);
        let loaded = if has_good {
            load::load_in_date(&self.files, host, on_open, now, &provider)
        } else {
            load::load(&self.files, host, on_open, now, &provider)
        };
        match loaded {
            Ok(loaded) => {
                self.trouble = None;
                let found = identity(&loaded);
                if found == self.served {
                    return Seen::Same;
                }
                self.served = found;
                Seen::New(Box::new(loaded))
            }
            Err(err) => self.note(err, is_still),
        }
    }

    fn note(&mut self, err: CertError, is_still: bool) -> Seen {
        let message = err.to_string();
        let (is_known, is_told) = match &self.trouble {
            Some(trouble) if trouble.message == message => (true, trouble.is_told),
            _ => (false, false),
        };
        let tell = is_known && is_still && !is_told;
        self.trouble = Some(Trouble {
            message,
            is_told: is_told || tell,
        });
        if tell { Seen::Bad(err) } else { Seen::Same }
    }
}

/// A key is no part of it: the chain names the only one that fits.
fn identity(loaded: &Certificates) -> Option<(Vec<u8>, Life)> {
    let chain: Vec<u8> = loaded.chain.iter().flat_map(|der| der.to_vec()).collect();
    (!chain.is_empty()).then_some((chain, loaded.life))
}

#[cfg(test)]
mod tests;
