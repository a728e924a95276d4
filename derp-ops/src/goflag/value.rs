//! Booleans and numbers as Go's `strconv` reads them.

/// Reads a boolean as `strconv.ParseBool`: `1`, `t`, `T`, `TRUE`, `true`, `True` and their
/// opposites; `None` for anything else.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Reads an integer as `strconv.ParseInt` with base 0: decimal, `0x`, `0b`, and octal as `0o` or
/// with a leading zero. Underscores between digits, which Go allows, are refused.
#[must_use]
pub fn parse_int(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    // `from_str_radix` would take a second sign.
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// Reads a number as `strconv.ParseFloat`: decimal with or without exponent, `Inf` and
/// `infinity` in any case. Not a number is not accepted (Go's `NaN` helps nobody as a limit).
#[must_use]
pub fn parse_float(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| !number.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_gos_twelve_words() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(parse_bool(text), Some(true), "{text}");
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(parse_bool(text), Some(false), "{text}");
        }
        for text in ["", "yes", "no", "on", "tRUE", " true", "2"] {
            assert_eq!(parse_bool(text), None, "{text}");
        }
    }

    #[test]
    fn integers_have_gos_prefixes() {
        let cases = [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("+80", Some(80)),
            ("0x50", Some(80)),
            ("0X5a", Some(90)),
            ("0b101", Some(5)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("08", None),
            ("", None),
            ("-", None),
            ("--1", None),
            ("0x", None),
            ("0x-1", None),
            ("0-1", None),
            ("1.5", None),
            ("80 ", None),
            ("eighty", None),
            ("é", None),
        ];
        for (text, number) in cases {
            assert_eq!(parse_int(text), number, "{text:?}");
        }
    }

    #[test]
    fn floats_may_be_infinite() {
        let cases = [
            ("1.5", Some(1.5)),
            ("100", Some(100.0)),
            ("1e3", Some(1000.0)),
            ("+Inf", Some(f64::INFINITY)),
            ("inf", Some(f64::INFINITY)),
            ("-1", Some(-1.0)),
            ("NaN", None),
            ("", None),
            ("fast", None),
        ];
        for (text, number) in cases {
            assert_eq!(parse_float(text), number, "{text:?}");
        }
    }
}
