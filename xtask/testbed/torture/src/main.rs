//! Attacks a relay on this machine in one way, and tells whether it stood.
//!
//! ```text
//! torture --pid PID --addr 127.0.0.1:PORT [--plain] [--quick] ROW
//! ```
//!
//! prints a line of JSON: the figures, what was wanted, and the scale it ran at. A row asks that
//! the relay is alive afterwards and still relays packets, besides what the row is about.
//!
//! Load is bounded: 20,000 open files, and loopback addresses or a network namespace of one's own.
//! Many attackers are played from many addresses of 127.0.0.0/8.
//!
//! What is not here: starting relays, and the table. `cargo xtask torture` does that.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a line of JSON is this program's result, or a line that says why there is none"
)]

mod ahead;
mod args;
mod hello;
mod link;
mod logins;
mod metrics;
mod pairs;
mod process;
mod random;
mod relay;
mod report;
mod row;
mod tls;
mod watch;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

fn main() -> ExitCode {
    match attack() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn attack() -> Result<()> {
    let cli = args::Cli::parse();
    process::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let report = runtime.block_on(async {
        tokio::time::timeout(cli.limit(), row::run(&cli))
            .await
            .context("the row did not end in time")?
    });
    // Tasks of an attack may still wait for a relay that answers no more.
    runtime.shutdown_background();
    if let Some(report) = report? {
        println!("{}", report.into_line());
    }
    Ok(())
}
