//! How soon does a relay know a client that comes to another relay of its region, and how soon does
//! it know that the client is gone?
//!
//! Until then, packets for that client are lost: this is what clients notice of a region's mesh.

use std::time::Duration;

use derp_client::Received;
use derp_proto::NodePublic;
use thiserror::Error;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Prober;
use super::connection::{ConnectionFault, End, FirstPackets, Guise, admitted};
use crate::deadline::{Deadline, TimedOut};
use crate::outcome::Findings;
use crate::plan::Pair;

/// How often it is tried whether packets get through. Half of it is what is measured too much.
const EVERY: Duration = Duration::from_millis(10);

/// Relays that do not tell each other of their clients.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvergenceFault {
    /// A relay does not take the probe.
    #[error(transparent)]
    Connection(#[from] ConnectionFault),
    /// A client that came is not known elsewhere.
    #[error(
        "relay {from} does not know a client of relay {to} ({fault}); do both have the same mesh \
             key, and does each follow the other (-mesh-with)?"
    )]
    NotTold {
        /// Who should know.
        from: String,
        /// Where the client is.
        to: String,
        /// For how long it was tried.
        fault: TimedOut,
    },
    /// A client that left is still known elsewhere.
    #[error(
        "relay {from} still takes packets for a client that has left relay {to} ({fault}); is the \
             link between them broken?"
    )]
    NotForgotten {
        /// Who should know.
        from: String,
        /// Where the client was.
        to: String,
        /// For how long it was tried.
        fault: TimedOut,
    },
}

pub(super) async fn probe(
    prober: &Prober,
    pair: &Pair,
    deadline: Deadline,
    findings: &mut Findings,
) -> Result<(), ConvergenceFault> {
    let mut from = admitted(prober, &pair.from, Guise::Plain, deadline).await?;
    let mut to = admitted(prober, &pair.to, Guise::Plain, deadline).await?;
    let question = FirstPackets::new().question;
    let begin = Instant::now();
    let arriving = arrives(&mut from, &mut to, &question);
    let doing = "waiting for a packet to arrive";
    match deadline.keep(doing, arriving).await {
        Ok(arrived) => arrived?,
        Err(fault) => {
            return Err(ConvergenceFault::NotTold {
                from: from.node,
                to: to.node,
                fault,
            });
        }
    }
    findings.seconds("convergence_seconds", begin.elapsed());
    // What the relay said before it knew the client is not to be taken for what it says after.
    let pong = deadline
        .keep("waiting for a pong", from.client.ping(drop))
        .await;
    let no_pong = |err| ConnectionFault::NoPong(from.node.clone(), err);
    pong.map_err(ConnectionFault::from)?.map_err(no_pong)?;
    let (gone, to_node) = (to.key, to.node);
    to.client.shutdown().await;
    let begin = Instant::now();
    let forgetting = is_forgotten(&mut from, gone, &question);
    let doing = "waiting for word that the client is gone";
    match deadline.keep(doing, forgetting).await {
        Ok(forgotten) => forgotten?,
        Err(fault) => {
            return Err(ConvergenceFault::NotForgotten {
                from: from.node,
                to: to_node,
                fault,
            });
        }
    }
    findings.seconds("forgotten_seconds", begin.elapsed());
    from.client.shutdown().await;
    Ok(())
}

/// Sends the packet again and again, until it arrives.
async fn arrives(from: &mut End, to: &mut End, packet: &[u8]) -> Result<(), ConnectionFault> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => send(from, to.key, packet).await?,
            arrived = to.client.recv() => {
                let arrived = arrived.map_err(|err| ConnectionFault::ended(&to.node, err))?;
                if matches!(arrived, Received::Packet { src, .. } if src == from.key) {
                    return Ok(());
                }
            }
            // That the other one is not there is what changes.
            news = from.client.recv() => {
                news.map_err(|err| ConnectionFault::ended(&from.node, err))?;
            }
        }
    }
}

/// Sends the packet, to which relays answer where they do not know the client, until one does.
async fn is_forgotten(
    from: &mut End,
    gone: NodePublic,
    question: &[u8],
) -> Result<(), ConnectionFault> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => send(from, gone, question).await?,
            news = from.client.recv() => {
                let news = news.map_err(|err| ConnectionFault::ended(&from.node, err))?;
                if matches!(news, Received::PeerGone { key, .. } if key == gone) {
                    return Ok(());
                }
            }
        }
    }
}

async fn send(from: &End, to: NodePublic, packet: &[u8]) -> Result<(), ConnectionFault> {
    let sent = from.client.send(to, packet).await;
    sent.map_err(|err| ConnectionFault::Send(from.node.clone(), err))
}
