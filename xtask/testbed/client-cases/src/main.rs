//! Runs `derp-client` through a fixed list of cases against a relay, whoever made it.
//!
//! Every case is one JSON line on standard output, the last line is a summary; the exit status is
//! 1 if a case failed or if their number is not the one expected, and 2 if the command line makes
//! no sense. Flags and lines are those of `relaycases`, which does the same with Go's client.
//!
//! Which cases apply follows from the flags alone, so that nothing is skipped silently. The
//! numbers of cases never depend on flags.

mod args;
mod cases;
mod proxy;
mod relay;
mod report;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;

use crate::args::Args;
use crate::cases::{CASES, Case};
use crate::relay::Relay;
use crate::report::{CaseLine, SummaryLine, print_line, print_problem, print_report};

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let relay = runtime.block_on(Relay::from_args(&args))?;
        Ok(runtime.block_on(run(&args, Arc::new(relay))))
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            print_problem(&format!("{err:#}"));
            ExitCode::from(2)
        }
    }
}

/// Runs the cases that apply; whether all went well.
async fn run(args: &Args, relay: Arc<Relay>) -> bool {
    let begin = now();
    let mut summary = SummaryLine {
        summary: true,
        cases: 0,
        failed: 0,
        ms: 0,
    };
    for (at, case) in CASES.iter().enumerate() {
        if !relay.has(case.needs) || !args.selects(case.name) {
            continue;
        }
        summary.cases += 1;
        if args.list {
            print_line(case.name);
            continue;
        }
        let line = run_case(args, at + 1, case, Arc::clone(&relay)).await;
        summary.failed += usize::from(!line.ok);
        print_report(&line);
    }
    if !args.list {
        summary.ms = begin.elapsed().as_millis();
        print_report(&summary);
    }
    if let Some(expected) = args.expect_cases
        && expected != summary.cases
    {
        print_problem(&format!(
            "{} cases were selected, {expected} expected",
            summary.cases
        ));
        return false;
    }
    summary.failed == 0
}

async fn run_case(args: &Args, n: usize, case: &'static Case, relay: Arc<Relay>) -> CaseLine {
    let begin = now();
    // A task of its own: a case that panics is a case that failed.
    let story = tokio::spawn((case.run)(relay));
    let abort = story.abort_handle();
    let (ok, detail) = match tokio::time::timeout(args.case_timeout(), story).await {
        Ok(Ok(Ok(detail))) => (true, detail),
        Ok(Ok(Err(err))) => (false, format!("{err:#}")),
        Ok(Err(panic)) => (false, panic.to_string()),
        Err(_) => {
            abort.abort();
            (false, "out of time".to_owned())
        }
    };
    CaseLine {
        n,
        name: case.name,
        ok,
        detail,
        ms: begin.elapsed().as_millis(),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a report says how long things took"
)]
fn now() -> Instant {
    Instant::now()
}
