//! Does a packet get from a client of one relay to a client of another of its region, or of the
//! same (`prober/derp.go`)?

use std::time::Duration;

use derp_client::Received;
use derp_proto::NodePublic;
use thiserror::Error;
use tokio::time::{Instant, sleep_until};

use super::Prober;
use super::connection::{ConnectionFault, Ends, FirstPackets, Guise, connect};
use super::kept::{Held, Kept};
use crate::deadline::{Deadline, TimedOut};
use crate::outcome::Findings;
use crate::plan::Pair;

/// How long relays may take to tell each other of a client that came.
const NEWS_AT_THE_LATEST: Duration = Duration::from_secs(2);
/// How long to wait until the next packet, where the last one found nobody.
const AGAIN: Duration = Duration::from_millis(250);

/// For how long a packet over connections that were kept is waited for, and for no more than half of
/// the run: where they have died without a word, new ones are to show that relaying works.
const OVER_KEPT: Duration = Duration::from_secs(3);

/// What is wrong with relaying.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RelayFault {
    /// A relay does not take the probe.
    #[error(transparent)]
    Connection(#[from] ConnectionFault),
    /// The packet did not get through.
    #[error("{keys}: {fault}")]
    Packet {
        /// The keys of both clients, for a look into the relays' logs.
        keys: String,
        /// What became of it.
        fault: PacketFault,
    },
}

/// What became of a packet.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PacketFault {
    /// The relay says that it does not know the other client.
    #[error(
        "relay {from} does not know the client that is connected to relay {to}; do both have \
             the same mesh key, and does each follow the other (-mesh-with)?"
    )]
    NotMeshed {
        /// Where the packet was sent.
        from: String,
        /// Where it was to arrive.
        to: String,
    },
    /// The same relay says so of its own client.
    #[error("relay {0} does not know a client that is connected to it")]
    Unknown(String),
    /// What arrived is another packet.
    #[error("a packet arrived at relay {0} whose bytes are not those that were sent")]
    Changed(String),
    /// What arrived is somebody else's.
    #[error("a packet arrived at relay {relay} from {source_key}, who was not to send any")]
    Stranger {
        /// Where it arrived.
        relay: String,
        /// From whom it is said to be.
        source_key: NodePublic,
    },
    /// The relay asked for a lower rate, so that the client dropped the packet itself.
    #[error(
        "relay {0} lets its clients send less than the probe is to send; choose a smaller \
             -bw-probe-size-bytes"
    )]
    Limited(String),
    /// A connection ended meanwhile.
    #[error("{}", crate::report::in_words(.0))]
    Connection(ConnectionFault),
    /// Nothing arrived.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

impl PacketFault {
    /// The relay `from` does not know the client of the relay `to`, which may be the same.
    pub(super) fn unknown(from: &str, to: &str) -> Self {
        if from == to {
            return Self::Unknown(to.to_owned());
        }
        Self::NotMeshed {
            from: from.to_owned(),
            to: to.to_owned(),
        }
    }
}

pub(super) async fn probe(
    prober: &Prober,
    pair: &Pair,
    deadline: Deadline,
    findings: &mut Findings,
) -> Result<(), RelayFault> {
    if let Some(kept) = &prober.kept {
        return probe_kept(prober, kept, pair, deadline, findings).await;
    }
    let mut ends = connect(prober, pair, Guise::Prober, deadline).await?;
    relay_one(&mut ends, deadline, findings).await?;
    // Else relays would log that the connections broke.
    tokio::join!(ends.from.client.shutdown(), ends.to.client.shutdown());
    Ok(())
}

/// The same over connections that are kept. One that does not serve any more is no fault of
/// relaying, as long as a new one does; that it was lost is a finding.
async fn probe_kept(
    prober: &Prober,
    kept: &Kept,
    pair: &Pair,
    deadline: Deadline,
    findings: &mut Findings,
) -> Result<(), RelayFault> {
    let holding = kept.hold(&pair.from, &pair.to);
    let held = deadline.keep("waiting for other probes of the node", holding);
    let (mut sends, mut receives) = held.await.map_err(ConnectionFault::from)?;
    let mut lost = None;
    if let (Some(from), Some(to)) = (sends.take(), receives.take()) {
        let first = FirstPackets::new();
        let mut ends = Ends { from, to, first };
        let briefly = deadline.within(OVER_KEPT.min(deadline.remaining() / 2));
        match relay_one(&mut ends, briefly, findings).await {
            Ok(again) => {
                give_back(ends, again, &mut sends, &mut receives);
                return Ok(());
            }
            Err(fault) => lost = Some(fault),
        }
    }
    let mut ends = connect(prober, pair, Guise::Prober, deadline).await?;
    let again = relay_one(&mut ends, deadline, findings).await?;
    if let Some(lost) = lost {
        findings.fact("reconnected", crate::report::in_words(&lost));
    }
    give_back(ends, again, &mut sends, &mut receives);
    Ok(())
}

