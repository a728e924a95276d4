//! What is remembered of one probe between its runs: how the last one ended, how often each end
//! came about, and the day's [`History`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::history::{History, Point};
use super::totals::Totals;
use super::verdict::{Change, Verdict};
use crate::outcome::{Findings, Outcome};
use crate::report::printable;
use crate::subject::{Class, Subject};

/// How many runs are remembered one by one (`prober/prober.go`).
pub const RECENT: usize = 10;

/// What is remembered of a probe.
#[derive(Debug, Clone)]
pub struct Record {
    /// How often it runs.
    pub interval: Duration,
    /// What it is about.
    pub subject: Arc<Subject>,
    /// When the last run began.
    pub started: Option<SystemTime>,
    /// When the last run that ended did.
    pub ended: Option<SystemTime>,
    /// Whether a run is under way.
    pub is_running: bool,
    /// How the last run ended: how long it took, or what is wrong, in one line that may be shown.
    pub last: Option<Result<Duration, String>>,
    /// What the last run found besides.
    pub findings: Findings,
    /// Whether the last runs, the oldest first, were good. No more than [`RECENT`].
    pub recent_results: VecDeque<bool>,
    /// How long the last good ones took, the oldest first. No more than [`RECENT`].
    pub recent_latencies: VecDeque<Duration>,
    /// What all runs add up to.
    pub totals: Totals,
    /// What is held to be true of it, which a single run does not change.
    pub verdict: Verdict,
    /// The last day.
    pub history: History,
}

impl Record {
    /// Of a probe that has not run, with what is known of its last day.
    #[must_use]
    pub fn new(interval: Duration, subject: Arc<Subject>, history: History) -> Self {
        Self {
            interval,
            subject,
            started: None,
            ended: None,
            is_running: false,
            last: None,
            findings: Findings::default(),
            recent_results: VecDeque::with_capacity(RECENT),
            recent_latencies: VecDeque::with_capacity(RECENT),
            totals: Totals::default(),
            verdict: Verdict::default(),
            history,
        }
    }

    /// Notes that a run begins.
    pub fn begin(&mut self, now: SystemTime) {
        self.started = Some(now);
        self.is_running = true;
    }

    /// Notes how the run ended; what this changes for whoever wants to hear of changes, of which
    /// the state is held only after `runs` in a row.
    pub fn end(&mut self, now: SystemTime, outcome: Outcome, runs: u32) -> Option<Change> {
        self.is_running = false;
        self.ended = Some(now);
        self.history.add(now, point(&outcome));
        self.totals.add(&outcome);
        push(&mut self.recent_results, outcome.result.is_ok());
        let last = match outcome.result {
            Ok(()) => {
                push(&mut self.recent_latencies, outcome.took);
                Ok(outcome.took)
            }
            Err(why) => Err(printable(&why)),
        };
        self.findings = outcome.findings;
        let change = self.verdict.hear(now, last.is_ok(), runs);
        self.last = Some(last);
        change
    }

    /// Notes that the run was given up.
    pub fn give_up(&mut self) {
        self.is_running = false;
    }

    /// What is wrong, if the last run was bad.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        self.last.as_ref()?.as_ref().err().map(String::as_str)
    }

    /// How long the last run took, if it was good.
    #[must_use]
    pub fn latency(&self) -> Option<Duration> {
        self.last.as_ref()?.as_ref().ok().copied()
    }

    /// A number that the last run measured.
    #[must_use]
    pub fn measured(&self, what: &str) -> Option<f64> {
        let mut measured = self.findings.measured.iter();
        Some(measured.find(|measured| measured.what == what)?.value)
    }
}

/// What the probe is there to measure, for the history: a rate, or a time, which is that of the
/// packet where connections had to be made first.
fn point(outcome: &Outcome) -> Point {
    if outcome.result.is_err() {
        return Point::Bad;
    }
    let measured = |what| {
        let mut measured = outcome.findings.measured.iter();
        measured
            .find(|measured| measured.what == what)
            .map(|measured| measured.value)
    };
    let named = match outcome.subject.class {
        Class::Bandwidth => {
            if let Some(rate) = measured("bytes_per_second") {
                return Point::Rate(rate);
            }
            None
        }
        Class::Relay | Class::WebSocket => measured("relay_seconds"),
        Class::Stun => measured("round_trip_seconds"),
        Class::QueueDelay => measured("delay_p50"),
        Class::Convergence => measured("convergence_seconds"),
        _ => None,
    };
    Point::Seconds(named.unwrap_or(outcome.took.as_secs_f64()))
}

fn push<T>(recent: &mut VecDeque<T>, value: T) {
    if recent.len() == RECENT {
        recent.pop_front();
    }
    recent.push_back(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Unit;

    fn outcome(class: Class, result: Result<(), &str>) -> Outcome {
        Outcome {
            name: "derp/r/n/x".to_owned(),
            subject: Arc::new(Subject {
                class,
                ..Subject::map()
            }),
            took: Duration::from_secs(2),
            result: result.map_err(str::to_owned),
            findings: Findings::default(),
        }
    }

    fn record() -> Record {
        let subject = Arc::new(Subject::map());
        Record::new(Duration::from_secs(15), subject, History::default())
    }

    #[test]
    fn the_last_ten_runs_are_remembered_one_by_one() {
        let mut record = record();
        for run in 0..12_u64 {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(run);
            record.begin(now);
            assert!(record.is_running);
            let result = if run == 11 { Err("no\tanswer") } else { Ok(()) };
            record.end(now, outcome(Class::Map, result), 2);
        }
        assert_eq!(
            record.recent_results,
            [vec![true; 9], vec![false]].concat(),
            "the oldest first"
        );
        assert_eq!(record.recent_latencies.len(), RECENT);
        assert_eq!(
            (record.error(), record.latency(), record.is_running),
            (Some("no\\tanswer"), None, false)
        );
    }

    #[test]
    fn the_history_has_what_the_probe_is_there_to_measure() {
        let measured = |class, what, value| {
            let mut outcome = outcome(class, Ok(()));
            outcome.findings.number(what, value, Unit::Seconds);
            point(&outcome)
        };
        assert_eq!(
            [
                measured(Class::Relay, "relay_seconds", 0.25),
                measured(Class::Relay, "another", 0.25),
                measured(Class::Bandwidth, "bytes_per_second", 7.0),
                measured(Class::Tls, "certificate_seconds_left", 9.0),
                point(&outcome(Class::Stun, Err("no answer"))),
            ],
            [
                Point::Seconds(0.25),
                Point::Seconds(2.0),
                Point::Rate(7.0),
                Point::Seconds(2.0),
                Point::Bad,
            ]
        );
    }
}
