//! Whether the server's memory stays what it is while clients come and go.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Run;
use crate::args::{Churn, Relay};
use crate::clock::{Clock, nanos};
use crate::process::{rss, settle};
use crate::report::{Report, Watch};
use crate::traffic::Sizes;

/// How often a tenth of the clients is replaced.
const PERIOD: Duration = Duration::from_millis(500);
/// How long the server may take to come to rest.
const REST: Duration = Duration::from_secs(5);

pub(crate) fn run(relay: &Relay, args: &Churn, clock: Clock) -> Result<Report> {
    ensure!(
        (10..=19_000).contains(&args.clients),
        "{} clients",
        args.clients
    );
    ensure!(
        args.seconds <= 600,
        "{} s is not a time to measure",
        args.seconds
    );
    let target = relay.target()?;
    let mut run = Run::connect(relay, clock, &[(0, args.clients - 1)], Sizes::Fixed(64))?;
    settle(relay.pid, REST)?;
    let steady = rss(relay.pid)?;
    let mut watch = Watch::start(clock, relay.pid)?;
    let mut replaced = 0;
    let begin = clock.now();
    let end = begin + nanos(Duration::from_secs(args.seconds));
    let mut due = begin;
    while clock.now() < end {
        for _ in 0..args.clients / 10 {
            run.clients.replace(&target, replaced % args.clients)?;
            replaced += 1;
        }
        watch.look()?;
        // Where the relay is slower than that, its clients come and go more slowly.
        due = clock.now().max(due + nanos(PERIOD));
        while clock.now() < due {
            let rest = Duration::from_nanos(due.saturating_sub(clock.now()));
            run.clients.turn(rest, &mut run.traffic)?;
        }
    }
    let cost = watch.end()?;
    settle(relay.pid, REST)?;
    let after = rss(relay.pid)?;

    let mut report = Report::new("churn")?;
    #[expect(clippy::cast_precision_loss, reason = "no process has 2^53 bytes")]
    let growth = after as f64 / steady as f64;
    report.add("clients", args.clients);
    report.add("seconds", cost.seconds);
    report.add("replaced", replaced);
    #[expect(clippy::cast_precision_loss, reason = "few logins fit into a run")]
    report.add(
        "server_us_per_login",
        cost.server_us / replaced.max(1) as f64,
    );
    report.add("rss_growth", growth);
    report.add_rss(relay.pid)?;
    Ok(report)
}
