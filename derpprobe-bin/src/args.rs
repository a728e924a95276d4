//! The command line: the reference's flags in Go's syntax (`cmd/derpprobe/derpprobe.go`).
//!
//! Values stay text here. Whether they make sense is decided in [`crate::config`], all of them at
//! once.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, Command};
use derp_ops::goflag::{Arity, FlagTable, Words};
use derp_ops::version::Version;

mod table;

pub use table::{OURS, REFERENCE};

/// This program.
pub const PROGRAM: Version = Version {
    program: "derpprobe",
    version: env!("CARGO_PKG_VERSION"),
};

/// A flag of the program.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// The name, without dashes.
    pub name: &'static str,
    /// What stands for the value in the help; empty for a switch.
    pub value: &'static str,
    /// The value where the flag is not given.
    pub default: &'static str,
    /// One sentence, without its full stop.
    pub help: &'static str,
}

impl Flag {
    const fn arity(&self) -> Arity {
        if self.value.is_empty() {
            Arity::Switch
        } else {
            Arity::Value
        }
    }
}

/// All flags, in the order of the help.
pub fn all() -> impl Iterator<Item = &'static Flag> {
    REFERENCE.iter().chain(OURS)
}

/// A command line that could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// The flags that were given, by name.
    given: BTreeMap<&'static str, String>,
    /// Words after the first that is no flag, which the reference ignores, and so do we.
    pub ignored: Vec<String>,
}

/// A command line that ends the program: with help, the version, or a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// What to print: on standard output where the code is 0, else on standard error.
    pub text: String,
    /// The exit code; 2 for mistakes, as in Go.
    pub code: u8,
}

impl Args {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// [`Exit`] where there is nothing to do but to print something.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, Exit> {
        let known = all().map(|flag| (flag.name.to_owned(), flag.arity()));
        let help = ["h", "help"].map(|name| (name.to_owned(), Arity::Bare));
        let table = FlagTable::new(known.chain(help));
        let split = table
            .split(words, Words::End)
            .map_err(|err| mistake(&err))?;
        let argv = std::iter::once(PROGRAM.program.to_owned()).chain(split.options);
        let matches = clap_command()
            .try_get_matches_from(argv)
            .map_err(|err| Exit {
                code: if err.use_stderr() { 2 } else { 0 },
                text: err.render().to_string(),
            })?;
        let given = all()
            .filter_map(|flag| Some((flag.name, matches.get_one::<String>(flag.name)?.clone())));
        let args = Self {
            given: given.collect(),
            ignored: split.words,
        };
        match derp_ops::goflag::parse_bool(args.value("version")) {
            Some(false) => Ok(args),
            Some(true) => Err(Exit {
                text: format!("{PROGRAM}\n"),
                code: 0,
            }),
            None => Err(mistake(&"-version is a switch: write true or false")),
        }
    }

    /// Whether the flag was given.
    #[must_use]
    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The flag's value, or its default; empty for a flag that there is not.
    #[must_use]
    pub fn value(&self, name: &str) -> &str {
        match self.given.get(name) {
            Some(value) => value,
            None => all()
                .find(|flag| flag.name == name)
                .map_or("", |flag| flag.default),
        }
    }
}

/// The program for clap, for documents and completions too.
#[must_use]
pub fn clap_command() -> Command {
    Command::new(PROGRAM.program)
        .about(
            "Checks the relays of a DERP map: once, or all the time with a status page and metrics",
        )
        .long_about(
            "Checks the relays of a DERP map: certificates, STUN, relaying within each region.\n\n\
             Flags are those of the reference derpprobe, with one dash or two, and a value after = \
             or a space; a switch is turned off by -name=false. Durations are like 15s or 1m30s.",
        )
        .after_help("Try: derpprobe -once -spread=false -derp-map file:///etc/derpmap.json")
        .args_override_self(true)
        .args(all().map(clap_flag))
}

fn clap_flag(flag: &Flag) -> Arg {
    let mut help = flag.help.to_owned();
    if !matches!(flag.default, "" | "false") {
        help.push_str(&format!(" [default: {}]", flag.default));
    }
    let arg = Arg::new(flag.name)
        .long(flag.name)
        .help(help)
        .action(ArgAction::Set)
        .allow_hyphen_values(true);
    match flag.arity() {
        Arity::Value => arg.value_name(flag.value),
        Arity::Switch | Arity::Bare => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    }
}

fn mistake(what: &impl std::fmt::Display) -> Exit {
    let name = PROGRAM.program;
    let text =
        format!("{name}: {what}\n\nUsage: {name} [FLAGS]\n\nFor the flags, try: {name} -help\n");
    Exit { text, code: 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, Exit> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn clap_agrees_with_the_table() {
        clap_command().debug_assert();
    }

    #[test]
    fn a_go_command_line_is_understood() {
        let args =
            parse("-once --derp-map=file:///m -mesh-interval 5s -spread=false -once=0 x -dev");
        let args = args.unwrap();
        let names = [
            "once",
            "derp-map",
            "mesh-interval",
            "spread",
            "tls-interval",
            "dev",
        ];
        assert_eq!(
            names.map(|name| (args.is_given(name), args.value(name))),
            [
                (true, "0"),
                (true, "file:///m"),
                (true, "5s"),
                (true, "false"),
                (false, "15s"),
                (false, "false"),
            ]
        );
        assert_eq!(args.ignored, ["x", "-dev"]);
    }

    #[test]
    fn every_flag_of_the_reference_is_known_with_its_default() {
        let defaults: BTreeMap<_, _> = REFERENCE
            .iter()
            .map(|flag| (flag.name, flag.default))
            .collect();
        let reference = [
            ("bw-interval", "0s"),
            ("bw-probe-size-bytes", "1000000"),
            ("bw-tun-ipv4-addr", ""),
            ("derp-map", "https://login.tailscale.com/derpmap/default"),
            ("dev", "false"),
            ("interval", "15s"),
            ("listen", ":8030"),
            ("mesh-interval", "15s"),
            ("mesh-psk-file", ""),
            ("once", "false"),
            ("qd-packet-timeout", "5s"),
            ("qd-packets-per-second", "0"),
            ("region-code", ""),
            // Below the home directory in Go, and of no use without a server.
            ("secrets-cache-dir", ""),
            ("secrets-path-prefix", "prod/derp"),
            ("secrets-url", ""),
            ("spread", "true"),
            ("stun-interval", "15s"),
            ("tls-interval", "15s"),
            ("version", "false"),
        ];
        assert_eq!(defaults, reference.into());
    }

    #[test]
    fn mistakes_print_the_usage_and_exit_with_two() {
        for (line, what) in [
            ("-onec", "unknown flag -onec; did you mean -once?"),
            ("-derp-map", "flag -derp-map needs a value"),
            (
                "-version=perhaps",
                "-version is a switch: write true or false",
            ),
        ] {
            let usage = "Usage: derpprobe [FLAGS]\n\nFor the flags, try: derpprobe -help\n";
            let text = format!("derpprobe: {what}\n\n{usage}");
            assert_eq!(parse(line), Err(Exit { text, code: 2 }), "{line}");
        }
    }

    #[test]
    fn help_and_version_exit_with_zero() {
        for line in ["-h", "-help", "--help", "-once -h"] {
            let exit = parse(line).unwrap_err();
            assert_eq!(exit.code, 0, "{line}");
            assert!(
                exit.text.contains("--mesh-psk-file <FILE>"),
                "{}",
                exit.text
            );
        }
        assert_eq!(
            parse("-version"),
            Err(Exit {
                text: format!("{PROGRAM}\n"),
                code: 0
            })
        );
    }
}
