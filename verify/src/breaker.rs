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
    failures: u32,
    next_probe: Option<Instant>,
}

impl Breaker {
    pub(crate) const fn new(threshold: u32, probe_interval: Duration) -> Self {
        Self {
            threshold,
            probe_interval,
            failures: 0,
            next_probe: None,
        }
    }

    /// Lets a request pass, or says how many have failed in a row. One that passes in spite of
    /// these is the probe; if it is never heard of again, the next one goes an interval later.
    pub(crate) fn pass(&mut self, now: Instant) -> Result<(), u32> {
        match self.next_probe {
            Some(at) if now < at => Err(self.failures),
            Some(_) => {
                self.next_probe = now.checked_add(self.probe_interval);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// An answer came, whatever it says.
    pub(crate) const fn answered(&mut self) {
        self.failures = 0;
        self.next_probe = None;
    }

    /// No answer came.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= self.threshold {
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
        for _ in 0..4 {
            breaker.failed(t);
        }
        assert_eq!(breaker.pass(t), Ok(()));
        breaker.failed(t);
        assert_eq!(breaker.pass(t + ms(999)), Err(5));
        assert_eq!(breaker.pass(t + ms(1000)), Ok(()));
        assert_eq!(breaker.pass(t + ms(1001)), Err(5), "one probe at a time");
        breaker.failed(t + ms(1500));
        assert_eq!(breaker.pass(t + ms(2499)), Err(6));
        assert_eq!(breaker.pass(t + ms(2500)), Ok(()));
        breaker.answered();
        assert_eq!(breaker.pass(t + ms(2501)), Ok(()));
    }
}
