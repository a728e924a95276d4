//! The wall clock, read in one place.

use std::time::SystemTime;

/// The time of day: for the dates of certificates, and for pages and files that tell it.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the programs' one reading of the wall clock"
)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}
