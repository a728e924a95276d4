//! What can be seen of clients, and done to them, while they are connected.

use std::time::Duration;

use derp_proto::{ClientFrame, FrameHeader, FrameType, PeerPresentFlags};
use derp_verify::{Candidate, RateLimit, Verdict, Verifier, VerifyError, async_trait};

use crate::support::{Kind, Relay, eventually, key, login, mesh_login, over_every_kind};

over_every_kind! {
    clients_are_listed_as_they_are,
    a_client_can_be_closed,
    a_rate_limit_holds_those_who_are_connected_back_until_it_is_lifted,
    one_who_comes_under_a_rate_limit_is_held_back,
    the_limit_of_all_holds_those_who_are_connected_back_until_it_is_lifted,
    a_client_that_takes_nothing_is_closed,
    a_client_that_takes_nothing_can_be_closed_at_once,
    clients_hear_from_the_relay_as_often_as_is_set,
    who_holds_the_most_unfinished_for_the_longest_goes_first,
}

async fn clients_are_listed_as_they_are(relay: &Relay) {
    let a = relay.raw_client(1).await;
    let mut b = relay.raw_login(&mesh_login(7)).await;
    let to_b = ClientFrame::SendPacket {
        dst: key(7),
        packet: b"hello",
    };
    b.send_frames(&[to_b, to_b]).await;
    for _ in 0..2 {
        b.recv().await;
    }
    let mut clients = relay.server.clients();
    clients.sort_by_key(|client| client.id);
    let seen: Vec<_> = clients
        .iter()
        .map(|client| (client.key, client.addr, client.flags))
        .collect();
    let expected = [
        (key(1), a.addr, PeerPresentFlags::REGULAR),
        (key(7), b.addr, PeerPresentFlags::MESH_PEER),
    ];
    assert_eq!(seen, expected);
    let sent: Vec<_> = clients
        .iter()
        .map(|client| (client.packets_sent, client.bytes_sent))
        .collect();
    assert_eq!(sent, [(0, 0), (2, 10)]);
    assert_eq!(relay.server.check(), Ok(()));
    drop(a);
    relay.has_connections(1).await;
    assert_eq!(relay.server.clients().len(), 1);
}

async fn a_client_can_be_closed(relay: &Relay) {
    let [mut first, mut second] = [relay.client(1).await, relay.client(1).await];
    let mut other = relay.client(2).await;
    other.send(key(1), b"hello").await;
    assert_eq!(second.packet().await, (other.key, b"hello".to_vec()));
    assert_eq!(relay.server.close_client(&key(1), "a test"), 2);
    assert_eq!(
        (first.closed().await, second.closed().await),
        (vec![], vec![])
    );
    relay.has_connections(1).await;
    assert_eq!(relay.server.close_client(&key(1), "a test"), 0);
    assert_eq!(other.received().await, []);
    // It may come back: that is for a verifier to say.
    assert!(relay.admits(&login(1)).await);
}

/// The burst of a limit is a whole packet at least. At this rate the next takes a minute.
const SLOW: RateLimit = RateLimit {
    bytes_per_second: 1000,
    burst_bytes: 0,
};

async fn a_rate_limit_holds_those_who_are_connected_back_until_it_is_lifted(relay: &Relay) {
    let mut a = relay.raw_client(1).await;
    let mesh = relay.admit(&mesh_login(7)).await;
    let mut b = relay.client(2).await;
    relay.tune(|tunables| tunables.client_rate = Some(SLOW));
    let packet = vec![1; 65_536];
    for _ in 0..2 {
        a.send_frames(&[ClientFrame::SendPacket {
            dst: b.key,
            packet: &packet,
        }])
        .await;
    }
    assert!(b.packet().await == (key(1), packet.clone()));
    relay.counts("derp_rate_limit_per_client_waited", 1).await;
    // Links between relays carry many clients' packets.
    for n in 0..3 {
        let packet = vec![n; 65_536];
        mesh.send(b.key, &packet).await;
        assert!(b.packet().await == (mesh.key, packet));
    }
    relay.tune(|tunables| tunables.client_rate = None);
    assert!(b.packet().await == (key(1), packet));
    assert_eq!(a.received().await, []);
}

async fn one_who_comes_under_a_rate_limit_is_held_back(relay: &Relay) {
    relay.tune(|tunables| tunables.client_rate = Some(SLOW));
    let mut b = relay.client(2).await;
    let mut a = relay.raw_client(1).await;
    let packet = vec![1; 65_536];
    for _ in 0..2 {
        a.send_frames(&[ClientFrame::SendPacket {
            dst: b.key,
            packet: &packet,
        }])
        .await;
    }
    assert!(b.packet().await == (key(1), packet));
    relay.counts("derp_rate_limit_per_client_waited", 1).await;
    assert_eq!(b.received().await, []);
}

async fn the_limit_of_all_holds_those_who_are_connected_back_until_it_is_lifted(relay: &Relay) {
    let mut a = relay.raw_client(1).await;
    let mut c = relay.raw_client(3).await;
    let mut b = relay.client(2).await;
    relay.tune(|tunables| tunables.total_rate = Some(SLOW));
    let packet = vec![1; 65_536];
    let frame = ClientFrame::SendPacket {
        dst: b.key,
        packet: &packet,
    };
    a.send_frames(&[frame]).await;
    assert!(b.packet().await == (key(1), packet.clone()));
    c.send_frames(&[frame]).await;
    let waits = || relay.metric("derper_rate_limit_waits", &[("limit", "total")]);
    eventually("it waits", || waits() > 0).await;
    assert_eq!(relay.metric("derp_packets_received", &[]), 1);
    relay.tune(|tunables| tunables.total_rate = None);
    assert!(b.packet().await == (key(3), packet));
}

