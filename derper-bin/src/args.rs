//! The command line: the reference's flags in Go's syntax, long flags of our own beside them, and
//! subcommands that the reference does not have.
//!
//! Flags and their help are made from [`crate::settings`]. Values stay text here: whether they
//! make sense is decided in [`crate::config`] together with variables and the file, so that an
//! operator hears of all mistakes at once.

mod commands;

use clap::{Arg, ArgAction, ArgMatches};
use clap_complete::Shell;
use derp_ops::goflag::{ArgvError, Arity, FlagTable, Words};
use derp_ops::version::Version;

pub use self::commands::clap_command;
use self::commands::{JSON, MAP, NAMES, URL, USAGE, subcommand};
use crate::env::{self, Vars};
use crate::settings::{ALL, Flag, Group, Kind, Setting, VERSION};
use crate::sources::{Given, Origin, Values};

/// This program.
pub const PROGRAM: Version = Version {
    program: "derper",
    version: env!("CARGO_PKG_VERSION"),
};

/// What the operator wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Run the relay.
    Run,
    /// Check the configuration, and say what is wrong with it.
    CheckConfig,
    /// Run a relay with a certificate of its own for this host name or address (or this machine's
    /// own address), on ports that need no root.
    Quickstart(Option<String>),
    /// Print every setting with its value and where that came from.
    ConfigPrint,
    /// Print a configuration file with every key and what it does.
    ConfigExample,
    /// Print what to paste where, so that a tailnet uses this relay.
    DerpMap(MapFormat),
    /// Ask the relay that runs with this configuration whether it answers.
    Healthcheck,
    /// Print who is connected to the relay that runs.
    Clients {
        /// As the relay's own JSON.
        json: bool,
    },
    /// Close the connections of this key.
    Close(String),
    /// Have the relay that runs read its configuration again.
    Reload,
    /// Look for what is wrong with a relay, here and as its clients see it.
    Doctor(Doctor),
    /// Show who uses the relay now, until ctrl-c.
    Top,
    /// Print a script that completes this program's flags in a shell.
    Completions(Shell),
    /// Print the manual page.
    Man,
}

/// What `derper doctor` looks at besides the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doctor {
    /// The relay as its clients reach it, where that is not what the configuration says.
    pub url: Option<String>,
    /// Where a DERP map is that is to be compared with the relay: a file or a URL.
    pub map: Option<String>,
    /// Whether the findings are printed as JSON.
    pub json: bool,
}

/// For whom `derper derpmap` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum MapFormat {
    /// Both, with where they go.
    All,
    /// A Tailscale policy file: JSON.
    Tailscale,
    /// A file for Headscale's `derp.paths`: YAML.
    Headscale,
    /// The node alone, in a line of JSON.
    Node,
}

/// A command line that could be read.
#[derive(Debug, Clone)]
pub struct Args {
    /// What is to be done.
    pub command: Command,
    /// The flags that were given.
    pub flags: Values,
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
    /// Reads the words after the program's name, and those that the environment adds.
    ///
    /// # Errors
    /// [`Exit`] where there is nothing to do but to print something.
    pub fn parse(words: impl IntoIterator<Item = String>, vars: &Vars) -> Result<Self, Exit> {
        let extra = env::extra_args(vars).map_err(|problem| usage_error(&problem))?;
        let table = flag_table();
        // The subcommand may come before the flags or after them.
        let argv = words.into_iter().chain(extra);
        let mut split = table
            .split(argv, Words::End)
            .map_err(|err| argv_error(&err))?;
        let mut options = std::mem::take(&mut split.options);
        let flags_came_first = !options.is_empty();
        let mut words = split.words.into_iter();
        let subcommand = words.next();
        let rest: Vec<String> = words.collect();
        let name = subcommand.as_deref().filter(|name| NAMES.contains(name));
        let (positional, ignored) = match (name, subcommand.as_deref()) {
            (Some(_), _) => {
                let own = table
                    .split(rest, Words::Aside)
                    .map_err(|err| argv_error(&err))?;
                options.extend(own.options);
                (own.words, Vec::new())
            }
            (None, Some(word)) if !flags_came_first => return Err(unknown_subcommand(word)),
            (None, word) => (
                Vec::new(),
                word.map(str::to_owned).into_iter().chain(rest).collect(),
            ),
        };
        // For clap the subcommand comes first, and "--" keeps its words from looking like flags.
        let mut argv = vec![PROGRAM.program.to_owned()];
        argv.extend(name.map(str::to_owned));
        argv.extend(options);
        if !positional.is_empty() {
            argv.push("--".to_owned());
            argv.extend(positional);
        }
        let matches = clap_command()
            .try_get_matches_from(argv)
            .map_err(|err| from_clap(&err))?;
        Self::from_matches(&matches, ignored)
    }

