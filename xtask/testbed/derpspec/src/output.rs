//! What is printed: lines for people, or JSON.

use std::io::{Write as _, stdout};

use serde_json::{Value, json};
use testbed_derpspec::{Case, Level, Numbered, Outcome, Report, SECTIONS};

/// Where reports go.
pub(crate) struct Output {
    is_json: bool,
}

/// How many cases had which outcome.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    passed: usize,
    shows_derpkit: usize,
    shows_reference: usize,
    not_run: usize,
    pub(crate) failed: usize,
}

impl Summary {
    pub(crate) fn add(&mut self, report: &Report) {
        let count = match &report.outcome {
            Outcome::Passed => &mut self.passed,
            Outcome::Shows(testbed_derpspec::Side::Derpkit) => &mut self.shows_derpkit,
            Outcome::Shows(testbed_derpspec::Side::Reference) => &mut self.shows_reference,
            Outcome::NotRun(_) => &mut self.not_run,
            Outcome::Failed(_) => &mut self.failed,
        };
        *count += 1;
    }
}

impl Output {
    pub(crate) const fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// A case of the list.
    pub(crate) fn listed(&self, case: &Numbered) {
        if self.is_json {
            return self.line(&described(case).to_string());
        }
        if case.place == 1 {
            self.line(&format!(
                "{} {}",
                case.section,
                SECTIONS[case.section - 1].title
            ));
        }
        self.line(&headline("", case));
        self.line(&format!("                       ({})", case.case.source));
    }

    /// What came of a case.
    pub(crate) fn report(&self, report: &Report) {
        if self.is_json {
            return self.line(&as_json(report).to_string());
        }
        match &report.outcome {
            Outcome::Passed => self.line(&headline("ok", &report.case)),
            Outcome::Shows(side) => {
                self.line(&format!("{} [as {side}]", headline("ok", &report.case)));
            }
            Outcome::NotRun(missing) => {
                let missing = missing.join(", ");
                self.line(&format!(
                    "{} [needs {missing}]",
                    headline("-", &report.case)
                ));
            }
            Outcome::Failed(failure) => {
                self.line(&headline("FAILED", &report.case));
                self.line(&format!("         source    {}", report.case.case.source));
                self.line(&format!("         expected  {}", failure.expected));
                self.line(&format!("         seen      {}", failure.seen));
                for line in &report.trace {
                    self.line(&format!("         | {line}"));
                }
            }
        }
    }

    /// What came of a case that was run with a fault, or with none.
    pub(crate) fn self_test(&self, report: &Report, is_right: bool) {
        let seen = match &report.outcome {
            Outcome::Failed(failure) => {
                format!("red: expected {}; seen {}", failure.expected, failure.seen)
            }
            Outcome::NotRun(_) => "not run".to_owned(),
            _ => "green".to_owned(),
        };
        let fault = report
            .fault
            .map_or_else(|| "no fault".to_owned(), |fault| format!("{fault:?}"));
        let word = if is_right { "ok" } else { "WRONG" };
        self.line(&format!(
            "{word:<6} {:<6} {fault}: {seen}",
            report.case.number()
        ));
        if !is_right {
            report
                .trace
                .iter()
                .for_each(|line| self.line(&format!("         | {line}")));
        }
    }

    /// The last line.
    pub(crate) fn summary(&self, summary: &Summary) {
        let Summary {
            passed,
            shows_derpkit,
            shows_reference,
            not_run,
            failed,
        } = summary;
        if self.is_json {
            let line = json!({
                "summary": true, "passed": passed, "as_derpkit": shows_derpkit,
                "as_reference": shows_reference, "not_run": not_run, "failed": failed,
            });
            return self.line(&line.to_string());
        }
        self.line(&format!(
            "{passed} passed, {shows_derpkit} as derpkit, {shows_reference} as the reference, \
             {not_run} not run, {failed} failed"
        ));
    }

    /// A line of the report.
    pub(crate) fn line(&self, line: &str) {
        // Who reads no more of it wants no more of it.
        let _closed = writeln!(stdout(), "{line}");
    }

    #[expect(clippy::print_stderr, reason = "problems go to standard error")]
    pub(crate) fn problem(&self, problem: &str) {
        eprintln!("derpspec: {problem}");
    }
}

fn headline(word: &str, case: &Numbered) -> String {
    format!(
        "{word:<6} {:<6} {:<8} {}",
        case.number(),
        case.case.level,
        case.case.rule
    )
}

fn described(numbered: &Numbered) -> Value {
    let Case {
        rule,
        source,
        level,
        needs,
        ..
    } = *numbered.case;
    let mut value = json!({
        "number": numbered.number(),
        "section": SECTIONS[numbered.section - 1].title,
        "rule": rule,
        "source": source,
        "level": level.to_string(),
        "needs": needs.missing_from(testbed_derpspec::Needs::NOTHING),
    });
    if let Level::Differs {
        derpkit, reference, ..
    } = level
    {
        value["derpkit"] = derpkit.into();
        value["reference"] = reference.into();
    }
    value
}

fn as_json(report: &Report) -> Value {
    let mut value = described(&report.case);
    value["ms"] = u64::try_from(report.took.as_millis())
        .unwrap_or(u64::MAX)
        .into();
    value["outcome"] = match &report.outcome {
        Outcome::Passed | Outcome::Shows(_) => "passed",
        Outcome::NotRun(_) => "not run",
        Outcome::Failed(_) => "failed",
    }
    .into();
    match &report.outcome {
        Outcome::Shows(side) => value["as"] = side.to_string().into(),
        Outcome::NotRun(missing) => value["missing"] = missing.clone().into(),
        Outcome::Failed(failure) => {
            value["expected"] = failure.expected.clone().into();
            value["seen"] = failure.seen.clone().into();
            value["trace"] = report.trace.clone().into();
        }
        Outcome::Passed => {}
    }
    value
}
