//! More connections than the relay may have open files.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::args::Cli;
use crate::pairs::Pairs;
use crate::random::{self, Dice};
use crate::relay::{Dial, Relay};
use crate::report::{Report, time};
use crate::watch::still_well;

/// Neighbours that are connected before.
const PAIRS: usize = 50;
/// How many files more the relay may open.
const MORE_FILES: u64 = 60;
/// By when a client can log in again once there are files.
const RECOVERY: Duration = Duration::from_secs(1);
/// The most that a starved relay may use of a CPU, in percent.
const MOST_CPU: u128 = 5;
/// The most lines a second that it may log.
const MOST_LINES: u64 = 2;

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let connects = cli.scale(5000, 1000);
    let span = Duration::from_secs(cli.scale(20, 5));
    let pairs = Pairs::start(&relay, PAIRS, Duration::from_millis(100), 1200).await?;
    let open = relay.process.files()?;
    let log = cli.log.as_ref();
    let lines_before = super::log_volume::lines(log)?;
    let most = open + MORE_FILES;
    let began = Instant::now();
    relay.process.limit_files(Some(most))?;
    let starved = starve(&relay, connects, span).await;
    // Whatever happened, the relay gets its files back.
    relay.process.limit_files(None)?;
    let Starved { used, held, free } = starved?;
    drop(held);
    let start = Instant::now();
    let login = relay.client(&random::key(), &Dial::default()).await;
    let recovery = start.elapsed();
    let lines = super::log_volume::lines(log)?.saturating_sub(lines_before);
    let logged_over = began.elapsed().as_secs().max(1);
    let outcome = pairs.stop().await?;

    let scale = format!(
        "{connects} connections, files for {MORE_FILES}, {} clients before",
        2 * PAIRS
    );
    let mut report = Report::new(cli.times(), scale);
    report.check(format!("{free} files free"), "starved", free <= 2);
    report.at_most("clients closed", outcome.closed, 0);
    report.at_most("lost", outcome.lost + outcome.wrong, 0);
    let logged_in = login.is_ok();
    report.check(
        if logged_in {
            "recovers"
        } else {
            "does not recover"
        },
        "recovers",
        logged_in,
    );
    report.speed(
        format!("after {}", time(recovery)),
        format!("≤ {}", time(RECOVERY)),
        recovery <= RECOVERY,
    );
    let cpu = used.as_millis() * 100 / span.as_millis();
    report.speed(
        format!("CPU {cpu} %"),
        format!("≤ {MOST_CPU} %"),
        cpu <= MOST_CPU,
    );
    if log.is_some() {
        let per_second = lines.div_ceil(logged_over);
        report.at_most("log lines a second", per_second, MOST_LINES);
    }
    still_well(&relay, &mut report).await?;
    Ok(report)
}

struct Starved {
    /// The CPU time that the relay used meanwhile.
    used: Duration,
    held: Vec<TcpStream>,
    /// The most files that it had not opened of those it might.
    free: u64,
}

async fn starve(relay: &Relay, connects: usize, span: Duration) -> Result<Starved> {
    let mut dice = Dice::new(10);
    let limit = relay.process.files()? + MORE_FILES;
    let mut held = Vec::new();
    for n in 0..connects {
        // The kernel accepts them all; what does not fit its queue fails here.
        let dial = Dial::from(dice.loopback());
        let connect = tokio::time::timeout(Duration::from_millis(200), relay.tcp(&dial)).await;
        if let Ok(Ok(tcp)) = connect {
            held.push(tcp);
        }
        if n % 50 == 49 {
            sleep(Duration::from_millis(5)).await;
        }
    }
    let open = relay.process.files().context("the relay has ended")?;
    let before = relay.process.cpu()?;
    sleep(span).await;
    let used = relay.process.cpu()? - before;
    relay.ensure_alive()?;
    Ok(Starved {
        used,
        held,
        free: limit.saturating_sub(open),
    })
}
