//! Many connections with one key: who gets the packets, how many stay, and what it costs.

use std::time::Duration;

use anyhow::{Context, Result};
use derp_proto::{ClientFrame, FrameType, NodePrivate};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::args::Cli;
use crate::link::Link;
use crate::random::{self, Dice};
use crate::relay::{Dial, Relay};
use crate::report::Report;
use crate::watch::{Rest, still_well};

/// How many connections of one key stay.
const KEPT: u64 = 8;
/// What alternation may cost in memory, in bytes.
const MOST_GROWN: u64 = 1 << 20;
/// Frames that are written at a time, to either connection in turn.
const BATCH: u64 = 64;

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let frames: u64 = cli.scale(10_000_000, 300_000);
    let connections = cli.scale(1000, 150);
    let rounds = cli.scale(2000, 200);

    let astray = route(&relay, rounds).await?;
    let grown = alternate(&relay, frames).await?;
    let kept = pile_up(&relay, connections).await?;

    let mut report = Report::new(
        cli.times(),
        format!("{frames} frames in turns, {connections} connections, {rounds} packets"),
    );
    report.at_most("packets astray", astray, 0);
    report.memory("grown", grown, MOST_GROWN);
    report.check(format!("kept {kept}"), KEPT.to_string(), kept == KEPT);
    still_well(&relay, &mut report).await?;
    Ok(report)
}

/// Packets for a key go to that of its connections that sent last; returns how many did not.
async fn route(relay: &Relay, rounds: usize) -> Result<u64> {
    let key = random::key();
    let mut sender = relay.client(&random::key(), &Dial::default()).await?;
    let mut ends = Vec::new();
    for _ in 0..3 {
        ends.push(relay.client(&key, &Dial::default()).await?);
    }
    let mut dice = Dice::new(17);
    let mut astray = 0;
    for n in 0..rounds {
        let end = dice.below(ends.len());
        let active = &mut ends[end];
        let data = (n as u64).to_be_bytes();
        active.send(&ClientFrame::Ping(data)).await?;
        // The answer says that the relay has read it.
        while timeout(Duration::from_secs(10), active.frame()).await??.0 != FrameType::PONG {}
        let dst = key.public();
        sender
            .send(&ClientFrame::SendPacket { dst, packet: &data })
            .await?;
        let arrived = async {
            loop {
                let (ty, body) = active.frame().await?;
                if ty == FrameType::RECV_PACKET && body[32..] == data {
                    return anyhow::Ok(());
                }
            }
        };
        let arrived = timeout(Duration::from_secs(2), arrived).await;
        astray += u64::from(!matches!(arrived, Ok(Ok(()))));
        if astray > 5 {
            break;
        }
    }
    Ok(astray)
}

/// Two connections that send in turns; returns what the relay's memory grew by.
async fn alternate(relay: &Relay, frames: u64) -> Result<u64> {
    let key = random::key();
    let mut one = relay.client(&key, &Dial::default()).await?;
    let mut other = relay.client(&key, &Dial::default()).await?;
    turns(&mut one, &mut other, frames / 10).await?;
    let rest = Rest::of(relay).await?;
    turns(&mut one, &mut other, frames).await?;
    let after = Rest::of(relay).await?;
    Ok(after.rss.saturating_sub(rest.rss))
}

async fn turns(one: &mut Link, other: &mut Link, frames: u64) -> Result<()> {
    let mut note = Vec::new();
    ClientFrame::NotePreferred(true).encode(&mut note);
    for n in 0..frames / 2 {
        one.send_frames(&note).await?;
        other.send_frames(&note).await?;
        // Now and then they wait for the relay, or it would read many of one at a time.
        if n % BATCH == BATCH - 1 {
            for link in [&mut *one, &mut *other] {
                link.send(&ClientFrame::Ping([7; 8])).await?;
                let pong = async {
                    while link.frame().await?.0 != FrameType::PONG {}
                    anyhow::Ok(())
                };
                timeout(Duration::from_secs(20), pong)
                    .await
                    .context("no pong")??;
            }
        }
    }
    Ok(())
}

/// Many connections with one key; returns how many the relay keeps.
async fn pile_up(relay: &Relay, connections: usize) -> Result<u64> {
    let key = random::key();
    let before = relay.settle(u64::MAX, Duration::from_secs(3)).await?;
    let mut links = Vec::new();
    let mut tasks = JoinSet::new();
    for n in 0..connections {
        let (relay, key) = (
            relay.clone(),
            NodePrivate::from_random(*key.expose_secret_bytes()),
        );
        tasks.spawn(async move { relay.client(&key, &Dial::default()).await });
        if n % 16 == 15 {
            // The relay may close one while it is still logging in.
            links.extend(tasks.join_next().await.context("a task is there")??.ok());
        }
    }
    links.extend(tasks.join_all().await.into_iter().flatten());
    let files = relay.settle(before + KEPT, Duration::from_secs(10)).await?;
    drop(links);
    Ok(files.saturating_sub(before))
}
