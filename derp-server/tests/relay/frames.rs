//! What a client may send beside packets, and what it had better not.

use derp_client::Received;
use derp_proto::{
    ClientFrame, FrameHeader, FrameType, MAX_SKIPPED_LEN, PeerGoneReason, ServerFrame,
};

use crate::support::{Relay, key, mesh_login, over_every_kind};

over_every_kind! {
    a_ping_is_answered_with_its_first_eight_bytes,
    pings_are_answered_while_another_task_receives,
    what_breaks_the_protocol_closes_that_connection_alone,
    what_mesh_peers_may_not_send_either_closes_their_connection,
    frames_of_unknown_types_are_skipped,
    home_notes_are_counted_once,
}

/// A frame of type `ty` with a body of `len` bytes, of which the first is 1.
fn frame(ty: u8, len: u32) -> Vec<u8> {
    let mut frame = FrameHeader {
        ty: FrameType(ty),
        len,
    }
    .to_bytes()
    .to_vec();
    frame.resize(frame.len() + usize::try_from(len).expect("it fits"), 0);
    if let Some(first) = frame.get_mut(5) {
        *first = 1;
    }
    frame
}

/// The header of such a frame, and nothing of its body.
fn header(ty: u8, len: u32) -> Vec<u8> {
    frame(ty, len)[..5].to_vec()
}

async fn a_ping_is_answered_with_its_first_eight_bytes(relay: &Relay) {
    let mut a = relay.raw_client(1).await;
    for len in [8, 9, 500, 1000] {
        let mut ping = frame(0x12, len);
        ping[5..13].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 0x2a]);
        a.send(&ping).await;
        a.expect(ServerFrame::Pong([1, 2, 3, 4, 5, 6, 7, 0x2a]))
            .await;
    }
    relay.counts("derp_got_ping", 4).await;
    relay.counts("derp_sent_pong", 4).await;
}

async fn pings_are_answered_while_another_task_receives(relay: &Relay) {
    let [a, b] = [relay.client(1).await, relay.client(2).await];
    let (b_key, a_key) = (b.key, a.key);
    let (mut reader, writer) = b.into_inner().split();
    let receiving = tokio::spawn(async move {
        let mut received = Vec::new();
        while let Ok(next) = reader.recv().await {
            received.push(next);
        }
        received
    });
    for n in 0..20 {
        a.send(b_key, &[n; 100]).await;
        writer.ping().await.expect("a pong");
    }
    relay.has_received(20).await;
    writer.ping().await.expect("a pong, behind all packets");
    writer.close();
    let packet = |n| Received::Packet {
        src: a_key,
        packet: vec![n; 100].into(),
    };
    assert_eq!(
        receiving.await.expect("no panic"),
        (0..20).map(packet).collect::<Vec<_>>()
    );
}

async fn what_breaks_the_protocol_closes_that_connection_alone(relay: &Relay) {
    // One client comes again and again.
    relay.tune(|tunables| tunables.key_login_rate = None);
    let cases: [(&str, Vec<u8>); 15] = [
        ("a packet of 65537 bytes", header(0x04, 32 + 65_537)),
        ("a packet without a whole key", frame(0x04, 31)),
        ("a ping of 7", frame(0x12, 7)),
        ("a ping of 1001", frame(0x12, 1001)),
        ("a ping of nothing", frame(0x12, 0)),
        ("a home note of nothing", frame(0x07, 0)),
        ("a home note of two", frame(0x07, 2)),
        (
            "four gigabytes of an unknown type",
            [0x77, 0xff, 0xff, 0xff, 0xff].to_vec(),
        ),
        (
            "more than is skipped",
            [0x77, 0x00, 0x10, 0x00, 0x01].to_vec(),
        ),
        ("watching without the right to", frame(0x10, 0)),
        ("closing without the right to", frame(0x11, 32)),
        ("closing half a key", frame(0x11, 31)),
        ("forwarding without the right to", frame(0x0a, 64)),
        ("forwarding without two whole keys", frame(0x0a, 63)),
        ("forwarding 65537 bytes", header(0x0a, 64 + 65_537)),
    ];
    let mut b = relay.client(2).await;
    let good = relay.client(3).await;
    for ((case, bytes), n) in cases.into_iter().zip(1..) {
        let mut bad = relay.raw_client(1).await;
        let mut wire = Vec::new();
        ClientFrame::SendPacket {
            dst: b.key,
            packet: b"before",
        }
        .encode(&mut wire);
        wire.extend(bytes);
        bad.send(&wire).await;
        assert_eq!(bad.closed().await, [], "{case}");
        // That a client has gone may be told before its last packet.
        let packet = Received::Packet {
            src: key(1),
            packet: b"before".as_slice().into(),
        };
        let gone = Received::PeerGone {
            key: key(1),
            reason: PeerGoneReason::DISCONNECTED,
        };
        let told = [b.recv().await, b.recv().await];
        assert!(
            told == [packet.clone(), gone.clone()] || told == [gone, packet],
            "{case}"
        );
        good.send(b.key, b"still here").await;
        assert_eq!(
            b.packet().await,
            (good.key, b"still here".to_vec()),
            "{case}"
        );
        relay.counts("derper_protocol_errors", n).await;
    }
}

