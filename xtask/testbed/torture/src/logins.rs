//! A well-behaved neighbour that is not connected yet: it logs in once a second while others attack.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, interval};

use crate::random;
use crate::relay::{Dial, Relay};
use crate::report::{Report, time};

/// How often it logs in, each time with a new key and whether or not it was let in before.
const EVERY: Duration = Duration::from_secs(1);

/// Logins that go on until they are stopped.
#[derive(Debug)]
pub(crate) struct Logins {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<Tried>>,
}

/// What became of the logins.
#[derive(Debug, Default)]
pub(crate) struct Tried {
    failed: u64,
    /// Why the last one did.
    why: Option<String>,
    /// How long those took that did not fail.
    took: Vec<Duration>,
}

impl Logins {
    /// Begins with the first.
    pub(crate) fn start(relay: &Relay) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(log_in_and_again(relay.clone(), Arc::clone(&stop)));
        Self { stop, task }
    }

    /// Waits for the last one.
    pub(crate) async fn stop(self) -> Result<Tried> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await?
    }
}

impl Tried {
    /// Tells how many failed, of which none may, and how long the others took.
    pub(crate) fn tell(mut self, report: &mut Report, most: Duration) {
        let count = self.took.len() as u64 + self.failed;
        let why = self.why.map(|why| format!(": {why}")).unwrap_or_default();
        report.check(
            format!("{} of {count} good logins failed{why}", self.failed),
            "0",
            self.failed == 0,
        );
        self.took.sort_unstable();
        let at = (self.took.len() * 99 / 100).min(self.took.len().saturating_sub(1));
        if let Some(&p99) = self.took.get(at) {
            report.speed(
                format!("login p99 {}", time(p99)),
                format!("≤ {}", time(most)),
                p99 <= most,
            );
        }
    }
}

async fn log_in_and_again(relay: Relay, stop: Arc<AtomicBool>) -> Result<Tried> {
    let mut due = interval(EVERY);
    let mut logins = JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        due.tick().await;
        // One that waits for long does not keep the next from trying.
        let relay = relay.clone();
        logins.spawn(async move {
            let start = Instant::now();
            let login = relay.client(&random::key(), &Dial::default()).await;
            login.map(|_| start.elapsed())
        });
    }
    let mut tried = Tried::default();
    for login in logins.join_all().await {
        match login {
            Ok(took) => tried.took.push(took),
            Err(error) => {
                tried.failed += 1;
                tried.why = Some(format!("{error:#}"));
            }
        }
    }
    ensure!(
        tried.failed > 0 || !tried.took.is_empty(),
        "no login was tried"
    );
    Ok(tried)
}
