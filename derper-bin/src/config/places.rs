//! What can be listened on: ports and Unix sockets.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::ListenAddr;

/// How a Unix socket is written wherever a port could stand.
const UNIX: &str = "unix:";
/// How a further listener is written that speaks plain HTTP, whatever the main one speaks.
const PLAIN: &str = "http:";

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A TCP port.
    Tcp(ListenAddr),
    /// A Unix socket with this path.
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    /// Reads `unix:/path`, and else what [`ListenAddr`] reads.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix(UNIX) else {
            return text.parse().map(Self::Tcp);
        };
        if !path.starts_with('/') {
            return Err("a Unix socket needs an absolute path, such as \
                        unix:/run/derper/derper.sock"
                .to_owned());
        }
        Ok(Self::Unix(PathBuf::from(path)))
    }
}

/// A listener besides the main one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraPlace {
    /// Where it is.
    pub place: Place,
    /// Whether it speaks plain HTTP, though the main one speaks TLS.
    pub is_plain: bool,
}

impl fmt::Display for ExtraPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.is_plain { PLAIN } else { "" };
        write!(f, "{prefix}{}", self.place)
    }
}

impl FromStr for ExtraPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (is_plain, place) = match text.strip_prefix(PLAIN) {
            Some(place) => (true, place),
            None => (false, text),
        };
        Ok(Self {
            place: place.parse()?,
            is_plain,
        })
    }
}

/// Who may connect to Unix sockets, as for `chmod`.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && text.len() >= 3 => Ok(mode),
        _ => Err("write it as chmod takes it, such as 0660".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_they_are_read() {
        for text in [
            "unix:/run/derper.sock",
            "http:unix:/run/derper.sock",
            ":443",
            "127.0.0.1:3340",
            "http:127.0.0.1:3340",
            "http:[::1]:3340",
        ] {
            let place: ExtraPlace = text.parse().unwrap();
            assert_eq!(place.to_string(), text);
            assert_eq!(place.is_plain, text.starts_with("http:"));
        }
        for text in [
            "unix:",
            "unix:derper.sock",
            "https:127.0.0.1:3340",
            "/run/x",
        ] {
            assert!(text.parse::<ExtraPlace>().is_err(), "{text}");
        }
        assert_eq!(mode("0660"), Ok(0o660));
        assert_eq!(mode("777"), Ok(0o777));
        for text in ["", "7", "888", "7777", "-777", "rw-"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}
