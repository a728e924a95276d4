//! SIGTERM under load: what the relay has read is delivered, everybody is told, and it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use derp_proto::{ClientFrame, FrameType, NodePublic};
use rustix::process::Signal;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::args::Cli;
use crate::link::Link;
use crate::random;
use crate::relay::Dial;
use crate::report::Report;

/// By when the process has ended.
const MOST_TIME: Duration = Duration::from_secs(16);
/// When it is sure that it never will.
const NEVER: Duration = Duration::from_secs(40);
/// How long load goes on before the signal.
const BEFORE: Duration = Duration::from_secs(2);
/// What the relay has certainly read by the signal was sent so long before it.
const READ: Duration = Duration::from_millis(500);
/// One receiver in so many reads nothing around the signal, so that packets wait for it.
const SLOW: usize = 10;
/// How long it does not read: less than a relay's patience.
const PAUSE: Duration = Duration::from_millis(1200);
/// What waits for a slow one: more than its socket takes, less than its queue holds.
const BURST: u64 = 16;
const BURST_LEN: usize = 24 << 10;

/// What one receiver saw until its connection ended.
struct Seen {
    packets: u64,
    told: bool,
    ended: Instant,
}

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let pairs = cli.scale(500, 60);
    let rate: u32 = cli.scale(20_000, 1500);
    let gap = Duration::from_secs(1) * u32::try_from(pairs)? / rate;
    let stop = Arc::new(AtomicBool::new(false));
    let pause = Arc::new(AtomicBool::new(false));
    let (mut senders, mut receivers) = (JoinSet::new(), JoinSet::new());
    for n in 0..pairs {
        let key = random::key();
        let is_slow = n % SLOW == 0;
        let dial = Dial {
            receive_buffer: is_slow.then_some(4096),
            ..Dial::default()
        };
        let to = relay.client(&key, &dial).await?;
        let from = relay.client(&random::key(), &Dial::default()).await?;
        let pause = is_slow.then(|| Arc::clone(&pause));
        senders.spawn(send(from, key.public(), gap, is_slow, Arc::clone(&stop)));
        receivers.spawn(receive(to, pause));
    }
    sleep(BEFORE).await;
    pause.store(true, Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    sleep(READ).await;
    ensure!(
        relay.process.is_alive(),
        "the relay has ended before it was to"
    );

    relay.process.signal(Signal::TERM)?;
    let start = Instant::now();
    while relay.process.is_alive() && start.elapsed() < NEVER {
        sleep(Duration::from_millis(20)).await;
    }
    let took = start.elapsed();
    let (mut sent, mut told) = (0, 0);
    for (packets, one) in senders.join_all().await {
        sent += packets;
        told += u64::from(one);
    }
    let (mut received, mut first, mut last) = (0, NEVER, Duration::ZERO);
    for seen in receivers.join_all().await {
        received += seen.packets;
        told += u64::from(seen.told);
        let life = seen.ended.saturating_duration_since(start);
        (first, last) = (first.min(life), last.max(life));
    }
    let clients = 2 * pairs as u64;
    let slow = pairs.div_ceil(SLOW);
    let spread = last.saturating_sub(first);
    let mut report = Report::new(
        cli.quick,
        format!(
            "{clients} clients, {rate} packets a second, {slow} slow readers with packets waiting"
        ),
    );
    report.at_most("lost", sent - received.min(sent), 0);
    report.at_most("not told", clients - told, 0);
    report.deadline("ended after", took, MOST_TIME);
    report.check(
        format!("closed over {}", crate::report::time(spread)),
        "≥ 1 s",
        spread >= Duration::from_secs(1),
    );
    Ok(report)
}

/// Sends until it is stopped, then listens. Returns how much it sent, and whether it was told.
async fn send(
    mut link: Link,
    dst: NodePublic,
    gap: Duration,
    is_slow: bool,
    stop: Arc<AtomicBool>,
) -> (u64, bool) {
    let mut ticks = interval(gap);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut packets = 0;
    let packet = vec![0x5a; BURST_LEN];
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let packet = &packet[..1000];
        if link
            .send(&ClientFrame::SendPacket { dst, packet })
            .await
            .is_err()
        {
            return (packets, false);
        }
        packets += 1;
    }
    if is_slow {
        let packet = &packet;
        for _ in 0..BURST {
            if link
                .send(&ClientFrame::SendPacket { dst, packet })
                .await
                .is_err()
            {
                return (packets, false);
            }
            packets += 1;
        }
    }
    (packets, receive(link, None).await.told)
}

/// Reads until the connection ends. With `pause`, it stops for a while when that is set.
async fn receive(mut link: Link, mut pause: Option<Arc<AtomicBool>>) -> Seen {
    let mut seen = Seen {
        packets: 0,
        told: false,
        ended: Instant::now(),
    };
    loop {
        if let Some(set) = &pause
            && set.load(Ordering::Relaxed)
        {
            sleep(PAUSE).await;
            pause = None;
        }
        // A turn in between, so that the pause is seen.
        match timeout(Duration::from_millis(50), link.frame()).await {
            Err(_) => {}
            Ok(Ok((FrameType::RECV_PACKET, _))) => seen.packets += 1,
            Ok(Ok((FrameType::RESTARTING, _))) => seen.told = true,
            Ok(Ok(_)) => {}
            Ok(Err(_)) => {
                seen.ended = Instant::now();
                return seen;
            }
        }
    }
}