    fn from_matches(matches: &ArgMatches, ignored: Vec<String>) -> Result<Self, Exit> {
        let (command, matches) = match matches.subcommand() {
            Some((name, matches)) => (subcommand(name, matches), matches),
            None => (Command::Run, matches),
        };
        let mut flags = Values::new();
        for setting in ALL {
            let Some(flag) = setting.flag else { continue };
            // Commands that read no configuration take no flags.
            let given = matches.try_get_many::<String>(flag.name).ok().flatten();
            if let Some(texts) = given {
                let texts: Vec<&str> = texts.map(String::as_str).collect();
                if needs_text(setting, &flag) && texts.contains(&"") {
                    return Err(usage_error(format_args!(
                        "-{} is given nothing; it takes {}",
                        flag.name,
                        setting.kind.on_the_command_line()
                    )));
                }
                let text = texts.join(",");
                let origin = Origin::Flag(flag.name);
                flags.insert(setting.key, Given { text, origin });
            }
        }
        let asked = flags.get(VERSION.key).map(|given| given.text.as_str());
        match asked.map(derp_ops::goflag::parse_bool) {
            Some(Some(true)) => Err(Exit {
                text: format!("{PROGRAM}\n"),
                code: 0,
            }),
            Some(None) => Err(usage_error("-version is a switch: write true or false")),
            Some(Some(false)) | None => Ok(Self {
                command,
                flags,
                ignored,
            }),
        }
    }
}

/// Whether a flag that is given nothing is a mistake. Our own flags for admission are among them: a
/// variable of a script that is not set must not make an open relay. The reference's
/// `-verify-client-url=` says that there is none.
fn needs_text(setting: &Setting, flag: &Flag) -> bool {
    setting.kind.needs_text() || (setting.in_file && flag.group == Group::Admission)
}

fn flag_table() -> FlagTable {
    let arity = |setting: &Setting| match setting.kind {
        Kind::Switch => Arity::Switch,
        _ => Arity::Value,
    };
    let flags = ALL.iter().filter_map(|setting| {
        setting
            .flag
            .map(|flag| (flag.name.to_owned(), arity(setting)))
    });
    // Whether a subcommand has these is for clap to say.
    let bare = ["h", "help", JSON].map(|name| (name.to_owned(), Arity::Bare));
    let valued = [URL, MAP].map(|name| (name.to_owned(), Arity::Value));
    FlagTable::new(flags.chain(bare).chain(valued))
}

pub(super) fn flags() -> impl Iterator<Item = Arg> {
    ALL.iter()
        .filter_map(|setting| setting.flag.map(|flag| clap_flag(setting, &flag)))
}

fn clap_flag(setting: &Setting, flag: &Flag) -> Arg {
    let mut help = setting.help.trim_end_matches('.').to_owned();
    if !setting.default.is_empty() && setting.kind != Kind::Switch {
        help.push_str(&format!(" [default: {}]", setting.default));
    } else if setting.default == "true" {
        help.push_str(" [default: true]");
    }
    let mut long_help = help.clone();
    if let Some(env) = setting.env {
        long_help.push_str(&format!("\nVariable: {}", env.name));
        for alias in env.aliases {
            long_help.push_str(&format!(", {}", alias.name));
        }
    }
    if setting.in_file {
        long_help.push_str(&format!("\nFile: {}", setting.key));
    }
    let arg = Arg::new(flag.name)
        .value_name(flag.value)
        .help(help)
        .long_help(long_help)
        .help_heading(flag.group.heading())
        .action(if setting.adds_up {
            ArgAction::Append
        } else {
            ArgAction::Set
        })
        .allow_hyphen_values(true);
    let mut letters = flag.name.chars();
    let arg = match (letters.next(), letters.next()) {
        (Some(letter), None) => arg.short(letter),
        _ => arg.long(flag.name),
    };
    match setting.kind {
        Kind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        _ => arg,
    }
}

fn from_clap(err: &clap::Error) -> Exit {
    let code = if err.use_stderr() { 2 } else { 0 };
    Exit {
        text: err.render().to_string(),
        code,
    }
}

