//! From the reports of all rounds to the table's figures.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::row::{ROWS, Row, Target};

/// All reports, by scenario and relay.
#[derive(Debug, Default)]
pub(crate) struct Reports(BTreeMap<&'static str, BTreeMap<String, Vec<Value>>>);

/// A figure of all rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// A line of the table, filled in.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) row: &'static Row,
    /// By relay, in the order of the contestants.
    pub(crate) figures: Vec<Option<Figure>>,
    /// What is compared with the target.
    pub(crate) ratio: Option<f64>,
    /// Whether the target is met; none where there is none, or nothing to compare.
    pub(crate) met: Option<bool>,
}

impl Reports {
    pub(crate) fn add(&mut self, scenario: &'static str, relay: &str, report: Value) {
        self.0
            .entry(scenario)
            .or_default()
            .entry(relay.to_owned())
            .or_default()
            .push(report);
    }

    /// One document for each scenario that was run.
    pub(crate) fn documents(&self) -> impl Iterator<Item = (&'static str, Value)> {
        self.0
            .iter()
            .map(|(scenario, relays)| (*scenario, json!(relays)))
    }

    /// The table, as far as it was measured. The first relay is ours, the second Go's.
    pub(crate) fn lines(&self, relays: &[&str]) -> Vec<Line> {
        ROWS.iter()
            .filter(|row| self.0.contains_key(row.scenario))
            .map(|row| self.line(row, relays))
            .collect()
    }

    fn line(&self, row: &'static Row, relays: &[&str]) -> Line {
        let figures: Vec<_> = relays
            .iter()
            .map(|relay| self.figure(row.scenario, row.field, relay))
            .collect();
        let median = |index: usize| figures.get(index).copied().flatten().map(|it| it.median);
        let (ours, go) = (median(0), median(1));
        let divided = |over: Option<f64>, under: Option<f64>| Some(over? / under?);
        let ratio = match row.target {
            Target::Smaller(_) | Target::ToldSmall => divided(go, ours),
            Target::AtMost(_) => ours,
            Target::Share(_) | Target::ToldLarge => divided(ours, go),
            Target::OwnTimes(_, scenario) | Target::OwnShare(_, scenario) => {
                let other = relays
                    .first()
                    .and_then(|our| self.figure(scenario, row.field, our));
                divided(ours, other.map(|it| it.median))
            }
        };
        let met = match row.target {
            Target::ToldSmall | Target::ToldLarge => None,
            Target::Smaller(least) | Target::Share(least) | Target::OwnShare(least, _) => {
                ratio.map(|ratio| ratio >= least)
            }
            Target::AtMost(most) | Target::OwnTimes(most, _) => ratio.map(|ratio| ratio <= most),
        };
        Line {
            row,
            figures,
            ratio,
            met,
        }
    }

    fn figure(&self, scenario: &str, field: &str, relay: &str) -> Option<Figure> {
        let reports = self.0.get(scenario)?.get(relay)?;
        let mut values: Vec<f64> = reports
            .iter()
            .filter_map(|report| report.get(field)?.as_f64())
            .collect();
        values.sort_by(f64::total_cmp);
        let (&least, &most) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Figure {
            median,
            least,
            most,
        })
    }
}

/// What the table will tell of a report.
pub(crate) fn figures_of(scenario: &str, report: &Value) -> String {
    let figures: Vec<_> = ROWS
        .iter()
        .filter(|row| row.scenario == scenario && !row.target.is_within_ours())
        .filter_map(|row| Some((report.get(row.field)?.as_f64()?, row)))
        .map(|(value, row)| format!("{} {} ({})", rounded(value), row.unit, row.field))
        .collect();
    figures.join(", ")
}

/// A figure with as many digits as it is worth.
pub(crate) fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl Line {
    /// The line as JSON.
    pub(crate) fn to_json(&self, relays: &[&str]) -> Value {
        let figures: BTreeMap<_, _> = relays
            .iter()
            .zip(&self.figures)
            .map(|(relay, figure)| {
                let told = figure
                    .map(|it| json!({"median": it.median, "least": it.least, "most": it.most}));
                (*relay, told)
            })
            .collect();
        json!({
            "title": self.row.title,
            "scenario": self.row.scenario,
            "field": self.row.field,
            "unit": self.row.unit,
            "figures": figures,
            "ratio": self.ratio,
            "target": self.row.target.to_string(),
            "met": self.met,
        })
    }
}

