//! What `/debug/probe-run` and `/debug/probe-all` answer in JSON, as the reference does
//! (`prober/prober.go`): durations are whole nanoseconds, and what did not happen was in the year 1.

use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_nanos;
use serde::Serialize;
use serde_json::{Map, Value};

use super::record::Record;

/// A probe and its last runs (`ProbeInfo`).
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProbeInfo {
    name: String,
    class: &'static str,
    interval: u64,
    labels: Map<String, Value>,
    start: String,
    end: String,
    latency: u64,
    status: &'static str,
    error: String,
    recent_results: Option<Vec<bool>>,
    recent_latencies: Option<Vec<u64>>,
}

/// A probe after a run, and what its last runs were like before (`RunHandlerResponse`).
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ran {
    /// The probe after the run.
    pub probe_info: ProbeInfo,
    /// Which part of its last runs was good before.
    pub previous_success_ratio: f64,
    /// The middle one of the times they took, in nanoseconds.
    pub previous_median_latency: u64,
}

impl ProbeInfo {
    /// Of a probe as it is now.
    #[must_use]
    pub fn of(name: &str, record: &Record) -> Self {
        let mut labels = Map::new();
        labels.insert("name".to_owned(), name.into());
        let class = record.subject.class.as_str();
        labels.insert("class".to_owned(), class.into());
        for (label, text) in record.subject.labels() {
            labels.insert(label.to_owned(), text.into());
        }
        let status = match &record.last {
            _ if record.is_running => "running",
            None => "unknown",
            Some(Ok(_)) => "succeeded",
            Some(Err(_)) => "failed",
        };
        let results = record.recent_results.iter().copied().collect::<Vec<_>>();
        let latencies = record.recent_latencies.iter().copied().map(nanos);
        let latencies = latencies.collect::<Vec<_>>();
        // Go's empty lists that nothing was ever added to are null.
        Self {
            name: name.to_owned(),
            class,
            interval: nanos(record.interval),
            labels,
            start: time(record.started),
            end: time(record.ended),
            latency: record.latency().map_or(0, nanos),
            status,
            error: record.error().unwrap_or_default().to_owned(),
            recent_results: Some(results).filter(|results| !results.is_empty()),
            recent_latencies: Some(latencies).filter(|latencies| !latencies.is_empty()),
        }
    }

    /// Whether its last run was good.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.error.is_empty()
    }

    /// Which part of the last runs was good; 0 where there were none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "there are ten at most")]
    pub fn success_ratio(&self) -> f64 {
        let results = self.recent_results.as_deref().unwrap_or_default();
        if results.is_empty() {
            return 0.0;
        }
        let good = results.iter().filter(|good| **good).count();
        good as f64 / results.len() as f64
    }

    /// The time in the middle of the list of the last ones, which the reference calls the median
    /// though the list is in the order in which they came.
    #[must_use]
    pub fn median_latency(&self) -> Duration {
        let latencies = self.recent_latencies.as_deref().unwrap_or_default();
        Duration::from_nanos(latencies.get(latencies.len() / 2).copied().unwrap_or(0))
    }

    /// The probe after a run, with what there was before.
    #[must_use]
    pub fn after(self, before: Option<&Self>) -> Ran {
        Ran {
            probe_info: self,
            previous_success_ratio: before.map_or(0.0, Self::success_ratio),
            previous_median_latency: before.map_or(0, |before| nanos(before.median_latency())),
        }
    }

    /// What `/debug/probe-run` says in words (`RunHandler`).
    #[must_use]
    pub fn words(&self) -> String {
        let count = self.recent_results.as_ref().map_or(0, Vec::len);
        let ratio = (self.success_ratio() * 100.0).floor();
        let median = derp_ops::goflag::GoDuration::from(self.median_latency());
        let head = match self.error.as_str() {
            "" => {
                let took = derp_ops::goflag::GoDuration::from(Duration::from_nanos(self.latency));
                format!("Probe succeeded in {took}")
            }
            error => format!("Probe failed: {error}"),
        };
        format!(
            "{head}\nLast {count} probes (including this one): success rate {ratio:.0}%, \
             median latency {median}\n"
        )
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn time(time: Option<SystemTime>) -> String {
    match time {
        Some(time) => format_rfc3339_nanos(time).to_string(),
        None => "0001-01-01T00:00:00Z".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::history::History;
    use super::*;
    use crate::outcome::Outcome;
    use crate::subject::Subject;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn record(results: &[Result<u64, &str>]) -> Record {
        let subject = Arc::new(Subject::map());
        let interval = Duration::from_secs(15);
        let mut record = Record::new(interval, Arc::clone(&subject), History::default());
        for (run, result) in (0..).zip(results) {
            record.begin(at(run * 15));
            let took = Duration::from_millis(result.unwrap_or(9));
            let result = result.map(drop).map_err(str::to_owned);
            let outcome = Outcome::of_map(took, result);
            record.end(at(run * 15 + 1), outcome, 2);
        }
        record
    }

    #[test]
    fn a_probe_is_described_as_by_the_reference() {
        let record = record(&[Ok(30), Ok(10), Err("no answer")]);
        let info = ProbeInfo::of("derpmap-probe", &record);
        assert_eq!(
            serde_json::to_value(info.clone().after(Some(&info))).unwrap(),
            json!({
                "ProbeInfo": {
                    "Name": "derpmap-probe",
                    "Class": "derp_map",
                    "Interval": 15_000_000_000_u64,
                    "Labels": { "name": "derpmap-probe", "class": "derp_map" },
                    "Start": "1970-01-01T00:00:30.000000000Z",
                    "End": "1970-01-01T00:00:31.000000000Z",
                    "Latency": 0,
                    "Status": "failed",
                    "Error": "no answer",
                    "RecentResults": [true, true, false],
                    "RecentLatencies": [30_000_000, 10_000_000],
                },
                "PreviousSuccessRatio": 2.0 / 3.0,
                "PreviousMedianLatency": 10_000_000,
            })
        );
        assert_eq!(
            info.words(),
            "Probe failed: no answer\nLast 3 probes (including this one): success rate 66%, \
             median latency 10ms\n"
        );
    }

    #[test]
    fn a_probe_that_never_ran_was_in_the_year_one() {
        let info = ProbeInfo::of("a", &record(&[]));
        let value = serde_json::to_value(&info).unwrap();
        assert_eq!(
            [&value["Start"], &value["Status"], &value["RecentResults"]],
            [
                &json!("0001-01-01T00:00:00Z"),
                &json!("unknown"),
                &Value::Null
            ]
        );
    }
}
