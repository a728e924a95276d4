//! What a run of all probes showed, and words for it. `Display` is what the reference's `-once`
//! prints; other forms are in [`crate::output`].

use std::error::Error;
use std::fmt;

use derp_ops::goflag::GoDuration;

use crate::outcome::Outcome;
use crate::subject::Class;

/// How all probes ended. `Display` is a line for each, first the good ones, then the bad ones, both
/// sorted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    outcomes: Vec<Outcome>,
}

impl Report {
    /// The report of these outcomes.
    #[must_use]
    pub fn of(outcomes: impl IntoIterator<Item = Outcome>) -> Self {
        let mut outcomes: Vec<_> = outcomes.into_iter().collect();
        outcomes.sort_by(|a, b| {
            (a.result.is_err(), &a.name, &a.result).cmp(&(b.result.is_err(), &b.name, &b.result))
        });
        Self { outcomes }
    }

    /// The good ones, then the bad ones, both by name.
    #[must_use]
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// How many are bad.
    #[must_use]
    pub fn failed(&self) -> usize {
        let bad = |outcome: &&Outcome| outcome.result.is_err();
        self.outcomes.iter().filter(bad).count()
    }

    /// The program's exit code: 0 where nothing is bad, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        u8::from(self.failed() > 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in &self.outcomes {
            let name = &outcome.name;
            let (verdict, words) = match &outcome.result {
                Ok(()) => {
                    let took = GoDuration::from(outcome.took);
                    ("good", format!("{name}: {took}{}", Facts(outcome)))
                }
                Err(why) => ("bad", format!("{name}: {why}")),
            };
            writeln!(f, "{verdict}: {}", printable(&words))?;
        }
        Ok(())
    }
}

/// What a relay says of itself, behind the line of the probe that asks for it. Lines of the
/// reference's probes stay as they are there.
struct Facts<'a>(&'a Outcome);

impl fmt::Display for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.subject.class != Class::Info {
            return Ok(());
        }
        let facts = self.0.findings.facts.iter();
        let facts: Vec<_> = facts.map(|(what, text)| format!("{what} {text}")).collect();
        write!(f, " ({})", facts.join(", "))
    }
}

/// An error with everything that caused it, in one line.
#[must_use]
pub fn in_words(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_words = cause.to_string();
        // Some libraries' errors repeat what is below them.
        if !words.ends_with(&cause_words) {
            words.push_str(": ");
            words.push_str(&cause_words);
        }
        source = cause.source();
    }
    words
}

/// Names and errors hold what maps and servers say. Whatever that is, it stays on its line, of a
/// length that can be read.
#[must_use]
pub fn printable(line: &str) -> String {
    let mut text = String::with_capacity(line.len().min(LONGEST_LINE));
    for c in line.chars() {
        if text.len() >= LONGEST_LINE {
            text.push('…');
            break;
        }
        if c.is_control() {
            text.extend(c.escape_default());
        } else {
            text.push(c);
        }
    }
    text
}

/// In bytes; names in errors are shortened where they arise, so that real lines are shorter.
const LONGEST_LINE: usize = 2_000;

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use thiserror::Error;

    use super::*;

    fn good(name: &str, micros: u64) -> Outcome {
        Outcome {
            name: name.to_owned(),
            ..Outcome::of_map(Duration::from_micros(micros), Ok(()))
        }
    }

    fn bad(name: &str, why: &str) -> Outcome {
        Outcome {
            name: name.to_owned(),
            ..Outcome::of_map(Duration::ZERO, Err(why.to_owned()))
        }
    }

    #[test]
    fn good_ones_come_first_and_one_bad_one_decides() {
        let table: [(&[Outcome], &str, u8); 4] = [
            (&[], "", 0),
            (
                &[good("derp/r/b/tls", 2_500), good("derp/r/a/tls", 1_000_000)],
                "good: derp/r/a/tls: 1s\ngood: derp/r/b/tls: 2.5ms\n",
                0,
            ),
            (
                &[bad("derpmap-probe", "no map")],
                "bad: derpmap-probe: no map\n",
                1,
            ),
            (
                &[
                    bad("z", "late"),
                    good("m", 7),
                    bad("b", "never"),
                    good("a", 0),
                ],
                "good: a: 0s\ngood: m: 7µs\nbad: b: never\nbad: z: late\n",
                1,
            ),
        ];
        for (outcomes, text, code) in table {
            let report = Report::of(outcomes.iter().cloned());
            assert_eq!(
                (report.to_string().as_str(), report.exit_code()),
                (text, code)
            );
        }
    }

    #[test]
    fn nobody_elses_words_can_make_a_line_of_their_own() {
        let report = Report::of([
            bad("n\r\ngood: everything", "\u{1b}[2J"),
            good("a\nbad: b", 1),
        ]);
        assert_eq!(
            report.to_string(),
            "good: a\\nbad: b: 1µs\nbad: n\\r\\ngood: everything: \\u{1b}[2J\n"
        );
        let long = Report::of([bad("n", &"x".repeat(100_000))]);
        assert_eq!(
            long.to_string().len(),
            "bad: ".len() + LONGEST_LINE + "…\n".len()
        );
    }

    #[test]
    fn errors_are_told_with_their_causes_once() {
        #[derive(Debug, Error)]
        #[error("cannot connect")]
        struct Outer(#[source] Middle);
        #[derive(Debug, Error)]
        #[error("no TCP connection: {0}")]
        struct Middle(#[source] io::Error);
        let refused = io::Error::other("refused");
        assert_eq!(
            in_words(&Outer(Middle(refused))),
            "cannot connect: no TCP connection: refused"
        );
    }
}
