//! Clients that come, send one packet and leave; and one that stays and hears of all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use derp_proto::{ClientFrame, FrameType, NodePublic};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::args::Cli;
use crate::link::Link;
use crate::random::{self, Dice};
use crate::relay::{Dial, Relay};
use crate::report::{Report, size};
use crate::watch::{Rest, still_well};

const AT_A_TIME: u64 = 32;
/// By how much memory may have grown, in percent.
const MOST_GROWN: u64 = 10;
/// Memory that is not counted as growth in a quick run, where it weighs much: an allocator's own.
const SMALL: u64 = 4 << 20;
/// How long the one that stays waits for the last of them.
const LAST: Duration = Duration::from_secs(10);

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let cycles: u64 = match relay.has_tls() {
        true => cli.scale(200_000, 4_000),
        false => cli.scale(800_000, 10_000),
    };
    let key = random::key();
    let sink = relay.client(&key, &Dial::default()).await?;
    let (count, counted) = mpsc::channel(1);
    let hears = tokio::spawn(hear(sink, counted));
    let warm_up = cycles / 5;
    let next = Arc::new(AtomicU64::new(0));
    let mut failed = churn(&relay, &next, warm_up, key.public()).await?;
    let rest = Rest::of(&relay).await?;
    failed += churn(&relay, &next, cycles, key.public()).await?;
    let files = relay.settle(rest.files, Duration::from_secs(20)).await?;
    let rss = relay.process.rss()?;
    drop(count);
    let heard = hears.await?;
    // One that is too late to read its queue loses its oldest packets: those are counted, and
    // say how busy the machine is. A packet that nobody counts is lost.
    let late = relay
        .metrics()
        .await?
        .sum("derp_packets_dropped", "reason=\"queue_");

    let over = if relay.has_tls() { "TLS" } else { "plain HTTP" };
    let mut report = Report::new(cli.times(), format!("{cycles} clients over {over}"));
    report.at_most("failed", failed, 0);
    let grown = rss.saturating_sub(rest.rss);
    let percent = grown * 100 / rest.rss;
    report.check(
        format!("memory grown {percent} % ({})", size(grown)),
        format!("≤ {MOST_GROWN} %"),
        percent <= MOST_GROWN || grown <= cli.scale(0, SMALL),
    );
    report.at_most("files left", files.saturating_sub(rest.files), 0);
    report.at_most(
        "packets lost",
        (warm_up + cycles).saturating_sub(failed + heard.packets + late),
        0,
    );
    report.at_most("not told that one has gone", heard.not_gone, 0);
    // Whose packet was dropped is only told that it has gone.
    report.at_most("told twice", heard.twice.saturating_sub(late), 0);
    still_well(&relay, &mut report).await?;
    if let Some(clients) = relay.metrics().await?.count("derp_current_connections") {
        report.at_most("clients left", clients, 0);
    }
    Ok(report)
}

/// Clients that come and go; returns how many failed.
async fn churn(relay: &Relay, next: &Arc<AtomicU64>, count: u64, dst: NodePublic) -> Result<u64> {
    let end = next.load(Ordering::Relaxed) + count;
    let mut tasks = JoinSet::new();
    for _ in 0..AT_A_TIME {
        let (relay, next) = (relay.clone(), Arc::clone(next));
        tasks.spawn(async move {
            let mut failed = 0;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return failed;
                }
                let dial = Dial::from(Dice::new(number).loopback());
                failed += u64::from(cycle(&relay, &dial, dst).await.is_err());
            }
        });
    }
    let failed = tasks.join_all().await.into_iter().sum();
    next.store(end, Ordering::Relaxed);
    Ok(failed)
}

async fn cycle(relay: &Relay, dial: &Dial, dst: NodePublic) -> Result<()> {
    let mut link = relay.client(&random::key(), dial).await?;
    let packet = b"hello and goodbye";
    link.send(&ClientFrame::SendPacket { dst, packet }).await?;
    // A reset may overtake what was sent; an end in order does not.
    link.finish().await?;
    timeout(Duration::from_secs(10), link.ended())
        .await
        .context("the relay does not close")
}

/// What the one that stays has heard.
#[derive(Default)]
struct Heard {
    packets: u64,
    not_gone: u64,
    twice: u64,
}

/// Counts packets and farewells until the sending half of `stop` is dropped and all is quiet.
async fn hear(mut link: Link, mut stop: mpsc::Receiver<()>) -> Heard {
    let mut heard = Heard::default();
    // By key: packets received, less farewells. Of those that have had both nothing is kept.
    let mut open: HashMap<Vec<u8>, i64> = HashMap::new();
    loop {
        let stopping = stop.try_recv() == Err(mpsc::error::TryRecvError::Disconnected);
        if stopping && open.is_empty() {
            break;
        }
        let Ok(Ok((ty, mut body))) = timeout(LAST, link.frame()).await else {
            if stopping {
                break;
            }
            continue;
        };
        body.truncate(32);
        let change = match ty {
            FrameType::RECV_PACKET => 1,
            FrameType::PEER_GONE => -1,
            _ => continue,
        };
        heard.packets += u64::from(change == 1);
        // A farewell may overtake a packet that waits.
        let before = open.remove(&body).unwrap_or_default();
        if before + change != 0 {
            open.insert(body, before + change);
        }
    }
    let count = |is: fn(i64) -> bool| open.values().filter(|sum| is(**sum)).count() as u64;
    heard.not_gone = count(|sum| sum > 0);
    heard.twice = count(|sum| sum < 0);
    heard
}
