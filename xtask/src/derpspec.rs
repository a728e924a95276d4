//! The conformance cases of `xtask/testbed/derpspec` against a server, or against relays that are
//! started for them.

use std::path::Path;
use std::process::{Command, exit};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::builds;
use crate::peers;
use crate::relay::Relay;

#[derive(Args)]
pub(crate) struct Options {
    /// The server's URL and how to trust it, and which cases to run how: `-- --help` shows all.
    /// Without a URL, ours is started with everything that cases ask for; and with --go,
    /// Go's as well, which has to be as DEVIATIONS.md says.
    #[arg(
        value_name = "URL|OPTIONS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    rest: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let program = builds::debug(&["testbed-derpspec"])?.join("derpspec");
    let (go, rest): (Vec<&String>, Vec<&String>) =
        options.rest.iter().partition(|word| *word == "--go");
    let asks_only = ["--list", "--help", "-h"];
    let is_for_us = !rest
        .iter()
        .any(|word| word.contains("://") || asks_only.contains(&word.as_str()));
    if !is_for_us {
        // Its statuses mean something.
        let status = Command::new(&program)
            .args(rest)
            .status()
            .with_context(|| format!("cannot run {}", program.display()))?;
        exit(status.code().unwrap_or(2));
    }

    let ours = builds::debug(&["derper-bin"])?.join("derper");
    let mut relays = vec![("derpkit", "derpkit", ours)];
    if !go.is_empty() {
        relays.push((
            "Go derper",
            "reference",
            peers::install()?.go.join("derper"),
        ));
    }
    let mut failed = Vec::new();
    for (name, side, relay) in relays {
        println!("== {name}");
        if !check(&program, &relay, side, &rest)? {
            failed.push(name);
        }
    }
    ensure!(failed.is_empty(), "not as it has to be: {failed:?}");
    Ok(())
}

/// Whether a relay of this program is as it has to be, where derpkit and the reference differ
/// like `side`.
fn check(derpspec: &Path, program: &Path, side: &str, rest: &[&String]) -> Result<bool> {
    let relay = Relay::start_on_all_addresses(program)?;
    let mut command = Command::new(derpspec);
    command.arg(format!("https://127.0.0.1:{}", relay.port));
    command.args(what_cases_need(&relay));
    command.args(["--as", side]).args(rest);
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", derpspec.display()))?;
    Ok(status.success())
}

/// What cases are told of a relay on all addresses of this machine, so that they run.
pub(crate) fn what_cases_need(relay: &Relay) -> Vec<String> {
    // It has made its certificate just now.
    let mut args = vec!["--insecure".to_owned()];
    // Linux gives the whole of 127.0.0.0/8 to the machine itself.
    for host in ["127.0.0.1", "127.0.0.2", "[::1]"] {
        args.extend(["--stun".to_owned(), format!("{host}:{}", relay.stun_port)]);
    }
    args.extend(["--http-port".to_owned(), relay.http_port.to_string()]);
    let mesh_key = relay.mesh_key_file().display().to_string();
    args.extend(["--mesh-key-file".to_owned(), mesh_key]);
    args
}
