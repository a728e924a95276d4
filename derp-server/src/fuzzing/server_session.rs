//! A logged-in client that sends what it likes, and others who must not suffer from it.

use derp_proto::{NodePublic, OwnedFrame, ServerFrame};

use super::alike::Reads;
use crate::sim::{ClientOptions, LINKS, Sim};
use crate::tunables::Tunables;

/// The bytes of a client that has logged in, over every kind of link, in reads of any size.
///
/// The first byte says whether the client is a mesh peer, the next two are the sizes of the
/// reads, in turn, less one; the rest is what it sends. However that comes, the others get the
/// same, all of it from that client or another whom a mesh peer may speak for; nobody else is
/// closed, unless a mesh peer asks for it; and every packet is accounted for.
pub fn server_session(data: &[u8]) {
    let Some((&[kind, one, other], stream)) = data.split_first_chunk() else {
        return;
    };
    let is_mesh_peer = kind & 1 != 0;
    let whole = tell(0, is_mesh_peer, &[stream]);
    let reads: Vec<_> = Reads::new([one, other], stream).collect();
    let link = usize::from(kind >> 1) % LINKS.len();
    let in_parts = tell(link, is_mesh_peer, &reads);
    // Whom a mesh peer has closed may get what comes right behind that, or not.
    assert!(
        is_mesh_peer || whole == in_parts,
        "{whole:?} became {in_parts:?}"
    );
}

/// What came of it for those whom the client knows.
#[derive(Debug, PartialEq)]
struct Outcome {
    is_closed: bool,
    victims: Vec<(bool, Vec<OwnedFrame>)>,
}

const CLIENT: NodePublic = NodePublic::from_bytes([1; 32]);
/// Their keys are easy to spell.
const VICTIMS: [NodePublic; 2] = [
    NodePublic::from_bytes([2; 32]),
    NodePublic::from_bytes([3; 32]),
];

fn tell(link: usize, is_mesh_peer: bool, reads: &[&[u8]]) -> Outcome {
    let mut sim = Sim::new(Tunables::default());
    let mut victims = VICTIMS.map(|key| sim.connect(key, &ClientOptions::default()));
    let options = ClientOptions {
        link: LINKS[link],
        is_mesh_peer,
        ..ClientOptions::default()
    };
    let mut client = sim.connect(CLIENT, &options);
    for read in reads {
        client.send_bytes(read);
        sim.step(0);
    }
    sim.run();
    // Its answers, all of them frames.
    let _answers = client.receive();
    let is_closed = client.is_closed();
    let victims = victims.each_mut().map(|victim| {
        let frames = victim.receive();
        if !is_mesh_peer {
            assert!(!victim.is_closed(), "somebody else is closed");
            assert!(frames.iter().all(is_from_client), "{frames:?}");
        }
        (victim.is_closed(), frames)
    });
    client.hang_up();
    sim.run();
    sim.assert_ledger_balances();
    assert_eq!(sim.hub.metrics.gauges().panics.get(), 0);
    Outcome {
        is_closed,
        victims: victims.into(),
    }
}

fn is_from_client(frame: &OwnedFrame) -> bool {
    match frame.as_server() {
        Ok(ServerFrame::RecvPacket { src, .. }) => src == CLIENT,
        Ok(ServerFrame::PeerGone { key, .. }) => key == CLIENT,
        _ => false,
    }
}
