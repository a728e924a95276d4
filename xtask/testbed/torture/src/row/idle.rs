//! What a client costs that does nothing.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::args::Cli;
use crate::link::Link;
use crate::random;
use crate::relay::{Dial, PATIENCE, Relay};
use crate::report::Report;
use crate::tls::{self, Version};
use crate::watch::{Rest, still_well};

/// What the relay makes once and keeps is not counted: these come first.
const FIRST: usize = 200;
const AT_A_TIME: usize = 32;

/// What a client's frames run over.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Tls13,
    Tls12,
    WebSocket,
}

impl Kind {
    /// The most memory that one may cost, in bytes.
    const fn most(self) -> u64 {
        match self {
            Self::Tls13 => 3 << 10,
            Self::Tls12 | Self::WebSocket => 16 << 10,
        }
    }

    async fn client(self, relay: &Relay) -> Result<Link> {
        let mut dial = Dial::default();
        if matches!(self, Self::Tls12) {
            dial.tls = Some(tls::config(Version::Tls12)?);
        }
        let mut link = relay.connect(&dial).await?;
        match self {
            Self::Tls13 | Self::Tls12 => link.upgrade().await?,
            Self::WebSocket => link.upgrade_to_websocket().await?,
        }
        timeout(PATIENCE, link.log_in(&random::key()))
            .await
            .context("a login takes too long")??;
        Ok(link)
    }
}

pub(super) async fn run(cli: &Cli, kind: Kind) -> Result<Report> {
    let relay = cli.relay()?;
    let count = cli.scale(8000, 1000);
    let mut clients = log_in(kind, &relay, FIRST).await?;
    let before = Rest::of(&relay).await?;
    clients.extend(log_in(kind, &relay, count).await?);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = Rest::of(&relay).await?;
    let each = after.rss.saturating_sub(before.rss) / count as u64;

    let over = match kind {
        Kind::Tls13 => "TLS 1.3",
        Kind::Tls12 => "TLS 1.2",
        Kind::WebSocket => "WebSocket over TLS 1.3",
    };
    let mut report = Report::new(cli.times(), format!("{count} clients over {over}"));
    report.memory("each", each, kind.most());
    drop(clients);
    let left = relay.settle(before.files - FIRST as u64, PATIENCE).await?;
    report.at_most(
        "files left",
        (left + FIRST as u64).saturating_sub(before.files),
        0,
    );
    still_well(&relay, &mut report).await?;
    Ok(report)
}

async fn log_in(kind: Kind, relay: &Relay, count: usize) -> Result<Vec<Link>> {
    let mut clients = Vec::with_capacity(count);
    let mut tasks = JoinSet::new();
    for n in 0..count {
        if n >= AT_A_TIME {
            clients.push(tasks.join_next().await.context("a task is there")???);
        }
        let relay = relay.clone();
        tasks.spawn(async move { kind.client(&relay).await });
    }
    while let Some(client) = tasks.join_next().await {
        clients.push(client??);
    }
    Ok(clients)
}
