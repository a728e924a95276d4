//! How long do packets at a steady rate take from one client to another (`prober/derp.go`)?
//!
//! The reference does this without an end. Here it is a probe like the others, which sends for some
//! seconds and is then good or bad, so that it can be run once.

use std::time::Duration;

use derp_client::Received;
use thiserror::Error;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::Prober;
use super::connection::{ConnectionFault, Ends, Guise, connect};
use super::delays::Delays;
use super::relay::{PacketFault, send_one};
use crate::deadline::Deadline;
use crate::outcome::Findings;
use crate::plan::{Pace, Pair};

/// The length of a packet, in bytes; its number stands in front.
const PACKET_LEN: usize = 260;
/// For how long packets are sent at most.
const LONGEST: Duration = Duration::from_secs(10);
/// One of so many packets may get lost. Relays drop packets when their clients are slow, and one
/// that does so now and then is not broken.
const ONE_OF: u64 = 10;

/// What is wrong with relaying at a steady rate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueueDelayFault {
    /// A relay does not take the probe.
    #[error(transparent)]
    Connection(#[from] ConnectionFault),
    /// Packets do not get through.
    #[error("{keys}: {fault}")]
    Packet {
        /// The keys of both clients, for a look into the relays' logs.
        keys: String,
        /// What became of them.
        fault: PacketFault,
    },
    /// Too many packets did not arrive in time.
    #[error(
        "{keys}: {lost} of {sent} packets did not arrive within {within:?}; is a relay, or the \
             way between them, overloaded?"
    )]
    Lost {
        /// The keys of both clients, for a look into the relays' logs.
        keys: String,
        /// How many did not.
        lost: u64,
        /// How many were sent.
        sent: u64,
        /// Within which time.
        within: Duration,
    },
}

pub(super) async fn probe(
    prober: &Prober,
    pair: &Pair,
    pace: Pace,
    deadline: Deadline,
    findings: &mut Findings,
) -> Result<(), QueueDelayFault> {
    let mut ends = connect(prober, pair, Guise::Plain, deadline).await?;
    let keys = ends.keys();
    let doing = "waiting for the first packet to arrive";
    let first = deadline.keep(doing, send_one(&mut ends)).await;
    if let Err(fault) = first.map_err(PacketFault::from).and_then(|first| first) {
        return Err(QueueDelayFault::Packet { keys, fault });
    }
    // Some of the time is for packets that are late.
    let within = pace.packet_timeout.min(deadline.remaining() / 2);
    let sending = LONGEST.min(deadline.remaining().saturating_sub(within));
    let mut stream = Stream {
        ends,
        every: Duration::from_secs(1) / pace.packets_per_second.max(1),
        sending,
        within,
        sent_at: Vec::new(),
        delays: Delays::default(),
    };
    let ended = stream.run().await;
    let (sent, arrived) = (stream.sent_at.len() as u64, stream.delays.count());
    let lost = sent.saturating_sub(arrived);
    findings.count("sent", sent);
    findings.count("dropped", lost);
    stream.delays.tell(findings);
    if let Err(fault) = ended {
        return Err(QueueDelayFault::Packet { keys, fault });
    }
    let Ends { from, to, .. } = stream.ends;
    tokio::join!(from.client.shutdown(), to.client.shutdown());
    if lost > sent / ONE_OF {
        return Err(QueueDelayFault::Lost {
            keys,
            lost,
            sent,
            within,
        });
    }
    Ok(())
}

/// Packets under way.
struct Stream {
    ends: Ends,
    every: Duration,
    sending: Duration,
    within: Duration,
    /// When each packet was sent, by its number; `None` once it has arrived.
    sent_at: Vec<Option<Instant>>,
    delays: Delays,
}

impl Stream {
    /// Sends for its time, and then waits until everything has arrived or is too late.
    async fn run(&mut self) -> Result<(), PacketFault> {
        let stop_sending = Instant::now() + self.sending;
        let stop = stop_sending + self.within;
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_sending = Instant::now() < stop_sending;
            if !is_sending && self.sent_at.iter().all(Option::is_none) {
                return Ok(());
            }
            let Ends { from, to, .. } = &mut self.ends;
            tokio::select! {
                _ = ticks.tick(), if is_sending => {
                    let packet = numbered(self.sent_at.len() as u64);
                    self.sent_at.push(Some(Instant::now()));
                    let sent = from.client.send(to.key, &packet).await;
                    let not_sent = |err| ConnectionFault::Send(from.node.clone(), err);
                    sent.map_err(|err| PacketFault::Connection(not_sent(err)))?;
                }
                arrived = to.client.recv() => {
                    let ended = |err| PacketFault::Connection(ConnectionFault::ended(&to.node, err));
                    let arrived = arrived.map_err(ended)?;
                    let Received::Packet { src, packet } = arrived else { continue };
                    if src == from.key {
                        arrive(&mut self.sent_at, &mut self.delays, &packet, self.within);
                    }
                }
                news = from.client.recv() => {
                    let ended =
                        |err| PacketFault::Connection(ConnectionFault::ended(&from.node, err));
                    match news.map_err(ended)? {
                        Received::PeerGone { key, .. } if key == to.key => {
                            return Err(PacketFault::unknown(&from.node, &to.node));
                        }
                        _ => {}
                    }
                }
                () = sleep_until(stop) => return Ok(()),
            }
        }
    }
}

fn numbered(number: u64) -> [u8; PACKET_LEN] {
    let mut packet = [0; PACKET_LEN];
    let (front, _) = packet.split_at_mut(size_of::<u64>());
    front.copy_from_slice(&number.to_be_bytes());
    packet
}

/// Notes how long a packet took, the first time that it arrives.
fn arrive(sent_at: &mut [Option<Instant>], delays: &mut Delays, packet: &[u8], within: Duration) {
    let Some((number, _)) = packet
        .split_first_chunk()
        .filter(|_| packet.len() == PACKET_LEN)
    else {
        return;
    };
    let number = usize::try_from(u64::from_be_bytes(*number)).ok();
    let slot = number.and_then(|number| sent_at.get_mut(number));
    if let Some(sent) = slot.and_then(Option::take) {
        let delay = sent.elapsed();
        // One that is too late has arrived nowhere, as far as its sender knows.
        if delay <= within {
            delays.push(delay);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_packet_counts_once_and_in_time() {
        let within = Duration::from_secs(5);
        let mut sent_at = vec![Some(Instant::now()); 3];
        let mut delays = Delays::default();
        tokio::time::advance(Duration::from_millis(20)).await;
        let mut arrives = |packet: &[u8]| {
            arrive(&mut sent_at, &mut delays, packet, within);
            delays.count()
        };
        assert_eq!(arrives(&numbered(1)), 1);
        assert_eq!(arrives(&numbered(1)), 1);
        assert_eq!(arrives(&numbered(7)), 1);
        assert_eq!(arrives(&numbered(2)[1..]), 1);
        assert_eq!(arrives(b""), 1);
        tokio::time::advance(within).await;
        assert_eq!(arrives(&numbered(2)), 1);
    }
}
