//! Runs cases, several at a time, and keeps them in their order.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::case::{Case, Level};
use crate::context::Cx;
use crate::fault::Fault;
use crate::sections::Numbered;
use crate::target::Target;
use crate::verdict::{Failure, Side};

/// How long cases that take their time may take.
const SLOW: Duration = Duration::from_secs(100);

/// How cases are run.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How many cases at a time.
    pub jobs: usize,
    /// How long a case waits for what must happen; it may take half as long again.
    pub patience: Duration,
    /// What the server is to be like where derpkit and the reference differ.
    pub side: Option<Side>,
}

/// What came of a case.
#[derive(Debug, Clone)]
pub struct Report {
    /// The case.
    pub case: Numbered,
    /// The fault that it was run with.
    pub fault: Option<Fault>,
    /// What it found.
    pub outcome: Outcome,
    /// What was sent and received.
    pub trace: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// What a case found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The rule is kept.
    Passed,
    /// One of two documented behaviours, and one that is wanted.
    Shows(Side),
    /// The rule is broken, or the behaviour is not the one that is wanted.
    Failed(Failure),
    /// The case needs what the command line does not give.
    NotRun(Vec<&'static str>),
}

impl Outcome {
    /// Whether the server is not as it has to be.
    #[must_use]
    pub const fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// Runs `cases`, and hands each report to `told` in the order of the cases.
pub async fn run(
    target: Arc<Target>,
    cases: Vec<(Numbered, Option<Fault>)>,
    pace: Pace,
    mut told: impl FnMut(Report),
) {
    let turns = Arc::new(Semaphore::new(pace.jobs));
    let running: Vec<(Numbered, Option<Fault>, JoinHandle<Report>)> = cases
        .into_iter()
        .map(|(case, fault)| {
            let (target, turns) = (Arc::clone(&target), Arc::clone(&turns));
            let story = tokio::spawn(async move {
                let _turn = turns.acquire().await.expect("nobody closes the semaphore");
                run_one(target, case, fault, pace).await
            });
            (case, fault, story)
        })
        .collect();
    for (case, fault, story) in running {
        let report = story.await.unwrap_or_else(|panic| Report {
            case,
            fault,
            outcome: Outcome::Failed(Failure::new("a case that ends", panic.to_string())),
            trace: Vec::new(),
            took: Duration::ZERO,
        });
        told(report);
    }
}

async fn run_one(
    target: Arc<Target>,
    numbered: Numbered,
    fault: Option<Fault>,
    pace: Pace,
) -> Report {
    let begin = Instant::now();
    let case = numbered.case;
    let missing = case.needs.missing_from(target.gives());
    if !missing.is_empty() {
        return Report {
            case: numbered,
            fault,
            outcome: Outcome::NotRun(missing),
            trace: Vec::new(),
            took: Duration::ZERO,
        };
    }
    let is_slow = case.needs.missing_from(crate::case::Needs::NOTHING);
    let limit = match is_slow.contains(&"--slow") {
        true => SLOW,
        false => pace.patience.mul_f32(1.5),
    };
    let cx = Cx::new(target, fault, pace.patience);
    let outcome = match tokio::time::timeout(limit, (case.run)(cx.clone())).await {
        Err(_) => Outcome::Failed(Failure::new(
            "an outcome in time",
            format!("none after {limit:?}"),
        )),
        Ok(Err(failure)) => Outcome::Failed(failure),
        Ok(Ok(None)) => Outcome::Passed,
        Ok(Ok(Some(side))) => judge(case, side, pace.side),
    };
    Report {
        case: numbered,
        fault,
        outcome,
        trace: cx.trace(),
        took: begin.elapsed(),
    }
}

/// Whether it is right that the server shows `side`.
fn judge(case: &Case, side: Side, wanted: Option<Side>) -> Outcome {
    let Level::Differs {
        derpkit, reference, ..
    } = case.level
    else {
        unreachable!("only cases about differences tell a side");
    };
    let told = |side| match side {
        Side::Derpkit => format!("as derpkit: {derpkit}"),
        Side::Reference => format!("as the reference: {reference}"),
    };
    match wanted {
        Some(wanted) if wanted != side => Outcome::Failed(Failure::new(told(wanted), told(side))),
        _ => Outcome::Shows(side),
    }
}
