//! One report in every form.

use std::sync::Arc;
use std::time::Duration;

use derp_proto::{DerpNode, DerpRegion};
use serde_json::{Value, json};

use super::*;
use crate::outcome::{Findings, Outcome};
use crate::subject::{Class, Subject};

/// A probe of node `a`, which took 12.5 ms.
fn outcome(kind: &str, class: Class, result: Result<(), String>) -> Outcome {
    let region = DerpRegion {
        region_code: "nyc".to_owned(),
        ..DerpRegion::default()
    };
    let node = DerpNode {
        name: "a".to_owned(),
        host_name: "a.test".to_owned(),
        ..DerpNode::default()
    };
    Outcome {
        name: format!("derp/nyc/a/{kind}"),
        subject: Arc::new(Subject::of_node(class, 7, &region, &node)),
        took: Duration::from_micros(12_500),
        result,
        findings: Findings::default(),
    }
}

fn report() -> Report {
    let mut tls = outcome("tls", Class::Tls, Ok(()));
    tls.findings
        .seconds("certificate_seconds_left", Duration::from_secs(864_000));
    tls.findings.fact("certificate_until", "2027-01-15");
    let words = "\"<1>\" | & \u{1}\nbad";
    let http = outcome("http", Class::Http, Err(words.to_owned()));
    Report::of([http, tls])
}

#[test]
fn text_is_the_references() {
    let text = "good: derp/nyc/a/tls: 12.5ms\n\
                bad: derp/nyc/a/http: \"<1>\" | & \\u{1}\\nbad\n";
    assert_eq!(Format::Text.render(&report()), text);
}

#[test]
fn what_a_relay_says_of_itself_is_behind_its_line() {
    let mut info = outcome("info", Class::Info, Ok(()));
    info.findings.fact("protocol", "2");
    info.findings.fact("start", "fast");
    assert_eq!(
        Format::Text.render(&Report::of([info])),
        "good: derp/nyc/a/info: 12.5ms (protocol 2, start fast)\n"
    );
}

#[test]
fn json_has_everything() {
    let about = |kind: &str, class: &str, ok: bool| {
        json!({
            "name": format!("derp/nyc/a/{kind}"), "class": class, "region": "nyc", "regionId": 7,
            "node": "a", "host": "a.test", "ok": ok, "seconds": 0.0125,
        })
    };
    let mut tls = about("tls", "tls", true);
    tls["measured"] = json!({"certificate_seconds_left": 864_000.0});
    tls["facts"] = json!({"certificate_until": "2027-01-15"});
    let mut http = about("http", "derp_http", false);
    http["error"] = json!("\"<1>\" | & \\u{1}\\nbad");
    let got: Value = serde_json::from_str(&Format::Json.render(&report())).unwrap();
    assert_eq!(
        got,
        json!({"ok": false, "probes": 2, "failed": 1, "results": [tls, http]})
    );
}

#[test]
fn junit_is_xml_whatever_servers_say() {
    let xml = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="2" failures="1" errors="0">
  <testsuite name="derpprobe" tests="2" failures="1" errors="0" skipped="0">
    <testcase classname="tls" name="derp/nyc/a/tls" time="0.012500"/>
    <testcase classname="derp_http" name="derp/nyc/a/http" time="0.012500">
      <failure message="&quot;&lt;1&gt;&quot; | &amp; \u{1}\nbad"/>
    </testcase>
  </testsuite>
</testsuites>
"#;
    assert_eq!(Format::Junit.render(&report()), xml);
}

#[test]
fn nagios_gets_a_line_and_its_own_exit_code() {
    let line = "DERP CRITICAL: 1 of 2 probes failed: derp/nyc/a/http: \"<1>\" / & \\u{1}\\nbad | \
                failed=1;;0;0;2 slowest=0.012500s;;;0 certificate=864000s;;;0\n";
    assert_eq!(Format::Nagios.render(&report()), line);
    let good = Report::of([outcome("tls", Class::Tls, Ok(()))]);
    let line = "DERP OK: all 1 probes are good | failed=0;;0;0;1 slowest=0.012500s;;;0\n";
    assert_eq!(Format::Nagios.render(&good), line);
    let codes = [Format::Text, Format::Json, Format::Junit, Format::Nagios];
    assert_eq!(
        codes.map(|format| format.exit_code(&report())),
        [1, 1, 1, 2]
    );
    assert_eq!(codes.map(|format| format.exit_code(&good)), [0; 4]);
    let many = (0..30).map(|n| outcome(&format!("{n:02}"), Class::Http, Err("x".to_owned())));
    let text = Format::Nagios.render(&Report::of(many));
    assert_eq!(
        (text.lines().count(), text.lines().last()),
        (22, Some("and others"))
    );
}

#[test]
fn forms_have_names() {
    for (name, format) in [
        ("text", Format::Text),
        ("json", Format::Json),
        ("junit", Format::Junit),
        ("nagios", Format::Nagios),
    ] {
        assert_eq!(name.parse(), Ok(format));
    }
    let err = "xml".parse::<Format>().unwrap_err().to_string();
    assert_eq!(err, "\"xml\" is none of text, json, junit and nagios");
}
