//! What all runs of a probe add up to, for the metrics that only grow (`prober/prober.go`,
//! `prober/derp.go`).

use std::time::Duration;

use crate::outcome::{Findings, Outcome};
use crate::subject::Class;

/// The upper bounds of the reference's histogram of queuing delay in seconds, and what a run's
/// findings call the number of packets up to each.
pub const DELAYS: [(f64, &str); 8] = [
    (0.005, "delay_le_0.005"),
    (0.01, "delay_le_0.01"),
    (0.025, "delay_le_0.025"),
    (0.05, "delay_le_0.05"),
    (0.1, "delay_le_0.1"),
    (0.25, "delay_le_0.25"),
    (0.5, "delay_le_0.5"),
    (1.0, "delay_le_1"),
];

/// What all runs add up to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    /// The good ones: how many, and how long they took.
    pub good: Runs,
    /// The bad ones.
    pub bad: Runs,
    /// How long bandwidth probes sent, in seconds.
    pub transfer_seconds: f64,
    /// How many bytes one of them sends.
    pub transfer_bytes: f64,
    /// Packets of queuing delay probes that did not arrive in time.
    pub dropped: f64,
    /// Those that did: how many took as long as each of [`DELAYS`] at most, and all.
    pub delays: [f64; DELAYS.len() + 1],
    /// How long all of them took, in seconds.
    pub delay_sum: f64,
}

/// How many runs, and how long they took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Runs {
    /// How many.
    pub count: u64,
    /// How long.
    pub time: Duration,
}

impl Totals {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        let runs = match outcome.result {
            Ok(()) => &mut self.good,
            Err(_) => &mut self.bad,
        };
        runs.count += 1;
        runs.time += outcome.took;
        match outcome.subject.class {
            Class::Bandwidth => {
                self.transfer_seconds += number(&outcome.findings, "transfer_seconds");
                self.transfer_bytes = number(&outcome.findings, "bytes").max(self.transfer_bytes);
            }
            Class::QueueDelay => {
                self.dropped += number(&outcome.findings, "dropped");
                self.delay_sum += number(&outcome.findings, "delay_sum");
                let names = DELAYS.iter().map(|(_, name)| *name).chain(["delay_le_inf"]);
                for (sum, name) in self.delays.iter_mut().zip(names) {
                    *sum += number(&outcome.findings, name);
                }
            }
            _ => {}
        }
    }
}

/// A number that a run measured, or zero.
fn number(findings: &Findings, what: &str) -> f64 {
    let mut measured = findings.measured.iter();
    let found = measured.find(|measured| measured.what == what);
    found.map_or(0.0, |measured| measured.value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::subject::Subject;

    #[test]
    fn runs_are_added_up() {
        let mut totals = Totals::default();
        let mut run = |class, result: Result<(), String>, numbers: &[(&'static str, u64)]| {
            let mut findings = Findings::default();
            for &(what, count) in numbers {
                findings.count(what, count);
            }
            totals.add(&Outcome {
                name: String::new(),
                subject: Arc::new(Subject {
                    class,
                    ..Subject::map()
                }),
                took: Duration::from_secs(3),
                result,
                findings,
            });
        };
        let delays = [
            ("dropped", 2),
            ("delay_le_0.1", 4),
            ("delay_le_inf", 5),
            ("delay_sum", 1),
        ];
        run(Class::QueueDelay, Ok(()), &delays);
        run(Class::QueueDelay, Err("lost".to_owned()), &delays);
        run(
            Class::Bandwidth,
            Ok(()),
            &[("bytes", 9), ("transfer_seconds", 2)],
        );
        let mut expected = Totals {
            good: Runs {
                count: 2,
                time: Duration::from_secs(6),
            },
            bad: Runs {
                count: 1,
                time: Duration::from_secs(3),
            },
            transfer_seconds: 2.0,
            transfer_bytes: 9.0,
            dropped: 4.0,
            delay_sum: 2.0,
            ..Totals::default()
        };
        (expected.delays[4], expected.delays[8]) = (8.0, 10.0);
        assert_eq!(totals, expected);
    }
}
