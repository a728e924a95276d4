//! What a row found.

use std::time::Duration;

use serde_json::json;

/// How much a check weighs in a quick run, which a busy machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// As much as in a full run.
    Decides,
    /// It is only told.
    Told,
}

/// One thing that was wanted.
#[derive(Debug)]
struct Check {
    figure: String,
    target: String,
    met: bool,
    weight: Weight,
}

/// What a row found.
#[derive(Debug)]
pub(crate) struct Report {
    quick: bool,
    scale: String,
    checks: Vec<Check>,
}

impl Report {
    /// A report of a row that ran at `scale`.
    pub(crate) fn new(quick: bool, scale: impl Into<String>) -> Self {
        Self {
            quick,
            scale: scale.into(),
            checks: Vec::new(),
        }
    }

    /// `figure` is what was found, `target` what was wanted.
    pub(crate) fn check(
        &mut self,
        figure: impl Into<String>,
        target: impl Into<String>,
        met: bool,
    ) -> &mut Self {
        self.push(figure.into(), target.into(), met, Weight::Decides)
    }

    /// At most `most` of something are wanted.
    pub(crate) fn at_most(&mut self, what: &str, found: u64, most: u64) -> &mut Self {
        let target = if most == 0 {
            "0".to_owned()
        } else {
            format!("≤ {most}")
        };
        self.check(format!("{what} {found}"), target, found <= most)
    }

    /// Memory of at most `most` bytes is wanted.
    pub(crate) fn memory(&mut self, what: &str, found: u64, most: u64) -> &mut Self {
        self.check(
            format!("{what} {}", size(found)),
            format!("≤ {}", size(most)),
            found <= most,
        )
    }

    /// A deadline of the relay's own: on a busy machine it may be noticed twice as late.
    pub(crate) fn deadline(&mut self, what: &str, found: Duration, most: Duration) -> &mut Self {
        let slack = if self.quick { 2 } else { 1 };
        self.check(
            format!("{what} {}", time(found)),
            format!("≤ {}", time(most)),
            found <= most * slack,
        )
    }

    /// A time or a share of CPU, which a quick run only tells.
    pub(crate) fn speed(
        &mut self,
        figure: impl Into<String>,
        target: impl Into<String>,
        met: bool,
    ) -> &mut Self {
        self.push(figure.into(), target.into(), met, Weight::Told)
    }

    fn push(&mut self, figure: String, target: String, met: bool, weight: Weight) -> &mut Self {
        self.checks.push(Check {
            figure,
            target,
            met,
            weight,
        });
        self
    }

    /// The report as a line of JSON.
    pub(crate) fn into_line(self) -> String {
        let quick = self.quick;
        let decides = |check: &&Check| !quick || check.weight == Weight::Decides;
        let passed = self.checks.iter().filter(decides).all(|check| check.met);
        let list = |part: fn(&Check) -> String| {
            let all: Vec<_> = self.checks.iter().map(part).collect();
            all.join(", ")
        };
        let missed: Vec<_> = self
            .checks
            .iter()
            .filter(|check| !check.met)
            .map(|check| format!("{} ({})", check.figure, check.target))
            .collect();
        let figure = list(|check| check.figure.clone());
        let target = list(|check| check.target.clone());
        json!({
            "figure": figure,
            "target": target,
            "scale": self.scale,
            "passed": passed,
            "missed": missed,
        })
        .to_string()
    }
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    let tenths = |unit: u64| (bytes * 10 + unit / 2) / unit;
    let (tenths, unit) = match bytes {
        0..1024 => return format!("{bytes} B"),
        1024..0x10_0000 => (tenths(1024), "KiB"),
        _ => (tenths(1 << 20), "MiB"),
    };
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        part => format!("{}.{part} {unit}", tenths / 10),
    }
}

/// A time for people.
pub(crate) fn time(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        return format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    }
    match (time.as_secs_f64() * 10.0).round() / 10.0 {
        whole if whole.fract() == 0.0 => format!("{whole:.0} s"),
        other => format!("{other:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(quick: bool, fill: impl Fn(&mut Report)) -> (bool, String) {
        let mut report = Report::new(quick, "small");
        fill(&mut report);
        let value: serde_json::Value = serde_json::from_str(&report.into_line()).unwrap();
        let missed = value["missed"].to_string();
        (value["passed"].as_bool().unwrap(), missed)
    }

    #[test]
    fn a_quick_run_tells_times_and_decides_by_the_rest() {
        let slow = |report: &mut Report| {
            report.speed("p99 30 ms", "≤ 20 ms", false);
        };
        assert_eq!(
            verdict(true, slow),
            (true, r#"["p99 30 ms (≤ 20 ms)"]"#.to_owned())
        );
        assert!(!verdict(false, slow).0);
        let lost = |report: &mut Report| {
            report.at_most("lost", 1, 0);
        };
        assert_eq!(verdict(true, lost), (false, r#"["lost 1 (0)"]"#.to_owned()));
        let late = |report: &mut Report| {
            report.deadline(
                "closed after",
                Duration::from_secs(20),
                Duration::from_secs(16),
            );
        };
        assert!(verdict(true, late).0);
        assert!(!verdict(false, late).0);
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(
            [0, 1023, 1024, 1536, 8 << 20].map(size),
            ["0 B", "1023 B", "1 KiB", "1.5 KiB", "8 MiB"]
        );
        let times = [1, 999, 1000, 15_040].map(|ms| time(Duration::from_millis(ms)));
        assert_eq!(times, ["1.0 ms", "999.0 ms", "1 s", "15 s"]);
    }
}
