//! What a program says of itself when asked for its version.

use std::fmt;

/// A program's name and version. `Display` is the long form, in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The program's name, such as `derper`.
    pub program: &'static str,
    /// The version of its package, from `CARGO_PKG_VERSION`.
    pub version: &'static str,
}

impl Version {
    /// The version that the pages `/debug/` and the metric `version` show.
    #[must_use]
    pub const fn short(&self) -> &'static str {
        self.version
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, version } = self;
        write!(
            f,
            "{program} {version} (derpkit, DERP protocol {}, {}-{})",
            derp_proto::PROTOCOL_VERSION,
            std::env::consts::ARCH,
            std::env::consts::OS,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_long_form_is_one_line() {
        let text = Version {
            program: "derper",
            version: "1.2.3",
        }
        .to_string();
        assert!(
            text.starts_with("derper 1.2.3 (derpkit, DERP protocol 2, "),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1);
    }
}
