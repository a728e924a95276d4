//! Well-behaved neighbours: pairs of clients of which one sends and the other counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use derp_proto::{ClientFrame, FrameType, NodePublic};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::link::Link;
use crate::random;
use crate::relay::{Dial, Relay};

/// How long the last packets may take.
const ARRIVE: Duration = Duration::from_secs(5);
/// The part of a packet that is looked at: its number, and when it was sent.
const HEAD_LEN: usize = 16;

/// Pairs that exchange packets until they are stopped.
pub(crate) struct Pairs {
    shared: Arc<Shared>,
    senders: JoinSet<u64>,
    receivers: JoinSet<Received>,
}

struct Shared {
    start: Instant,
    stop: AtomicBool,
    /// Connections that ended before they were to.
    closed: AtomicU64,
    /// Packets that came twice, out of their order, or changed.
    wrong: AtomicU64,
}

/// What one receiver saw.
#[derive(Default)]
struct Received {
    count: u64,
    /// How long packets took, in microseconds.
    micros: Vec<u32>,
}

/// What became of the packets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) wrong: u64,
    pub(crate) closed: u64,
    /// Sorted.
    micros: Vec<u32>,
}

impl Outcome {
    /// The time that 99 of 100 packets did not exceed.
    pub(crate) fn p99(&self) -> Duration {
        let at = (self.micros.len() * 99 / 100).min(self.micros.len().saturating_sub(1));
        let micros = self.micros.get(at).copied().unwrap_or(u32::MAX);
        Duration::from_micros(micros.into())
    }
}

impl Pairs {
    /// `count` pairs, each of which sends `len` bytes every `gap`.
    pub(crate) async fn start(
        relay: &Relay,
        count: usize,
        gap: Duration,
        len: usize,
    ) -> Result<Self> {
        let mut ends = Vec::with_capacity(count);
        for _ in 0..count {
            let key = random::key();
            let to = relay.client(&key, &Dial::default()).await?;
            let from = relay.client(&random::key(), &Dial::default()).await?;
            ends.push((from, to, key.public()));
        }
        let shared = Arc::new(Shared {
            start: Instant::now(),
            stop: AtomicBool::new(false),
            closed: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
        });
        let (mut senders, mut receivers) = (JoinSet::new(), JoinSet::new());
        for (n, (from, to, dst)) in ends.into_iter().enumerate() {
            // Not all in the same moment.
            let offset = gap * u32::try_from(n)? / u32::try_from(count)?;
            senders.spawn(send(from, dst, (offset, gap, len), Arc::clone(&shared)));
            receivers.spawn(receive(to, Arc::clone(&shared)));
        }
        Ok(Self {
            shared,
            senders,
            receivers,
        })
    }

    /// Connections that have ended so far.
    pub(crate) fn closed(&self) -> u64 {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// Lets the last packets arrive.
    pub(crate) async fn stop(mut self) -> Result<Outcome> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut outcome = Outcome::default();
        while let Some(sent) = self.senders.join_next().await {
            outcome.sent += sent?;
        }
        let mut received = 0;
        while let Some(one) = self.receivers.join_next().await {
            let one = one?;
            received += one.count;
            outcome.micros.extend(one.micros);
        }
        ensure!(outcome.sent > 0, "no packet was sent");
        outcome.micros.sort_unstable();
        outcome.lost = outcome.sent.saturating_sub(received);
        outcome.wrong = self.shared.wrong.load(Ordering::Relaxed);
        outcome.closed = self.closed();
        Ok(outcome)
    }
}

async fn send(
    mut link: Link,
    dst: NodePublic,
    (offset, gap, len): (Duration, Duration, usize),
    shared: Arc<Shared>,
) -> u64 {
    let mut ticks = interval_at(Instant::now() + offset, gap);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut packet = vec![0x5a; len.max(HEAD_LEN)];
    let mut number: u64 = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let now = shared.start.elapsed().as_micros();
        packet[..8].copy_from_slice(&number.to_be_bytes());
        packet[8..HEAD_LEN].copy_from_slice(&u64::try_from(now).unwrap_or(u64::MAX).to_be_bytes());
        let frame = ClientFrame::SendPacket {
            dst,
            packet: &packet,
        };
        if link.send(&frame).await.is_err() {
            shared.closed.fetch_add(1, Ordering::Relaxed);
            break;
        }
        number += 1;
    }
    // It stays until the other end has received: a relay may drop what is from nobody.
    tokio::time::sleep(Duration::from_millis(100)).await;
    number
}

async fn receive(mut link: Link, shared: Arc<Shared>) -> Received {
    let mut received = Received::default();
    let mut next = 0;
    loop {
        let stopping = shared.stop.load(Ordering::Relaxed);
        let patience = if stopping { ARRIVE / 10 } else { ARRIVE };
        let (ty, body) = match timeout(patience, link.frame()).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(_)) => {
                shared.closed.fetch_add(1, Ordering::Relaxed);
                return received;
            }
            Err(_) if stopping => return received,
            Err(_) => continue,
        };
        if ty != FrameType::RECV_PACKET {
            continue;
        }
        match head(&body) {
            Ok((number, sent)) if number >= next => {
                next = number + 1;
                received.count += 1;
                let now = shared.start.elapsed().as_micros();
                let took = now.saturating_sub(sent.into());
                received
                    .micros
                    .push(u32::try_from(took).unwrap_or(u32::MAX));
            }
            _ => {
                shared.wrong.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The number of a packet behind its sender's key, and when it was sent.
fn head(body: &[u8]) -> Result<(u64, u64)> {
    let packet = body.get(32..).context("a packet without a sender")?;
    let half = |at: usize| -> Result<u64> {
        let bytes = packet.get(at..at + 8).context("a packet was cut")?;
        Ok(u64::from_be_bytes(bytes.try_into()?))
    };
    ensure!(
        packet[HEAD_LEN..].iter().all(|&byte| byte == 0x5a),
        "a packet was changed"
    );
    Ok((half(0)?, half(8)?))
}
