//! Relays of a region that follow one another's clients, with derp-client's half of it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use derp_client::{
    ClientWriter, Connector, Login, Policy, Roots, SelfConnect, Target, Watch, WatchEvent,
};
use derp_proto::{NodePublic, PeerGoneReason};
use derp_server::{Forwarder, Refused, Server};
use tokio::sync::mpsc;

use crate::support::relay::SERVER;
use crate::support::{Kind, Relay, eventually, key, mesh_login, tell, tls, within};

/// No waits: each connection is wanted at once.
const AT_ONCE: Policy = Policy {
    floor: Duration::ZERO,
    first: Duration::ZERO,
    max: Duration::ZERO,
    healthy_after: Duration::ZERO,
};

fn connector() -> Connector {
    Connector::new().with_roots(Roots::Custom(tls::roots()))
}

fn watch(target: Target, login: Login, own: Option<NodePublic>) -> Watch {
    Watch::with_parts((connector(), target), login, own, AT_ONCE, || 0)
}

async fn next(watch: &mut Watch) -> WatchEvent {
    within("news of the link", watch.next())
        .await
        .expect("another relay")
}

/// Waits until the link stands, and its client has been told of.
async fn up(watch: &mut Watch) -> ClientWriter {
    let WatchEvent::Up(writer) = next(watch).await else {
        panic!("the link does not come up")
    };
    let WatchEvent::Present(present) = next(watch).await else {
        panic!("nobody is present")
    };
    assert_eq!(present.key, key(7));
    writer
}

async fn a_link_comes_back_however_it_broke(relay: &Relay) {
    let mut watch = watch(relay.target(), mesh_login(7), None);
    let myself = HashSet::from([key(7)]);
    for round in 0..10 {
        let writer = up(&mut watch).await;
        assert_eq!(watch.peers(), &myself, "round {round}");
        // While the link waits for news somebody breaks it, at one end or at the other.
        let breaking = async {
            tokio::task::yield_now().await;
            if round % 2 == 0 {
                writer.close();
            } else {
                assert!(relay.server.close_client(&key(7), "a test") > 0);
            }
        };
        let down = async {
            loop {
                // An earlier connection of this one's may be told of again.
                match next(&mut watch).await {
                    WatchEvent::Present(_) => {}
                    WatchEvent::Down { peers, .. } => return peers,
                    other => panic!("{other:?}"),
                }
            }
        };
        let (peers, ()) = tokio::join!(down, breaking);
        assert_eq!(peers, myself, "round {round}");
    }
}

#[test]
fn a_broken_link_comes_back() {
    tell(Kind::Tls13, a_link_comes_back_however_it_broke);
}

async fn a_link_to_oneself_is_seen(relay: &Relay) {
    let own = relay.server.public_key();
    let mut to_myself = watch(relay.target(), mesh_login(SERVER), Some(own));
    assert_eq!(
        within("the end", to_myself.next()).await.err(),
        Some(SelfConnect)
    );
    assert_eq!(
        within("the end", to_myself.next()).await.err(),
        Some(SelfConnect)
    );
    // Who does not say who it is has a link like any other.
    let mut nameless = watch(relay.target(), mesh_login(7), None);
    up(&mut nameless).await;
}

#[test]
fn a_link_to_oneself_ends() {
    tell(Kind::Tls13, a_link_to_oneself_is_seen);
}

/// Takes packets to the other end of a link.
#[derive(Debug)]
struct Link(mpsc::Sender<(NodePublic, NodePublic, Vec<u8>)>);

impl Link {
    fn over(writer: ClientWriter) -> Arc<dyn Forwarder> {
        let (sender, mut packets) = mpsc::channel::<(_, _, Vec<u8>)>(64);
        tokio::spawn(async move {
            while let Some((src, dst, packet)) = packets.recv().await {
                if writer.forward_packet(src, dst, &packet).await.is_err() {
                    return;
                }
            }
        });
        Arc::new(Self(sender))
    }
}

impl Forwarder for Link {
    fn forward(&self, src: NodePublic, dst: NodePublic, packet: &[u8]) -> Result<(), Refused> {
        self.0
            .try_send((src, dst, packet.to_vec()))
            .map_err(|_| Refused)
    }
}

/// Has `server` forward to the relay at `target` what is for that one's clients.
async fn follow(server: Server, target: Target, login: Login) {
    let mut watch = watch(target, login, Some(server.public_key()));
    let mut link = None;
    while let Ok(event) = watch.next().await {
        let forwarder = || link.clone().expect("a link that is up");
        match event {
            WatchEvent::Up(writer) => link = Some(Link::over(writer)),
            WatchEvent::Present(present) => server.add_forwarder(present.key, forwarder()),
            WatchEvent::Gone { key, .. } => server.remove_forwarder(key, &forwarder()),
            WatchEvent::Down { peers, .. } => {
                for key in peers {
                    server.remove_forwarder(key, &forwarder());
                }
            }
        }
    }
}

/// Waits until a relay knows the other's client, and itself, for it is connected there.
async fn knows_two_clients_elsewhere(relay: &Relay) {
    let gauges = relay.server.metrics().gauges();
    eventually("the other's clients are known", || {
        gauges.clients_remote.get() == 2
    })
    .await;
}

/// Two relays that follow each other, with a client each.
async fn clients_of_two_relays_reach_each_other(here: &Relay) {
    const THERE: u8 = 0xdd;
    let there = Relay::start_as(THERE, Kind::Tls13, |builder| builder).await;
    let links = [
        tokio::spawn(follow(
            here.server.clone(),
            there.target(),
            mesh_login(SERVER),
        )),
        tokio::spawn(follow(
            there.server.clone(),
            here.target(),
            mesh_login(THERE),
        )),
    ];
    let mut alice = here.client(1).await;
    let mut bob = there.client(2).await;
    knows_two_clients_elsewhere(here).await;
    knows_two_clients_elsewhere(&there).await;
    for size in [0, 70, 65_536] {
        let packet = vec![9; size];
        alice.send(bob.key, &packet).await;
        assert!(
            bob.packet().await == (alice.key, packet.clone()),
            "{size} bytes"
        );
        bob.send(alice.key, &packet).await;
        assert!(alice.packet().await == (bob.key, packet), "{size} bytes");
    }
    here.has_received(6).await;
    let counts = here.server.metrics().packets();
    assert_eq!(
        (
            counts.received,
            counts.sent,
            counts.forwarded,
            counts.dropped
        ),
        (6, 3, 3, 0)
    );
    drop(bob);
    assert_eq!(alice.gone().await, (key(2), PeerGoneReason::DISCONNECTED));
    // When the link breaks, all of the other's clients have gone.
    let mut bob = there.client(2).await;
    knows_two_clients_elsewhere(here).await;
    bob.send(alice.key, b"back").await;
    assert_eq!(alice.packet().await, (bob.key, b"back".to_vec()));
    assert_eq!(
        there
            .server
            .close_client(&here.server.public_key(), "a test"),
        1
    );
    assert_eq!(alice.gone().await, (key(2), PeerGoneReason::DISCONNECTED));
    // And it comes back.
    knows_two_clients_elsewhere(here).await;
    alice.send(bob.key, b"again").await;
    assert_eq!(bob.packet().await, (alice.key, b"again".to_vec()));
    for link in links {
        link.abort();
        assert!(link.await.is_err_and(|err| err.is_cancelled()));
    }
    drop(bob);
    there.end().await;
}

#[test]
fn a_region_of_two() {
    tell(Kind::Tls13, clients_of_two_relays_reach_each_other);
}
