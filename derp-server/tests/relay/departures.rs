//! Who is told that a client has gone.

use derp_client::Received;
use derp_proto::{ClientFrame, PeerGoneReason};

use crate::support::{Relay, key, over_every_kind};

over_every_kind! {
    a_departure_is_told_each_time_and_once_to_those_it_concerns,
    whoever_was_sent_nothing_hears_nothing,
    one_that_leaves_in_the_middle_of_a_frame_has_left,
    one_that_has_left_and_come_back_gets_packets_again,
}

async fn a_departure_is_told_each_time_and_once_to_those_it_concerns(relay: &Relay) {
    let [mut b, mut c] = [relay.client(2).await, relay.client(3).await];
    for round in 0..3 {
        let mut a = relay.client(1).await;
        for n in 0..3 {
            a.send(b.key, &[n]).await;
            assert_eq!(b.packet().await, (a.key, vec![n]));
        }
        c.send(a.key, b"hello").await;
        assert_eq!(a.packet().await, (c.key, b"hello".to_vec()));
        let gone = (a.key, PeerGoneReason::DISCONNECTED);
        drop(a);
        assert_eq!(b.gone().await, gone, "round {round}");
        assert_eq!(
            (b.received().await, c.received().await),
            (vec![], vec![]),
            "round {round}"
        );
    }
    relay.counts("derp_peer_gone_disconnected_frames", 3).await;
}

async fn whoever_was_sent_nothing_hears_nothing(relay: &Relay) {
    let [mut a, b] = [relay.client(1).await, relay.client(2).await];
    let mut c = relay.client(3).await;
    b.send(c.key, b"from b").await;
    assert_eq!(c.packet().await, (b.key, b"from b".to_vec()));
    drop(b);
    assert_eq!(c.gone().await, (key(2), PeerGoneReason::DISCONNECTED));
    // It has sent to nobody who is still here.
    drop(c);
    relay.has_connections(1).await;
    assert_eq!(a.received().await, []);
    relay.counts("derp_peer_gone_disconnected_frames", 1).await;
}

async fn one_that_leaves_in_the_middle_of_a_frame_has_left(relay: &Relay) {
    let mut b = relay.client(2).await;
    let mut a = relay.raw_client(1).await;
    let mut bytes = Vec::new();
    for packet in [&b"whole"[..], &[7; 5000]] {
        ClientFrame::SendPacket { dst: b.key, packet }.encode(&mut bytes);
    }
    a.send(&bytes[..bytes.len() - 1]).await;
    assert_eq!(b.packet().await, (key(1), b"whole".to_vec()));
    drop(a);
    assert_eq!(b.gone().await, (key(1), PeerGoneReason::DISCONNECTED));
    assert_eq!(b.received().await, []);
}

async fn one_that_has_left_and_come_back_gets_packets_again(relay: &Relay) {
    let mut a = relay.client(1).await;
    for n in 1..4 {
        let mut b = relay.client(2).await;
        // The relay remembers where the last packet went, and must not be wrong.
        a.send(b.key, &[n]).await;
        let expected = Received::Packet {
            src: a.key,
            packet: vec![n].into(),
        };
        assert_eq!(b.recv().await, expected);
        drop(b);
        relay.has_connections(1).await;
        a.send(key(2), b"to nobody").await;
        relay.drops("unknown_dest", n.into()).await;
    }
    assert_eq!(a.received().await, []);
}
