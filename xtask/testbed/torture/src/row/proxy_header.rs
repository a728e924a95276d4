//! What is no PROXY header, or no good one, to a relay that wants one of each connection.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Result;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::args::Cli;
use crate::hello::client_hello;
use crate::random::Dice;
use crate::relay::{Dial, Relay};
use crate::report::Report;
use crate::watch::Rest;

use super::AT_A_TIME;

/// How much memory may stay: allocators keep some, and networks that were named are remembered.
const MOST_DRIFT: u64 = 16 << 20;
/// How long an attacker listens before it leaves.
const LISTEN: Duration = Duration::from_millis(2);
/// What begins a header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What becomes of headers that a relay does not take, by the labels of its counter.
const REFUSED: [&str; 6] = [
    "missing",
    "malformed",
    "too_long",
    "checksum",
    "too_slow",
    "ended",
];

struct Shared {
    relay: Relay,
    hello: Vec<u8>,
    next: Arc<AtomicU64>,
}

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let count = cli.scale(200_000, 10_000);
    let shared = Arc::new(Shared {
        relay: relay.clone(),
        hello: client_hello()?,
        next: Arc::default(),
    });
    // What the relay makes once and keeps is not the attack's doing.
    let mut not_taken = attack(&shared, count / 10).await?;
    let rest = Rest::of(&relay).await?;
    let refused_before = refused(&relay).await?;
    not_taken += attack(&shared, count).await?;

    let scale = format!("{count} headers, {AT_A_TIME} at a time");
    let mut report = Report::new(cli.times(), scale);
    report.at_most("connections not taken", not_taken, 0);
    rest.check(&relay, &mut report, MOST_DRIFT).await?;
    if let (Some(before), Some(after)) = (refused_before, refused(&relay).await?) {
        // Many mutations do no harm, and many connections end before their header does.
        let refused = after.saturating_sub(before);
        let figure = format!("headers refused {refused}");
        let least = count / 10;
        report.check(figure, format!("≥ {least}"), refused >= least);
    }
    Ok(report)
}

/// How many headers the relay says it refused; none where it does not tell.
async fn refused(relay: &Relay) -> Result<Option<u64>> {
    let metrics = relay.metrics().await?;
    let count =
        |outcome: &&str| metrics.count(&format!("derper_proxy_headers{{outcome=\"{outcome}\"}}"));
    Ok(REFUSED.iter().map(count).sum())
}

/// Sends `count` headers; returns how many connections the relay did not take.
async fn attack(shared: &Arc<Shared>, count: u64) -> Result<u64> {
    let attackers = Arc::clone(shared);
    let taken = super::in_parallel(&shared.next, count, move |number| {
        let shared = Arc::clone(&attackers);
        async move { stream(&shared, &mut Dice::new(number)).await.is_ok() }
    });
    Ok(taken.await?.iter().filter(|taken| !**taken).count() as u64)
}

/// One connection. What the relay answers is its own affair; only that it takes it is asked.
async fn stream(shared: &Shared, dice: &mut Dice) -> Result<()> {
    let mut tcp = shared.relay.tcp(&Dial::from(dice.loopback())).await?;
    let mut bytes = header(dice);
    if dice.once_in(2) {
        bytes.extend_from_slice(&shared.hello);
    }
    // From here on the relay may close at any moment.
    let _closed = tcp.write_all(&bytes).await;
    if dice.once_in(2) {
        let _closed = tcp.shutdown().await;
        let _late = timeout(LISTEN, tcp.readable()).await;
    }
    Ok(())
}

/// A header that is cut, changed, endless or nonsense.
fn header(dice: &mut Dice) -> Vec<u8> {
    let mut header = match dice.below(4) {
        0 => {
            let [a, b, c, d] = dice.loopback().octets();
            format!("PROXY TCP4 {a}.{b}.{c}.{d} 192.0.2.2 65535 443\r\n").into_bytes()
        }
        1 => {
            // Its length is what was thrown, and not what follows.
            let mut header = SIGNATURE.to_vec();
            header.extend_from_slice(&[0x21, 0x11, dice.byte(), dice.byte()]);
            let len = dice.below(300);
            header.extend(dice.fill(len));
            header
        }
        2 => {
            // A line that does not end.
            let mut header = b"PROXY TCP6 ".to_vec();
            header.resize(dice.below(4000) + header.len(), b':');
            return header;
        }
        _ => {
            let len = dice.below(2000);
            return dice.fill(len);
        }
    };
    let at = dice.below(header.len());
    match dice.below(3) {
        0 => header.truncate(at),
        1 => header[at] ^= 1 << dice.below(8),
        _ => header[at] = dice.byte(),
    }
    header
}