fn argv_error(err: &ArgvError) -> Exit {
    usage_error(err)
}

fn unknown_subcommand(word: &str) -> Exit {
    let near = derp_ops::suggest::nearest(word, NAMES);
    let hint = near
        .map(|near| format!("; did you mean {near}?"))
        .unwrap_or_default();
    usage_error(format_args!("unknown command {word:?}{hint}"))
}

fn usage_error(what: impl std::fmt::Display) -> Exit {
    let text = format!("derper: {what}\n\n{USAGE}\n\nFor the flags, try: derper -help\n");
    Exit { text, code: 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_with(line: &str, pairs: &[(&str, &str)]) -> Result<Args, Exit> {
        let vars = pairs
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Args::parse(line.split_whitespace().map(str::to_owned), &vars.collect())
    }

    fn parse(line: &str) -> Result<Args, Exit> {
        parse_with(line, &[])
    }

    /// Flags by name, in the order of their keys.
    fn flags(args: &Args) -> Vec<(String, &str)> {
        let given = args.flags.values();
        given
            .map(|given| (given.origin.to_string(), given.text.as_str()))
            .collect()
    }

    #[test]
    fn clap_agrees_with_the_table() {
        clap_command().debug_assert();
    }

    #[test]
    fn a_go_command_line_is_understood() {
        let args = parse(
            "-hostname derp.example.com --a=:8443 -http-port -1 -stun=false -verify-clients \
             -tcp-write-timeout 5s -c=/k",
        )
        .unwrap();
        assert_eq!(args.command, Command::Run);
        assert_eq!(
            flags(&args),
            [
                ("-hostname".to_owned(), "derp.example.com"),
                ("-c".to_owned(), "/k"),
                ("-a".to_owned(), ":8443"),
                ("-http-port".to_owned(), "-1"),
                ("-stun".to_owned(), "false"),
                ("-tcp-write-timeout".to_owned(), "5s"),
                ("-verify-clients".to_owned(), "true"),
            ]
        );
        assert_eq!(args.ignored, Vec::<String>::new());
    }

    #[test]
    fn the_last_of_several_counts() {
        let args = parse("-a :1 -stun -a=:2 -stun=false").unwrap();
        assert_eq!(
            flags(&args),
            [("-a".to_owned(), ":2"), ("-stun".to_owned(), "false")]
        );
        let args = parse_with("-a :1", &[("DERP_EXTRA_ARGS", "-a :3 -derp=false")]).unwrap();
        assert_eq!(
            flags(&args),
            [("-a".to_owned(), ":3"), ("-derp".to_owned(), "false")]
        );
    }

    #[test]
    fn an_empty_text_says_that_there_is_none() {
        let args = parse("-verify-client-url= -home= -mesh-psk-file=").unwrap();
        let texts: Vec<_> = flags(&args).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["", "", ""]);
    }

    #[test]
    fn lists_of_our_own_add_up() {
        let args = parse("--verify-tailscaled /a -verify-tailscaled=/b,/c").unwrap();
        assert_eq!(
            flags(&args),
            [("-verify-tailscaled".to_owned(), "/a,/b,/c")]
        );
    }

    #[test]
    fn words_after_the_flags_are_ignored_as_in_go() {
        let args = parse("-stun true -a :8443").unwrap();
        assert_eq!(flags(&args), [("-stun".to_owned(), "true")]);
        assert_eq!(args.ignored, ["true", "-a", ":8443"]);
    }

    #[test]
    fn subcommands_take_the_same_flags_before_and_after() {
        let args = parse("-a :1 check-config -stun=false").unwrap();
        assert_eq!(args.command, Command::CheckConfig);
        assert_eq!(
            flags(&args),
            [("-a".to_owned(), ":1"), ("-stun".to_owned(), "false")]
        );
        let args = parse("quickstart -stun-port 3479 192.0.2.1 -a :1").unwrap();
        assert_eq!(
            args.command,
            Command::Quickstart(Some("192.0.2.1".to_owned()))
        );
        assert_eq!(
            flags(&args),
            [("-a".to_owned(), ":1"), ("-stun-port".to_owned(), "3479")]
        );
        let commands = [
            ("quickstart", Command::Quickstart(None)),
            ("config print", Command::ConfigPrint),
            ("-a :1 config example", Command::ConfigExample),
            ("derpmap -a :1", Command::DerpMap(MapFormat::All)),
            ("derpmap headscale", Command::DerpMap(MapFormat::Headscale)),
            ("healthcheck -a :1", Command::Healthcheck),
            ("clients -a :1", Command::Clients { json: false }),
            ("clients --json", Command::Clients { json: true }),
            ("-a :1 close x", Command::Close("x".to_owned())),
            ("reload -a :1", Command::Reload),
            ("doctor -a :1", Command::Doctor(Doctor::default())),
            (
                "doctor --json --map=m --url https://x",
                Command::Doctor(Doctor {
                    url: Some("https://x".to_owned()),
                    map: Some("m".to_owned()),
                    json: true,
                }),
            ),
            ("top", Command::Top),
            ("completions fish", Command::Completions(Shell::Fish)),
            ("man", Command::Man),
        ];
        for (line, command) in commands {
            assert_eq!(parse(line).unwrap().command, command, "{line}");
        }
    }

    #[test]
    fn mistakes_print_the_usage_and_exit_with_two() {
        let cases = [
            (
                "-hostnmae x",
                "unknown flag -hostnmae; did you mean -hostname?",
            ),
            ("-a", "flag -a needs a value"),
            ("--verify", "unknown flag -verify"),
            (
                "check-cofnig",
                "unknown command \"check-cofnig\"; did you mean check-config?",
            ),
            ("serve", "unknown command \"serve\""),
            (
                "-verify-clients=",
                "-verify-clients is given nothing; it takes true or false",
            ),
            (
                "-verify-client-url-fail-open= -stun",
                "-verify-client-url-fail-open is given nothing; it takes true or false",
            ),
            (
                "check-config -stun-port=",
                "-stun-port is given nothing; it takes a whole number",
            ),
            (
                "-accept-connection-limit=",
                "-accept-connection-limit is given nothing; it takes a number",
            ),
            (
                "-tcp-write-timeout=",
                "-tcp-write-timeout is given nothing; it takes a duration, such as 15s",
            ),
            (
                "--allowlist=",
                "-allowlist is given nothing; it takes a path",
            ),
            (
                "--verify-url https://x --verify-url=",
                "-verify-url is given nothing; it takes texts with commas between them",
            ),
            (
                "-version=",
                "-version is given nothing; it takes true or false",
            ),
            (
                "-version=perhaps",
                "-version is a switch: write true or false",
            ),
            ("check-config -nonsense", "unknown flag -nonsense"),
        ];
        for (line, what) in cases {
            let exit = parse(line).unwrap_err();
            let (message, usage) = exit.text.split_once("\n\nUsage: ").unwrap();
            assert_eq!(
                (message, exit.code),
                (format!("derper: {what}").as_str(), 2),
                "{line}"
            );
            assert!(usage.contains("derper -help"));
        }
        let by_clap = [
            ("check-config x", "unexpected argument"),
            ("quickstart a b", "unexpected argument"),
            ("config", "required arguments were not provided"),
            ("config show", "[possible values: print, example]"),
            (
                "derpmap yaml",
                "[possible values: all, tailscale, headscale, node]",
            ),
            ("completions dash", "[possible values: bash, elvish"),
            ("man -a :1", "unexpected argument"),
            ("close", "required arguments were not provided"),
            ("top --json", "unexpected argument"),
            ("--json", "unexpected argument"),
            ("check-config --url https://x", "unexpected argument"),
        ];
        for (line, what) in by_clap {
            let exit = parse(line).unwrap_err();
            assert!(exit.text.contains(what), "{}", exit.text);
            assert_eq!(exit.code, 2, "{line}");
        }
    }

    #[test]
    fn help_and_version_exit_with_zero() {
        for line in [
            "-h",
            "-help",
            "--help",
            "quickstart -h",
            "-a :1 check-config -help",
        ] {
            let exit = parse(line).unwrap_err();
            assert_eq!(exit.code, 0, "{line}");
            assert!(exit.text.contains("-http-port"), "{}", exit.text);
        }
        let exit = parse("-version").unwrap_err();
        assert_eq!((exit.text, exit.code), (format!("{PROGRAM}\n"), 0));
        assert_eq!(parse("-version=false").unwrap().command, Command::Run);
    }

    #[test]
    fn the_long_help_names_variables_and_keys() {
        // Lines are wrapped to the terminal.
        let help = parse("--help").unwrap_err().text;
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains("Variable: DERP_HTTP_PORT, DERP_PORT_HTTP, DERPER_HTTP_PORT"));
        assert!(help.contains("File: listen.http_port"));
        assert!(help.contains("[default: 10m0s]"));
    }
}
