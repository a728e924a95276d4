//! What an operator gave, from everywhere, and which of it counts: a flag before a variable,
//! a variable before the file, the file before the preset of a subcommand.
//!
//! Nothing is judged here beyond its spelling; see [`crate::config`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::settings::Setting;

/// A value and where it was given.
#[derive(Clone, PartialEq, Eq)]
pub struct Given {
    /// The value as an operator would write it for the flag; for a list, with commas.
    pub text: String,
    /// Where it was given.
    pub origin: Origin,
}

impl fmt::Debug for Given {
    // Some settings are secrets, and none needs its value in a debug line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// Where a value was given. `Display` is how messages begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// On the command line, by the flag of this name.
    Flag(&'static str),
    /// By the environment variable of this name.
    Env(&'static str),
    /// In the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: &'static str,
    },
    /// By the subcommand of this name, for settings that the operator left open.
    Preset(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "-{name}"),
            Self::Env(name) => f.write_str(name),
            Self::File { path, line, key } => write!(f, "{}:{line}: {key}", path.display()),
            Self::Preset(subcommand) => f.write_str(subcommand),
        }
    }
}

/// Values by the key of their setting.
pub type Values = BTreeMap<&'static str, Given>;

/// All that was given, in order of precedence.
#[derive(Debug, Default)]
pub struct Sources {
    /// From the command line.
    pub flags: Values,
    /// From the environment.
    pub env: Values,
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// From that file.
    pub file_values: Values,
    /// From a subcommand.
    pub preset: Values,
}

impl Sources {
    /// What counts for a setting, if it was given anywhere.
    #[must_use]
    pub fn get(&self, setting: &Setting) -> Option<&Given> {
        [&self.flags, &self.env, &self.file_values, &self.preset]
            .into_iter()
            .find_map(|values| values.get(setting.key))
    }

    /// The configuration file, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::HTTP_PORT;

    #[test]
    fn a_flag_counts_before_a_variable_before_the_file_before_a_preset() {
        let given = |text: &str, origin| Given {
            text: text.to_owned(),
            origin,
        };
        let file = Origin::File {
            path: "f".into(),
            line: 3,
            key: HTTP_PORT.key,
        };
        let mut sources = Sources::default();
        assert_eq!(sources.get(&HTTP_PORT), None);
        sources
            .preset
            .insert(HTTP_PORT.key, given("1", Origin::Preset("quickstart")));
        assert_eq!(sources.get(&HTTP_PORT).unwrap().text, "1");
        sources.file_values.insert(HTTP_PORT.key, given("2", file));
        assert_eq!(sources.get(&HTTP_PORT).unwrap().text, "2");
        sources
            .env
            .insert(HTTP_PORT.key, given("3", Origin::Env("DERP_HTTP_PORT")));
        assert_eq!(sources.get(&HTTP_PORT).unwrap().text, "3");
        sources
            .flags
            .insert(HTTP_PORT.key, given("4", Origin::Flag("http-port")));
        assert_eq!(sources.get(&HTTP_PORT).unwrap().text, "4");
    }
}
