//! Connections in which the relay's own code panics. The relay is `panicky-relay`: panics come
//! from what it embeds, at the places where an embedder's code is called.

use std::time::Duration;

use anyhow::{Context, Result};
use derp_proto::{ClientFrame, NodePrivate, NodePublic};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::args::Cli;
use crate::pairs::Pairs;
use crate::random;
use crate::relay::{Dial, Relay};
use crate::report::Report;

/// Keys that begin so make the verifier panic.
const UNLUCKY: u8 = 0xee;
/// Packets to this key make a forwarder panic, in a thread that serves many others.
const UNLUCKY_KEY: NodePublic = NodePublic::from_bytes([0xdd; 32]);
const PAIRS: usize = 50;
const AT_A_TIME: usize = 32;

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let connections = cli.scale(10_000, 1000);
    let injected = connections / 100;
    let unlucky: Vec<_> = (0..injected).map(|_| key(true)).collect();
    // A gap, so that few neighbours' packets are in the same turn as one that panics.
    let pairs = Pairs::start(&relay, PAIRS, Duration::from_millis(20), 1200).await?;
    let mut unlucky = unlucky.into_iter();
    let (mut logins, mut failed, mut admitted) = (JoinSet::new(), 0, 0);
    for n in 0..connections {
        let relay = relay.clone();
        let key = if n % 100 == 99 { unlucky.next() } else { None };
        logins.spawn(async move {
            let panics = key.is_some();
            let key = key.unwrap_or_else(|| self::key(false));
            let dial = Dial::default();
            let login = timeout(Duration::from_secs(20), relay.client(&key, &dial)).await;
            (panics, matches!(login, Ok(Ok(_))))
        });
        if logins.len() >= AT_A_TIME
            && let Some(ended) = logins.join_next().await
        {
            note(ended?, &mut failed, &mut admitted);
        }
    }
    while let Some(ended) = logins.join_next().await {
        note(ended?, &mut failed, &mut admitted);
    }
    let in_workers = injected.max(10);
    forward(&relay, in_workers).await?;
    let outcome = pairs.stop().await?;
    let counted = relay
        .metrics()
        .await?
        .count("derper_panics")
        .context("the relay does not count panics")?;

    let scale = format!(
        "{connections} logins, {injected} panics in them, {in_workers} while relaying, {PAIRS} pairs"
    );
    let mut report = Report::new(cli.quick, scale);
    report.at_most("others' logins failed", failed, 0);
    report.at_most("admitted by a panic", admitted, 0);
    report.at_most("neighbours closed", outcome.closed, 0);
    report.at_most("neighbours' packets lost", outcome.lost + outcome.wrong, 0);
    let all = (injected + in_workers) as u64;
    report.check(
        format!("counted {counted}"),
        all.to_string(),
        counted == all,
    );
    relay.ensure_alive()?;
    let relays = relay.relays().await;
    report.check(
        if relays.is_ok() {
            "relays"
        } else {
            "does not relay"
        },
        "relays",
        relays.is_ok(),
    );
    Ok(report)
}

fn note((panics, logged_in): (bool, bool), failed: &mut u64, admitted: &mut u64) {
    match (panics, logged_in) {
        (true, true) => *admitted += 1,
        (false, false) => *failed += 1,
        _ => {}
    }
}

/// Packets that make the forwarder panic, each of its own client.
async fn forward(relay: &Relay, count: usize) -> Result<()> {
    for _ in 0..count {
        let mut link = relay.client(&key(false), &Dial::default()).await?;
        let packet = b"this will hurt";
        let frame = ClientFrame::SendPacket {
            dst: UNLUCKY_KEY,
            packet,
        };
        link.send(&frame).await?;
        // Its connection ends, or it is spared; either way this packet has been dealt with.
        let pong = async {
            link.send(&ClientFrame::Ping([7; 8])).await?;
            link.frame().await
        };
        let _ended = timeout(Duration::from_secs(2), pong).await;
    }
    Ok(())
}

/// A new key that makes the verifier panic, or surely does not.
fn key(is_unlucky: bool) -> NodePrivate {
    loop {
        let key = random::key();
        if (key.public().as_bytes()[0] == UNLUCKY) == is_unlucky {
            return key;
        }
    }
}
