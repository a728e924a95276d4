//! What is printed: a line as soon as a row has ended, and the sum.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

/// What became of a row.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It ran.
    Ran {
        passed: bool,
        figure: String,
        target: String,
        scale: String,
        /// What was not as wanted; in a quick run times may be among it although it passed.
        missed: Vec<String>,
    },
    /// The relay or the attacker did not get to an end.
    Broken(String),
    /// What it is about does not exist yet.
    NotBuilt(String),
}

impl Outcome {
    /// Reads the attacker's report.
    pub(super) fn of(report: &Value) -> Self {
        let text = |name: &str| {
            let text = report.get(name).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let missed = report.get("missed").and_then(Value::as_array);
        let missed = missed.into_iter().flatten().filter_map(Value::as_str);
        Self::Ran {
            passed: report.get("passed") == Some(&Value::Bool(true)),
            figure: text("figure"),
            target: text("target"),
            scale: text("scale"),
            missed: missed.map(str::to_owned).collect(),
        }
    }
}

/// One relay's outcome of one row.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) row: &'static str,
    pub(super) relay: String,
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
}

/// How the rows of one relay ended.
#[derive(Debug, Default)]
struct Sum {
    passed: usize,
    red: usize,
    not_built: usize,
}

/// The rows that have ended.
#[derive(Debug)]
pub(super) struct Table {
    ours: String,
    sums: BTreeMap<String, Sum>,
}

impl Table {
    /// A table of these relays, of which the first is ours.
    pub(super) fn new<'a>(relays: impl Iterator<Item = &'a str>) -> Self {
        let relays: Vec<_> = relays.map(str::to_owned).collect();
        println!("row | relay | figure | target | verdict | scale | took");
        Self {
            ours: relays.first().cloned().unwrap_or_default(),
            sums: relays
                .into_iter()
                .map(|one| (one, Sum::default()))
                .collect(),
        }
    }

    /// Prints a line and counts it.
    pub(super) fn add(&mut self, line: Line) {
        let Line {
            row,
            relay,
            outcome,
            took,
        } = line;
        let took = took.as_secs();
        let sum = self.sums.entry(relay.clone()).or_default();
        match outcome {
            Outcome::Ran {
                passed,
                figure,
                target,
                scale,
                missed,
            } => {
                let verdict = match (passed, missed.is_empty()) {
                    (true, true) => "pass".to_owned(),
                    (true, false) => format!("pass; told only: {}", missed.join(", ")),
                    (false, _) => format!("FAIL: {}", missed.join(", ")),
                };
                *(if passed {
                    &mut sum.passed
                } else {
                    &mut sum.red
                }) += 1;
                println!("{row} | {relay} | {figure} | {target} | {verdict} | {scale} | {took} s");
            }
            Outcome::Broken(why) => {
                sum.red += 1;
                let why = why.replace('\n', " ");
                println!("{row} | {relay} | - | - | FAIL: {why} | - | {took} s");
            }
            Outcome::NotBuilt(why) => {
                sum.not_built += 1;
                println!("{row} | {relay} | - | - | not built: {why} | - | {took} s");
            }
        }
    }

    /// Prints the sums, ours last, and returns how many rows of ours are red.
    pub(super) fn finish(self) -> usize {
        let told = |relay: &str, sum: &Sum| {
            let Sum {
                passed,
                red,
                not_built,
            } = sum;
            println!("{relay}: {passed} rows passed, {red} red, {not_built} not built");
        };
        for (relay, sum) in self.sums.iter().filter(|(relay, _)| **relay != self.ours) {
            told(relay, sum);
        }
        self.sums.get(&self.ours).map_or(0, |sum| {
            told(&self.ours, sum);
            sum.red
        })
    }
}
