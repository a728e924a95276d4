//! Connections in which the relay's own code panics. The relay is `panicky-relay`: panics come
//! from what it embeds, at the places where an embedder's code is called.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};
use derp_proto::{ClientFrame, ClientInfo, NodePublic};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::args::Cli;
use crate::pairs::Pairs;
use crate::random;
use crate::relay::{Dial, PATIENCE, Relay};
use crate::report::Report;

/// Clients that call themselves so make the verifier panic.
const UNLUCKY: &str = "unlucky";
/// Packets to this key make a forwarder panic, in a thread that serves many others.
const UNLUCKY_KEY: NodePublic = NodePublic::from_bytes([0xdd; 32]);
/// Connections from here make the choice of a certificate panic.
const UNLUCKY_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 238, 238, 238);
/// This page panics for everybody.
const UNLUCKY_PAGE: &str = "/panic";
const PAIRS: usize = 50;
const AT_A_TIME: usize = 32;

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let connections = cli.scale(10_000, 1000);
    let injected = connections / 100;
    // A gap, so that few neighbours' packets are in the same turn as one that panics.
    let pairs = Pairs::start(&relay, PAIRS, Duration::from_millis(20), 1200).await?;
    let (mut logins, mut failed, mut admitted) = (JoinSet::new(), 0, 0);
    for n in 0..connections {
        let relay = relay.clone();
        let panics = n % 100 == 99;
        logins.spawn(async move { (panics, log_in(&relay, panics).await.is_ok()) });
        if logins.len() >= AT_A_TIME
            && let Some(ended) = logins.join_next().await
        {
            note(ended?, &mut failed, &mut admitted);
        }
    }
    while let Some(ended) = logins.join_next().await {
        note(ended?, &mut failed, &mut admitted);
    }
    let each = injected.max(10);
    forward(&relay, each).await?;
    let answered = open_pages(&relay, each).await? + choose_certificates(&relay, each).await;
    let outcome = pairs.stop().await?;
    let counted = relay
        .metrics()
        .await?
        .count("derper_panics")
        .context("the relay does not count panics")?;

    let scale = format!(
        "{connections} logins, {injected} panics in them, {each} each while relaying, in a page \
         and in the choice of a certificate, {PAIRS} pairs"
    );
    let mut report = Report::new(cli.times(), scale);
    report.at_most("others' logins failed", failed, 0);
    report.at_most("admitted by a panic", admitted, 0);
    report.at_most("neighbours closed", outcome.closed, 0);
    report.at_most("neighbours' packets lost", outcome.lost + outcome.wrong, 0);
    report.at_most("answered by a panic", answered, 0);
    let all = (injected + 3 * each) as u64;
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

async fn log_in(relay: &Relay, panics: bool) -> Result<()> {
    let mut info = ClientInfo::plain();
    if panics {
        UNLUCKY.clone_into(&mut info.app_name);
    }
    let mut link = relay.connect(&Dial::default()).await?;
    link.upgrade().await?;
    timeout(PATIENCE, link.log_in_as(&random::key(), &info)).await?
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
        let mut link = relay.client(&random::key(), &Dial::default()).await?;
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

/// Requests for the page that panics, each on a connection of its own; returns how many are answered.
async fn open_pages(relay: &Relay, count: usize) -> Result<u64> {
    let mut answered = 0;
    for _ in 0..count {
        let mut link = relay.connect(&Dial::default()).await?;
        let page = timeout(PATIENCE, link.get(UNLUCKY_PAGE)).await;
        answered += u64::from(page.context("a page that panics stays open")?.is_ok());
    }
    Ok(answered)
}

/// Connections for which the choice of a certificate panics; returns how many get one.
async fn choose_certificates(relay: &Relay, count: usize) -> u64 {
    let mut answered = 0;
    for _ in 0..count {
        let dial = Dial::from(UNLUCKY_ADDRESS);
        answered += u64::from(relay.connect(&dial).await.is_ok());
    }
    answered
}
