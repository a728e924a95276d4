//! Reads settings as typed values and remembers what is wrong, so that reading can go on.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use derp_ops::goflag::{self, GoDuration};
use derp_ops::secret_file::{OpenMode, TooOpen};

use super::{Manner, Surroundings};
use crate::gather::Gathered;
use crate::problem::{Mistakes, Problem};
use crate::settings::Setting;
use crate::sources::{Given, Origin, Sources};

/// One pass over everything that was given.
pub(super) struct Reader<'a> {
    sources: Sources,
    pub(super) surroundings: &'a Surroundings,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    too_open: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(gathered: Gathered, surroundings: &'a Surroundings) -> Self {
        let Gathered {
            sources,
            problems,
            warnings,
        } = gathered;
        Self {
            sources,
            surroundings,
            problems,
            warnings,
            too_open: 0,
        }
    }

    /// The warnings, if there are no problems.
    pub(super) fn finish(&mut self) -> Result<Vec<String>, Mistakes> {
        Mistakes::unless_empty(std::mem::take(&mut self.problems))?;
        Ok(std::mem::take(&mut self.warnings))
    }

    /// How many mistakes are known.
    pub(super) const fn problem_count(&self) -> usize {
        self.problems.len()
    }

    pub(super) fn manner(&self) -> Manner {
        if self.sources.file().is_some() || !self.sources.preset.is_empty() {
            Manner::Ours
        } else {
            Manner::Go
        }
    }

    pub(super) fn problem(&mut self, text: impl Into<String>) {
        self.push(Problem::new(text));
    }

    /// A setting may be read twice; its mistake is told once.
    fn push(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Reports what is wrong with the value of `setting`, which was given.
    pub(super) fn reject(&mut self, setting: &Setting, what: impl std::fmt::Display) {
        match self.given(setting) {
            Some(given) => self.push(Problem::in_value(setting, &given, what)),
            None => self.problem(format!("{}: {what}", setting.name())),
        }
    }

    /// Warns of a secret that others may read, if there is one.
    pub(super) fn warn_too_open(&mut self, too_open: Option<TooOpen>) {
        if let Some(too_open) = too_open {
            self.too_open += 1;
            self.warn(too_open.to_string());
        }
    }

    /// How many secrets others may read.
    pub(super) const fn too_open(&self) -> u64 {
        self.too_open
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(text.into());
    }

    /// What was given for `setting`. An empty text means that there is none, also where there is a
    /// variable for it; flags for switches and numbers are never empty.
    pub(super) fn given(&self, setting: &Setting) -> Option<Given> {
        let given = self.sources.get(setting);
        given.filter(|given| !given.text.is_empty()).cloned()
    }

    /// Whether a flag says that there is none, where there would be one by default.
    pub(super) fn is_declined(&self, setting: &Setting) -> bool {
        let given = self.sources.get(setting);
        given.is_some_and(|given| given.text.is_empty() && matches!(given.origin, Origin::Flag(_)))
    }

    /// Where `setting` was given, for messages that name several.
    pub(super) fn name_of(&self, setting: &Setting) -> String {
        self.given(setting)
            .map_or_else(|| setting.name(), |given| given.origin.to_string())
    }

    /// What to do about a secret file that `setting` names (or leaves to its default).
    pub(super) fn on_open(&self, setting: &Setting) -> OpenMode {
        match self.given(setting).map(|given| given.origin) {
            Some(Origin::Flag(_) | Origin::Env(_)) => OpenMode::Warn,
            Some(Origin::File { .. } | Origin::Preset(_)) => OpenMode::Refuse,
            None => match self.manner() {
                Manner::Go => OpenMode::Warn,
                Manner::Ours => OpenMode::Refuse,
            },
        }
    }

    /// The value, or the default where none was given or what was given is wrong.
    pub(super) fn value<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        self.optional(setting, &parse).unwrap_or_else(|| {
            parse(setting.default).expect("a test reads the defaults of all settings")
        })
    }

    /// The value, or `None` where none was given or what was given is wrong.
    pub(super) fn optional<T>(
        &mut self,
        setting: &Setting,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let given = self.given(setting)?;
        match parse(&given.text) {
            Ok(value) => Some(value),
            Err(what) => {
                self.push(Problem::in_value(setting, &given, what));
                None
            }
        }
    }

    pub(super) fn switch(&mut self, setting: &Setting) -> bool {
        self.value(setting, |text| {
            goflag::parse_bool(text).ok_or_else(|| "write true or false".to_owned())
        })
    }

    /// A whole number in `range`; `hint` says which are allowed.
    pub(super) fn int<T: TryFrom<i64>>(
        &mut self,
        setting: &Setting,
        range: std::ops::RangeInclusive<i64>,
        hint: &str,
    ) -> T {
        self.value(setting, |text| {
            let number = goflag::parse_int(text)
                .ok_or_else(|| format!("not a whole number; give {hint}"))?;
            if !range.contains(&number) {
                return Err(format!("out of range; give {hint}"));
            }
            T::try_from(number).map_err(|_| format!("out of range; give {hint}"))
        })
    }

    /// A length of time; zero where the caller has a meaning for it.
    pub(super) fn duration(&mut self, setting: &Setting) -> Duration {
        self.value(setting, |text| {
            parse_duration(text)?
                .to_std()
                .ok_or_else(|| "a duration here cannot be negative".to_owned())
        })
    }

    /// A length of time, or `None` for a negative one, which stands for never.
    pub(super) fn duration_or_never(&mut self, setting: &Setting) -> Option<Duration> {
        self.value(setting, |text| Ok(parse_duration(text)?.to_std()))
    }

    /// A length of time that cannot be zero.
    pub(super) fn duration_above_zero(&mut self, setting: &Setting) -> Duration {
        let duration = self.duration(setting);
        if duration.is_zero() {
            self.reject(setting, "it must be more than 0s");
        }
        duration
    }

    /// A number of bytes, at least `min`; `None` where none was given and there is no default.
    pub(super) fn size(&mut self, setting: &Setting, min: u64) -> Option<u64> {
        let parse = |text: &str| {
            let bytes = parse_size(text)
                .ok_or("not a number of bytes; write it like 65536, 64KiB, 512MiB or 1GiB")?;
            if bytes < min {
                return Err(format!("too small; give at least {min}"));
            }
            Ok(bytes)
        };
        match self.optional(setting, parse) {
            None if !setting.default.is_empty() => parse(setting.default).ok(),
            size => size,
        }
    }

    pub(super) fn path(&self, setting: &Setting) -> Option<PathBuf> {
        self.given(setting).map(|given| PathBuf::from(&given.text))
    }

    /// Several texts; spaces around them and empty ones are left out.
    pub(super) fn list(&self, setting: &Setting) -> Vec<String> {
        let Some(given) = self.given(setting) else {
            return Vec::new();
        };
        let items = given
            .text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    }

    /// Several texts, none of which may be empty: where they say who is admitted, what is left of a
    /// variable that is not set must not pass for nobody at all.
    pub(super) fn full_list(&mut self, setting: &Setting) -> Vec<String> {
        let given = self.given(setting);
        let is_blank = |given: &Given| given.text.split(',').any(|item| item.trim().is_empty());
        // The other items may be URLs with passwords, and are not shown.
        if let Some(Given { origin, .. }) = given.filter(is_blank) {
            self.problem(format!(
                "{origin}: an item of this list is empty; was a variable not set? Write what is \
                 missing, or remove it"
            ));
        }
        self.list(setting)
    }

    /// The same, for lists that restrict: one that was written and is empty would restrict nothing.
    pub(super) fn restriction(&mut self, setting: &Setting) -> Vec<String> {
        let given = self.sources.get(setting);
        let is_empty =
            |given: &&Given| given.text.is_empty() && matches!(given.origin, Origin::File { .. });
        if let Some(origin) = given.filter(is_empty).map(|given| given.origin.clone()) {
            self.problem(format!(
                "{origin}: an empty list restricts nothing; remove it where that is meant"
            ));
        }
        self.full_list(setting)
    }
}

fn parse_duration(text: &str) -> Result<GoDuration, String> {
    GoDuration::from_str(text).map_err(|err| format!("{err}; write it like 15s, 100ms or 1m30s"))
}

pub(super) fn parse_size(text: &str) -> Option<u64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        let cases = [
            ("0", Some(0)),
            ("65536", Some(65_536)),
            ("64KiB", Some(65_536)),
            ("64 KiB", Some(65_536)),
            ("512MiB", Some(512 << 20)),
            ("1GiB", Some(1 << 30)),
            ("", None),
            ("KiB", None),
            ("-1", None),
            ("1.5MiB", None),
            ("64kb", None),
            ("64K", None),
            ("99999999999999999999", None),
            ("18446744073709551615GiB", None),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }
}
