//! The one place that reads the clock. Everything else is told the time.

use std::time::Instant;

/// The time by the clock of the tokio runtime, which tests can pause, or else by the system's.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
