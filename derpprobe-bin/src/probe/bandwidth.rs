//! Do many packets get through, all of them and in their order (`prober/derp.go`)?
//!
//! Relays drop packets of whoever sends more than the receiver takes. At most thirty are under way
//! at a time, which every relay holds.

use std::time::Duration;

use derp_client::{ClientReader, ClientWriter, Received, RecvError};
use derp_proto::{MAX_PACKET_LEN, NodePublic};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Prober;
use super::connection::{ConnectionFault, End, Ends, FirstPackets, Guise, connect, random};
use super::relay::{PacketFault, check_packet, send_one};
use crate::deadline::Deadline;
use crate::outcome::{Findings, Unit};
use crate::plan::Pair;

/// How many packets may be under way: two fewer than a relay's queue for a client holds.
const UNDER_WAY: usize = 30;

/// What is wrong with relaying much.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BandwidthFault {
    /// A relay does not take the probe.
    #[error(transparent)]
    Connection(#[from] ConnectionFault),
    /// Not everything got through.
    #[error("{keys}: after {arrived} of {total} packets: {fault}")]
    Transfer {
        /// The keys of both clients, for a look into the relays' logs.
        keys: String,
        /// How many packets arrived.
        arrived: u64,
        /// How many there were to be.
        total: u64,
        /// What happened to the next one.
        fault: PacketFault,
    },
}

pub(super) async fn probe(
    prober: &Prober,
    pair: &Pair,
    bytes: u64,
    deadline: Deadline,
    findings: &mut Findings,
) -> Result<(), BandwidthFault> {
    let mut ends = connect(prober, pair, Guise::Plain, deadline).await?;
    let keys = ends.keys();
    let payload = Payload::new(random(), bytes);
    let total = payload.packets();
    // One packet first: relays may still be telling each other of the clients.
    let first = deadline
        .keep(
            "waiting for the first packet to arrive",
            send_one(&mut ends),
        )
        .await;
    if let Err(fault) = first.map_err(PacketFault::from).and_then(|first| first) {
        return Err(BandwidthFault::Transfer {
            keys,
            arrived: 0,
            total,
            fault,
        });
    }
    let mut transfer = Transfer::new(ends, payload);
    let begin = Instant::now();
    let done = deadline
        .keep("waiting for packets to arrive", transfer.run())
        .await;
    let (arrived, took) = (transfer.arrived, begin.elapsed());
    let is_whole = matches!(done, Ok(Ok(())));
    tell(bytes, took, is_whole, findings);
    match done.map_err(PacketFault::from).and_then(|done| done) {
        Ok(()) => {
            transfer.end().await;
            Ok(())
        }
        Err(fault) => Err(BandwidthFault::Transfer {
            keys,
            arrived,
            total,
            fault,
        }),
    }
}

/// Notes how fast the transfer was, where it came to its end.
#[expect(clippy::cast_precision_loss, reason = "nobody sends 2^53 bytes")]
fn tell(bytes: u64, took: Duration, is_whole: bool, findings: &mut Findings) {
    if !is_whole {
        return;
    }
    let bytes = bytes as f64;
    findings.number("bytes", bytes, Unit::Bytes);
    findings.seconds("transfer_seconds", took);
    let rate = bytes / took.as_secs_f64().max(1e-6);
    findings.number("bytes_per_second", rate, Unit::BytesPerSecond);
}

/// The packets of a probe. Each is made when it is needed, so that they take no memory.
#[derive(Debug, Clone)]
struct Payload {
    block: Vec<u8>,
    bytes: u64,
}

impl Payload {
    /// So many bytes, made of 32 random ones.
    fn new(seed: [u8; 32], bytes: u64) -> Self {
        Self {
            block: seed.iter().copied().cycle().take(MAX_PACKET_LEN).collect(),
            bytes,
        }
    }

    fn packets(&self) -> u64 {
        self.bytes.div_ceil(MAX_PACKET_LEN as u64)
    }

    /// The packet with this number, from 0 on: its number stands in it, so that no two are the
    /// same. Only a last packet of less than eight bytes has less of it.
    fn packet(&self, number: u64) -> Vec<u8> {
        let before = number.saturating_mul(MAX_PACKET_LEN as u64);
        let len = self.bytes.saturating_sub(before).min(MAX_PACKET_LEN as u64);
        let len = usize::try_from(len).unwrap_or(MAX_PACKET_LEN);
        let mut packet = self.block.iter().copied().take(len).collect::<Vec<_>>();
        for (byte, mark) in packet.iter_mut().zip(number.to_le_bytes()) {
            *byte ^= mark;
        }
        packet
    }
}

