//! From a Go command line to one that clap reads: every option as `--name=value` or `-n=value`.
//!
//! The rules are those of Go's `flag` package: one dash or two, the value after `=` or in the next
//! word, booleans never in the next word, and nothing after the first word that is no flag.

use std::collections::BTreeMap;

use thiserror::Error;

/// Whether a flag takes a value, and where it may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Takes nothing, as `-h`.
    Bare,
    /// A boolean: `-x` or `-x=false`; the next word is never its value.
    Switch,
    /// Takes a value: `-x=v` or `-x v`.
    Value,
}

/// What to do at the first word that is no flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Words {
    /// Stop there, as Go does: all that follows is left as it is.
    End,
    /// Put it aside and go on: how subcommands of our own are read.
    Aside,
}

/// The flags that a program knows.
#[derive(Debug, Clone, Default)]
pub struct FlagTable {
    flags: BTreeMap<String, Arity>,
}

/// A command line taken apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// The options in clap's spelling: `--name=value`; `-n=value` for names of one letter.
    pub options: Vec<String>,
    /// The words that are no flags, in their order.
    pub words: Vec<String>,
}

/// A word that is no option of the program. Programs answer with their usage and exit code 2.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ArgvError {
    /// No flag has this name.
    #[error("unknown flag -{name}{}", did_you_mean(suggestion.as_deref()))]
    Unknown {
        /// The name without its dashes.
        name: String,
        /// A flag that is spelled nearly so.
        suggestion: Option<String>,
    },
    /// The flag takes a value and is the last word.
    #[error("flag -{0} needs a value")]
    MissingValue(String),
    /// The flag takes no value and was given one.
    #[error("flag -{0} takes no value")]
    UnwantedValue(String),
    /// Three dashes, or no name at all.
    #[error("{0:?} is not a flag: a flag is one or two dashes and a name")]
    Syntax(String),
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion
        .map(|name| format!("; did you mean -{name}?"))
        .unwrap_or_default()
}

impl FlagTable {
    /// A table of these names (without dashes).
    pub fn new(flags: impl IntoIterator<Item = (String, Arity)>) -> Self {
        Self {
            flags: flags.into_iter().collect(),
        }
    }

    /// The known name nearest to `name`, where one is near enough to be meant.
    #[must_use]
    pub fn suggest(&self, name: &str) -> Option<&str> {
        crate::suggest::nearest(name, self.flags.keys().map(String::as_str))
    }

