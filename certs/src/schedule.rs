//! When a certificate is ordered, and how long to wait after a failure: plain functions of times.

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::ASN1Time;

use crate::authority::FailureKind;

/// From when until when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// The first moment.
    pub not_before: SystemTime,
    /// The last moment.
    pub not_after: SystemTime,
}

impl Life {
    /// That of `certificate`; `None` for bytes that are no certificate.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let validity = parsed.validity();
        Some(Self {
            not_before: system_time(validity.not_before),
            not_after: system_time(validity.not_after),
        })
    }

    fn length(self) -> Duration {
        self.not_after
            .duration_since(self.not_before)
            .unwrap_or_default()
    }
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = Duration::from_secs(time.timestamp().unsigned_abs());
    if time.timestamp() < 0 {
        SystemTime::UNIX_EPOCH - seconds
    } else {
        SystemTime::UNIX_EPOCH + seconds
    }
}

/// When an authority would like to be asked for a renewal (RFC 9773, 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Not before this, unless there is reason to.
    pub start: SystemTime,
    /// Not after this.
    pub end: SystemTime,
}

/// How often a [`Keeper`](crate::Keeper) looks at the clock while it waits, which may have been
/// set meanwhile, or have stood still with the machine.
pub const LOOK: Duration = Duration::from_secs(60 * 60);
/// The longest wait after a failure, but for what the authority asks for and a random part.
pub const MAX_PAUSE: Duration = Duration::from_secs(12 * 60 * 60);
/// The longest wait that an authority may ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// When to renew: when a third of the certificate's life is left, or a random part of it earlier,
/// so that a fleet does not come at once; where the authority has named a window, at a random
/// moment of that. `random` is from 0 to 1.
///
/// A window that lies behind the moment by which the certificate would be renewed anyway does not
/// count: whoever trusts it to the end serves an expired certificate after one failure.
#[must_use]
pub fn renew_at(life: Life, window: Option<Window>, random: f64) -> SystemTime {
    let third = life.not_after - life.length() / 3;
    let own = third - (life.length() / 30).mul_f64(random.clamp(0.0, 1.0));
    match window {
        Some(Window { start, end }) if start <= end => {
            let length = end.duration_since(start).unwrap_or_default();
            let chosen = start + length.mul_f64(random.clamp(0.0, 1.0));
            chosen.min(third)
        }
        _ => own,
    }
}

/// How long to wait after `failures` failures in a row, the last of which was `kind`: twice as
/// long each time up to [`MAX_PAUSE`], and up to a quarter more by `random` from 0 to 1. Never
/// less than the authority has asked for, within reason; and no more than that where there were too
/// many orders, for it knows when there will not be.
#[must_use]
pub fn pause(
    failures: u32,
    kind: FailureKind,
    retry_after: Option<Duration>,
    random: f64,
) -> Duration {
    let first = match kind {
        FailureKind::Unreachable => Duration::from_secs(60),
        // Let's Encrypt allows five failed checks an hour, and an attempt is two of them where both
        // ways in are tried.
        FailureKind::NotFound => Duration::from_secs(20 * 60),
        FailureKind::Refused => Duration::from_secs(10 * 60),
        FailureKind::TooMany => Duration::from_secs(60 * 60),
    };
    let doublings = failures.saturating_sub(1).min(16);
    let doubled = first.saturating_mul(1 << doublings).min(MAX_PAUSE);
    let pause = match (kind, retry_after) {
        (_, None) => doubled,
        (FailureKind::TooMany, Some(asked)) => asked.max(first),
        (_, Some(asked)) => asked.max(doubled),
    };
    let longest = MAX_RETRY_AFTER.max(MAX_PAUSE);
    pause
        .min(longest)
        .mul_f64(1.0 + random.clamp(0.0, 1.0) / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const MINUTE: Duration = Duration::from_secs(60);

    fn day(n: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH + 20_000 * DAY + n * DAY
    }

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_life_is_left() {
        let life = |days| Life {
            not_before: day(0),
            not_after: day(days),
        };
        assert_eq!(renew_at(life(90), None, 0.0), day(60));
        assert_eq!(renew_at(life(90), None, 1.0), day(57));
        assert_eq!(renew_at(life(6), None, 0.0), day(4));
        let nonsense = Life {
            not_before: day(6),
            not_after: day(0),
        };
        assert_eq!(renew_at(nonsense, None, 1.0), day(0));
    }

    #[test]
    fn the_authority_may_ask_for_it_earlier_and_not_much_later() {
        let life = Life {
            not_before: day(0),
            not_after: day(90),
        };
        let window = |start, end| {
            Some(Window {
                start: day(start),
                end: day(end),
            })
        };
        assert_eq!(renew_at(life, window(10, 20), 0.0), day(10));
        assert_eq!(renew_at(life, window(10, 20), 0.5), day(15));
        assert_eq!(renew_at(life, window(80, 89), 0.5), day(60));
        assert_eq!(renew_at(life, window(20, 10), 0.0), day(60));
    }

    #[test]
    fn pauses_double_and_end_at_half_a_day() {
        use FailureKind::{NotFound, Refused, TooMany, Unreachable};
        assert_eq!(pause(1, Unreachable, None, 0.0), MINUTE);
        assert_eq!(pause(4, Unreachable, None, 0.0), 8 * MINUTE);
        assert_eq!(pause(4, Unreachable, None, 1.0), 10 * MINUTE);
        assert_eq!(pause(11, Unreachable, None, 0.0), MAX_PAUSE);
        assert_eq!(pause(u32::MAX, NotFound, None, 0.0), MAX_PAUSE);
        assert_eq!(pause(1, NotFound, None, 0.0), 20 * MINUTE);
        assert_eq!(pause(0, Refused, None, 0.0), 10 * MINUTE);
        assert_eq!(pause(1, TooMany, Some(DAY), 0.0), DAY);
        assert_eq!(pause(1, TooMany, Some(900 * DAY), 0.0), 3 * DAY);
        // The authority knows best when it is of use to come again, but not at once.
        assert_eq!(pause(9, TooMany, Some(90 * MINUTE), 0.0), 90 * MINUTE);
        assert_eq!(pause(9, TooMany, Some(MINUTE), 0.0), 60 * MINUTE);
        assert_eq!(pause(4, Unreachable, Some(MINUTE), 0.0), 8 * MINUTE);
    }

    #[test]
    fn not_more_than_five_checks_fail_in_an_hour() {
        let times: Vec<Duration> = (1..20)
            .scan(Duration::ZERO, |time, failures| {
                let now = *time;
                *time += pause(failures, FailureKind::NotFound, None, 0.0);
                Some(now)
            })
            .collect();
        let hour = 60 * MINUTE;
        let most = times.iter().map(|start| {
            let in_an_hour = |time: &&Duration| (*start..*start + hour).contains(*time);
            times.iter().filter(in_an_hour).count()
        });
        // Each attempt is checked in two ways.
        assert!(most.max().map(|attempts| 2 * attempts) <= Some(5));
    }
}
