//! What a client costs from accept to close: TLS handshake, upgrade, login, and leaving.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::args::{Relay, Setup};
use crate::clock::Clock;
use crate::histogram::{Histogram, micros};
use crate::process::settle;
use crate::report::{Report, Watch};

/// Logins before the measured ones.
const WARM_UP: usize = 50;
/// How long the server may take to come to rest.
const REST: Duration = Duration::from_secs(5);

pub(crate) fn run(relay: &Relay, args: &Setup, clock: Clock) -> Result<Report> {
    ensure!((1..=20_000).contains(&args.count), "{} logins", args.count);
    let target = relay.target()?;
    for _ in 0..WARM_UP {
        target.log_in()?;
    }
    settle(relay.pid, REST)?;
    let mut watch = Watch::start(clock, relay.pid)?;
    let mut times = Histogram::new();
    let begin = clock.now();
    for number in 0..args.count {
        let start = clock.now();
        drop(target.log_in()?);
        times.add(clock.now() - start);
        if number % 100 == 0 {
            watch.look()?;
        }
    }
    let seconds = micros(clock.now() - begin) / 1e6;
    settle(relay.pid, REST)?;
    let cost = watch.end()?;

    let mut report = Report::new("setup")?;
    #[expect(clippy::cast_precision_loss, reason = "the count is limited")]
    let count = args.count as f64;
    report.add("logins", args.count);
    report.add("logins_per_s", count / seconds);
    report.add("server_us_per_login", cost.server_us / count);
    report.add("generator_us_per_login", cost.own_us / count);
    report.add("p50_us", times.quantile(0.5));
    report.add("p99_us", times.quantile(0.99));
    report.add_rss(relay.pid)?;
    Ok(report)
}
