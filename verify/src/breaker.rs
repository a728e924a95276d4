//! Leaves a source of answers in peace that fails again and again. No clock: the time is passed
//! in.

use std::time::{Duration, Instant};

/// Whether the source may be asked now.
#[derive(Debug)]
pub(crate) struct Breaker {
    /// From how many failures in a row on it is left in peace.
    threshold: u32,
    /// How often one request finds out whether that is over.
    probe_interval: Duration,
    failures: Failures,
    next_probe: Option<Instant>,
}

/// What has failed in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failures {
    pub(crate) count: u32,
    /// Whether the source could not be asked at all when the last of them failed.
    pub(crate) is_unreachable: bool,
}

/// What a request that passes is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Its answer.
    Answer,
    /// Finding out whether there are answers again.
    Probe,
}

const NO_FAILURES: Failures = Failures {
    count: 0,
    is_unreachable: false,
};

impl Breaker {
    pub(crate) const fn new(threshold: u32, probe_interval: Duration) -> Self {
        Self {
            threshold,
            probe_interval,
            failures: NO_FAILURES,
            next_probe: None,
        }
    }

    /// Lets a request pass, or says what has failed in a row. One that passes in spite of that is
    /// the probe; if it takes long, the next one goes an interval later.
    pub(crate) fn pass(&mut self, now: Instant) -> Result<Pass, Failures> {
        match self.next_probe {
            Some(at) if now < at => Err(self.failures),
            Some(_) => {
                self.next_probe = now.checked_add(self.probe_interval);
                Ok(Pass::Probe)
            }
            None => Ok(Pass::Answer),
        }
    }

    /// The probe was given up before there was an answer or none: another one may go.
    pub(crate) const fn give_back(&mut self, now: Instant) {
        if self.next_probe.is_some() {
            self.next_probe = Some(now);
        }
    }

    /// An answer came, whatever it says.
    pub(crate) const fn answered(&mut self) {
        self.failures = NO_FAILURES;
        self.next_probe = None;
    }

    /// No answer came.
    pub(crate) fn failed(&mut self, now: Instant, is_unreachable: bool) {
        self.failures = Failures {
            count: self.failures.count.saturating_add(1),
            is_unreachable,
        };
        if self.failures.count >= self.threshold {
            self.next_probe = now.checked_add(self.probe_interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_open_it_and_one_probe_a_second_may_close_it() {
        #[expect(clippy::disallowed_methods, reason = "any time will do")]
        let t = Instant::now();
        let ms = Duration::from_millis;
        let mut breaker = Breaker::new(5, ms(1000));
        let failures = |count, is_unreachable| {
            Err(Failures {
                count,
                is_unreachable,
            })
        };
        for _ in 0..4 {
            breaker.failed(t, true);
        }
        assert_eq!(breaker.pass(t), Ok(Pass::Answer));
        breaker.failed(t, true);
        assert_eq!(breaker.pass(t + ms(999)), failures(5, true));
        assert_eq!(breaker.pass(t + ms(1000)), Ok(Pass::Probe));
        assert_eq!(
            breaker.pass(t + ms(1001)),
            failures(5, true),
            "one probe at a time"
        );
        breaker.failed(t + ms(1500), false);
        assert_eq!(breaker.pass(t + ms(2499)), failures(6, false));
        assert_eq!(breaker.pass(t + ms(2500)), Ok(Pass::Probe));
        breaker.give_back(t + ms(2510));
        assert_eq!(breaker.pass(t + ms(2510)), Ok(Pass::Probe));
        breaker.answered();
        assert_eq!(breaker.pass(t + ms(2511)), Ok(Pass::Answer));
        breaker.give_back(t + ms(2512));
        assert_eq!(breaker.pass(t + ms(2512)), Ok(Pass::Answer));
    }
}
