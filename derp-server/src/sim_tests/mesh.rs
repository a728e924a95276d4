//! Other relays of the region: what only they may do, and what they are told.

use std::sync::Arc;

use derp_proto::{
    ClientFrame, NodePublic, PeerGoneReason, PeerPresent, PeerPresentFlags, ServerFrame,
};

use super::{disco, dropped, gone, sim};
use crate::forwarder::{Forwarder, Refused};
use crate::packet::DropReason;
use crate::sim::{ClientOptions, LINKS, SERVER, Sim, key};

#[test]
fn watchers_learn_of_everybody_and_of_each_departure() {
    let mut sim = sim();
    let a = sim.plain(1);
    let mesh = |sim: &mut Sim, n| {
        sim.connect(
            key(n),
            &ClientOptions {
                is_mesh_peer: true,
                ..Default::default()
            },
        )
    };
    let mut watcher = mesh(&mut sim, 7);
    watcher.send(&ClientFrame::WatchConns);
    sim.run();
    let present = |frames: Vec<derp_proto::OwnedFrame>| {
        let mut all: Vec<_> = frames
            .iter()
            .filter_map(|frame| match frame.as_server().unwrap() {
                ServerFrame::PeerPresent(PeerPresent { key, flags, .. }) => Some((key, flags)),
                _ => None,
            })
            .collect();
        all.sort_by_key(|(key, _)| *key);
        all
    };
    let mut expected = vec![
        (a.key, PeerPresentFlags::REGULAR),
        (watcher.key, PeerPresentFlags::MESH_PEER),
    ];
    expected.sort_by_key(|(key, _)| *key);
    assert_eq!(present(watcher.receive()), expected);
    let b = sim.plain(2);
    assert_eq!(
        present(watcher.receive()),
        [(b.key, PeerPresentFlags::REGULAR)]
    );
    let again = sim.plain(2);
    assert_eq!(
        present(watcher.receive()),
        [(b.key, PeerPresentFlags::REGULAR)]
    );
    again.hang_up();
    sim.run();
    assert_eq!(gone(&watcher.receive()), []);
    b.hang_up();
    sim.run();
    assert_eq!(
        gone(&watcher.receive()),
        [(b.key, PeerGoneReason::DISCONNECTED)]
    );
    let mut second = mesh(&mut sim, 8);
    second.send(&ClientFrame::WatchConns);
    sim.run();
    assert_eq!(
        present(second.receive()).len(),
        3,
        "those that have gone are not told of"
    );
    second.hang_up();
    sim.run();
    assert_eq!(sim.hub.metrics.gauges().watchers.get(), 1);
}

#[test]
fn a_key_that_was_elsewhere_for_a_while_is_still_told_gone() {
    let mut sim = sim();
    let mut b = sim.plain(2);
    let mut first = sim.plain(1);
    first.send_packet(b.key, b"hello");
    sim.run();
    // The client is at another relay for a moment, and comes back before that one forgets it.
    let other: Arc<dyn Forwarder> = Arc::new(NoLink);
    let registry = Arc::clone(&sim.hub);
    let registry = &registry.registry;
    registry.add_forwarder(key(1), Arc::clone(&other));
    first.hang_up();
    sim.run();
    let second = sim.plain(1);
    registry.remove_forwarder(key(1), &other).tell(key(1));
    sim.run();
    assert_eq!(gone(&b.receive()), []);
    second.hang_up();
    sim.run();
    assert_eq!(gone(&b.receive()), [(key(1), PeerGoneReason::DISCONNECTED)]);
}

/// A link to another relay that takes nothing.
#[derive(Debug)]
struct NoLink;

impl Forwarder for NoLink {
    fn forward(&self, _: NodePublic, _: NodePublic, _: &[u8]) -> Result<(), Refused> {
        Err(Refused)
    }
}

#[test]
fn a_relay_that_meshes_with_itself_is_not_told_of_its_own_clients() {
    let mut sim = sim();
    let options = ClientOptions {
        is_mesh_peer: true,
        ..Default::default()
    };
    let mut myself = sim.connect(key(SERVER), &options);
    myself.send(&ClientFrame::WatchConns);
    sim.run();
    assert_eq!((myself.receive(), myself.is_closed()), (vec![], false));
}

#[test]
fn a_mesh_peer_forwards_and_closes() {
    for link in LINKS {
        let mut sim = sim();
        let options = ClientOptions {
            is_mesh_peer: true,
            link,
            ..Default::default()
        };
        let mut mesh = sim.connect(key(7), &options);
        let mut a = sim.plain(1);
        let (src, dst) = (key(40), a.key);
        for size in [0, 5, 1280, 65_536] {
            mesh.send(&ClientFrame::ForwardPacket {
                src,
                dst,
                packet: &vec![3; size],
            });
            sim.run();
            assert_eq!(a.packets(), [(src, vec![3; size])]);
        }
        for _ in 0..5 {
            mesh.send(&ClientFrame::ForwardPacket {
                src,
                dst: key(50),
                packet: &disco(),
            });
        }
        sim.run();
        assert_eq!(
            gone(&mesh.receive()),
            [(key(50), PeerGoneReason::NOT_HERE); 3]
        );
        assert_eq!(dropped(&sim, DropReason::UnknownDestOnForward), 5);
        mesh.send(&ClientFrame::ClosePeer(a.key));
        mesh.send(&ClientFrame::ClosePeer(key(51)));
        sim.run();
        assert!(a.is_closed() && !mesh.is_closed());
        sim.assert_ledger_balances();
    }
}
