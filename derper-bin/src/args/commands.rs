//! The subcommands: their names, what they take, and what clap is told of them.

use clap::{Arg, ArgAction, ArgMatches, Command as ClapCommand, value_parser};
use clap_complete::Shell;

use super::{Command, Doctor, MapFormat, PROGRAM, flags};

const CHECK_CONFIG: &str = "check-config";
const QUICKSTART: &str = "quickstart";
const CONFIG: &str = "config";
const DERP_MAP: &str = "derpmap";
const HEALTHCHECK: &str = "healthcheck";
const CLIENTS: &str = "clients";
const CLOSE: &str = "close";
const RELOAD: &str = "reload";
const DOCTOR: &str = "doctor";
const TOP: &str = "top";
const COMPLETIONS: &str = "completions";
const MAN: &str = "man";
/// All of them.
pub(super) const NAMES: [&str; 12] = [
    CHECK_CONFIG,
    QUICKSTART,
    CONFIG,
    DERP_MAP,
    HEALTHCHECK,
    CLIENTS,
    CLOSE,
    RELOAD,
    DOCTOR,
    TOP,
    COMPLETIONS,
    MAN,
];

/// The name of the flag that asks for JSON.
pub(super) const JSON: &str = "json";
/// The name of the flag that says where a relay is.
pub(super) const URL: &str = "url";
/// The name of the flag that says where a DERP map is.
pub(super) const MAP: &str = "map";
/// The id of the word after a subcommand.
const WORD: &str = "word";
const PRINT: &str = "print";
const EXAMPLE: &str = "example";

/// What is printed after a mistake.
pub(super) const USAGE: &str = "\
Usage: derper [FLAGS]
       derper check-config [FLAGS]
       derper quickstart [HOST] [FLAGS]
       derper config print|example [FLAGS]
       derper derpmap [all|tailscale|headscale|node] [FLAGS]
       derper healthcheck [FLAGS]
       derper clients [--json] [FLAGS]
       derper close KEY [FLAGS]
       derper doctor [--url URL] [--map FILE|URL] [--json] [FLAGS]
       derper reload|top [FLAGS]
       derper completions bash|elvish|fish|powershell|zsh
       derper man";

/// What the subcommand `name` asks for.
pub(super) fn subcommand(name: &str, matches: &ArgMatches) -> Command {
    match name {
        CHECK_CONFIG => Command::CheckConfig,
        QUICKSTART => Command::Quickstart(matches.get_one::<String>(WORD).cloned()),
        CONFIG
            if matches
                .get_one::<String>(WORD)
                .is_some_and(|word| word == PRINT) =>
        {
            Command::ConfigPrint
        }
        CONFIG => Command::ConfigExample,
        DERP_MAP => {
            let format = matches.get_one::<MapFormat>(WORD);
            Command::DerpMap(format.copied().unwrap_or(MapFormat::All))
        }
        HEALTHCHECK => Command::Healthcheck,
        CLIENTS => Command::Clients {
            json: matches.get_flag(JSON),
        },
        CLOSE => {
            let key = matches.get_one::<String>(WORD);
            Command::Close(key.expect("clap asks for the key").clone())
        }
        RELOAD => Command::Reload,
        DOCTOR => Command::Doctor(Doctor {
            url: matches.get_one::<String>(URL).cloned(),
            map: matches.get_one::<String>(MAP).cloned(),
            json: matches.get_flag(JSON),
        }),
        TOP => Command::Top,
        COMPLETIONS => {
            let shell = matches.get_one::<Shell>(WORD);
            Command::Completions(*shell.expect("clap asks for the shell"))
        }
        _ => Command::Man,
    }
}