async fn a_client_that_takes_nothing_is_closed(relay: &Relay) {
    relay.tune(|tunables| {
        tunables.write_timeout = Some(Duration::from_millis(200));
        tunables.notsent_low_water = Some(16 << 10);
    });
    let mut a = relay.client(1).await;
    let mut b = relay.client(2).await;
    // It never reads: nobody polls it.
    let stuck = relay.client(3).await;
    let gauges = relay.server.metrics().gauges();
    let packet = vec![3; 50_000];
    while gauges.write_timeouts.get() == 0 {
        a.send(stuck.key, &packet).await;
        assert_eq!(a.received().await, []);
    }
    relay.has_connections(2).await;
    assert_eq!(gauges.write_timeouts.get(), 1);
    // What waited went with it.
    relay.settled().await;
    a.send(b.key, b"still here").await;
    assert_eq!(b.packet().await, (a.key, b"still here".to_vec()));
}

async fn a_client_that_takes_nothing_can_be_closed_at_once(relay: &Relay) {
    relay.tune(|tunables| {
        tunables.write_timeout = None;
        tunables.notsent_low_water = Some(16 << 10);
    });
    let mut a = relay.client(1).await;
    let stuck = relay.client(2).await;
    while relay.dropped("queue_head") == 0 {
        a.send(stuck.key, &[3; 50_000]).await;
        assert_eq!(a.received().await, []);
    }
    assert_eq!(relay.server.close_client(&stuck.key, "a test"), 1);
    relay.has_connections(1).await;
}

async fn clients_hear_from_the_relay_as_often_as_is_set(relay: &Relay) {
    relay.tune(|tunables| {
        tunables.keep_alive = Duration::from_millis(50);
        tunables.keep_alive_jitter = Duration::from_millis(10);
    });
    let mut a = relay.client(1).await;
    for _ in 0..3 {
        assert_eq!(a.recv().await, derp_client::Received::KeepAlive);
    }
}

/// Gives every client a limit of its own.
#[derive(Debug)]
struct Slowly;

#[async_trait]
impl Verifier for Slowly {
    async fn verify(&self, _: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let mut verdict = Verdict::allow();
        verdict.rate = Some(SLOW);
        Ok(verdict)
    }
}

#[tokio::test]
async fn a_limit_of_ones_own_stays_when_everybodys_changes() {
    for kind in [Kind::Plain, Kind::Tls13, Kind::Tls12] {
        let relay = Relay::start_with(kind, |builder| builder.verifier(Slowly)).await;
        let mut b = relay.client(2).await;
        let mut a = relay.raw_client(1).await;
        for n in 0..2 {
            let rate = RateLimit {
                bytes_per_second: 1 << 30,
                burst_bytes: 1 << 30,
            };
            relay.tune(|tunables| tunables.client_rate = Some(rate));
            relay.tune(|tunables| tunables.client_rate = None);
            let packet = vec![n; 65_536];
            a.send_frames(&[ClientFrame::SendPacket {
                dst: b.key,
                packet: &packet,
            }])
            .await;
            if n == 0 {
                assert!(b.packet().await == (key(1), packet), "{kind:?}");
            }
        }
        let waited = || relay.metric("derp_rate_limit_per_client_waited", &[]);
        eventually("it waits", || waited() > 0).await;
        assert_eq!(b.received().await, [], "{kind:?}");
        relay.end().await;
    }
}

async fn who_holds_the_most_unfinished_for_the_longest_goes_first(relay: &Relay) {
    relay.tune(|tunables| tunables.max_unfinished_bytes = 100_000);
    let gauges = relay.server.metrics().gauges();
    let mut receiver = relay.client(2).await;
    let mut honest = relay.raw_client(1).await;
    let packet = ClientFrame::SendPacket {
        dst: key(2),
        packet: b"in two pieces",
    };
    let mut whole = Vec::new();
    packet.encode(&mut whole);
    let (first, second) = whole.split_at(20);
    honest.send(first).await;
    let header = FrameHeader {
        ty: FrameType::SEND_PACKET,
        len: 64 << 10,
    };
    let mut part = header.to_bytes().to_vec();
    part.resize(60_000, 7);
    let mut hoarders = Vec::new();
    for n in 0..3 {
        let mut hoarder = relay.raw_client(10 + n).await;
        hoarder.send(&part).await;
        hoarders.push(hoarder);
        eventually("the one before goes", || {
            gauges.unfinished_closed.get() == u64::from(n)
        })
        .await;
    }
    for mut hoarder in hoarders.drain(..2) {
        hoarder.closed().await;
    }
    honest.send(second).await;
    assert_eq!(receiver.packet().await.1, b"in two pieces");
    relay.has_connections(3).await;
    // What the two held is free again: there is room for as much.
    let mut another = relay.raw_client(20).await;
    another.send(&part[..30_000]).await;
    relay.has_connections(4).await;
    assert_eq!(gauges.unfinished_closed.get(), 2);
}
