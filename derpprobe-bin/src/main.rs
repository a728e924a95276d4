//! The probe as a program: flags in, results and an exit code out.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use derp_ops::logging::{self, Logging};
use derpprobe::args::{Args, Exit};
use derpprobe::config::{Config, Vars};
use derpprobe::probe::Prober;
use derpprobe::report::Report;
use derpprobe::run;
use derpprobe::trust::{self, Trust};

fn main() -> ExitCode {
    let config = match words().and_then(Args::parse).and_then(|args| {
        let mistakes = Config::build(&args, &vars());
        mistakes.map_err(|mistakes| Exit {
            text: mistakes.to_string(),
            code: 2,
        })
    }) {
        Ok(config) => config,
        Err(exit) => {
            print(&exit.text, exit.code == 0);
            return ExitCode::from(exit.code);
        }
    };
    let format = config.format;
    match probe(config) {
        Ok(report) => {
            print(&format.render(&report), true);
            ExitCode::from(format.exit_code(&report))
        }
        Err(err) => {
            print(&format!("derpprobe: {err:#}\n"), false);
            ExitCode::FAILURE
        }
    }
}

fn probe(config: Config) -> anyhow::Result<Report> {
    logging::init(&Logging::default())?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // One thread does: what probes wait for is the network. It is ready before anything is timed.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    trust::warm_up();
    let trust = Trust::of_system();
    let prober = Prober::new(trust, config.mesh_key.clone(), config.proxies.clone())
        .with_server_keys(config.server_keys.clone());
    let report = runtime.block_on(run::once(&config, &prober));
    // A name that is still being looked up, or a file that nobody writes, is not waited for.
    runtime.shutdown_background();
    Ok(report)
}

/// The words after the program's name.
fn words() -> Result<Vec<String>, Exit> {
    let no_text = |word: OsString| Exit {
        text: format!("derpprobe: {word:?} is not UTF-8\n"),
        code: 2,
    };
    std::env::args_os()
        .skip(1)
        .map(|word| word.into_string().map_err(no_text))
        .collect()
}

/// The environment; variables that are no text are none of ours.
fn vars() -> Vars {
    let text = |(name, value): (OsString, OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Writes to standard output or standard error. Whoever has closed it does not want to know.
fn print(text: &str, to_stdout: bool) {
    let _closed = if to_stdout {
        std::io::stdout().lock().write_all(text.as_bytes())
    } else {
        std::io::stderr().lock().write_all(text.as_bytes())
    };
}
