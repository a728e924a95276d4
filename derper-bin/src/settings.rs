//! Everything that an operator can set: one entry each, with its flag, its environment variables,
//! its key in the configuration file, its default and its explanation.
//!
//! The flag parser, the environment, the file and the help text are all made from this table, so
//! that they cannot disagree. What a value means is for [`crate::config`] to say.

mod table;

pub use table::*;

/// One thing that an operator can set.
#[derive(Debug)]
pub struct Setting {
    /// The key in the configuration file, such as `listen.http_port`; also what the setting is
    /// called inside the program. Unique.
    pub key: &'static str,
    /// Whether the configuration file may hold it.
    pub in_file: bool,
    /// The flag without dashes, or none.
    pub flag: Option<Flag>,
    /// The environment variable, or none.
    pub env: Option<Env>,
    /// What kind of value it takes.
    pub kind: Kind,
    /// Whether its value must never be shown.
    pub secret: bool,
    /// Whether a flag given several times adds to its list; else the last one counts, as in Go.
    pub adds_up: bool,
    /// The default as an operator would write it; empty for "not set".
    pub default: &'static str,
    /// What it does, in sentences.
    pub help: &'static str,
}

/// A flag of the command line.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// The name without dashes.
    pub name: &'static str,
    /// What the help text calls its value.
    pub value: &'static str,
    /// The heading under which the help text shows it.
    pub group: Group,
}

/// The environment variables of a setting.
#[derive(Debug, Clone, Copy)]
pub struct Env {
    /// The name that our documentation uses.
    pub name: &'static str,
    /// Names that container images of others use for the same.
    pub aliases: &'static [Alias],
}

/// Another image's name for a variable.
#[derive(Debug, Clone, Copy)]
pub struct Alias {
    /// The variable.
    pub name: &'static str,
    /// What its value means in the spelling of the flag.
    pub read: fn(&str) -> String,
}

/// What kind of value a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Switch,
    /// A whole number.
    Int,
    /// A number, perhaps infinite.
    Float,
    /// A length of time such as `15s`.
    Duration,
    /// A number of bytes, such as `64MiB`.
    Size,
    /// Text.
    Text,
    /// A path.
    Path,
    /// Several texts: an array in the file, commas elsewhere.
    List,
}

impl Kind {
    /// Whether an empty text is no value of it. Where it is one, it means that there is none.
    #[must_use]
    pub const fn needs_text(self) -> bool {
        !matches!(self, Self::Text | Self::Path | Self::List)
    }

    /// What a flag takes for it.
    #[must_use]
    pub const fn on_the_command_line(self) -> &'static str {
        match self {
            Self::Switch => "true or false",
            Self::Int => "a whole number",
            Self::Float => "a number",
            Self::Duration => "a duration, such as 15s",
            Self::Size => "a number of bytes, such as 64MiB",
            Self::Text => "text",
            Self::Path => "a path",
            Self::List => "texts with commas between them",
        }
    }

    /// What a configuration file must hold for it.
    #[must_use]
    pub const fn in_toml(self) -> &'static str {
        match self {
            Self::Switch => "true or false",
            Self::Int => "a whole number",
            Self::Float => "a number",
            Self::Duration => "a duration in quotes, such as \"15s\"",
            Self::Size => "a number of bytes, or text such as \"64MiB\"",
            Self::Text => "text in quotes",
            Self::Path => "a path in quotes",
            Self::List => "a list of texts, such as [\"a\", \"b\"]",
        }
    }
}

/// The headings of the help text, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Where the configuration comes from, and versions.
    General,
    /// Ports.
    Listening,
    /// Names, keys and certificates.
    Identity,
    /// Who may use the relay.
    Admission,
    /// How much they may use.
    Limits,
    /// What the web pages say.
    Pages,
    /// Other relays of the region.
    Mesh,
    /// Logs and metrics.
    Logs,
}