async fn what_mesh_peers_may_not_send_either_closes_their_connection(relay: &Relay) {
    let cases = [
        ("watching with a body", frame(0x10, 1)),
        ("closing half a key", frame(0x11, 31)),
        ("forwarding without two whole keys", frame(0x0a, 63)),
        ("forwarding 65537 bytes", header(0x0a, 64 + 65_537)),
    ];
    for (case, bytes) in cases {
        let mut bad = relay.raw_login(&mesh_login(7)).await;
        bad.send(&bytes).await;
        assert_eq!(bad.closed().await, [], "{case}");
    }
    relay.counts("derper_protocol_errors", 4).await;
}

async fn frames_of_unknown_types_are_skipped(relay: &Relay) {
    let mut a = relay.raw_client(1).await;
    // What might be a ping inside of them is none.
    let mut unknown = frame(0x77, 0x8000);
    unknown[5..].fill(0x12);
    let longest = frame(0x0b, u32::try_from(MAX_SKIPPED_LEN).expect("a megabyte"));
    for bytes in [unknown, frame(0x77, 0), longest] {
        a.send(&bytes).await;
        a.send_frames(&[ClientFrame::Ping([1; 8])]).await;
        a.expect(ServerFrame::Pong([1; 8])).await;
    }
    relay.counts("derp_unknown_frames", 3).await;
    // Of these, the relay knows that they mean nothing.
    for ty in [
        FrameType::PONG,
        FrameType::CLIENT_INFO,
        FrameType::KEEP_ALIVE,
    ] {
        a.send(&frame(ty.0, 100)).await;
    }
    assert_eq!(a.received().await, []);
    relay.counts("derp_unknown_frames", 3).await;
}

async fn home_notes_are_counted_once(relay: &Relay) {
    let [mut a, mut b, _c] = [
        relay.client(1).await,
        relay.client(2).await,
        relay.client(3).await,
    ];
    let gauges = relay.server.metrics().gauges();
    let counts = || (gauges.connections.get(), gauges.home_connections.get());
    assert_eq!(counts(), (3, 0));
    for (home, count) in [(true, 1), (true, 1), (false, 0), (false, 0)] {
        a.writer().note_preferred(home).await.expect("a connection");
        assert_eq!(a.received().await, []);
        assert_eq!(counts(), (3, count));
        let clients = relay.server.clients();
        let at_home: Vec<_> = clients.iter().filter(|client| client.is_home).collect();
        assert_eq!(at_home.len() as u64, count, "{at_home:?}");
    }
    b.writer().note_preferred(true).await.expect("a connection");
    assert_eq!(b.received().await, []);
    assert_eq!(counts(), (3, 1));
    drop(b);
    relay.has_connections(2).await;
    assert_eq!(counts(), (2, 0));
    // Nobody has moved: they have all just come.
    assert_eq!(
        (gauges.home_moves_in.get(), gauges.home_moves_out.get()),
        (0, 0)
    );
}
