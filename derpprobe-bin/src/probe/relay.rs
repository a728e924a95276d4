//! Does a packet get from a client of one relay to a client of another of its region, or of the
//! same (`prober/derp.go`)?

use std::time::Duration;

use derp_client::Received;
use derp_proto::{DISCO_MIN_LEN, NodePublic};
use thiserror::Error;
use tokio::time::{Instant, sleep_until};

use super::Prober;
use super::connection::{ConnectionFault, Ends, Guise, connect, random};
use crate::deadline::{Deadline, TimedOut};
use crate::plan::Pair;

/// How long relays may take to tell each other of a client that came.
const NEWS_AT_THE_LATEST: Duration = Duration::from_secs(2);
/// How long to wait until the next packet, where the last one found nobody.
const AGAIN: Duration = Duration::from_millis(250);

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
    #[error("relay {from} does not know the client that is connected to relay {to}; do both have \
             the same mesh key, and does each follow the other (-mesh-with)?")]
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
    #[error("relay {0} lets its clients send less than the probe is to send; choose a smaller \
             -bw-probe-size-bytes")]
    Limited(String),
    /// A connection ended meanwhile.
    #[error("{}", crate::report::in_words(.0))]
    Connection(ConnectionFault),
    /// Nothing arrived.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

pub(super) async fn probe(
    prober: &Prober,
    pair: &Pair,
    deadline: Deadline,
) -> Result<(), RelayFault> {
    let mut ends = connect(prober, pair, Guise::Prober, deadline).await?;
    let keys = ends.keys();
    let doing = "waiting for the packet to arrive";
    let sent = deadline.keep(doing, send_one(&mut ends)).await.map_err(PacketFault::from);
    match sent.and_then(|sent| sent) {
        Ok(()) => {
            // Else relays would log that the connections broke.
            tokio::join!(ends.from.client.shutdown(), ends.to.client.shutdown());
            Ok(())
        }
        Err(fault) => Err(RelayFault::Packet { keys, fault }),
    }
}

/// Sends eight random bytes, and waits until they arrive.
///
/// Relays say that they know nobody of a key only to who seems to look for a path to it. So a
/// packet that looks like it is sent behind the first one; where it finds nobody, the first is sent
/// again for a while, for relays take a moment to tell each other of a client. A packet that gets
/// lost otherwise is not sent again.
pub(super) async fn send_one(ends: &mut Ends) -> Result<(), PacketFault> {
    let packet = random::<8>();
    let question = question();
    let Ends { from, to } = ends;
    let (not_sent, from_ended, to_ended) = (from.not_sent(), from.ended(), to.ended());
    let give_up = Instant::now() + NEWS_AT_THE_LATEST;
    let mut next_try = Some(Instant::now());
    let mut found_nobody = false;
    loop {
        tokio::select! {
            () = sleep_until(next_try.unwrap_or(give_up)), if next_try.is_some() => {
                if Instant::now() >= give_up {
                    let (from, to) = (from.node.clone(), to.node.clone());
                    return Err(PacketFault::NotMeshed { from, to });
                }
                let sent = from.client.send(to.key, &packet).await;
                sent.map_err(&not_sent).map_err(PacketFault::Connection)?;
                if !found_nobody {
                    let asked = from.client.send(to.key, &question).await;
                    asked.map_err(&not_sent).map_err(PacketFault::Connection)?;
                }
                next_try = found_nobody.then(|| Instant::now() + AGAIN);
            }
            arrived = to.client.recv() => {
                let arrived = arrived.map_err(&to_ended).map_err(PacketFault::Connection)?;
                let Received::Packet { src, packet: bytes } = arrived else { continue };
                if src == from.key && bytes == question {
                    continue;
                }
                return check_packet(&to.node, (from.key, &packet), (src, &bytes));
            }
            news = from.client.recv() => {
                let news = news.map_err(&from_ended).map_err(PacketFault::Connection)?;
                let Received::PeerGone { key, .. } = news else { continue };
                if key != to.key {
                    continue;
                }
                if from.node == to.node {
                    return Err(PacketFault::Unknown(to.node.clone()));
                }
                if !found_nobody {
                    found_nobody = true;
                    next_try = Some(Instant::now() + AGAIN);
                }
            }
        }
    }
}

/// A packet that relays take for a message of path discovery (`disco/disco.go`).
fn question() -> Vec<u8> {
    let random = random::<{ DISCO_MIN_LEN - PATH_DISCOVERY.len() }>();
    [PATH_DISCOVERY, &random].concat()
}

/// How messages of path discovery begin.
const PATH_DISCOVERY: &[u8] = "TS💬".as_bytes();

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
    fn relays_take_the_question_for_path_discovery() {
        assert!(derp_proto::is_disco(&question()));
    }

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
