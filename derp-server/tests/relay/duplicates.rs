//! Several connections of one key.

use derp_proto::{ClientFrame, PeerGoneReason};

use crate::support::{Kind, Relay, TestClient, eventually, key, login, over_every_kind, tell};

over_every_kind! {
    the_last_writer_gets_the_packets,
    any_frame_is_writing,
    a_key_is_gone_when_its_last_connection_is,
    a_ninth_connection_takes_the_place_of_the_oldest_idle_one,
}

/// How many keys have several connections, and how many connections those are.
fn duplicates(relay: &Relay) -> (u64, u64) {
    let gauges = relay.server.metrics().gauges();
    (gauges.dup_client_keys.get(), gauges.dup_client_conns.get())
}

/// Waits until nobody has several.
async fn has_no_duplicates(relay: &Relay) {
    eventually("there are no duplicates", || duplicates(relay) == (0, 0)).await;
}

/// Sends `n` to client 2, of which `receiver` is a connection, and sees it come.
async fn reaches(a: &TestClient, receiver: &mut TestClient, n: u8) {
    a.send(key(2), &[n]).await;
    assert_eq!(receiver.packet().await, (a.key, vec![n]), "packet {n}");
}

async fn the_last_writer_gets_the_packets(relay: &Relay) {
    let [a, mut older] = [relay.client(1).await, relay.client(2).await];
    assert_eq!(duplicates(relay), (0, 0));
    let mut newer = relay.client(2).await;
    let gauges = relay.server.metrics().gauges();
    assert_eq!(duplicates(relay), (1, 2));
    assert_eq!(
        (gauges.connections.get(), gauges.clients_local.get()),
        (3, 2)
    );
    reaches(&a, &mut newer, 1).await;
    // A ping makes its sender active.
    assert_eq!(older.received().await, []);
    reaches(&a, &mut older, 2).await;
    reaches(&a, &mut older, 3).await;
    assert_eq!(newer.received().await, []);
    reaches(&a, &mut newer, 4).await;
    assert_eq!(older.received().await, []);
    assert_eq!(newer.received().await, []);
    drop(newer);
    relay.has_connections(2).await;
    has_no_duplicates(relay).await;
    reaches(&a, &mut older, 5).await;
    assert_eq!(gauges.total_dup_client_conns.get(), 1);
    // It is a client like any other now.
    let newest = relay.client(2).await;
    assert_eq!(duplicates(relay), (1, 2));
    drop((older, newest));
    relay.has_connections(1).await;
    has_no_duplicates(relay).await;
}

async fn any_frame_is_writing(relay: &Relay) {
    let a = relay.client(1).await;
    let mut older = relay.raw_client(2).await;
    let newer = relay.client(2).await;
    older.send(&[0x77, 0, 0, 0, 0]).await;
    relay.counts("derp_unknown_frames", 1).await;
    a.send(key(2), b"to whoever wrote last").await;
    let frame = older.recv().await;
    let expected = derp_proto::ServerFrame::RecvPacket {
        src: a.key,
        packet: b"to whoever wrote last",
    };
    assert_eq!(frame.as_server(), Ok(expected));
    drop(newer);
}

async fn a_key_is_gone_when_its_last_connection_is(relay: &Relay) {
    let mut b = relay.client(3).await;
    let first = relay.client(2).await;
    first.send(b.key, b"from the first").await;
    assert_eq!(b.packet().await, (key(2), b"from the first".to_vec()));
    let second = relay.client(2).await;
    drop(first);
    relay.has_connections(2).await;
    assert_eq!(b.received().await, []);
    drop(second);
    assert_eq!(b.gone().await, (key(2), PeerGoneReason::DISCONNECTED));
    assert_eq!(b.received().await, []);
}

async fn a_ninth_connection_takes_the_place_of_the_oldest_idle_one(relay: &Relay) {
    let a = relay.client(1).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(relay.client(2).await);
    }
    assert_eq!(duplicates(relay), (1, 8));
    let mut ninth = relay.client(2).await;
    assert_eq!(clients.remove(0).closed().await, []);
    relay.has_connections(9).await;
    reaches(&a, &mut ninth, 1).await;
    for client in &mut clients {
        assert_eq!(client.received().await, []);
    }
    eventually("eight are left", || duplicates(relay) == (1, 8)).await;
    let gauges = relay.server.metrics().gauges();
    assert_eq!(gauges.displaced_connections.get(), 1);
}

/// The connections may be served by workers and by tasks.
async fn connections_of_different_kinds(relay: &Relay) {
    for (one, other) in [(Kind::Tls13, Kind::Tls12), (Kind::Stream, Kind::Plain)] {
        let a = relay.client(1).await;
        let mut older = relay.admit_over(one, &login(2)).await;
        let mut newer = relay.admit_over(other, &login(2)).await;
        reaches(&a, &mut newer, 1).await;
        assert_eq!(older.received().await, []);
        reaches(&a, &mut older, 2).await;
        drop(older);
        relay.has_connections(2).await;
        reaches(&a, &mut newer, 3).await;
        drop((a, newer));
        relay.has_connections(0).await;
    }
}

#[test]
fn a_key_may_be_here_by_several_kinds() {
    tell(Kind::Plain, connections_of_different_kinds);
}

async fn duplicates_are_not_confused(relay: &Relay) {
    let mut older = relay.raw_client(2).await;
    let mut newer = relay.raw_client(2).await;
    // Each is answered itself, whoever gets the packets.
    for (client, n) in [(&mut older, 1), (&mut newer, 2)] {
        client.send_frames(&[ClientFrame::Ping([n; 8])]).await;
        client.expect(derp_proto::ServerFrame::Pong([n; 8])).await;
    }
}

#[test]
fn a_pong_goes_where_the_ping_came_from() {
    tell(Kind::Plain, duplicates_are_not_confused);
}