/// The program for clap, for manual pages and completions too.
#[must_use]
pub fn clap_command() -> ClapCommand {
    ClapCommand::new(PROGRAM.program)
        .about("A DERP relay and STUN server for Tailscale and Headscale networks")
        .long_about(
            "A DERP relay and STUN server for Tailscale and Headscale networks.\n\n\
             Flags are those of the reference derper, with one dash or two, and a value after = \
             or a space; a switch is turned off by -name=false. Each can also be set by an \
             environment variable, and most in a configuration file. A flag counts before a \
             variable, a variable before the file.",
        )
        .after_help("Try a relay without root: derper quickstart")
        .args_override_self(true)
        .subcommand_precedence_over_arg(true)
        .disable_help_subcommand(true)
        .args(flags())
        .subcommand(
            configured(CHECK_CONFIG)
                .about("Check flags, environment, files and certificates; change nothing"),
        )
        .subcommand(
            configured(QUICKSTART)
                .about("Run a relay on :8443 with a certificate of its own, and print its map node")
                .long_about(
                    "Runs a relay that needs no root, no domain and no certificate authority: TLS \
                     on :8443 with a certificate that it makes itself, STUN on UDP port 3478. Key \
                     and certificate are kept in the state directory. It prints what to paste \
                     into a Tailscale policy file or a Headscale DERP map; clients know the \
                     certificate by its hash in there.",
                )
                .arg(
                    Arg::new(WORD)
                        .value_name("HOST")
                        .help("The address or name that clients reach; else this machine's own"),
                ),
        )
        .subcommand(
            configured(CONFIG)
                .about("Print the settings that count and where they come from, or an example file")
                .arg(
                    Arg::new(WORD)
                        .value_name("print|example")
                        .required(true)
                        .value_parser([PRINT, EXAMPLE])
                        .help(
                            "print: what counts, secrets left out; example: a file to start from",
                        ),
                ),
        )
        .subcommand(
            configured(DERP_MAP)
                .about("Print what to paste into a policy file or Headscale's derp.paths")
                .arg(
                    Arg::new(WORD)
                        .value_name("FORMAT")
                        .value_parser(value_parser!(MapFormat))
                        .help("For whom; all of them unless given"),
                ),
        )
        .subcommand(configured(HEALTHCHECK).about(
            "Ask the relay that runs with these settings whether it answers: status 0 if it does",
        ))
        .subcommand(
            configured(CLIENTS)
                .about("List the clients of the relay that runs; needs --admin-socket")
                .arg(
                    Arg::new(JSON)
                        .long(JSON)
                        .action(ArgAction::SetTrue)
                        .help("Print what the relay says, as JSON"),
                ),
        )
        .subcommand(
            configured(CLOSE)
                .about("Close the connections of a client; needs --admin-socket")
                .arg(
                    Arg::new(WORD)
                        .value_name("KEY")
                        .required(true)
                        .help("The client's key, as nodekey:…"),
                ),
        )
        .subcommand(
            configured(RELOAD).about(
                "Have the relay that runs read its configuration again; needs --admin-socket",
            ),
        )
        .subcommand(doctor())
        .subcommand(
            configured(TOP).about("Show who uses the relay, until ctrl-c; needs --admin-socket"),
        )
        .subcommand(
            ClapCommand::new(COMPLETIONS)
                .about("Print a script that completes flags in a shell")
                .arg(
                    Arg::new(WORD)
                        .value_name("SHELL")
                        .required(true)
                        .value_parser(value_parser!(Shell))
                        .help("The shell"),
                ),
        )
        .subcommand(ClapCommand::new(MAN).about("Print the manual page, for man -l -"))
}

fn doctor() -> ClapCommand {
    configured(DOCTOR)
        .about(
            "Look for what is wrong with a relay: DNS, ports, certificate, clock, STUN, verifiers",
        )
        .long_about(
            "Looks for what is wrong with the relay of this configuration: on its own machine, and \
             as its clients see it. Each finding that is not good comes with what to do about it. \
             With --url alone, without a configuration, only what clients see is looked at, from \
             any machine. Ends with status 1 where there is a problem. It changes nothing.",
        )
        .arg(
            Arg::new(URL)
                .long(URL)
                .value_name("URL")
                .help("The relay as clients reach it, as https://derp.example.com:8443"),
        )
        .arg(
            Arg::new(MAP)
                .long(MAP)
                .value_name("FILE|URL")
                .help("A DERP map (JSON) whose entry for the relay is compared with what is there"),
        )
        .arg(
            Arg::new(JSON)
                .long(JSON)
                .action(ArgAction::SetTrue)
                .help("Print the findings as JSON"),
        )
}

/// A subcommand that reads the same configuration as the relay.
fn configured(name: &'static str) -> ClapCommand {
    ClapCommand::new(name)
        .args_override_self(true)
        .args(flags())
}
