//! What clients cost that are connected and do nothing: memory and CPU time.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Run, TURN};
use crate::args::{Idle, Relay};
use crate::clock::{Clock, nanos};
use crate::histogram::micros;
use crate::process::{rss, settle};
use crate::report::{Report, Watch};
use crate::traffic::Sizes;

/// Clients that come and go before the first look at the server's memory.
const WARM_UP: usize = 64;
/// How long the server may take to come to rest.
const REST: Duration = Duration::from_secs(5);

pub(crate) fn run(relay: &Relay, args: &Idle, clock: Clock) -> Result<Report> {
    ensure!(
        (2..=19_000).contains(&args.clients),
        "{} clients",
        args.clients
    );
    ensure!(
        args.clients.is_multiple_of(2),
        "every client needs another one to send to"
    );
    ensure!(
        args.seconds <= 120,
        "{} s is not a time to measure",
        args.seconds
    );
    let warm_up: Vec<_> = (1..WARM_UP).map(|to| (0, to)).collect();
    let mut run = Run::connect(relay, clock, &warm_up, Sizes::Fixed(64))?;
    round_of_packets(&mut run)?;
    drop(run);
    settle(relay.pid, REST)?;

    let before = rss(relay.pid)?;
    let begin = clock.now();
    let flows: Vec<_> = (0..args.clients).map(|from| (from, from ^ 1)).collect();
    let mut run = Run::connect(relay, clock, &flows, Sizes::Fixed(64))?;
    let login = clock.now() - begin;
    rest(&mut run, Duration::from_secs(2))?;
    settle(relay.pid, REST)?;
    let connected = rss(relay.pid)?;
    let watch = Watch::start(clock, relay.pid)?;
    rest(&mut run, Duration::from_secs(args.seconds))?;
    let cost = watch.end()?;
    round_of_packets(&mut run)?;
    settle(relay.pid, REST)?;
    let used = rss(relay.pid)?;

    let mut report = Report::new("idle")?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "the number is limited, and so is memory"
    )]
    let kib_per_client = |now: u64| (now as f64 - before as f64) / 1024.0 / args.clients as f64;
    report.add("clients", args.clients);
    report.add("login_s", micros(login) / 1e6);
    report.add("rss_kib_per_client", kib_per_client(connected));
    report.add("rss_kib_per_client_after_a_packet", kib_per_client(used));
    report.add("seconds", cost.seconds);
    report.add("server_ms_per_s", cost.server_us / 1000.0 / cost.seconds);
    report.add("keep_alives", run.clients.keep_alives);
    report.add_losses(&run.traffic);
    report.add_rss(relay.pid)?;
    Ok(report)
}

/// Takes keep-alives for so long.
fn rest(run: &mut Run, time: Duration) -> Result<()> {
    let end = run.clock.now() + nanos(time);
    while run.clock.now() < end {
        run.clients.turn(TURN, &mut run.traffic)?;
    }
    Ok(())
}

/// Every client sends a packet and receives one.
fn round_of_packets(run: &mut Run) -> Result<()> {
    for flow in 0..run.traffic.flows() {
        run.traffic.send(&mut run.clients, flow)?;
        run.clients.flush()?;
        run.let_arrive()?;
    }
    ensure!(
        run.traffic.lost() == 0,
        "{} packets were lost",
        run.traffic.lost()
    );
    Ok(())
}
