//! What a case finds: all is well, one of two documented behaviours, or a failure that says what
//! was expected and what was seen.

use std::fmt::{self, Debug};

/// The result of a check, or of a step on the way to one.
pub(crate) type Checked<T = ()> = Result<T, Failure>;

/// Which of two documented behaviours a relay shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// What derpkit does.
    Derpkit,
    /// What Go's derper does.
    Reference,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Derpkit => "derpkit",
            Self::Reference => "reference",
        })
    }
}

/// Why a case failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What a server has to do.
    pub expected: String,
    /// What this one did.
    pub seen: String,
}

impl Failure {
    pub(crate) fn new(expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            expected: expected.into(),
            seen: seen.into(),
        }
    }
}

/// Fails unless `holds`.
pub(crate) fn ensure(holds: bool, expected: impl Into<String>, seen: impl Into<String>) -> Checked {
    if holds {
        return Ok(());
    }
    Err(Failure::new(expected, seen))
}

/// Fails unless `seen` is `expected`; both are called `what`.
pub(crate) fn same<T: PartialEq + Debug>(what: &str, seen: T, expected: T) -> Checked {
    if seen == expected {
        return Ok(());
    }
    Err(Failure::new(
        format!("{what} {expected:?}"),
        format!("{what} {seen:?}"),
    ))
}

/// [`same`] for bytes, which are shown as text or digits.
pub(crate) fn same_bytes(what: &str, seen: &[u8], expected: &[u8]) -> Checked {
    if seen == expected {
        return Ok(());
    }
    Err(Failure::new(
        format!("{what} {}", shown(expected)),
        format!("{what} {}", shown(seen)),
    ))
}

/// How many bytes of a long sequence are shown.
const SHOWN: usize = 160;

/// Bytes for people: escaped where they are text, else in hexadecimal digits.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let part = &bytes[..bytes.len().min(SHOWN)];
    let printable = part
        .iter()
        .filter(|byte| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t'))
        .count();
    let text = if printable * 8 >= part.len() * 7 {
        format!("\"{}\"", part.escape_ascii())
    } else {
        data_encoding::HEXLOWER.encode(part)
    };
    if part.len() == bytes.len() {
        return text;
    }
    format!("{text}... ({} bytes)", bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_text_where_they_are_text() {
        assert_eq!(shown(b"GET /\r\n"), r#""GET /\r\n""#);
        assert_eq!(shown(&[1, 0, 0xff]), "0100ff");
        assert_eq!(shown(b""), r#""""#);
        let long = shown(&[b'x'; 1000]);
        assert!(long.ends_with("xxx\"... (1000 bytes)"), "{long}");
    }
}
