//! How long to leave a failing socket alone. Pure: the caller does the waiting.

use std::time::Duration;

/// The pause after the first failure; doubles with each one that follows directly.
const FIRST: Duration = Duration::from_millis(10);

/// The longest pause, which is also the reference's only one (`net/stunserver/stunserver.go`).
const LONGEST: Duration = Duration::from_secs(1);

/// Doubling pauses between consecutive failures.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// Whether the next failure would be the first of its row, the one worth a log line.
    pub(crate) fn is_fresh(&self) -> bool {
        self.last.is_none()
    }

    /// Notes a failure and returns the pause to make before the next attempt.
    #[must_use]
    pub(crate) fn failed(&mut self) -> Duration {
        let pause = self.last.map_or(FIRST, |last| (last * 2).min(LONGEST));
        self.last = Some(pause);
        pause
    }

    /// Notes a success: the next failure starts over.
    pub(crate) fn succeeded(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..9).map(|_| backoff.failed().as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert!(!backoff.is_fresh());

        backoff.succeeded();
        assert!(backoff.is_fresh());
        assert_eq!(backoff.failed(), FIRST);
    }
}
