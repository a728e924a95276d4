//! A report as plugins of Nagios print theirs: a line that says how it is, numbers behind a bar,
//! and below it what is bad.

use std::time::Duration;

use crate::outcome::Outcome;
use crate::report::{Report, printable};

pub(super) fn render(report: &Report) -> String {
    let (all, failed) = (report.outcomes().len(), report.failed());
    let bad: Vec<_> = report
        .outcomes()
        .iter()
        .filter_map(|outcome| Some((outcome, outcome.result.as_ref().err()?)))
        .map(|(outcome, why)| plain(&format!("{}: {why}", outcome.name)))
        .collect();
    let summary = match bad.first() {
        None => format!("DERP OK: all {all} probes are good"),
        Some(first) => format!("DERP CRITICAL: {failed} of {all} probes failed: {first}"),
    };
    let mut text = format!("{summary} | failed={failed};;0;0;{all}");
    let slowest = report.outcomes().iter().map(|outcome| outcome.took).max();
    let slowest = slowest.unwrap_or(Duration::ZERO).as_secs_f64();
    text.push_str(&format!(" slowest={slowest:.6}s;;;0"));
    if let Some(left) = shortest_certificate(report.outcomes()) {
        text.push_str(&format!(" certificate={left:.0}s;;;0"));
    }
    text.push('\n');
    // The first stands above.
    for line in bad.iter().skip(1).take(MOST_LINES) {
        text.push_str(line);
        text.push('\n');
    }
    if bad.len() > MOST_LINES + 1 {
        text.push_str("and others\n");
    }
    text
}

/// For how many seconds the certificate is still valid that ends first.
fn shortest_certificate(outcomes: &[Outcome]) -> Option<f64> {
    let measured = outcomes
        .iter()
        .flat_map(|outcome| &outcome.findings.measured);
    measured
        .filter(|measured| measured.what == "certificate_seconds_left")
        .map(|measured| measured.value)
        .reduce(f64::min)
}

/// Text without the bar, behind which numbers begin.
fn plain(text: &str) -> String {
    printable(text).replace('|', "/")
}

/// How many faults are told below the line. Some programs cut plugins' output at 4 KiB.
const MOST_LINES: usize = 20;
