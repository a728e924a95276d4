//! What another relay of the region may do: watch, forward, and close.

use std::net::{IpAddr, SocketAddr};

use derp_client::Login;
use derp_proto::{
    ClientFrame, FrameType, NodePublic, OwnedFrame, PeerGoneReason, PeerPresentFlags, ServerFrame,
};

use crate::support::relay::SERVER;
use crate::support::{
    Kind, Raw, Relay, TestClient, disco, key, login, mesh_login, over_every_kind, private,
};

over_every_kind! {
    a_watcher_is_told_of_everybody_and_of_itself,
    watchers_learn_of_all_that_come_and_go,
    presence_says_where_a_client_is_and_of_what_kind,
    of_several_connections_a_watcher_sees_all_come_and_the_last_go,
    a_relay_that_watches_itself_is_told_nothing,
    a_mesh_peer_forwards_packets_of_every_size,
    a_mesh_peer_learns_that_nobody_is_there_and_not_too_often,
    a_mesh_peer_closes_all_connections_of_a_client,
}

const REGULAR: PeerPresentFlags = PeerPresentFlags::REGULAR;
const MESH_PEER: PeerPresentFlags = PeerPresentFlags::MESH_PEER;

/// A mesh peer that watches, and to which `n` clients are announced; who they are.
async fn watcher(relay: &Relay, n: u8, known: usize) -> (TestClient, Vec<Present>) {
    let login = Login {
        watch_conns: true,
        ..mesh_login(n)
    };
    let mut watcher = relay.admit(&login).await;
    let mut presents = Vec::new();
    for _ in 0..known {
        presents.push(present(&mut watcher).await);
    }
    presents.sort_unstable();
    (watcher, presents)
}

type Present = (NodePublic, u8);

async fn present(watcher: &mut TestClient) -> Present {
    let present = watcher.present().await;
    (present.key, present.flags.0)
}

fn sorted<const N: usize>(mut presents: [(u8, PeerPresentFlags); N]) -> Vec<Present> {
    presents.sort_unstable_by_key(|(n, _)| key(*n));
    presents.map(|(n, flags)| (key(n), flags.0)).to_vec()
}

async fn a_watcher_is_told_of_everybody_and_of_itself(relay: &Relay) {
    let (mut first, told) = watcher(relay, 7, 1).await;
    assert_eq!(told, sorted([(7, MESH_PEER)]));
    let _a = relay.client(1).await;
    assert_eq!(present(&mut first).await, (key(1), REGULAR.0));
    let (mut second, told) = watcher(relay, 8, 3).await;
    assert_eq!(told, sorted([(1, REGULAR), (7, MESH_PEER), (8, MESH_PEER)]));
    assert_eq!(present(&mut first).await, (key(8), MESH_PEER.0));
    // Asking again changes nothing.
    first.writer().watch_conns().await.expect("a connection");
    assert_eq!(
        (first.received().await, second.received().await),
        (vec![], vec![])
    );
    assert_eq!(relay.server.metrics().gauges().watchers.get(), 2);
}

async fn watchers_learn_of_all_that_come_and_go(relay: &Relay) {
    let (mut first, _) = watcher(relay, 7, 1).await;
    let (mut second, _) = watcher(relay, 8, 2).await;
    assert_eq!(present(&mut first).await, (key(8), MESH_PEER.0));
    for n in 1..4 {
        let client = relay.client(n).await;
        for watcher in [&mut first, &mut second] {
            assert_eq!(present(watcher).await, (key(n), REGULAR.0));
        }
        drop(client);
        for watcher in [&mut first, &mut second] {
            assert_eq!(watcher.gone().await, (key(n), PeerGoneReason::DISCONNECTED));
        }
    }
    assert_eq!(
        (first.received().await, second.received().await),
        (vec![], vec![])
    );
    // Those that have gone are not in what a third is told.
    let (third, told) = watcher(relay, 9, 3).await;
    assert_eq!(
        told,
        sorted([(7, MESH_PEER), (8, MESH_PEER), (9, MESH_PEER)])
    );
    assert_eq!(present(&mut first).await, (key(9), MESH_PEER.0));
    drop(second);
    assert_eq!(first.gone().await, (key(8), PeerGoneReason::DISCONNECTED));
    drop(third);
    assert_eq!(first.gone().await, (key(9), PeerGoneReason::DISCONNECTED));
    assert_eq!(relay.server.metrics().gauges().watchers.get(), 1);
}

async fn presence_says_where_a_client_is_and_of_what_kind(relay: &Relay) {
    let mut watcher = relay.raw_login(&mesh_login(7)).await;
    watcher.send_frames(&[ClientFrame::WatchConns]).await;
    let addr = watcher.addr;
    expect_present(&mut watcher, key(7), addr, 0x02).await;
    let plain = relay.raw_client(1).await;
    expect_present(&mut watcher, key(1), plain.addr, 0x01).await;
    // Which node a client would rather have reached, a WebSocket does not say.
    let says_ideal = !relay.kind.is_websocket() && relay.kind != Kind::Upgraded;
    let prober = relay.raw_not_ideal(&Login::prober(private(2))).await;
    expect_present(
        &mut watcher,
        key(2),
        prober.addr,
        if says_ideal { 0x0c } else { 0x04 },
    )
    .await;
    let gauges = relay.server.metrics().gauges();
    assert_eq!(gauges.not_ideal_connections.get(), u64::from(says_ideal));
    let elsewhere = relay.raw_not_ideal(&login(3)).await;
    expect_present(
        &mut watcher,
        key(3),
        elsewhere.addr,
        if says_ideal { 0x08 } else { 0x01 },
    )
    .await;
}