/// One end of a transfer, in halves that are used at the same time.
struct Side {
    node: String,
    key: NodePublic,
    reader: ClientReader,
    writer: ClientWriter,
}

impl From<End> for Side {
    fn from(end: End) -> Self {
        let (reader, writer) = end.client.split();
        Self {
            node: end.node,
            key: end.key,
            reader,
            writer,
        }
    }
}

/// A transfer under way.
struct Transfer {
    from: Side,
    to: Side,
    first: FirstPackets,
    payload: Payload,
    arrived: u64,
}

impl Transfer {
    fn new(ends: Ends, payload: Payload) -> Self {
        let Ends { from, to, first } = ends;
        Self {
            from: from.into(),
            to: to.into(),
            first,
            payload,
            arrived: 0,
        }
    }

    /// Sends everything and waits for its last packet. Dropping the future ends the transfer.
    async fn run(&mut self) -> Result<(), PacketFault> {
        let room = Semaphore::new(UNDER_WAY);
        let Self {
            from,
            to,
            first,
            payload,
            arrived,
        } = self;
        let sending = send_all(&from.writer, (&from.node, to.key), payload, &room);
        let watching = watch(&mut from.reader, &from.node, (&to.node, to.key));
        let receiving = async {
            while *arrived < payload.packets() {
                let received = to.reader.recv().await.map_err(ended(&to.node))?;
                let Received::Packet { src, packet } = received else {
                    continue;
                };
                if first.contains(&packet) {
                    continue;
                }
                room.add_permits(1);
                let expected = payload.packet(*arrived);
                check_packet(&to.node, (from.key, &expected), (src, &packet))?;
                *arrived += 1;
            }
            Ok(())
        };
        tokio::pin!(sending, watching, receiving);
        let mut all_sent = false;
        loop {
            tokio::select! {
                done = &mut receiving => return done,
                fault = &mut watching => return Err(fault),
                sent = &mut sending, if !all_sent => {
                    sent?;
                    all_sent = true;
                }
            }
        }
    }

    async fn end(self) {
        tokio::join!(self.from.writer.shutdown(), self.to.writer.shutdown());
    }
}

fn ended(node: &str) -> impl Fn(RecvError) -> PacketFault {
    move |err| PacketFault::Connection(ConnectionFault::ended(node, err))
}

async fn send_all(
    writer: &ClientWriter,
    (node, to): (&str, NodePublic),
    payload: &Payload,
    room: &Semaphore,
) -> Result<(), PacketFault> {
    for number in 0..payload.packets() {
        // Given back by whoever receives the packet. The semaphore is never closed.
        if let Ok(permit) = room.acquire().await {
            permit.forget();
        }
        let sent = writer.send(to, &payload.packet(number)).await;
        sent.map_err(|err| PacketFault::Connection(ConnectionFault::Send(node.to_owned(), err)))?;
        if writer.limited() > 0 {
            return Err(PacketFault::Limited(node.to_owned()));
        }
    }
    Ok(())
}

/// Listens on the sending side, until the relay says something that ends the transfer.
async fn watch(
    reader: &mut ClientReader,
    node: &str,
    (to_node, to): (&str, NodePublic),
) -> PacketFault {
    loop {
        match reader.recv().await {
            Ok(Received::PeerGone { key, .. }) if key == to => {
                return PacketFault::unknown(node, to_node);
            }
            Ok(_) => {}
            Err(err) => return ended(node)(err),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_length_and_no_packet_twice() {
        let table: [(u64, u64); 7] = [
            (0, 0),
            (1, 1),
            (8, 1),
            (8_192, 1),
            (65_536, 1),
            (65_537, 2),
            (500_000, 8),
        ];
        for (bytes, count) in table {
            let payload = Payload::new([7; 32], bytes);
            assert_eq!(payload.packets(), count, "{bytes}");
            let mut packets: Vec<_> = (0..count).map(|number| payload.packet(number)).collect();
            assert_eq!(packets.iter().map(Vec::len).sum::<usize>() as u64, bytes);
            packets.dedup();
            assert_eq!(packets.len() as u64, count, "{bytes}");
        }
    }

    #[test]
    fn payloads_differ_from_probe_to_probe() {
        let [one, other] = [[1; 32], [2; 32]].map(|seed| Payload::new(seed, 65_537));
        assert_ne!(one.packet(0), other.packet(0));
        assert_ne!(one.packet(1), other.packet(1));
    }
}
