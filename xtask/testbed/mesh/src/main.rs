//! A region of several relays, ours and the reference's: does every client reach every other one,
//! at rest, after a relay was killed, and after a partition?
//!
//! Every step is a JSON line on standard output; the exit status is 1 if one failed.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is what the program is for"
)]

mod authority;
mod crowd;
mod region;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde_json::json;

use crate::crowd::Crowd;
use crate::region::Region;

#[derive(Parser)]
struct Args {
    /// A relay by the flags of Go's derper: NAME=PROGRAM; once for each relay. The first is
    /// partitioned from the others, the last is killed.
    #[arg(long = "relay", required = true)]
    relays: Vec<String>,
    /// How many clients the region has.
    #[arg(long, default_value_t = 300)]
    clients: usize,
    /// For how many seconds the partition lasts.
    #[arg(long, default_value_t = 20)]
    partition: u64,
}

/// How long a region may take to be whole again.
const CONVERGED: Duration = Duration::from_secs(10);
/// How long a route may lead to where a client no longer is.
const STALE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(run(&args)),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("testbed-mesh: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Prints a step's line and counts it when it failed.
struct Report(usize);

impl Report {
    fn step(&mut self, name: &str, outcome: Result<String>) {
        let (ok, detail) = match outcome {
            Ok(detail) => (true, detail),
            Err(error) => (false, format!("{error:#}")),
        };
        self.0 += usize::from(!ok);
        println!("{}", json!({"name": name, "ok": ok, "detail": detail}));
    }
}

async fn run(args: &Args) -> Result<usize> {
    let mut programs = Vec::new();
    for relay in &args.relays {
        let (name, program) = relay.split_once('=').context("--relay NAME=PROGRAM")?;
        programs.push((name.to_owned(), PathBuf::from(program)));
    }
    ensure!(programs.len() >= 2, "a region has two relays at least");
    let last = programs.len() - 1;
    let mut report = Report(0);
    let mut region = Region::start(programs).await?;
    let mut crowd = Crowd::default();
    let start = now();
    for n in 0..args.clients {
        let at = n % region.len();
        crowd.join(at, region.connect(at)).await?;
    }
    report.step("a client joins", Ok(seconds(start.elapsed())));

    let converged = crowd.converge(CONVERGED, |_, _| true).await;
    report.step("everybody reaches everybody", converged);
    let all = crowd.everybody_once().await;
    report.step("each packet arrives once at rest", all);

    region.kill(last).await?;
    crowd.leave(last);
    let gone = crowd.notice_absence(last, |_| true, STALE).await;
    report.step("a killed relay's clients are gone", gone);
    let rest = crowd.converge(CONVERGED, |a, b| a != last && b != last);
    report.step("the others are not disturbed", rest.await);
    region.restart(last).await?;
    crowd.rejoin(last, || region.connect(last)).await?;
    let converged = crowd.converge(CONVERGED, |_, _| true).await;
    report.step("a killed relay comes back", converged);

    region.partition(0, true);
    let start = now();
    let gone = crowd.notice_absence(1, |at| at == 0, STALE).await;
    report.step("a partition is noticed", gone);
    let lasts = Duration::from_secs(args.partition);
    tokio::time::sleep(lasts.saturating_sub(start.elapsed())).await;
    region.partition(0, false);
    let converged = crowd.converge(CONVERGED, |_, _| true).await;
    report.step("a partition heals", converged);
    let all = crowd.everybody_once().await;
    report.step("each packet arrives once in the end", all);
    report.step("no relay ended by itself", region.all_alive());
    Ok(report.0)
}

#[expect(clippy::disallowed_methods, reason = "a test tells how long it took")]
fn now() -> Instant {
    Instant::now()
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