impl Target {
    /// Whether it compares ours with ours, in a line of its own.
    pub(crate) fn is_within_ours(self) -> bool {
        matches!(self, Self::OwnTimes(..) | Self::OwnShare(..))
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Smaller(times) => write!(f, "Go / {times}"),
            Self::AtMost(most) => write!(f, "<= {most}"),
            Self::Share(share) => write!(f, ">= {share} of Go"),
            Self::OwnTimes(times, scenario) => write!(f, "<= {times} of {scenario}"),
            Self::OwnShare(share, scenario) => write!(f, ">= {share} of {scenario}"),
            Self::ToldSmall | Self::ToldLarge => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reports(field: &str, scenario: &'static str, ours: &[f64], go: &[f64]) -> Reports {
        let mut reports = Reports::default();
        for (relay, values) in [("ours", ours), ("Go", go)] {
            for value in values {
                reports.add(scenario, relay, json!({ field: value }));
            }
        }
        reports
    }

    #[test]
    fn a_figure_is_the_median_and_the_ratio_is_of_medians() {
        let ours = [2.0, 1.0, 9.0, 1.5, 1.8];
        let reports = reports("server_us_per_packet", "pair-16", &ours, &[10.0, 9.0]);
        let lines = reports.lines(&["ours", "Go", "absent"]);
        let [line] = &lines[..] else {
            panic!("one scenario was run: {lines:?}")
        };
        let figure = |median, least, most| {
            Some(Figure {
                median,
                least,
                most,
            })
        };
        assert_eq!(
            line.figures,
            [figure(1.8, 1.0, 9.0), figure(9.5, 9.0, 10.0), None]
        );
        assert_eq!((line.ratio, line.met), (Some(9.5 / 1.8), Some(false)));
    }

    #[test]
    fn each_kind_of_target_is_met_at_its_bound_and_not_beyond() {
        let met = |field, scenario, ours: f64, go: f64| {
            let lines = reports(field, scenario, &[ours], &[go]).lines(&["ours", "Go"]);
            lines
                .iter()
                .find(|line| line.row.field == field)
                .and_then(|line| line.met)
        };
        let table = [
            (
                met("server_us_per_packet", "ping-pong", 5.0, 10.0),
                Some(true),
            ),
            (
                met("server_us_per_packet", "ping-pong", 5.1, 10.0),
                Some(false),
            ),
            (met("rss_kib_per_client", "idle-8000", 3.0, 1.0), Some(true)),
            (
                met("rss_kib_per_client", "idle-8000", 3.1, 99.0),
                Some(false),
            ),
            (
                met("goodput_mb_per_s", "slow-reader-1", 0.98, 1.0),
                Some(true),
            ),
            (
                met("goodput_mb_per_s", "slow-reader-1", 0.97, 1.0),
                Some(false),
            ),
            (met("server_us_per_packet", "pair-1k", 1.0, 2.0), None),
        ];
        for (number, (got, expected)) in table.into_iter().enumerate() {
            assert_eq!(got, expected, "line {number}");
        }
    }

    #[test]
    fn a_storm_is_measured_against_our_own_quiet() {
        let mut reports = reports("p99_us", "two-cpus-quiet", &[100.0], &[1.0]);
        for (relay, value) in [("ours", 151.0), ("Go", 400.0)] {
            reports.add("two-cpus-storm", relay, json!({ "p99_us": value }));
        }
        let lines = reports.lines(&["ours", "Go"]);
        let line = lines
            .iter()
            .find(|line| matches!(line.row.target, Target::OwnTimes(..)));
        assert_eq!(
            line.map(|line| (line.ratio, line.met)),
            Some((Some(1.51), Some(false)))
        );
    }
}
