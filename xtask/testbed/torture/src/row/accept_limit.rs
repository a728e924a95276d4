//! Many more connections than the relay takes in a second. Those who are connected feel nothing.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout};

use crate::args::Cli;
use crate::pairs::Pairs;
use crate::random::{self, Dice};
use crate::relay::Dial;
use crate::report::{Report, time};
use crate::watch::still_well;

use super::AT_A_TIME;

/// Neighbours that are connected before.
const PAIRS: usize = 50;
/// By when a client can log in again once nobody attacks.
const RECOVERY: Duration = Duration::from_secs(1);
/// How long the relay's limit takes to let a login through.
const BREATH: Duration = Duration::from_millis(500);
/// The most lines a second that it may log.
const MOST_LINES: u64 = 10;

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let connects: u64 = cli.scale(100_000, 5_000);
    let pairs = Pairs::start(&relay, PAIRS, Duration::from_millis(100), 1200).await?;
    let lines_before = super::log_volume::lines(cli.log.as_ref())?;
    let start = Instant::now();
    let stranger = relay.clone();
    let next = Arc::default();
    let closed = super::in_parallel(&next, connects, move |number| {
        let relay = stranger.clone();
        async move {
            let dial = Dial::from(Dice::new(number).loopback());
            let Ok(mut tcp) = relay.tcp(&dial).await else {
                return true;
            };
            // One that is taken hears nothing, for it says nothing.
            let read = timeout(Duration::from_millis(20), tcp.read(&mut [0])).await;
            read.is_ok()
        }
    });
    let closed = closed.await?.iter().filter(|closed| **closed).count();
    let seconds = start.elapsed().as_secs().max(1);
    sleep(BREATH).await;
    let start = Instant::now();
    let login = relay.client(&random::key(), &Dial::default()).await;
    let recovery = start.elapsed();
    let lines = super::log_volume::lines(cli.log.as_ref())?.saturating_sub(lines_before);
    // It lets few in, and what follows asks for several.
    sleep(BREATH).await;
    let outcome = pairs.stop().await?;

    let scale = format!(
        "{connects} connections, {AT_A_TIME} at a time, {} clients before",
        2 * PAIRS
    );
    let mut report = Report::new(cli.times(), scale);
    let percent = closed as u64 * 100 / connects;
    report.check(
        format!("{percent} % closed at once"),
        "≥ 50 %",
        percent >= 50,
    );
    report.at_most("clients closed", outcome.closed, 0);
    report.at_most("lost", outcome.lost + outcome.wrong, 0);
    report.check(
        if login.is_ok() {
            "recovers"
        } else {
            "does not recover"
        },
        "recovers",
        login.is_ok(),
    );
    report.speed(
        format!("after {}", time(recovery)),
        format!("≤ {}", time(RECOVERY)),
        recovery <= RECOVERY,
    );
    report.at_most("log lines a second", lines / seconds, MOST_LINES);
    still_well(&relay, &mut report).await?;
    Ok(report)
}
