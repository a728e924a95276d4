//! Panics as lines of the log: in its form, and not in any number. A fault of ours that strangers
//! can bring about again and again must not fill an operator's disk.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many lines there are in a second, at most.
const LINES: u32 = 5;

/// Has panics logged from now on, a few a second and each with the number of those before it that
/// were not. These few are told as they were before, too, where nothing is logged, or where
/// `RUST_BACKTRACE` asks for more.
pub fn log() {
    let told_before = panic::take_hook();
    let budget = Mutex::new(Budget::default());
    panic::set_hook(Box::new(move |info| {
        #[expect(clippy::disallowed_methods, reason = "nobody gives a panic the time")]
        let now = Instant::now();
        let untold = budget
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .tell(now);
        let Some(untold) = untold else { return };
        let is_logged = tracing::enabled!(tracing::Level::ERROR);
        if is_logged {
            line(info, untold);
        }
        if !is_logged || Backtrace::capture().status() == BacktraceStatus::Captured {
            told_before(info);
        }
    }));
}

fn line(info: &PanicHookInfo<'_>, untold: u64) {
    let message = info.payload_as_str().unwrap_or_default();
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or_default();
    tracing::error!(
        place,
        thread,
        panic = message,
        untold,
        "a panic, which is a fault of this program: please report it"
    );
}

/// What is left of the current second.
#[derive(Debug, Default)]
struct Budget {
    since: Option<Instant>,
    lines: u32,
    untold: u64,
}

impl Budget {
    /// Whether there is one more line: then how many there were not since the last.
    fn tell(&mut self, now: Instant) -> Option<u64> {
        let is_over = |since| now.saturating_duration_since(since) >= Duration::from_secs(1);
        if self.since.is_none_or(is_over) {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.lines == LINES {
            self.untold += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_told_each_second_and_the_rest_is_counted() {
        #[expect(clippy::disallowed_methods, reason = "any time will do")]
        let start = Instant::now();
        let mut budget = Budget::default();
        let mut told = |milliseconds| {
            let now = start + Duration::from_millis(milliseconds);
            let lines = (0..100).filter_map(|_| budget.tell(now));
            lines.collect::<Vec<_>>()
        };
        assert_eq!(told(0), [0; 5]);
        assert!(told(999).is_empty());
        assert_eq!(told(1000), [195, 0, 0, 0, 0]);
    }
}