impl Group {
    /// The heading.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::General => "General",
            Self::Listening => "Listening",
            Self::Identity => "Identity and certificates",
            Self::Admission => "Admission",
            Self::Limits => "Limits",
            Self::Pages => "Pages",
            Self::Mesh => "Mesh",
            Self::Logs => "Logs and metrics",
        }
    }
}

impl Setting {
    const fn new(key: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Self {
        Self {
            key,
            in_file: true,
            flag: None,
            env: None,
            kind,
            secret: false,
            adds_up: false,
            default,
            help,
        }
    }

    const fn flag(mut self, group: Group, name: &'static str, value: &'static str) -> Self {
        self.flag = Some(Flag { name, value, group });
        self
    }

    const fn env(mut self, name: &'static str, aliases: &'static [Alias]) -> Self {
        self.env = Some(Env { name, aliases });
        self
    }

    const fn not_in_file(mut self) -> Self {
        self.in_file = false;
        self
    }

    const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    const fn adds_up(mut self) -> Self {
        self.adds_up = true;
        self
    }

    /// The setting with this key.
    #[must_use]
    pub fn by_key(key: &str) -> Option<&'static Self> {
        ALL.iter().copied().find(|setting| setting.key == key)
    }

    /// What to call the setting when it was not given anywhere: its flag, else its key.
    #[must_use]
    pub fn name(&self) -> String {
        self.flag
            .map_or_else(|| self.key.to_owned(), |flag| format!("-{}", flag.name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_given_once() {
        let mut names = BTreeSet::new();
        for setting in ALL {
            assert!(
                names.insert(format!("key {}", setting.key)),
                "{}",
                setting.key
            );
            if let Some(flag) = setting.flag {
                assert!(names.insert(format!("flag {}", flag.name)), "{}", flag.name);
            }
            if let Some(env) = setting.env {
                assert!(names.insert(format!("env {}", env.name)), "{}", env.name);
                for alias in env.aliases {
                    assert!(
                        names.insert(format!("env {}", alias.name)),
                        "{}",
                        alias.name
                    );
                }
            }
            let reachable = setting.in_file || setting.flag.is_some() || setting.env.is_some();
            assert!(reachable, "{}", setting.key);
        }
    }

    #[test]
    fn every_flag_of_the_reference_is_there_with_its_default() {
        // Of `cmd/derper/derper.go`; paths that depend on the machine are worked out elsewhere.
        let reference = [
            ("dev", "false"),
            ("version", "false"),
            ("a", ":443"),
            ("http-port", "80"),
            ("stun-port", "3478"),
            ("c", ""),
            ("certmode", "letsencrypt"),
            ("certdir", ""),
            ("hostname", "derp.tailscale.com"),
            ("acme-eab-kid", ""),
            ("acme-eab-key", ""),
            ("acme-email", ""),
            ("acme-ip-certs", "false"),
            ("stun", "true"),
            ("derp", "true"),
            ("home", ""),
            ("mesh-psk-file", ""),
            ("mesh-with", ""),
            ("secrets-url", ""),
            ("secrets-path-prefix", "prod/derp"),
            ("secrets-cache-dir", ""),
            ("bootstrap-dns-names", ""),
            ("unpublished-bootstrap-dns-names", ""),
            ("verify-clients", "false"),
            ("verify-client-url", ""),
            ("verify-client-url-fail-open", "true"),
            ("socket", ""),
            ("accept-connection-limit", "+Inf"),
            ("accept-connection-burst", "9223372036854775807"),
            ("rate-config", ""),
            ("tcp-keepalive-time", "10m0s"),
            ("tcp-user-timeout", "15s"),
            ("tcp-write-timeout", "2s"),
            ("ace", "false"),
        ];
        for (name, default) in reference {
            let setting = ALL
                .iter()
                .find(|s| s.flag.is_some_and(|flag| flag.name == name));
            assert_eq!(setting.map(|s| s.default), Some(default), "{name}");
        }
    }
}
