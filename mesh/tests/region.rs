//! Relays in one process, on loopback, whose clients find one another.

mod support;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use derp_client::{Client, Received};
use derp_mesh::{Mesh, Name, Peer, Resolve, Resolving};
use derp_proto::{NodePublic, PeerGoneReason};
use tokio::time::timeout;

use support::{PATIENCE, Relay, key, only, until, url};

/// Two relays that watch each other, and their links.
async fn two() -> ([Relay; 2], [Mesh; 2]) {
    let (mut one, mut two) = (Relay::start(101).await, Relay::start(102).await);
    let meshes = [one.mesh_with(&two), two.mesh_with(&one)];
    one.run(&meshes[0]);
    two.run(&meshes[1]);
    ([one, two], meshes)
}

/// What a client sends to find out whether another is there; only these are answered.
fn disco() -> Vec<u8> {
    [b"TS\xf0\x9f\x92\xac", &[5; 56][..]].concat()
}

async fn follows(mesh: &Mesh, clients: usize) {
    until("the other relay's clients are known", || {
        mesh.links().iter().any(|link| link.clients == clients)
    })
    .await;
}

async fn packet(client: &mut Client) -> (NodePublic, Vec<u8>) {
    match timeout(PATIENCE, client.recv()).await.expect("a packet") {
        Ok(Received::Packet { src, packet }) => (src, packet.to_vec()),
        other => panic!("{other:?}"),
    }
}

async fn gone(client: &mut Client) -> (NodePublic, PeerGoneReason) {
    match timeout(PATIENCE, client.recv()).await.expect("news") {
        Ok(Received::PeerGone { key, reason }) => (key, reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_different_relays_reach_each_other() {
    let ([one, two], meshes) = two().await;
    let (mut a, mut b) = (one.client(1).await, two.client(2).await);
    // Each link also shows the other relay, which watches as a client does.
    follows(&meshes[0], 1).await;
    follows(&meshes[1], 1).await;
    for n in 0..1000_u32 {
        let sent = n.to_be_bytes().repeat(300);
        a.send(key(2), &sent).await.expect("a connection");
        assert_eq!(packet(&mut b).await, (key(1), sent.clone()));
        b.send(key(1), &sent).await.expect("a connection");
        assert_eq!(packet(&mut a).await, (key(2), sent));
    }
    drop(b);
    assert_eq!(gone(&mut a).await, (key(2), PeerGoneReason::DISCONNECTED));
    follows(&meshes[0], 0).await;
    a.send(key(2), &disco()).await.expect("a connection");
    assert_eq!(gone(&mut a).await, (key(2), PeerGoneReason::NOT_HERE));
    assert_eq!(only(&meshes[0]).forwarded, 1000);
    assert_eq!(only(&meshes[0]).server_key, Some(key(102)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_ends_takes_its_clients_along_and_brings_them_back() {
    let ([one, two], meshes) = two().await;
    let mut a = one.client(1).await;
    let _b = two.client(2).await;
    follows(&meshes[0], 1).await;
    a.send(key(2), b"packet").await.expect("a connection");
    let addr = two.addr;
    two.stop().await;
    until("the link is down", || !only(&meshes[0]).is_up()).await;
    a.send(key(2), &disco()).await.expect("a connection");
    assert_eq!(gone(&mut a).await, (key(2), PeerGoneReason::NOT_HERE));
    let last = only(&meshes[0]);
    assert_eq!((last.clients, last.failures > 0), (0, true));
    assert!(last.problem.is_some());

    let two = Relay::start_at(102, addr).await;
    let mut b = two.client(2).await;
    follows(&meshes[0], 1).await;
    a.send(key(2), b"again").await.expect("a connection");
    assert_eq!(packet(&mut b).await, (key(1), b"again".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_dropped_takes_its_routes_back() {
    let (mut one, two) = (Relay::start(101).await, Relay::start(102).await);
    let _b = two.client(2).await;
    let mesh = one.mesh_with(&two);
    let running = one.run(&mesh);
    follows(&mesh, 1).await;
    let remote = || one.server.metrics().gauges().clients_remote.get();
    assert_eq!(remote(), 1);
    running.abort();
    until("the routes are gone", || remote() == 0).await;
    until("the link is not listed", || mesh.links().is_empty()).await;
    one.run(&mesh);
    follows(&mesh, 1).await;
}

#[tokio::test]
async fn links_to_peers_are_listed_before_they_are_up() {
    let (one, two) = (Relay::start(101).await, Relay::start(102).await);
    let mesh = one.mesh_with(&two);
    assert!(mesh.links().is_empty());
    let links = mesh.run();
    assert!(!only(&mesh).is_up());
    drop(links);
    assert!(mesh.links().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_the_relay_itself_ends_for_good() {
    let mut one = Relay::start(101).await;
    let mesh = one
        .mesh()
        .with_peer(Peer::new("itself", url(one.addr).into()));
    one.run(&mesh);
    until("it is noticed", || {
        mesh.links().iter().any(|link| link.is_self)
    })
    .await;
    until("it has left", || one.server.clients().is_empty()).await;
    assert_eq!(one.server.metrics().gauges().clients_remote.get(), 0);
}

/// Says what a test wants it to say.
#[derive(Debug, Clone, Default)]
struct Names(Arc<Mutex<Option<Vec<IpAddr>>>>);

impl Names {
    fn set(&self, addresses: Option<&[IpAddr]>) {
        *self.0.lock().expect("no panic") = addresses.map(<[_]>::to_vec);
    }
}

impl Resolve for Names {
    fn resolve(&self, host: &str) -> Resolving {
        assert_eq!(host, "relays.test");
        let found = self.0.lock().expect("no panic").clone();
        Box::pin(async move { found.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_are_found_by_a_name_as_they_come_and_go() {
    let mut one = Relay::start_at(101, "127.0.0.1:0".parse().expect("an address")).await;
    let port = one.addr.port();
    let [first, second, third] = [1, 2, 3].map(|n| IpAddr::from([127, 0, 0, n]));
    let two = Relay::start_at(102, (second, port).into()).await;
    let names = Names::default();
    names.set(Some(&[first, second]));
    let by_name = format!("http://relays.test:{port}").parse().expect("a URL");
    let mesh = one.mesh().with_name(
        Name::new(by_name)
            .with_resolver(names.clone())
            // As often as it can be.
            .looked_up_every(Duration::ZERO),
    );
    one.run(&mesh);
    let up = |address: IpAddr| {
        let name = format!("relays.test/{address}");
        mesh.links()
            .iter()
            .any(|link| link.name == name && link.is_up())
    };
    until("the second is found", || up(second)).await;
    until("the first is known to be this one", || {
        mesh.links().iter().any(|link| link.is_self)
    })
    .await;

    let three = Relay::start_at(103, (third, port).into()).await;
    let mut c = three.client(3).await;
    names.set(Some(&[first, second, third]));
    until("the third is found", || up(third)).await;
    follows(&mesh, 1).await;
    let a = one.client(1).await;
    a.send(key(3), b"found").await.expect("a connection");
    assert_eq!(packet(&mut c).await, (key(1), b"found".to_vec()));

    // Neither a name server that fails nor one that forgets ends a link that works.
    names.set(None);
    names.set(Some(&[first, third]));
    a.send(key(3), b"still").await.expect("a connection");
    assert_eq!(packet(&mut c).await, (key(1), b"still".to_vec()));
    assert!(up(second));
    two.stop().await;
    until("the second is forgotten", || {
        mesh.links()
            .iter()
            .all(|link| link.name != "relays.test/127.0.0.2")
    })
    .await;
}
