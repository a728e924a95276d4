//! How one run of a probe ended, and what it found on the way.

use std::sync::Arc;
use std::time::Duration;

use crate::run::MAP_PROBE;
use crate::subject::Subject;

/// How a run of a probe ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The probe's name.
    pub name: String,
    /// What the probe is about.
    pub subject: Arc<Subject>,
    /// How long the run took, whatever came of it.
    pub took: Duration,
    /// What is wrong, in words and with what to do.
    pub result: Result<(), String>,
    /// What was found, which may be something even where the run failed.
    pub findings: Findings,
}

impl Outcome {
    /// How getting the map ended.
    #[must_use]
    pub fn of_map(took: Duration, result: Result<(), String>) -> Self {
        Self {
            name: MAP_PROBE.to_owned(),
            subject: Arc::new(Subject::map()),
            took,
            result,
            findings: Findings::default(),
        }
    }
}

/// What a probe found besides good or bad.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Findings {
    /// Numbers, each of which is there once.
    pub measured: Vec<Measured>,
    /// Facts in words, by name.
    pub facts: Vec<(&'static str, String)>,
}

/// A number that was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// What it is, as in `round_trip_seconds`.
    pub what: &'static str,
    /// The number.
    pub value: f64,
    /// Its unit.
    pub unit: Unit,
}

/// The unit of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Time.
    Seconds,
    /// Length.
    Bytes,
    /// Rate.
    BytesPerSecond,
    /// Things.
    Count,
}

impl Findings {
    /// Notes a time.
    pub fn seconds(&mut self, what: &'static str, time: Duration) {
        self.number(what, time.as_secs_f64(), Unit::Seconds);
    }

    /// Notes how many there were.
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of packets stay far below 2^53"
    )]
    pub fn count(&mut self, what: &'static str, count: u64) {
        self.number(what, count as f64, Unit::Count);
    }

    /// Notes a number.
    pub fn number(&mut self, what: &'static str, value: f64, unit: Unit) {
        self.measured.push(Measured { what, value, unit });
    }

    /// Notes a fact.
    pub fn fact(&mut self, what: &'static str, text: impl Into<String>) {
        self.facts.push((what, text.into()));
    }
}
