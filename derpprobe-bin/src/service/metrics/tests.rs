use std::sync::Arc;

use derp_proto::{DerpNode, DerpRegion};

use super::super::history::History;
use super::*;
use crate::outcome::{Findings, Outcome};
use crate::subject::Subject;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn subject(class: Class) -> Arc<Subject> {
    let region = DerpRegion {
        region_code: "nyc".to_owned(),
        ..DerpRegion::default()
    };
    let node = DerpNode {
        name: "900a".to_owned(),
        host_name: "a.test".to_owned(),
        ..DerpNode::default()
    };
    Arc::new(Subject::of_node(class, 900, &region, &node))
}

fn record(class: Class, runs: &[Result<(), &str>], findings: &Findings) -> Record {
    let subject = subject(class);
    let mut record = Record::new(
        Duration::from_secs(15),
        Arc::clone(&subject),
        History::default(),
    );
    for (run, result) in (0..).zip(runs) {
        record.begin(at(100 + run * 15));
        let outcome = Outcome {
            name: String::new(),
            subject: Arc::clone(&subject),
            took: Duration::from_millis(250),
            result: result.map_err(str::to_owned),
            findings: findings.clone(),
        };
        record.end(at(101 + run * 15), outcome, 2);
    }
    record
}

/// The lines about this probe.
fn lines(name: &str, record: &Record) -> Vec<String> {
    let whole = Whole {
        started: at(50),
        map_age: None,
        posts: (0, 0, 0),
    };
    let name = name.to_owned();
    let text = text([(&name, record)].into_iter(), &whole);
    text.lines()
        .filter(|line| line.contains("name="))
        .map(|line| {
            line.replace(
                "name=\"x\",class=\"tls\",region=\"nyc\",region_id=\"900\",hostname=\"a.test\"",
                "…",
            )
        })
        .collect()
}

#[test]
fn names_and_labels_are_those_of_the_reference() {
    let record = record(
        Class::Tls,
        &[Err("bad"), Ok(()), Ok(())],
        &Findings::default(),
    );
    assert_eq!(
        lines("x", &record),
        [
            "derpprobe_attempts_total{…,status=\"fail\"} 1",
            "derpprobe_attempts_total{…,status=\"ok\"} 2",
            "derpprobe_end_secs{…} 131",
            "derpprobe_in_flight{…} 0",
            "derpprobe_interval_secs{…} 15",
            "derpprobe_latency_millis{…} 250",
            "derpprobe_result{…} 1",
            "derpprobe_seconds_total{…,status=\"fail\"} 0.25",
            "derpprobe_seconds_total{…,status=\"ok\"} 0.5",
            "derpprobe_start_secs{…} 130",
        ]
    );
}

#[test]
fn until_a_probe_has_ended_nothing_is_said_of_its_result() {
    let mut record = record(Class::Tls, &[], &Findings::default());
    let waiting = ["derpprobe_in_flight{…} 0", "derpprobe_interval_secs{…} 15"];
    assert_eq!(lines("x", &record), waiting);
    record.begin(at(7));
    let running = [
        "derpprobe_in_flight{…} 1",
        "derpprobe_interval_secs{…} 15",
        "derpprobe_start_secs{…} 7",
    ];
    assert_eq!(lines("x", &record), running);
}

#[test]
fn a_bad_run_has_no_latency() {
    let record = record(Class::Tls, &[Ok(()), Err("bad")], &Findings::default());
    let lines = lines("x", &record);
    assert!(lines.contains(&"derpprobe_result{…} 0".to_owned()));
    assert!(!lines.iter().any(|line| line.contains("latency_millis")));
}

#[test]
fn queuing_delay_is_a_histogram_of_all_runs() {
    let mut findings = Findings::default();
    for (what, count) in [
        ("dropped", 3),
        ("delay_le_0.1", 4),
        ("delay_le_0.25", 4),
        ("delay_le_0.5", 4),
        ("delay_le_1", 4),
        ("delay_le_inf", 6),
        ("delay_sum", 9),
    ] {
        findings.count(what, count);
    }
    let record = record(Class::QueueDelay, &[Ok(()), Ok(())], &findings);
    let text = lines("x", &record).join("\n");
    let text = text.replace(
        "name=\"x\",class=\"derp_qd\",region=\"nyc\",region_id=\"900\",hostname=\"a.test\"",
        "…",
    );
    let delays: Vec<_> = text
        .lines()
        .filter(|line| line.contains("derp_qd_probe"))
        .collect();
    assert_eq!(
        delays,
        [
            "derpprobe_derp_qd_probe_delays_seconds_bucket{…,le=\"0.005\"} 0",
            "derpprobe_derp_qd_probe_delays_seconds_bucket{…,le=\"0.01\"} 0",
            "derpprobe_derp_qd_probe_delays_seconds_bucket{…,le=\"0.025\"} 0",
            "derpprobe_derp_qd_probe_delays_seconds_bucket{…,le=\"0.05\"} 0",
            "derpprobe_derp_qd_probe_delays_seconds_bucket{…,le=\"0.1\"} 8",
            "derpprobe_derp_qd_probe_delays_seconds_bucket{…,le=\"0.25\"} 8",
            "derpprobe_derp_qd_probe_delays_seconds_bucket{…,le=\"0.5\"} 8",
            "derpprobe_derp_qd_probe_delays_seconds_bucket{…,le=\"1\"} 8",
            "derpprobe_derp_qd_probe_delays_seconds_bucket{…,le=\"+Inf\"} 12",
            "derpprobe_derp_qd_probe_delays_seconds_sum{…} 18",
            "derpprobe_derp_qd_probe_delays_seconds_count{…} 12",
            "derpprobe_derp_qd_probe_dropped_packets{…} 6",
        ]
    );
}

#[test]
fn what_maps_say_stays_in_its_label() {
    let record = record(Class::Tls, &[Ok(())], &Findings::default());
    let lines = lines("x\"} 1\nevil 1\\", &record);
    let prefix = "derpprobe_result{name=\"x\\\"} 1\\\\nevil 1\\\\\",";
    assert!(
        lines.iter().any(|line| line.starts_with(prefix)),
        "{lines:?}"
    );
}

/// The names of metrics in a text of rules or a dashboard.
fn names_in(text: &str) -> std::collections::BTreeSet<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_name(c));
    words
        .filter(|word| word.starts_with("derpprobe_"))
        .collect()
}

#[test]
fn rules_and_dashboard_use_what_there_is() {
    let mut findings = Findings::default();
    for (what, _) in MEASURED {
        findings.count(what, 1);
    }
    let record = record(Class::QueueDelay, &[Ok(()), Err("bad")], &findings);
    let good = self::record(Class::Bandwidth, &[Ok(())], &findings);
    let whole = Whole {
        started: at(50),
        map_age: Some(Duration::from_secs(1)),
        posts: (0, 0, 0),
    };
    let names = ["a", "b"].map(str::to_owned);
    let text = text(names.iter().zip([&record, &good]), &whole);
    let there = names_in(&text);
    for used in [
        include_str!("../../../../deploy/monitoring/derpprobe.rules.yaml"),
        include_str!("../../../../deploy/monitoring/grafana-derpprobe.json"),
    ] {
        let missing: Vec<_> = names_in(used).difference(&there).copied().collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
