//! Stories of the fast path, told over every kind of link that a worker serves, in time that
//! passes when the story says so.

mod limits;
mod mesh;
mod packets;
mod presence;
mod queues;
mod writes;

use derp_proto::{NodePublic, PeerGoneReason, ServerFrame};

use crate::packet::{DropReason, PacketKind};
use crate::sim::{ClientOptions, LINKS, Sim, SimClient, key};
use crate::tunables::Tunables;

fn sim() -> Sim {
    Sim::new(Tunables::default())
}

/// Tells a story once for each kind of link.
fn over_every_link(story: impl Fn(&mut Sim, &dyn Fn(&mut Sim, u8) -> SimClient)) {
    for link in LINKS {
        let connect = |sim: &mut Sim, n| {
            sim.connect(
                key(n),
                &ClientOptions {
                    link,
                    ..ClientOptions::default()
                },
            )
        };
        let mut sim = sim();
        story(&mut sim, &connect);
        sim.run();
        sim.assert_ledger_balances();
    }
}

fn disco() -> Vec<u8> {
    [b"TS\xf0\x9f\x92\xac", &[5; 56][..]].concat()
}

fn gone(frames: &[derp_proto::OwnedFrame]) -> Vec<(NodePublic, PeerGoneReason)> {
    frames
        .iter()
        .filter_map(|frame| match frame.as_server().unwrap() {
            ServerFrame::PeerGone { key, reason } => Some((key, reason)),
            _ => None,
        })
        .collect()
}

fn dropped(sim: &Sim, reason: DropReason) -> u64 {
    let sum = sim.hub.metrics.sum();
    PacketKind::ALL
        .iter()
        .map(|kind| sum.packets_dropped(reason, *kind))
        .sum()
}
