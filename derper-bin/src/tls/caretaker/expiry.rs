//! When an operator is told that a certificate nears its end.

use std::fmt;
use std::time::{Duration, SystemTime};

use derp_certs::schedule::Life;

use super::DAILY;

/// From when on an operator is told that a certificate expires.
const WARN_FROM: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Tells of a certificate near its end; `what` is its file, or whom it is for.
pub(super) fn warn_of_expiry(what: &dyn fmt::Display, life: Life, now: SystemTime) {
    match expiry(life, now) {
        Expiry::Far => {}
        Expiry::Near(left) => {
            let days = left.as_secs() / DAILY.as_secs();
            tracing::warn!(certificate = %what, days, "a certificate expires soon, and nobody has replaced it");
        }
        Expiry::Past => {
            tracing::error!(certificate = %what, "a certificate has expired; clients refuse it");
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Expiry {
    Far,
    Near(Duration),
    Past,
}

/// A certificate that never lives for long is near its end when a third of its life is left.
fn expiry(life: Life, now: SystemTime) -> Expiry {
    let Ok(left) = life.not_after.duration_since(now) else {
        return Expiry::Past;
    };
    let length = life
        .not_after
        .duration_since(life.not_before)
        .unwrap_or_default();
    if left < WARN_FROM.min(length / 3) {
        Expiry::Near(left)
    } else {
        Expiry::Far
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_weeks_before_its_end_a_certificate_is_mentioned() {
        let day = |n: u32| SystemTime::UNIX_EPOCH + 20_000 * DAILY + n * DAILY;
        let life = |days| Life {
            not_before: day(0),
            not_after: day(days),
        };
        assert_eq!(expiry(life(90), day(75)), Expiry::Far);
        assert_eq!(expiry(life(90), day(77)), Expiry::Near(13 * DAILY));
        assert_eq!(expiry(life(90), day(91)), Expiry::Past);
        assert_eq!(expiry(life(6), day(1)), Expiry::Far);
        assert_eq!(expiry(life(6), day(5)), Expiry::Near(DAILY));
    }
}
