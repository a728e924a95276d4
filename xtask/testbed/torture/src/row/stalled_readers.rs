//! Clients that no longer read what is sent to them, and their neighbours.
//!
//! Every second one is sent packets as long as they come over the network, the others long ones.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use derp_proto::{ClientFrame, NodePublic};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::ahead::Ahead;
use crate::args::Cli;
use crate::link::Link;
use crate::pairs::Pairs;
use crate::process;
use crate::random;
use crate::relay::{Dial, Relay};
use crate::report::{Report, size, time};
use crate::watch::{Peak, Rest, still_well};

/// The first bytes of packets that relays let pass others (`disco/disco.go`).
const DISCO: &[u8] = b"TS\xf0\x9f\x92\xac";
/// What a reader that stalls has room for, in bytes.
const RECEIVE_BUFFER: u32 = 4096;
/// Packets for each: more than its queues hold, and what the kernel takes.
const PACKETS: usize = 80;
const PACKET_LEN: usize = 60 << 10;
const SMALL_PACKETS: usize = 2000;
const SMALL_PACKET_LEN: usize = 1400;
/// The most memory that waiting packets may take, in bytes.
const MOST_GROWN: u64 = 512 << 20;
/// By when a reader must be gone that takes nothing.
const MOST_TIME: Duration = Duration::from_secs(4);
/// A reader may pause for so long and stays.
const LEAST_TIME: Duration = Duration::from_millis(1500);
/// Connections that are no reader's, such as the one by which this row asked for numbers.
const OTHERS: u64 = 4;
/// By how much they may slow their neighbours' packets.
const MOST_SLOWER: u32 = 3;
/// How long neighbours are watched before.
const QUIET: Duration = Duration::from_secs(2);
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
    let gap = Duration::from_millis(50);
    let ahead = Ahead::new(relay.process).await?;
    let pairs = || {
        let relay = relay.clone();
        ahead.spawn(async move { Pairs::start(&relay, neighbours, gap, 1200).await })
    };
    let quiet = pairs().await??;
    sleep(QUIET).await;
    let quiet = ahead.spawn(quiet.stop()).await??;
    let pairs = pairs().await??;
    let senders = relay.clients(SENDERS, &Dial::default()).await?;
    let before = relay.settle(u64::MAX, Duration::from_secs(2)).await?;
    let (links, keys) = log_in(&relay, stalled, &dial).await?;
    let rest = Rest::of(&relay).await?;

    let peak = Peak::watch(relay.process);
    let start = Instant::now();
    let sending = tokio::spawn(blast(senders, keys));
    let mut blasted = None;
    let (mut first_gone, mut kernel) = (None, 0);
    let gone = loop {
        sleep(Duration::from_millis(50)).await;
        if blasted.is_none() && sending.is_finished() {
            blasted = Some(start.elapsed());
        }
        let open = relay.process.files()?;
        if open + OTHERS < rest.files {
            first_gone.get_or_insert_with(|| start.elapsed());
        }
        kernel = kernel.max(process::tcp_memory()?);
        let gone = blasted.map_or(Duration::ZERO, |blasted| start.elapsed() - blasted);
        if (blasted.is_some() && open <= before) || gone > NEVER {
            break gone;
        }
    };
    sending.await??;
    let blasted = blasted.unwrap_or_default();
    let left = relay.process.files()?.saturating_sub(before);
    let most = peak.most();
    drop(links);
    let outcome = ahead.spawn(pairs.stop()).await??;

    let len = size(PACKET_LEN as u64);
    let sent = time(blasted);
    let scale = format!(
        "{stalled} readers, {PACKETS} packets of {len} or {SMALL_PACKETS} of {SMALL_PACKET_LEN} B \
         to each within {sent}, {neighbours} pairs beside"
    );
    let mut report = Report::new(cli.times(), scale);
    report.memory("grown", most.saturating_sub(rest.rss), MOST_GROWN);
    report.at_most("still there", left, 0);
    report.deadline("gone after", gone, MOST_TIME);
    let first = first_gone.unwrap_or_default();
    report.speed(
        format!("the first after {}", time(first)),
        format!("≥ {}", time(LEAST_TIME)),
        first >= LEAST_TIME,
    );
    report.tell(format!("the kernel's {}", size(kernel)));
    let (p99, quiet) = (outcome.p99(), quiet.p99());
    let figure = format!("neighbours' p99 {}, quiet {}", time(p99), time(quiet));
    match ahead.refused() {
        None => report.speed(
            figure,
            format!("≤ {MOST_SLOWER} times that"),
            p99 <= quiet.max(Duration::from_millis(1)) * MOST_SLOWER,
        ),
        Some(why) => report.tell(format!("{figure}, {why}")),
    };
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
async fn blast(senders: Vec<Link>, keys: Vec<NodePublic>) -> Result<()> {
    let mut tasks = JoinSet::new();
    for (n, mut link) in senders.into_iter().enumerate() {
        let mine: Vec<_> = keys
            .iter()
            .copied()
            .enumerate()
            .skip(n)
            .step_by(SENDERS)
            .collect();
        tasks.spawn(async move {
            let plain = vec![0x5a; PACKET_LEN];
            // 38 bytes more make it look like disco: a key and a nonce.
            let mut disco = DISCO.to_vec();
            disco.resize(PACKET_LEN, 0x5a);
            for (reader, dst) in mine {
                let (packets, len) = match reader / SENDERS % 2 {
                    0 => (PACKETS, PACKET_LEN),
                    _ => (SMALL_PACKETS, SMALL_PACKET_LEN),
                };
                for n in 0..packets {
                    let packet = if n % 2 == 0 { &plain } else { &disco };
                    let packet = &packet[..len];
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
