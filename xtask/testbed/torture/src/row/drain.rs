//! SIGTERM under load: what the relay has read is delivered, everybody is told, and it ends.
//!
//! Most go on sending until they are closed. What the relay has read then is known of two kinds of
//! packets: those that were sent long before the signal, and those behind which a later one arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use derp_proto::{ClientFrame, FrameType, NodePublic};
use rustix::process::Signal;
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
const PACKET_LEN: usize = 1000;

/// What one sender did until its connection ended.
struct Sent {
    /// How many packets the relay has certainly read.
    read: u64,
    told: bool,
}

/// What one receiver saw until its connection ended.
struct Seen {
    packets: u64,
    /// The number after the last packet's, with which they begin.
    next: u64,
    told: bool,
    ended: Instant,
}

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let pairs = cli.scale(500, 60);
    let rate: u32 = cli.scale(20_000, 1500);
    let gap = Duration::from_secs(1) * u32::try_from(pairs)? / rate;
    let mark = Arc::new(AtomicBool::new(false));
    let (mut senders, mut receivers) = (Vec::new(), Vec::new());
    for n in 0..pairs {
        let key = random::key();
        let is_slow = n % SLOW == 0;
        let dial = Dial {
            receive_buffer: is_slow.then_some(4096),
            ..Dial::default()
        };
        let to = relay.client(&key, &dial).await?;
        let from = relay.client(&random::key(), &Dial::default()).await?;
        let pause = is_slow.then(|| Arc::clone(&mark));
        let mark = Arc::clone(&mark);
        senders.push(tokio::spawn(send(from, key.public(), gap, is_slow, mark)));
        receivers.push(tokio::spawn(receive(to, pause)));
    }
    sleep(BEFORE).await;
    mark.store(true, Ordering::Relaxed);
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
    let ended = !relay.process.is_alive();
    let (mut lost, mut told, mut packets) = (0, 0, 0);
    let (mut first, mut last) = (NEVER, Duration::ZERO);
    for (sender, receiver) in senders.into_iter().zip(receivers) {
        let (sent, seen) = (sender.await?, receiver.await?);
        told += u64::from(sent.told) + u64::from(seen.told);
        packets += seen.packets;
        lost += sent.read.max(seen.next).saturating_sub(seen.packets);
        let life = seen.ended.saturating_duration_since(start);
        (first, last) = (first.min(life), last.max(life));
    }
    let clients = 2 * pairs as u64;
    let slow = pairs.div_ceil(SLOW);
    let spread = last.saturating_sub(first);
    let mut report = Report::new(
        cli.times(),
        format!(
            "{clients} clients, {rate} packets a second through the signal, {packets} in all, \
             {slow} slow readers with packets waiting"
        ),
    );
    report.at_most("lost", lost, 0);
    report.at_most("not told", clients - told, 0);
    report.check(if ended { "ended" } else { "runs on" }, "ended", ended);
    report.deadline("after", took, MOST_TIME);
    report.check(
        format!("closed over {}", crate::report::time(spread)),
        "≥ 1 s",
        spread >= Duration::from_secs(1),
    );
    Ok(report)
}

/// Sends until its connection ends. A slow reader's sends no more from the mark on, but what is to
/// wait for it.
async fn send(
    mut link: Link,
    dst: NodePublic,
    gap: Duration,
    is_slow: bool,
    mark: Arc<AtomicBool>,
) -> Sent {
    let mut ticks = interval(gap);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut packets, mut read, mut told): (u64, Option<u64>, bool) = (0, None, false);
    loop {
        if read.is_none() && mark.load(Ordering::Relaxed) {
            if is_slow {
                break;
            }
            read = Some(packets);
        }
        // Whoever does not listen while it sends may not hear what was said before the end.
        tokio::select! {
            frame = link.frame() => match frame {
                Ok((ty, _)) => told |= ty == FrameType::RESTARTING,
                Err(_) => {
                    let read = read.unwrap_or(packets);
                    return Sent { read, told };
                }
            },
            _ = ticks.tick() => {
                // That it cannot be sent is heard, too.
                if send_one(&mut link, dst, packets, PACKET_LEN).await.is_ok() {
                    packets += 1;
                }
            }
        }
    }
    for _ in 0..BURST {
        if send_one(&mut link, dst, packets, BURST_LEN).await.is_err() {
            break;
        }
        packets += 1;
    }
    let told = receive(link, None).await.told;
    Sent {
        read: packets,
        told,
    }
}

async fn send_one(link: &mut Link, dst: NodePublic, number: u64, len: usize) -> Result<()> {
    let mut packet = vec![0x5a; len];
    packet[..8].copy_from_slice(&number.to_be_bytes());
    let packet = &packet;
    link.send(&ClientFrame::SendPacket { dst, packet }).await
}

/// Reads until the connection ends. With `pause`, it stops for a while when that is set.
async fn receive(mut link: Link, mut pause: Option<Arc<AtomicBool>>) -> Seen {
    let mut seen = Seen {
        packets: 0,
        next: 0,
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
            Ok(Ok((FrameType::RECV_PACKET, body))) => {
                seen.packets += 1;
                // Behind the sender's key.
                let number = body.get(32..).and_then(|packet| packet.first_chunk());
                let number = number.copied().map_or(0, u64::from_be_bytes);
                seen.next = seen.next.max(number + 1);
            }
            Ok(Ok((FrameType::RESTARTING, _))) => seen.told = true,
            Ok(Ok(_)) => {}
            Ok(Err(_)) => {
                seen.ended = Instant::now();
                return seen;
            }
        }
    }
}