/// Receives a PeerPresent frame, and looks at its bytes.
async fn expect_present(watcher: &mut Raw, key: NodePublic, addr: Option<SocketAddr>, flags: u8) {
    let OwnedFrame { ty, body } = watcher.recv().await;
    let ip = match addr.map(|addr| addr.ip()) {
        None => [0; 16],
        Some(IpAddr::V4(ip)) => ip.to_ipv6_mapped().octets(),
        Some(IpAddr::V6(ip)) => ip.octets(),
    };
    let port = addr.map_or(0, |addr| addr.port()).to_be_bytes();
    let expected = [&key.as_bytes()[..], &ip, &port, &[flags]].concat();
    assert_eq!(
        (ty, body.as_ref()),
        (FrameType::PEER_PRESENT, &expected[..])
    );
    assert_eq!(expected.len(), 51);
}

async fn of_several_connections_a_watcher_sees_all_come_and_the_last_go(relay: &Relay) {
    let (mut watcher, _) = watcher(relay, 7, 1).await;
    let first = relay.client(1).await;
    assert_eq!(present(&mut watcher).await, (key(1), REGULAR.0));
    let second = relay.client(1).await;
    assert_eq!(present(&mut watcher).await, (key(1), REGULAR.0));
    drop(first);
    relay.has_connections(2).await;
    assert_eq!(watcher.received().await, []);
    drop(second);
    assert_eq!(watcher.gone().await, (key(1), PeerGoneReason::DISCONNECTED));
    assert_eq!(watcher.received().await, []);
}

async fn a_relay_that_watches_itself_is_told_nothing(relay: &Relay) {
    let _a = relay.client(1).await;
    let mut myself = relay
        .admit(&Login {
            watch_conns: true,
            ..mesh_login(SERVER)
        })
        .await;
    let _b = relay.client(2).await;
    assert_eq!(myself.received().await, []);
    assert_eq!(relay.server.metrics().gauges().watchers.get(), 0);
}

async fn a_mesh_peer_forwards_packets_of_every_size(relay: &Relay) {
    let mut mesh = relay.admit(&mesh_login(7)).await;
    let mut a = relay.client(1).await;
    // Of a client of the other relay, of which this one knows nothing.
    let src = key(40);
    for (size, n) in [0, 5, 62, 1280, 16_384, 65_535, 65_536]
        .into_iter()
        .zip(1..)
    {
        let packet = vec![n; size];
        mesh.writer()
            .forward_packet(src, a.key, &packet)
            .await
            .expect("a connection");
        assert!(a.packet().await == (src, packet), "{size} bytes");
    }
    // What is forwarded and not local goes nowhere.
    mesh.writer()
        .forward_packet(src, key(50), b"to nobody")
        .await
        .expect("a connection");
    assert_eq!(mesh.received().await, []);
    relay.drops("unknown_dest_on_fwd", 1).await;
    relay.counts("derp_packets_forwarded_in", 8).await;
    relay.counts("derp_packets_received", 0).await;
    // Its own packets are those of any client.
    mesh.send(a.key, b"from the relay").await;
    assert_eq!(a.packet().await, (mesh.key, b"from the relay".to_vec()));
}

async fn a_mesh_peer_learns_that_nobody_is_there_and_not_too_often(relay: &Relay) {
    let mut mesh = relay.raw_login(&mesh_login(7)).await;
    let (src, dst, disco) = (key(40), key(50), disco());
    let frame = ClientFrame::ForwardPacket {
        src,
        dst,
        packet: &disco,
    };
    mesh.send_frames(&[frame; 5]).await;
    for _ in 0..3 {
        mesh.expect(ServerFrame::PeerGone {
            key: dst,
            reason: PeerGoneReason::NOT_HERE,
        })
        .await;
    }
    assert_eq!(mesh.received().await, []);
    relay.drops("unknown_dest_on_fwd", 5).await;
}

async fn a_mesh_peer_closes_all_connections_of_a_client(relay: &Relay) {
    let mut mesh = relay.admit(&mesh_login(7)).await;
    let [mut first, mut second] = [relay.client(1).await, relay.client(1).await];
    let mut other = relay.client(2).await;
    mesh.writer()
        .close_peer(key(1))
        .await
        .expect("a connection");
    mesh.writer()
        .close_peer(key(50))
        .await
        .expect("a connection");
    assert_eq!(
        (first.closed().await, second.closed().await),
        (vec![], vec![])
    );
    relay.has_connections(2).await;
    assert_eq!(
        (mesh.received().await, other.received().await),
        (vec![], vec![])
    );
}
