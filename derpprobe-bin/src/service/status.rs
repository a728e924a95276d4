//! `/status.json`: what the page shows, for programs. Times are in seconds, points in time as in
//! RFC 3339.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_seconds;
use serde_json::{Value, json};

use super::record::Record;
use crate::outcome::Outcome;
use crate::output::outcome_json;

/// The document.
pub fn json(
    records: &BTreeMap<String, Record>,
    now: SystemTime,
    started: SystemTime,
    source: &str,
    map_age: Option<Duration>,
) -> Value {
    let probes: Vec<_> = records
        .iter()
        .map(|(name, record)| probe(name, record))
        .collect();
    let bad = records.values().filter(|record| record.error().is_some());
    let unknown = records.values().filter(|record| record.last.is_none());
    let (bad, unknown) = (bad.count(), unknown.count());
    json!({
        "ok": bad == 0,
        "time": time(now),
        "started": time(started),
        "map": { "source": source, "ageSeconds": map_age.map(|age| age.as_secs()) },
        "probes": records.len(),
        "failed": bad,
        "unknown": unknown,
        "results": probes,
    })
}

fn probe(name: &str, record: &Record) -> Value {
    let outcome = Outcome {
        name: name.to_owned(),
        subject: std::sync::Arc::clone(&record.subject),
        took: record.latency().unwrap_or_default(),
        result: record.error().map_or(Ok(()), |error| Err(error.to_owned())),
        findings: record.findings.clone(),
    };
    let mut value = outcome_json(&outcome);
    if record.last.is_none() {
        // It is not known yet.
        value["ok"] = Value::Null;
    }
    value["intervalSeconds"] = record.interval.as_secs_f64().into();
    value["started"] = record.started.map(time).into();
    value["ended"] = record.ended.map(time).into();
    value["running"] = record.is_running.into();
    let state = match record.verdict.is_good {
        None => "unknown",
        Some(true) => "good",
        Some(false) => "bad",
    };
    value["state"] = state.into();
    value["since"] = record.verdict.since.map(time).into();
    let (good, bad) = (record.totals.good.count, record.totals.bad.count);
    value["runs"] = json!({ "good": good, "bad": bad });
    value
}

fn time(time: SystemTime) -> String {
    format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::history::History;
    use super::*;
    use crate::subject::Subject;

    #[test]
    fn what_is_known_is_told() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let subject = Arc::new(Subject::map());
        let new = || {
            Record::new(
                Duration::from_secs(15),
                Arc::clone(&subject),
                History::default(),
            )
        };
        let mut bad = new();
        bad.begin(at(1));
        let result = Err("no answer".to_owned());
        bad.end(at(2), Outcome::of_map(Duration::from_secs(1), result), 1);
        let records = BTreeMap::from([("a".to_owned(), bad), ("b".to_owned(), new())]);
        let status = json(
            &records,
            at(9),
            at(0),
            "the map",
            Some(Duration::from_secs(7)),
        );
        assert_eq!(
            status,
            json!({
                "ok": false,
                "time": "1970-01-01T00:00:09Z",
                "started": "1970-01-01T00:00:00Z",
                "map": { "source": "the map", "ageSeconds": 7 },
                "probes": 2,
                "failed": 1,
                "unknown": 1,
                "results": [
                    {
                        "name": "a", "class": "derp_map", "ok": false, "seconds": 0.0,
                        "error": "no answer", "intervalSeconds": 15.0,
                        "started": "1970-01-01T00:00:01Z", "ended": "1970-01-01T00:00:02Z",
                        "running": false, "state": "bad", "since": "1970-01-01T00:00:02Z",
                        "runs": { "good": 0, "bad": 1 },
                    },
                    {
                        "name": "b", "class": "derp_map", "ok": null, "seconds": 0.0,
                        "intervalSeconds": 15.0, "started": null, "ended": null,
                        "running": false, "state": "unknown", "since": null,
                        "runs": { "good": 0, "bad": 0 },
                    },
                ],
            })
        );
    }
}
