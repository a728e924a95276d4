//! What a verifier answers.

use std::borrow::Cow;
use std::sync::Arc;
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
    /// Which of several verifiers has admitted the client, where they have names.
    pub admitted_by: Option<Arc<str>>,
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
            admitted_by: None,
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
    /// It failed again and again, and is left in peace for a moment.
    #[error("not asked, for the last {failures} requests failed")]
    Suspended {
        /// How many requests have failed in a row.
        failures: u32,
        /// Whether the last of them could not be asked at all.
        is_unreachable: bool,
    },
    /// More clients wait for an answer than may wait.
    #[error("not asked, for too many clients wait for an answer")]
    Overloaded,
    /// It answered, with an HTTP status that is no answer to the question.
    #[error("{what} answered with status {status}")]
    Refused {
        /// Who answered; with what it had to say, where that helps.
        what: String,
        /// The HTTP status.
        status: u16,
        /// Whether it may be meant as a denial of the client.
        is_denial: bool,
    },
    /// It answered something that is not an answer.
    #[error("answer not understood: {0}")]
    BadAnswer(String),
}

impl VerifyError {
    /// The source of answers, `what`, cannot be reached: for verifiers of one's own.
    #[must_use]
    pub fn unreachable(
        what: impl Into<String>,
        why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unreachable {
            what: what.into(),
            source: std::io::Error::other(why),
        }
    }

    /// Whether the source of answers could not be asked at all. Only then may a client be let in
    /// without an answer, by those who want that: whoever answers nonsense was reached, and a
    /// crowd of clients that wait is something that strangers can bring about.
    ///
    /// Who is left in peace is as unreachable as it was when it was last asked.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut(_) => true,
            Self::Suspended { is_unreachable, .. } => *is_unreachable,
            Self::Overloaded | Self::Refused { .. } | Self::BadAnswer(_) => false,
        }
    }

    /// Whether the error says nothing about the client, so that what was last known of it may
    /// stand in for an answer.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        !matches!(
            self,
            Self::Refused {
                is_denial: true,
                ..
            }
        )
    }

    /// The answer of `what` with an HTTP status that is no answer to the question. One below 500
    /// may be meant as a denial.
    #[cfg(feature = "_http")]
    pub(crate) const fn refused(what: String, status: u16) -> Self {
        Self::Refused {
            what,
            status,
            is_denial: status < 500,
        }
    }

    /// The error where a denial never is a status: whoever sends one, such as a proxy in front,
    /// says nothing about the client.
    #[cfg(feature = "headscale")]
    pub(crate) fn never_a_denial(mut self) -> Self {
        if let Self::Refused { is_denial, .. } = &mut self {
            *is_denial = false;
        }
        self
    }
}

/// One answer serves all who asked for it at the same time. The copy of an I/O error has its kind
/// and its words.
impl Clone for VerifyError {
    fn clone(&self) -> Self {
        match self {
            Self::Unreachable { what, source } => Self::Unreachable {
                what: what.clone(),
                source: std::io::Error::new(source.kind(), source.to_string()),
            },
            Self::TimedOut(limit) => Self::TimedOut(*limit),
            Self::Suspended {
                failures,
                is_unreachable,
            } => Self::Suspended {
                failures: *failures,
                is_unreachable: *is_unreachable,
            },
            Self::Overloaded => Self::Overloaded,
            Self::Refused {
                what,
                status,
                is_denial,
            } => Self::Refused {
                what: what.clone(),
                status: *status,
                is_denial: *is_denial,
            },
            Self::BadAnswer(what) => Self::BadAnswer(what.clone()),
        }
    }
}

/// What becomes of a client while the source of answers cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailMode {
    /// It is turned away.
    #[default]
    Closed,
    /// It is admitted (`-verify-client-url-fail-open` of the reference).
    Open,
}
