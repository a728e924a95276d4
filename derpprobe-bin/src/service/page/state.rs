//! What a probe, or several together, are shown as.

use std::fmt::{self, Display};
use std::time::SystemTime;

use super::super::record::Record;

/// So many intervals without a result make what is known of a probe old.
const STALE_AFTER: u32 = 3;

/// What is shown of a probe; of several, the last of these counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// The last run was good.
    Good,
    /// It has not run yet.
    Unknown,
    /// It has not ended for a while.
    Stale,
    /// The last run was bad.
    Bad,
}

impl State {
    pub(super) fn of(record: &Record, now: SystemTime) -> Self {
        let (Some(last), Some(ended)) = (&record.last, record.ended) else {
            return Self::Unknown;
        };
        let age = now.duration_since(ended).unwrap_or_default();
        if age > record.interval.saturating_mul(STALE_AFTER) {
            Self::Stale
        } else if last.is_err() {
            Self::Bad
        } else {
            Self::Good
        }
    }

    /// The class of the style.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Unknown => "unknown",
            Self::Stale => "stale",
            Self::Bad => "bad",
        }
    }

    /// What says the same without colour.
    pub(super) const fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Unknown => "–",
            Self::Stale => "…",
            Self::Bad => "✗",
        }
    }
}

impl Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Unknown => "not run yet",
            Self::Stale => "no result for a while",
            Self::Bad => "bad",
        })
    }
}

/// The last runs, the oldest first: a sign for each, and words for whoever does not see them.
pub(super) struct LastRuns<'a>(pub(super) &'a Record);

impl Display for LastRuns<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let results = &self.0.recent_results;
        let good = results.iter().filter(|good| **good).count();
        write!(
            f,
            "<span class=\"runs\" role=\"img\" aria-label=\"{good} of the last {} runs were good\">",
            results.len()
        )?;
        for good in results {
            f.write_str(if *good { "●" } else { "○" })?;
        }
        f.write_str("</span>")
    }
}
