//! The relay as a program: flags in, an exit code out.

use std::process::ExitCode;

use anyhow::Context;
use derp_ops::logging::{self, Log};
use derp_ops::panics;
use derper::app::App;
use derper::args::{Args, Command};
use derper::config::Config;
use derper::env::Vars;
use derper::start::{self, Start};
use derper::{commands, process, signals};

fn main() -> ExitCode {
    let vars = start::vars();
    let args = match start::words().and_then(|words| Args::parse(words, &vars)) {
        Ok(args) => args,
        Err(exit) => {
            start::print(&exit.text, exit.code == 0);
            return ExitCode::from(exit.code);
        }
    };
    match run(args, vars) {
        Ok(code) => code,
        Err(err) => {
            // The log may not be set up yet, and whoever typed the flags looks here.
            start::print(&format!("derper: {err:#}\n"), false);
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args, vars: Vars) -> anyhow::Result<ExitCode> {
    let command = args.command.clone();
    let start = Start { args, vars };
    if let Some(output) = commands::run(&start)? {
        start::print(&output.text, true);
        return Ok(if output.is_good {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let config = start.config()?;
    let log = logging::init(&config.logging)?;
    panics::log();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    process::forbid_core_dumps().context("cannot keep keys out of core dumps")?;
    if let Err(err) = process::raise_open_files() {
        tracing::warn!(error = %err, "cannot raise the limit of open files");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .on_thread_start(process::stand_back)
        .build()?;
    runtime.block_on(serve(start, config, log, command))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(start: Start, config: Config, log: Log, command: Command) -> anyhow::Result<()> {
    // Before anything else, so that no signal falls into a gap.
    let shutdown = signals::shutdown()?;
    let reloads = signals::reloads(start.clone())?;
    // Every port is bound before anything is served: a bad flag fails at once, and whole.
    let app = App::bind(config, derper::clock::wall())?
        .with_log(log)
        .with_start(start);
    app.announce();
    match app.hint() {
        Some(hint) if matches!(command, Command::Quickstart(_)) => {
            start::print(&format!("\n{}\n", hint.instructions()), true);
        }
        // Nobody could guess the hash of a certificate that no authority vouches for.
        Some(hint) if hint.pin.is_some() => {
            tracing::info!(node = %hint.node_json(), "clients need this node in their DERP map");
        }
        _ => {}
    }
    app.run(shutdown, reloads).await
}
