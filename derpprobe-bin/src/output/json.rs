//! A report for programs.

use serde_json::{Map, Value, json};

use crate::outcome::Outcome;
use crate::report::{Report, printable};

pub(super) fn render(report: &Report) -> String {
    let probes: Vec<_> = report.outcomes().iter().map(outcome).collect();
    let failed = report.failed();
    let report = json!({
        "ok": failed == 0,
        "probes": probes.len(),
        "failed": failed,
        "results": probes,
    });
    // Without a serde type there is nothing that could fail.
    format!("{report:#}\n")
}

/// One outcome. Times are in seconds; what does not apply is left out.
#[must_use]
pub fn outcome(outcome: &Outcome) -> Value {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    let subject = &outcome.subject;
    set("name", printable(&outcome.name).into());
    set("class", subject.class.as_str().into());
    if let Some(region) = &subject.region {
        set("region", region.code.clone().into());
        set("regionId", region.id.into());
    }
    if let Some(node) = &subject.node {
        set("node", node.name.clone().into());
        set("host", node.host.clone().into());
    }
    if let Some(to) = &subject.to {
        set("to", to.name.clone().into());
    }
    if let Some(family) = subject.family {
        set("addressFamily", family.as_str().into());
    }
    set("ok", outcome.result.is_ok().into());
    set("seconds", outcome.took.as_secs_f64().into());
    if let Err(why) = &outcome.result {
        set("error", printable(why).into());
    }
    let findings = &outcome.findings;
    let measured = findings.measured.iter();
    let measured: Map<_, _> = measured
        .map(|measured| (measured.what.to_owned(), measured.value.into()))
        .collect();
    if !measured.is_empty() {
        set("measured", measured.into());
    }
    let facts = findings.facts.iter();
    let facts: Map<_, _> = facts
        .map(|(what, text)| ((*what).to_owned(), Value::from(printable(text))))
        .collect();
    if !facts.is_empty() {
        set("facts", facts.into());
    }
    fields.into()
}
