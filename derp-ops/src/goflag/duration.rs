//! Durations in Go's text form: `1h30m`, `1.5s`, `100ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// A length of time as Go has it: a signed number of nanoseconds.
///
/// `Display` writes it as Go does: `10m0s`, `1.5s`, `100ms`, `0s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration {
    nanos: i64,
}

/// Text that Go would not read as a duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DurationError {
    /// No number where one is due, or nothing at all.
    #[error("not a duration")]
    Syntax,
    /// A number without a unit after it.
    #[error("missing unit in duration")]
    MissingUnit,
    /// A unit that Go does not know.
    #[error("unknown unit {0:?} in duration")]
    UnknownUnit(String),
    /// More than about 292 years.
    #[error("duration is too long")]
    TooLong,
}

impl GoDuration {
    /// A duration of so many nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self { nanos }
    }

    /// The number of nanoseconds.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.nanos
    }

    /// The same as the standard library's type, or `None` for a negative one.
    #[must_use]
    pub fn to_std(self) -> Option<Duration> {
        u64::try_from(self.nanos).ok().map(Duration::from_nanos)
    }
}

impl From<Duration> for GoDuration {
    /// Lengths beyond Go's range become its longest.
    fn from(duration: Duration) -> Self {
        Self {
            nanos: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX),
        }
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(Self { nanos: 0 });
        }
        if rest.is_empty() {
            return Err(DurationError::Syntax);
        }
        let mut total = 0_u128;
        while !rest.is_empty() {
            let (part, after) = one_part(rest)?;
            // Checked at each step so that a long text cannot overflow the sum.
            total = total.saturating_add(part);
            if total > 1 << 63 {
                return Err(DurationError::TooLong);
            }
            rest = after;
        }
        let total = i128::try_from(total).map_err(|_| DurationError::TooLong)?;
        match i64::try_from(if negative { -total } else { total }) {
            Ok(nanos) => Ok(Self { nanos }),
            Err(_) => Err(DurationError::TooLong),
        }
    }
}

/// Reads one number and its unit from the front: nanoseconds, and what follows.
fn one_part(text: &str) -> Result<(u128, &str), DurationError> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after) => digits(after),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Syntax);
    }
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let nanos_per_unit: u128 = match unit {
        "" => return Err(DurationError::MissingUnit),
        "ns" => 1,
        // Both the micro sign and the Greek letter, as Go.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        other => return Err(DurationError::UnknownUnit(other.to_owned())),
    };
    let whole: u128 = match whole {
        "" => 0,
        whole => whole.parse().map_err(|_| DurationError::TooLong)?,
    };
    // More digits than these are below a nanosecond even in hours.
    let fraction = &fraction[..fraction.len().min(18)];
    let mut scale = 1_u128;
    let mut numerator = 0_u128;
    for digit in fraction.bytes() {
        numerator = numerator * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    let nanos = whole
        .checked_mul(nanos_per_unit)
        .and_then(|nanos| nanos.checked_add(numerator * nanos_per_unit / scale))
        .ok_or(DurationError::TooLong)?;
    Ok((nanos, rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.nanos.unsigned_abs();
        if self.nanos < 0 {
            f.write_str("-")?;
        }
        match nanos {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write_decimal(f, nanos, 1_000, "\u{b5}s"),
            1_000_000..1_000_000_000 => write_decimal(f, nanos, 1_000_000, "ms"),
            _ => {
                let seconds = nanos / 1_000_000_000;
                let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
                if hours > 0 {
                    write!(f, "{hours}h")?;
                }
                if seconds >= 60 {
                    write!(f, "{minutes}m")?;
                }
                write_decimal(f, nanos % 60_000_000_000, 1_000_000_000, "s")
            }
        }
    }
}

/// Writes `nanos` in a unit of `per_unit` nanoseconds, without trailing zeros.
fn write_decimal(f: &mut fmt::Formatter<'_>, nanos: u64, per_unit: u64, unit: &str) -> fmt::Result {
    write!(f, "{}", nanos / per_unit)?;
    let fraction = nanos % per_unit;
    if fraction > 0 {
        let width = per_unit.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        write!(f, ".{}", digits.trim_end_matches('0'))?;
    }
    f.write_str(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const S: i64 = 1_000 * MS;
    const M: i64 = 60 * S;
    const H: i64 = 60 * M;

    #[test]
    fn gos_durations_are_read() {
        let cases = [
            ("0", 0),
            ("-0", 0),
            ("0s", 0),
            ("5s", 5 * S),
            ("1h30m", H + 30 * M),
            ("10m0s", 10 * M),
            ("1.5s", 1_500 * MS),
            ("100ms", 100 * MS),
            ("-1.5h", -(H + 30 * M)),
            ("+5s", 5 * S),
            (".5s", 500 * MS),
            ("1.s", S),
            ("2us", 2_000),
            ("2\u{b5}s", 2_000),
            ("2\u{3bc}s", 2_000),
            ("7ns", 7),
            ("3h1m2.5s", 3 * H + M + 2_500 * MS),
            ("0.100000000000000000000h", 6 * M),
            ("0.3333333333333333333h", 20 * M - 1),
            ("1m1m", 2 * M),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ];
        for (text, nanos) in cases {
            assert_eq!(text.parse(), Ok(GoDuration { nanos }), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        let unknown = |unit: &str| DurationError::UnknownUnit(unit.to_owned());
        let cases = [
            ("", DurationError::Syntax),
            ("-", DurationError::Syntax),
            ("s", DurationError::Syntax),
            (".s", DurationError::Syntax),
            ("+.", DurationError::Syntax),
            ("--5s", DurationError::Syntax),
            (" 5s", DurationError::Syntax),
            ("5", DurationError::MissingUnit),
            ("1h5", DurationError::MissingUnit),
            ("1d", unknown("d")),
            ("5 s", unknown(" s")),
            ("5s ", unknown("s ")),
            ("15S", unknown("S")),
            ("9223372036854775808ns", DurationError::TooLong),
            ("3000000h", DurationError::TooLong),
            (
                "99999999999999999999999999999999999999999s",
                DurationError::TooLong,
            ),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<GoDuration>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn durations_print_as_in_go() {
        let cases = [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1\u{b5}s"),
            (100 * MS, "100ms"),
            (2_200_000, "2.2ms"),
            (3_300 * MS, "3.3s"),
            (15 * S, "15s"),
            (10 * M, "10m0s"),
            (H, "1h0m0s"),
            (H + 30 * M + 1, "1h30m0.000000001s"),
            (4 * M + 5_001 * MS, "4m5.001s"),
            (-(H + M), "-1h1m0s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (nanos, text) in cases {
            let duration = GoDuration { nanos };
            assert_eq!(duration.to_string(), text);
            assert_eq!(text.parse(), Ok(duration));
        }
    }

    #[test]
    fn negative_durations_have_no_standard_form() {
        assert_eq!(GoDuration::from_nanos(-1).to_std(), None);
        assert_eq!(
            GoDuration::from_nanos(5 * S).to_std(),
            Some(Duration::from_secs(5))
        );
        assert_eq!(GoDuration::from(Duration::MAX).as_nanos(), i64::MAX);
    }
}
