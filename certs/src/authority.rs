//! Who gives certificates, as a [`Keeper`](crate::Keeper) sees it.

use std::fmt;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use zeroize::Zeroizing;

use crate::held::Held;
use crate::schedule::Window;
use crate::subject::Subject;

/// Gives certificates.
#[async_trait]
pub trait Authority: Send + Sync {
    /// Gets a certificate. Takes as long as it takes: the caller bounds it.
    async fn obtain(&self, wanted: &Wanted<'_>) -> Result<Issued, Failure>;

    /// When the authority would like `held` to be renewed, and after what time to ask again;
    /// `None` where it does not say.
    async fn renewal_window(&self, held: &Held) -> Result<Option<(Window, Duration)>, Failure>;

    /// What to call it in logs.
    fn name(&self) -> &str;
}

/// What is ordered.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Whom it is for.
    pub subject: &'a Subject,
    /// The certificate that it is to replace (RFC 9773, 5).
    pub replaces: Option<&'a Held>,
    /// The kind of certificate, by the authority's name for it.
    pub profile: Option<&'a str>,
}

/// A new certificate.
pub struct Issued {
    /// Its chain, as PEM.
    pub chain: String,
    /// Its key, as PEM.
    pub key: Zeroizing<String>,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("chain", &self.chain)
            .finish_non_exhaustive()
    }
}

/// Why there is no certificate. `Display` says it to an operator, with the remedy if there is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct Failure {
    /// Whose fault it is.
    pub kind: FailureKind,
    /// What happened.
    pub message: String,
    /// How long the authority wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure after which the authority did not say how long to wait.
    #[must_use]
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The authority does not answer, or not sensibly.
    Unreachable,
    /// The authority does not want to.
    Refused,
    /// The authority has looked and did not find us.
    NotFound,
    /// There were too many orders.
    TooMany,
}

impl FailureKind {
    /// A word for metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::NotFound => "validation",
            Self::TooMany => "rate_limited",
        }
    }
}

/// A time as operators read it, such as `2026-11-23 04:05 UTC`.
pub(crate) fn readable(time: SystemTime) -> String {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// The date that is `days` after 1970-01-01, by counting years from March on, so that the day
/// that is not in every year comes last.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (year + era * 400 + next, month, date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        let at = |seconds| readable(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01 00:00 UTC");
        assert_eq!(at(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(at(1_795_305_600 + 3_660), "2026-11-22 01:01 UTC");
        assert_eq!(at(4_107_542_399), "2100-02-28 23:59 UTC");
    }
}
