//! What the doctor found: good, worth a look, or a problem, with what to do about it.

use std::fmt;

use serde::Serialize;
use serde_json::json;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It works, and may not be what was meant.
    Warning,
    /// Some clients, or all, are worse off for it.
    Problem,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        })
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at; scripts go by these names, so they stay.
    pub(super) check: &'static str,
    pub(super) level: Level,
    /// What was found.
    pub(super) what: String,
    /// What to do; empty where there is nothing to do.
    pub(super) remedy: String,
}

/// All that was found, in the order in which it was looked at.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.note(check, Level::Ok, what, "");
    }

    pub(super) fn warn(
        &mut self,
        check: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.note(check, Level::Warning, what, remedy);
    }

    pub(super) fn problem(
        &mut self,
        check: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.note(check, Level::Problem, what, remedy);
    }

    pub(super) fn note(
        &mut self,
        check: &'static str,
        level: Level,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.0.push(Finding {
            check,
            level,
            what: what.into(),
            remedy: remedy.into(),
        });
    }

    /// How many problems there are.
    pub(super) fn problems(&self) -> usize {
        self.count(Level::Problem)
    }

    fn count(&self, level: Level) -> usize {
        let of_level = self.0.iter().filter(|finding| finding.level == level);
        of_level.count()
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.0 {
            let Finding {
                check,
                level,
                what,
                remedy,
            } = finding;
            text.push_str(&format!("{level:8} {check:14} {what}\n"));
            if !remedy.is_empty() {
                text.push_str(&format!("{:8} {:14} → {remedy}\n", "", ""));
            }
        }
        let (problems, warnings) = (self.problems(), self.count(Level::Warning));
        text.push_str(&format!("\nproblems: {problems}, warnings: {warnings}\n"));
        text
    }

    /// For scripts.
    pub(super) fn json(&self) -> String {
        let report = json!({
            "problems": self.problems(),
            "warnings": self.count(Level::Warning),
            "findings": self.0,
        });
        let mut text = serde_json::to_string_pretty(&report).expect("texts and numbers are JSON");
        text.push('\n');
        text
    }

    /// What was found, for tests: check and level.
    #[cfg(test)]
    pub(super) fn levels(&self) -> Vec<(&'static str, Level)> {
        self.0
            .iter()
            .map(|finding| (finding.check, finding.level))
            .collect()
    }

    /// The only finding, for tests: how bad it is, what it is, and what to do.
    #[cfg(test)]
    pub(super) fn only(&self) -> (Level, &str, &str) {
        let [finding] = self.0.as_slice() else {
            panic!("{}", self.text());
        };
        (finding.level, &finding.what, &finding.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_stand_under_what_they_are_for() {
        let mut findings = Findings::default();
        findings.ok("name", "it is at 192.0.2.1");
        findings.problem("stun", "no answer", "open UDP port 3478");
        assert_eq!(
            findings.text(),
            "ok       name           it is at 192.0.2.1\n\
             problem  stun           no answer\n                        → open UDP port 3478\n\
             \nproblems: 1, warnings: 0\n"
        );
        let json: serde_json::Value = serde_json::from_str(&findings.json()).unwrap();
        assert_eq!(
            json["findings"][1],
            json!({
                "check": "stun",
                "level": "problem",
                "what": "no answer",
                "remedy": "open UDP port 3478",
            })
        );
    }
}
