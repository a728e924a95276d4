//! What a row found.

use std::time::Duration;

use serde_json::json;

/// How much times and shares of CPU weigh, which a busy machine changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// As much as all else: nothing but the relay is at work.
    Decide,
    /// Only deadlines weigh, and may be missed by as much again.
    Deadlines,
    /// They are told and weigh nothing.
    Told,
}

/// One thing that was wanted.
#[derive(Debug)]
struct Check {
    figure: String,
    target: String,
    met: bool,
    /// Whether the row is red where this is not met.
    decides: bool,
}

/// What a row found.
#[derive(Debug)]
pub(crate) struct Report {
    times: Times,
    scale: String,
    checks: Vec<Check>,
}

impl Report {
    /// A report of a row that ran at `scale`.
    pub(crate) fn new(times: Times, scale: impl Into<String>) -> Self {
        Self {
            times,
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
        self.push(figure.into(), target.into(), met, true)
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
        let slack = if self.times == Times::Decide { 1 } else { 2 };
        self.push(
            format!("{what} {}", time(found)),
            format!("≤ {}", time(most)),
            found <= most * slack,
            self.times != Times::Told,
        )
    }

    /// A figure of which nothing is wanted.
    pub(crate) fn tell(&mut self, figure: impl Into<String>) -> &mut Self {
        self.push(figure.into(), "told".to_owned(), true, false)
    }

    /// A time or a share of CPU.
    pub(crate) fn speed(
        &mut self,
        figure: impl Into<String>,
        target: impl Into<String>,
        met: bool,
    ) -> &mut Self {
        let decides = self.times == Times::Decide;
        self.push(figure.into(), target.into(), met, decides)
    }

    fn push(&mut self, figure: String, target: String, met: bool, decides: bool) -> &mut Self {
        self.checks.push(Check {
            figure,
            target,
            met,
            decides,
        });
        self
    }

    /// The report as a line of JSON.
    pub(crate) fn into_line(self) -> String {
        let passed = self.checks.iter().all(|check| check.met || !check.decides);
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

    fn verdict(times: Times, fill: impl Fn(&mut Report)) -> (bool, String) {
        let mut report = Report::new(times, "small");
        fill(&mut report);
        let value: serde_json::Value = serde_json::from_str(&report.into_line()).unwrap();
        let missed = value["missed"].to_string();
        (value["passed"].as_bool().unwrap(), missed)
    }

    #[test]
    fn times_weigh_as_much_as_the_machine_is_the_relays_own() {
        let slow = |report: &mut Report| {
            report.speed("p99 30 ms", "≤ 20 ms", false);
        };
        assert_eq!(
            verdict(Times::Deadlines, slow),
            (true, r#"["p99 30 ms (≤ 20 ms)"]"#.to_owned())
        );
        assert!(!verdict(Times::Decide, slow).0);
        let lost = |report: &mut Report| {
            report.at_most("lost", 1, 0);
        };
        assert_eq!(
            verdict(Times::Told, lost),
            (false, r#"["lost 1 (0)"]"#.to_owned())
        );
        let late = |seconds| {
            move |report: &mut Report| {
                let found = Duration::from_secs(seconds);
                report.deadline("closed after", found, Duration::from_secs(16));
            }
        };
        let passes = |seconds| {
            [Times::Decide, Times::Deadlines, Times::Told]
                .map(|times| verdict(times, late(seconds)).0)
        };
        assert_eq!(passes(20), [false, true, true]);
        assert_eq!(passes(33), [false, false, true]);
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