    /// Takes apart the words after the program's name.
    ///
    /// # Errors
    /// The first word that breaks Go's rules.
    pub fn split(
        &self,
        args: impl IntoIterator<Item = String>,
        words: Words,
    ) -> Result<Split, ArgvError> {
        let mut split = Split::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            if arg == "--" {
                break;
            }
            let Some(flag) = arg.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
                split.words.push(arg);
                match words {
                    Words::End => break,
                    Words::Aside => continue,
                }
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            if name.is_empty() || name.starts_with('-') {
                return Err(ArgvError::Syntax(arg));
            }
            split.options.push(self.option(name, value, &mut args)?);
        }
        split.words.extend(args);
        Ok(split)
    }

    fn option(
        &self,
        name: &str,
        value: Option<String>,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<String, ArgvError> {
        let dashes = if name.chars().count() == 1 { "-" } else { "--" };
        let Some(arity) = self.flags.get(name) else {
            let suggestion = self.suggest(name).map(str::to_owned);
            return Err(ArgvError::Unknown {
                name: name.to_owned(),
                suggestion,
            });
        };
        let value = match (arity, value) {
            (Arity::Bare, None) => return Ok(format!("{dashes}{name}")),
            (Arity::Bare, Some(_)) => return Err(ArgvError::UnwantedValue(name.to_owned())),
            (Arity::Switch, None) => "true".to_owned(),
            (Arity::Value, None) => rest
                .next()
                .ok_or_else(|| ArgvError::MissingValue(name.to_owned()))?,
            (Arity::Switch | Arity::Value, Some(value)) => value,
        };
        Ok(format!("{dashes}{name}={value}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> FlagTable {
        let flag = |name: &str, arity| (name.to_owned(), arity);
        FlagTable::new([
            flag("a", Arity::Value),
            flag("http-port", Arity::Value),
            flag("stun", Arity::Switch),
            flag("derp", Arity::Switch),
            flag("h", Arity::Bare),
            flag("version", Arity::Bare),
        ])
    }

    fn split(line: &str, words: Words) -> Result<Split, ArgvError> {
        table().split(line.split_whitespace().map(str::to_owned), words)
    }

    #[test]
    fn every_spelling_of_go_becomes_one() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("", &[], &[]),
            ("-a :443", &["-a=:443"], &[]),
            ("-a=:443", &["-a=:443"], &[]),
            ("--a :443", &["-a=:443"], &[]),
            ("--a=:443", &["-a=:443"], &[]),
            (
                "-http-port 80 -stun",
                &["--http-port=80", "--stun=true"],
                &[],
            ),
            (
                "--http-port=80 --stun=false",
                &["--http-port=80", "--stun=false"],
                &[],
            ),
            (
                "-http-port -1 -stun",
                &["--http-port=-1", "--stun=true"],
                &[],
            ),
            ("-a=b=c", &["-a=b=c"], &[]),
            ("-a=", &["-a="], &[]),
            ("-stun=", &["--stun="], &[]),
            ("-h", &["-h"], &[]),
            ("--version", &["--version"], &[]),
            // A value may look like a flag: the word after a value flag is its value.
            ("-a -stun", &["-a=-stun"], &[]),
            // A boolean's value is never the next word: there Go stops.
            (
                "-stun false -a :1",
                &["--stun=true"],
                &["false", "-a", ":1"],
            ),
            (
                "-stun word -nonsense",
                &["--stun=true"],
                &["word", "-nonsense"],
            ),
            ("-stun -- -a :1", &["--stun=true"], &["-a", ":1"]),
            ("-stun - -a", &["--stun=true"], &["-", "-a"]),
            ("-stun -stun=false", &["--stun=true", "--stun=false"], &[]),
        ];
        for (line, options, words) in cases {
            let got = split(line, Words::End).unwrap();
            assert_eq!(
                (got.options.as_slice(), got.words.as_slice()),
                (
                    options
                        .iter()
                        .map(|&o| o.to_owned())
                        .collect::<Vec<_>>()
                        .as_slice(),
                    words
                        .iter()
                        .map(|&w| w.to_owned())
                        .collect::<Vec<_>>()
                        .as_slice(),
                ),
                "{line}"
            );
        }
    }

    #[test]
    fn a_subcommand_takes_its_words_from_anywhere() {
        let got = split("192.0.2.1 -a :1 more -stun -- -a", Words::Aside).unwrap();
        assert_eq!(got.options, ["-a=:1", "--stun=true"]);
        assert_eq!(got.words, ["192.0.2.1", "more", "-a"]);
    }

    #[test]
    fn what_go_refuses_is_refused() {
        let unknown = |name: &str, suggestion: Option<&str>| ArgvError::Unknown {
            name: name.to_owned(),
            suggestion: suggestion.map(str::to_owned),
        };
        let cases = [
            ("-http-prot 80", unknown("http-prot", Some("http-port"))),
            ("--nothing-like-it", unknown("nothing-like-it", None)),
            ("-x", unknown("x", None)),
            ("-stun -a", ArgvError::MissingValue("a".to_owned())),
            ("---a", ArgvError::Syntax("---a".to_owned())),
            ("-=1", ArgvError::Syntax("-=1".to_owned())),
            ("--=1", ArgvError::Syntax("--=1".to_owned())),
            ("-h=1", ArgvError::UnwantedValue("h".to_owned())),
        ];
        for (line, error) in cases {
            assert_eq!(split(line, Words::End), Err(error), "{line}");
        }
    }

    #[test]
    fn messages_say_what_to_write_instead() {
        let message = split("-http-prot 80", Words::End).unwrap_err().to_string();
        assert_eq!(message, "unknown flag -http-prot; did you mean -http-port?");
        let message = split("-a", Words::End).unwrap_err().to_string();
        assert_eq!(message, "flag -a needs a value");
        let message = split("---a", Words::End).unwrap_err().to_string();
        assert_eq!(
            message,
            "\"---a\" is not a flag: a flag is one or two dashes and a name"
        );
    }
}