fn give_back(ends: Ends, again: Again, sends: &mut Held, receives: &mut Held) {
    // A packet that was sent twice may arrive twice, and the next run would find it.
    if again == Again::Clean {
        **sends = Some(ends.from);
        **receives = Some(ends.to);
    }
}

/// Whether connections can be used for another packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// Nothing is under way any more.
    Clean,
    /// Something may be.
    Spent,
}

async fn relay_one(
    ends: &mut Ends,
    deadline: Deadline,
    findings: &mut Findings,
) -> Result<Again, RelayFault> {
    let keys = ends.keys();
    let doing = "waiting for the packet to arrive";
    let begin = Instant::now();
    let sent = deadline
        .keep(doing, send_one(ends))
        .await
        .map_err(PacketFault::from);
    match sent.and_then(|sent| sent) {
        Ok(times) => {
            findings.seconds("relay_seconds", begin.elapsed());
            Ok(if times == 1 {
                Again::Clean
            } else {
                Again::Spent
            })
        }
        Err(fault) => Err(RelayFault::Packet { keys, fault }),
    }
}

/// Sends eight random bytes, and waits until they arrive.
///
/// The question goes ahead of them. Where it finds nobody, the bytes are sent again for a while,
/// for relays take a moment to tell each other of a client. Bytes that get lost otherwise are not.
/// Says how often they were sent.
pub(super) async fn send_one(ends: &mut Ends) -> Result<u32, PacketFault> {
    let Ends { from, to, first } = ends;
    let not_sent = |err| PacketFault::Connection(ConnectionFault::Send(from.node.clone(), err));
    let writer = from.client.writer().clone();
    writer
        .send(to.key, &first.question)
        .await
        .map_err(not_sent)?;
    writer.send(to.key, &first.packet).await.map_err(not_sent)?;
    let give_up = Instant::now() + NEWS_AT_THE_LATEST;
    let mut next_try = None;
    let mut times = 1;
    loop {
        tokio::select! {
            arrived = to.client.recv() => {
                let ended = |err| PacketFault::Connection(ConnectionFault::ended(&to.node, err));
                let Received::Packet { src, packet } = arrived.map_err(ended)? else { continue };
                if src == from.key && packet == first.question {
                    continue;
                }
                check_packet(&to.node, (from.key, &first.packet), (src, &packet))?;
                return Ok(times);
            }
            news = from.client.recv() => {
                let ended = |err| PacketFault::Connection(ConnectionFault::ended(&from.node, err));
                match news.map_err(ended)? {
                    Received::PeerGone { key, .. } if key == to.key && from.node == to.node => {
                        return Err(PacketFault::unknown(&from.node, &to.node));
                    }
                    Received::PeerGone { key, .. } if key == to.key => {
                        next_try = Some(Instant::now() + AGAIN);
                    }
                    _ => {}
                }
            }
            () = sleep_until(next_try.unwrap_or(give_up)), if next_try.is_some() => {
                if Instant::now() >= give_up {
                    return Err(PacketFault::unknown(&from.node, &to.node));
                }
                writer.send(to.key, &first.packet).await.map_err(not_sent)?;
                times += 1;
                next_try = Some(Instant::now() + AGAIN);
            }
        }
    }
}

/// Whether the packet that arrived is the one that was sent.
pub(super) fn check_packet(
    relay: &str,
    sent: (NodePublic, &[u8]),
    arrived: (NodePublic, &[u8]),
) -> Result<(), PacketFault> {
    let (relay, source_key) = (relay.to_owned(), arrived.0);
    if source_key != sent.0 {
        return Err(PacketFault::Stranger { relay, source_key });
    }
    if arrived.1 != sent.1 {
        return Err(PacketFault::Changed(relay));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_must_arrive_as_it_was_sent() {
        let [alice, mallory] = [1, 2].map(|n| NodePublic::from_bytes([n; 32]));
        let check = |src, bytes: &[u8]| {
            let arrived = check_packet("n1", (alice, &[7; 8]), (src, bytes));
            arrived.map_err(|fault| fault.to_string())
        };
        assert_eq!(check(alice, &[7; 8]), Ok(()));
        let changed = "a packet arrived at relay n1 whose bytes are not those that were sent";
        assert_eq!(check(alice, &[7; 7]), Err(changed.to_owned()));
        assert_eq!(check(alice, &[8; 8]), Err(changed.to_owned()));
        let stranger =
            format!("a packet arrived at relay n1 from {mallory}, who was not to send any");
        assert_eq!(check(mallory, &[7; 8]), Err(stranger));
    }
}
