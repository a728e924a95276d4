//! `derpspec URL`: the cases against a server, a line each.
//!
//! The exit status is 0 if the server is as it has to be, 1 if a case failed, and 2 if the command
//! line makes no sense or the server cannot be reached.

mod args;
mod output;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use testbed_derpspec::{Fault, Numbered, Outcome, Pace, Target, run};

use crate::args::Args;
use crate::output::{Output, Summary};

fn main() -> ExitCode {
    let args = Args::parse();
    let output = Output::new(args.json);
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(work(&args, &output)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            output.problem(&format!("{err:#}"));
            ExitCode::from(2)
        }
    }
}

/// Does what the command line says; whether all went well.
async fn work(args: &Args, output: &Output) -> anyhow::Result<bool> {
    let cases: Vec<Numbered> = testbed_derpspec::all()
        .filter(|case| args.selects(case))
        .collect();
    anyhow::ensure!(!cases.is_empty(), "no case is called so; --list shows all");
    if args.list {
        cases.iter().for_each(|case| output.listed(case));
        return Ok(true);
    }
    let target = Arc::new(args.target().await?);
    if args.self_test {
        return Ok(self_test(args, output, target, &cases).await);
    }
    let mut summary = Summary::default();
    let cases = cases.into_iter().map(|case| (case, None)).collect();
    run(target, cases, args.pace(), |report| {
        summary.add(&report);
        output.report(&report);
    })
    .await;
    output.summary(&summary);
    Ok(summary.failed == 0)
}

/// Whether each case is green without a fault, and red with those that it must notice.
async fn self_test(args: &Args, output: &Output, target: Arc<Target>, cases: &[Numbered]) -> bool {
    let faults = |case: &Numbered| -> Vec<(Numbered, Option<Fault>)> {
        let faults = case.case.red_by.iter().copied().map(Some);
        [None]
            .into_iter()
            .chain(faults)
            .map(|fault| (*case, fault))
            .collect()
    };
    // What a fault holds back is waited for in vain.
    let pace = Pace {
        jobs: 4 * args.jobs,
        patience: args.patience().min(Duration::from_secs(2)),
        ..args.pace()
    };
    let (mut tried, mut wrong, mut not_run) = (0, 0, 0);
    // What the case at hand found without a fault.
    let mut sound = Outcome::Passed;
    let runs = cases.iter().flat_map(faults).collect();
    run(target, runs, pace, |report| {
        tried += 1;
        let is_right = match &report.outcome {
            Outcome::NotRun(_) => {
                not_run += 1;
                true
            }
            outcome if report.fault.is_none() => {
                sound = outcome.clone();
                !outcome.is_failure()
            }
            outcome => *outcome != sound,
        };
        wrong += usize::from(!is_right);
        output.self_test(&report, is_right);
    })
    .await;
    output.line(&format!("{tried} runs, {wrong} wrong, {not_run} not run"));
    wrong == 0
}
