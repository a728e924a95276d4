//! A list of keys that are turned away, whoever else would admit them.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use derp_proto::NodePublic;

use crate::Verifier;
use crate::allowlist::{Allowlist, AllowlistChange, AllowlistError};
use crate::candidate::Candidate;
use crate::verdict::{Verdict, VerifyError};

/// Turns away the clients whose keys are on a list, and has nothing against anybody else.
///
/// It stands in front of verifiers that do admit clients, in [`Denied`](crate::Denied): alone it
/// makes for a relay that is open to all but a few. The list has the forms of an [`Allowlist`].
#[derive(Debug)]
pub struct Denylist(Allowlist);

impl Denylist {
    /// Reads a list from text in any of the forms that a file may have.
    ///
    /// # Errors
    /// [`AllowlistError`], with all bad entries at once.
    pub fn parse(text: &str) -> Result<Self, AllowlistError> {
        Allowlist::parse(text).map(Self)
    }

    /// Reads a list from a file. Blocks while the file is read.
    ///
    /// # Errors
    /// [`AllowlistError`], which names the file.
    pub fn from_file(path: impl Into<PathBuf>) -> Result<Self, AllowlistError> {
        Allowlist::from_file(path).map(Self)
    }

    /// Reads the file again. Blocks while the file is read; lookups go on meanwhile.
    ///
    /// # Errors
    /// [`AllowlistError`]; the list stays as it was.
    pub fn reload(&self) -> Result<AllowlistChange, AllowlistError> {
        self.0.reload()
    }

    /// Whether `key` is turned away.
    #[must_use]
    pub fn contains(&self, key: &NodePublic) -> bool {
        self.0.contains(key)
    }

    /// How many different keys are turned away.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody is turned away.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The file that [`Self::reload`] reads.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path()
    }
}

#[async_trait]
impl Verifier for Denylist {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        if self.contains(&client.key) {
            return Ok(Verdict::deny("on the list of denied keys"));
        }
        Ok(Verdict::allow())
    }
}
