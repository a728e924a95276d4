//! What a verifier answers.

use std::borrow::Cow;
use std::time::Duration;

use thiserror::Error;

/// A verifier's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// Whether the client is admitted.
    pub allow: bool,
    /// Why, for the log; empty where there is nothing to say.
    pub reason: Cow<'static, str>,
    /// The group that the client belongs to, for limits and metrics.
    pub group: Option<String>,
    /// A limit on what the client may send, in place of the relay's own.
    pub rate: Option<RateLimit>,
    /// How long the answer holds; `None` leaves it to the relay.
    pub time_to_live: Option<Duration>,
}

/// How fast a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Sustained rate in bytes per second.
    pub bytes_per_second: u64,
    /// How many bytes may come at once.
    pub burst_bytes: u64,
}

impl Verdict {
    /// Admits the client.
    #[must_use]
    pub const fn allow() -> Self {
        Self {
            allow: true,
            reason: Cow::Borrowed(""),
            group: None,
            rate: None,
            time_to_live: None,
        }
    }

    /// Turns the client away.
    #[must_use]
    pub fn deny(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            allow: false,
            reason: reason.into(),
            ..Self::allow()
        }
    }
}

/// No answer was to be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The source of answers cannot be reached.
    #[error("cannot reach {what}")]
    Unreachable {
        /// What cannot be reached, and what to do about it.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It did not answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// It answered something that is not an answer.
    #[error("answer not understood: {0}")]
    BadAnswer(String),
}
