//! The probe as a program: flags in, results and an exit code out.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use derp_ops::logging::{self, Logging};
use derp_ops::panics;
use derp_ops::process::raise_open_files;
use derpprobe::args::{Args, Exit};
use derpprobe::config::{Config, Vars};
use derpprobe::probe::Prober;
use derpprobe::progress::Progress;
use derpprobe::run;
use derpprobe::service::Service;
use derpprobe::trust::{self, Trust};
use tokio::signal::unix::{SignalKind, signal};

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
    match start(config) {
        Ok(code) => code,
        Err(err) => {
            print(&format!("derpprobe: {err:#}\n"), false);
            ExitCode::FAILURE
        }
    }
}

fn start(config: Config) -> anyhow::Result<ExitCode> {
    logging::init(&Logging::default())?;
    panics::log();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    if let Err(err) = raise_open_files() {
        tracing::warn!(error = %err, "cannot raise the limit of open files");
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
    let prober = if config.keep_connections {
        prober.keeping_connections()
    } else {
        prober
    };
    let code = if config.once {
        let mut progress = Progress::of_stderr();
        let report = runtime.block_on(run::once(&config, &prober, &mut progress));
        print(&config.format.render(&report), true);
        ExitCode::from(config.format.exit_code(&report))
    } else {
        runtime.block_on(serve(config, prober))?;
        ExitCode::SUCCESS
    };
    // A name that is still being looked up, or a file that nobody writes, is not waited for.
    runtime.shutdown_background();
    Ok(code)
}

async fn serve(config: Config, prober: Prober) -> anyhow::Result<()> {
    let stop = stop().context("cannot wait for signals")?;
    let service = Service::bind(config, prober)?;
    let address = service.local_addr().context("cannot tell the port")?;
    tracing::info!(%address, "the pages are there");
    service.run(stop).await;
    Ok(())
}

/// Ready at the first SIGINT or SIGTERM.
fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
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
        io::stdout().lock().write_all(text.as_bytes())
    } else {
        io::stderr().lock().write_all(text.as_bytes())
    };
}
