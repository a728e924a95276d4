//! What a relay is like before an attack, and what the attack makes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinHandle;

use crate::process::Process;
use crate::relay::Relay;
use crate::report::Report;

/// How often memory is looked at.
const STEP: Duration = Duration::from_millis(20);
/// How long what was left behind may take to go.
const SETTLE: Duration = Duration::from_secs(30);

/// A relay at rest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rest {
    pub(crate) rss: u64,
    pub(crate) files: u64,
}

impl Rest {
    /// Waits until the relay rests.
    pub(crate) async fn of(relay: &Relay) -> Result<Self> {
        let files = relay.settle(u64::MAX, Duration::from_secs(5)).await?;
        Ok(Self {
            rss: relay.process.rss()?,
            files,
        })
    }

    /// Waits until nothing is left of an attack, and tells what is: files, memory beyond
    /// `drift` bytes, panics, and whether packets are still relayed.
    pub(crate) async fn check(self, relay: &Relay, report: &mut Report, drift: u64) -> Result<()> {
        let files = relay.settle(self.files, SETTLE).await?;
        let grown = relay.process.rss()?.saturating_sub(self.rss);
        report.at_most("files left", files.saturating_sub(self.files), 0);
        report.memory("memory grown", grown, drift);
        still_well(relay, report).await
    }
}

/// Tells whether the relay lives, has not panicked, agrees with its own books and relays packets.
pub(crate) async fn still_well(relay: &Relay, report: &mut Report) -> Result<()> {
    relay.ensure_alive()?;
    let relays = relay.relays().await;
    let figure = match &relays {
        Ok(()) => "relays".to_owned(),
        Err(error) => format!("does not relay: {error:#}"),
    };
    report.check(figure, "relays", relays.is_ok());
    if let Some(panics) = relay.metrics().await?.count("derper_panics") {
        report.at_most("panics", panics, 0);
    }
    Ok(())
}

/// Watches a process's memory.
#[derive(Debug)]
pub(crate) struct Peak {
    most: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Peak {
    /// Starts to watch.
    pub(crate) fn watch(process: Process) -> Self {
        let most = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&most);
        let task = tokio::spawn(async move {
            while let Ok(rss) = process.rss() {
                seen.fetch_max(rss, Ordering::Relaxed);
                tokio::time::sleep(STEP).await;
            }
        });
        Self { most, task }
    }

    /// The most that was seen, in bytes.
    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.task.abort();
    }
}
