//! Clients that no longer read what is sent to them, and their neighbours.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use derp_proto::{ClientFrame, NodePublic};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::Cli;
use crate::link::Link;
use crate::pairs::Pairs;
use crate::random;
use crate::relay::{Dial, Relay};
use crate::report::Report;
use crate::watch::{Peak, Rest, still_well};

/// The first bytes of packets that relays let pass others (`disco/disco.go`).
const DISCO: &[u8] = b"TS\xf0\x9f\x92\xac";
/// What a reader that stalls has room for, in bytes.
const RECEIVE_BUFFER: u32 = 4096;
/// Packets for each: more than its queues hold, and what the kernel takes.
const PACKETS: usize = 80;
const PACKET_LEN: usize = 60 << 10;
/// The most memory that waiting packets may take, in bytes.
const MOST_GROWN: u64 = 512 << 20;
/// By when a reader must be gone that takes nothing.
const MOST_TIME: Duration = Duration::from_secs(4);
/// When it is sure that it never will be.
const NEVER: Duration = Duration::from_secs(30);
/// Clients that send to them.
const SENDERS: usize = 4;

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let stalled = cli.scale(6000, 400);
    let neighbours = cli.scale(100, 20);
    // A frame that was not sent when its connection is closed would wait for a window for ever.
    let dial = Dial {
        receive_buffer: Some(RECEIVE_BUFFER),
        ..Dial::default()
    };
    let pairs = Pairs::start(&relay, neighbours, Duration::from_millis(50), 1200).await?;
    let senders = relay.clients(SENDERS, &Dial::default()).await?;
    let before = relay.settle(u64::MAX, Duration::from_secs(2)).await?;
    let (links, keys) = log_in(&relay, stalled, &dial).await?;
    let rest = Rest::of(&relay).await?;

    let peak = Peak::watch(relay.process);
    let start = Instant::now();
    blast(senders, &keys).await?;
    let blasted = start.elapsed();
    let mut gone = Duration::ZERO;
    while relay.process.files()? > before && gone < NEVER {
        tokio::time::sleep(Duration::from_millis(50)).await;
        gone = start.elapsed() - blasted;
    }
    let left = relay.process.files()?.saturating_sub(before);
    let most = peak.most();
    drop(links);
    let outcome = pairs.stop().await?;

    let len = crate::report::size(PACKET_LEN as u64);
    let sent = crate::report::time(blasted);
    let scale = format!(
        "{stalled} readers, {PACKETS} packets of {len} to each within {sent}, {neighbours} pairs beside"
    );
    let mut report = Report::new(cli.quick, scale);
    report.memory("grown", most.saturating_sub(rest.rss), MOST_GROWN);
    report.at_most("still there", left, 0);
    report.deadline("gone after", gone, MOST_TIME);
    report.at_most("neighbours' packets lost", outcome.lost + outcome.wrong, 0);
    report.at_most("neighbours closed", outcome.closed, 0);
    still_well(&relay, &mut report).await?;
    Ok(report)
}

async fn log_in(relay: &Relay, count: usize, dial: &Dial) -> Result<(Vec<Link>, Vec<NodePublic>)> {
    let (mut links, mut keys) = (Vec::new(), Vec::new());
    let mut tasks = JoinSet::new();
    for n in 0..count {
        let (relay, dial) = (relay.clone(), dial.clone());
        tasks.spawn(async move {
            let key = random::key();
            let link = relay.client(&key, &dial).await?;
            anyhow::Ok((link, key.public()))
        });
        if n >= 32 || n + 1 == count {
            let (link, key) = tasks.join_next().await.context("a task is there")???;
            links.push(link);
            keys.push(key);
        }
    }
    while let Some(one) = tasks.join_next().await {
        let (link, key) = one??;
        links.push(link);
        keys.push(key);
    }
    ensure!(links.len() == count, "all have logged in");
    Ok((links, keys))
}

/// Sends as fast as the relay takes it, packets of both kinds, to one reader after another.
async fn blast(senders: Vec<Link>, keys: &[NodePublic]) -> Result<()> {
    let mut tasks = JoinSet::new();
    for (n, mut link) in senders.into_iter().enumerate() {
        let mine: Vec<_> = keys.iter().copied().skip(n).step_by(SENDERS).collect();
        tasks.spawn(async move {
            let plain = vec![0x5a; PACKET_LEN];
            // 38 bytes more make it look like disco: a key and a nonce.
            let mut disco = DISCO.to_vec();
            disco.resize(PACKET_LEN, 0x5a);
            for dst in mine {
                for n in 0..PACKETS {
                    let packet = if n % 2 == 0 { &plain } else { &disco };
                    link.send(&ClientFrame::SendPacket { dst, packet }).await?;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(sent) = tasks.join_next().await {
        sent??;
    }
    Ok(())
}
