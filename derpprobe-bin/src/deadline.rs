//! The time that a probe has, and what it was doing when that was over.

use std::future::Future;
use std::time::Duration;

use derp_ops::goflag::GoDuration;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

/// When a probe must be done.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    total: Duration,
}

/// The time was over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("timeout after {} while {doing}", GoDuration::from(*.total))]
pub struct TimedOut {
    /// What was being done, as in "waiting for the packet".
    pub doing: &'static str,
    /// The time that there was for all of it.
    pub total: Duration,
}

impl Deadline {
    /// So long from now.
    #[must_use]
    pub fn after(total: Duration) -> Self {
        Self {
            at: Instant::now() + total.min(LONGEST),
            total,
        }
    }

    /// Waits for `step`, which does what `doing` says.
    ///
    /// # Errors
    /// [`TimedOut`], and `step` is dropped.
    pub async fn keep<T>(
        self,
        doing: &'static str,
        step: impl Future<Output = T>,
    ) -> Result<T, TimedOut> {
        timeout_at(self.at, step).await.map_err(|_| TimedOut {
            doing,
            total: self.total,
        })
    }

    /// The same, but no later than so long from now.
    #[must_use]
    pub fn within(self, total: Duration) -> Self {
        let sooner = Self::after(total);
        if sooner.at < self.at { sooner } else { self }
    }

    /// How long there still is.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// Keeps arithmetic with an interval of centuries within the clock's range.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_time_is_for_all_steps_together() {
        let deadline = Deadline::after(Duration::from_secs(12));
        assert_eq!(deadline.keep("waiting", ready(7)).await, Ok(7));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(deadline.remaining(), Duration::from_secs(7));
        let seconds = |n| {
            deadline
                .within(Duration::from_secs(n))
                .remaining()
                .as_secs()
        };
        assert_eq!((seconds(3), seconds(8)), (3, 7));
        let begin = Instant::now();
        let late = deadline
            .keep("waiting for nothing", pending::<()>())
            .await
            .unwrap_err();
        assert_eq!(begin.elapsed().as_secs(), 7);
        assert_eq!(
            late.to_string(),
            "timeout after 12s while waiting for nothing"
        );
        assert_eq!(deadline.remaining(), Duration::ZERO);
    }
}
