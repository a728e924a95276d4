//! How often a verifier gave which result.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VerifyResult {
    /// The client was admitted by an answer.
    Allow,
    /// It was denied by an answer.
    Deny,
    /// There was no answer, and the client was not admitted.
    Error,
    /// There was no answer, and the client was admitted for that.
    FailOpen,
    /// An answer that still holds was used, whatever it says.
    Cache,
    /// There was no answer, and the client was admitted for it had been a while ago.
    Stale,
}

impl VerifyResult {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 6] = [
        Self::Allow,
        Self::Deny,
        Self::Error,
        Self::FailOpen,
        Self::Cache,
        Self::Stale,
    ];

    /// The result's name as a label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Error => "error",
            Self::FailOpen => "fail_open",
            Self::Cache => "cache",
            Self::Stale => "stale",
        }
    }
}

/// The counters of one verifier. Each question that was not abandoned counts once.
#[derive(Debug)]
pub struct VerifyCounters {
    name: String,
    counts: [AtomicU64; VerifyResult::ALL.len()],
}

impl VerifyCounters {
    /// Counters at zero for the verifier called `name`.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            counts: Default::default(),
        }
    }

    /// The verifier's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often `result` came.
    #[must_use]
    pub fn get(&self, result: VerifyResult) -> u64 {
        self.counts[result as usize].load(Ordering::Relaxed)
    }

    /// Each result with how often it came.
    pub fn iter(&self) -> impl Iterator<Item = (VerifyResult, u64)> + '_ {
        VerifyResult::ALL
            .into_iter()
            .map(|result| (result, self.get(result)))
    }

    pub(crate) fn count(&self, result: VerifyResult) {
        self.counts[result as usize].fetch_add(1, Ordering::Relaxed);
    }
}
