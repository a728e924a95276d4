//! A tailscaled that accepts questions and never answers, and clients that do not wait for it.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::UnixListener;
use tokio::task::JoinSet;

use crate::args::Cli;
use crate::random;
use crate::relay::{Dial, Relay};
use crate::report::{Report, time};

/// How long clients wait before they leave.
const PATIENCE: Duration = Duration::from_secs(2);
/// By when nothing is left of them.
const MOST_TIME: Duration = Duration::from_secs(20);

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let count = cli.scale(500, 100);
    let socket = cli.tailscaled.as_ref().context("--tailscaled")?;
    let listener = UnixListener::bind(socket).context("the socket of a tailscaled")?;
    let tailscaled = tokio::spawn(async move {
        let mut questions = Vec::new();
        while let Ok((question, _)) = listener.accept().await {
            questions.push(question);
        }
    });
    let before = relay.settle(u64::MAX, Duration::from_secs(2)).await?;
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let relay = relay.clone();
        clients.spawn(async move {
            // It is not admitted; it goes.
            tokio::time::timeout(PATIENCE, log_in(&relay))
                .await
                .is_ok_and(|login| login.is_ok())
        });
    }
    let admitted = clients
        .join_all()
        .await
        .into_iter()
        .filter(|&yes| yes)
        .count();
    let start = tokio::time::Instant::now();
    let files = relay.settle(before, MOST_TIME).await?;
    let took = start.elapsed();
    tailscaled.abort();

    let mut report = Report::new(
        cli.times(),
        format!("{count} clients that leave after {}", time(PATIENCE)),
    );
    report.at_most("admitted", admitted as u64, 0);
    report.at_most("files left", files.saturating_sub(before), 0);
    report.deadline("gone after", took, MOST_TIME);
    relay.ensure_alive()?;
    Ok(report)
}

async fn log_in(relay: &Relay) -> Result<()> {
    relay.client(&random::key(), &Dial::default()).await?;
    Ok(())
}
