//! A report as CI systems show tests: one suite, a case for each probe.

use std::fmt::Write as _;

use crate::report::{Report, printable};

pub(super) fn render(report: &Report) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let (tests, failures) = (report.outcomes().len(), report.failed());
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"0\"");
    let infallible = "writing to a string cannot fail";
    writeln!(xml, "<testsuites {counts}>").expect(infallible);
    writeln!(
        xml,
        "  <testsuite name=\"derpprobe\" {counts} skipped=\"0\">"
    )
    .expect(infallible);
    for outcome in report.outcomes() {
        let name = escaped(&outcome.name);
        let class = outcome.subject.class.as_str();
        let seconds = outcome.took.as_secs_f64();
        write!(
            xml,
            "    <testcase classname=\"{class}\" name=\"{name}\" time=\"{seconds:.6}\""
        )
        .expect(infallible);
        match &outcome.result {
            Ok(()) => writeln!(xml, "/>"),
            Err(why) => writeln!(
                xml,
                ">\n      <failure message=\"{}\"/>\n    </testcase>",
                escaped(why)
            ),
        }
        .expect(infallible);
    }
    xml.push_str("  </testsuite>\n</testsuites>\n");
    xml
}

/// Text that stays text within an attribute. Control characters, which XML cannot have in any
/// form, are spelled out by [`printable`].
fn escaped(text: &str) -> String {
    let text = printable(text);
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
