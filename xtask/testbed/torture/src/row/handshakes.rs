//! TLS handshakes as fast as it goes, and what packets feel of it.
//!
//! Attackers send one recorded hello again and again: it costs them nothing, and the relay a key
//! exchange and a signature.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::args::Cli;
use crate::hello::client_hello;
use crate::logins::Logins;
use crate::pairs::{Outcome, Pairs};
use crate::random::Dice;
use crate::relay::{Dial, Relay};
use crate::report::{Report, time};
use crate::watch::still_well;

const ATTACKERS: u64 = 64;
const PAIRS: usize = 20;
/// How often each pair sends.
const GAP: Duration = Duration::from_millis(20);
/// What a packet may take.
const MOST_P99: Duration = Duration::from_millis(20);
/// What a good login may take meanwhile.
const MOST_LOGIN: Duration = Duration::from_secs(2);
/// By how much the flood may slow packets.
const MOST_SLOWER: u32 = 10;

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let span = Duration::from_secs(cli.scale(15, 4));
    let quiet = measure(&relay, span).await?;

    let flood = Arc::new(Flood {
        relay: relay.clone(),
        hello: client_hello()?,
        stop: AtomicBool::new(false),
        answered: AtomicU64::new(0),
    });
    let mut attackers = JoinSet::new();
    for n in 0..ATTACKERS {
        attackers.spawn(attack(Arc::clone(&flood), Dice::new(n)));
    }
    let logins = Logins::start(&relay);
    let flooded = measure(&relay, span).await;
    let logins = logins.stop().await;
    flood.stop.store(true, Ordering::Relaxed);
    attackers.join_all().await;
    let flooded = flooded?;

    let handshakes = flood.answered.load(Ordering::Relaxed);
    let rate = handshakes / span.as_secs();
    let scale = format!(
        "{ATTACKERS} attackers, {rate} hellos answered a second, {PAIRS} pairs, {} packets",
        flooded.sent
    );
    let mut report = Report::new(cli.times(), scale);
    let (p99, before) = (flooded.p99(), quiet.p99());
    report.speed(
        format!("p99 {}", time(p99)),
        format!("≤ {}", time(MOST_P99)),
        p99 <= MOST_P99,
    );
    let most = before.max(Duration::from_millis(1)) * MOST_SLOWER;
    report.speed(
        format!("quiet p99 {}", time(before)),
        format!("≤ {MOST_SLOWER} times that"),
        p99 <= most,
    );
    logins?.tell(&mut report, MOST_LOGIN);
    report.at_most("lost", flooded.lost + flooded.wrong, 0);
    report.at_most("closed", flooded.closed, 0);
    still_well(&relay, &mut report).await?;
    Ok(report)
}

async fn measure(relay: &Relay, span: Duration) -> Result<Outcome> {
    let pairs = Pairs::start(relay, PAIRS, GAP, 1200).await?;
    tokio::time::sleep(span).await;
    pairs.stop().await
}

struct Flood {
    relay: Relay,
    hello: Vec<u8>,
    stop: AtomicBool,
    answered: AtomicU64,
}

async fn attack(flood: Arc<Flood>, mut dice: Dice) {
    let mut answer = vec![0; 4096];
    while !flood.stop.load(Ordering::Relaxed) {
        let exchange = async {
            let mut tcp = flood.relay.tcp(&Dial::from(dice.loopback())).await?;
            tcp.write_all(&flood.hello).await?;
            anyhow::Ok(tcp.read(&mut answer).await?)
        };
        match timeout(Duration::from_secs(5), exchange).await {
            Ok(Ok(read)) if read > 0 => {
                flood.answered.fetch_add(1, Ordering::Relaxed);
            }
            // A relay may turn strangers away; that takes no time of anybody's.
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}
