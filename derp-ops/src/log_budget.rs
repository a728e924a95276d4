//! How often an event that strangers can cause may be logged.
//!
//! Each class of events has a budget of its own, so that a flood of one does not hide another.
//! What is over the budget is counted and told with the next line that fits.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines a second that a class may log over time.
const PER_SECOND: u32 = 10;
/// Lines that a class may log at once after a quiet time.
const BURST: u32 = 50;

/// The budget of one class of events.
///
/// ```
/// # use derp_ops::log_budget::LogBudget;
/// # let now = std::time::Instant::now();
/// let handshakes = LogBudget::new();
/// if let Some(suppressed) = handshakes.admit(now) {
///     tracing::debug!(suppressed, "handshake failed");
/// }
/// ```
#[derive(Debug, Default)]
pub struct LogBudget {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the budget will be whole again; in the past for one that is.
    whole_at: Option<Instant>,
    suppressed: u64,
}

impl LogBudget {
    /// A whole budget: 50 lines at once, 10 a second over time.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: Mutex::new(State {
                whole_at: None,
                suppressed: 0,
            }),
        }
    }

    /// Whether an event at `now` may be logged: `Some` with the number of events that were not
    /// logged since the last one that was, or `None`.
    #[must_use]
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let cost = Duration::from_secs(1) / PER_SECOND;
        // The state is whole after each statement, so a panic elsewhere cannot have broken it.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let whole_at = state.whole_at.map_or(now, |at| at.max(now)) + cost;
        if whole_at.duration_since(now) > cost * BURST {
            state.suppressed = state.suppressed.saturating_add(1);
            return None;
        }
        state.whole_at = Some(whole_at);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tests need some instant to start from"
)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_logged_and_the_rest_counted() {
        let start = Instant::now();
        let budget = LogBudget::new();
        let logged = (0..80).filter(|_| budget.admit(start).is_some()).count();
        assert_eq!(logged, 50);
        // After a tenth of a second there is room for one, which tells of the thirty.
        let later = start + Duration::from_millis(100);
        assert_eq!((budget.admit(later), budget.admit(later)), (Some(30), None));
        let quiet = later + Duration::from_secs(60);
        assert_eq!(
            (budget.admit(quiet), budget.admit(quiet)),
            (Some(1), Some(0))
        );
    }

    #[test]
    fn over_time_ten_lines_a_second_are_logged() {
        let start = Instant::now();
        let budget = LogBudget::new();
        let logged = (0..10_000)
            .filter(|ms| budget.admit(start + Duration::from_millis(*ms)).is_some())
            .count();
        assert_eq!(logged, 50 + 99);
    }

    #[test]
    fn time_that_stands_still_or_goes_back_does_no_harm() {
        let start = Instant::now() + Duration::from_secs(10);
        let budget = LogBudget::new();
        assert_eq!(budget.admit(start), Some(0));
        assert_eq!(budget.admit(start - Duration::from_secs(10)), None);
        assert_eq!(budget.admit(start), Some(1));
    }
}
