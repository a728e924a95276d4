//! Packets from one client to another.

use derp_client::Received;
use derp_proto::{ClientFrame, NodePublic, PeerGoneReason, ServerFrame};
use derp_server::PacketCounts;

use crate::support::{Kind, Relay, disco, eventually, key, login, over_every_kind, tell};

over_every_kind! {
    a_packet_reaches_its_destination_and_nobody_else,
    packets_of_every_size_arrive_in_order,
    a_client_may_send_to_itself,
    a_packet_may_follow_the_login_at_once,
    frames_may_come_in_any_pieces,
    a_reader_that_stops_holds_nobody_up,
    only_disco_learns_that_nobody_is_there_and_not_too_often,
}

async fn a_packet_reaches_its_destination_and_nobody_else(relay: &Relay) {
    let [mut a, mut b, mut c] = [
        relay.client(1).await,
        relay.client(2).await,
        relay.client(3).await,
    ];
    a.send(b.key, b"to b").await;
    assert_eq!(b.packet().await, (a.key, b"to b".to_vec()));
    b.send(c.key, b"to c").await;
    assert_eq!(c.packet().await, (b.key, b"to c".to_vec()));
    relay.has_received(2).await;
    for client in [&mut a, &mut b, &mut c] {
        assert_eq!(client.received().await, []);
    }
    let counts = PacketCounts {
        received: 2,
        sent: 2,
        ..PacketCounts::default()
    };
    assert_eq!(relay.server.metrics().packets(), counts);
    relay.counts("derp_bytes_received", 8).await;
    relay.counts("derp_bytes_sent", 8).await;
}

async fn packets_of_every_size_arrive_in_order(relay: &Relay) {
    let [mut a, mut b] = [relay.client(1).await, relay.client(2).await];
    let sizes = [
        0, 1, 31, 32, 61, 62, 1280, 16_340, 16_384, 40_000, 65_535, 65_536,
    ];
    let packets: Vec<Vec<u8>> = sizes
        .iter()
        .zip(1..)
        .map(|(&size, n): (_, u8)| vec![n; size])
        .collect();
    // Not one after the other: both directions are busy at once.
    let (to_b, to_a) = (a.writer().clone(), b.writer().clone());
    let (a_key, b_key) = (a.key, b.key);
    let sending = async {
        for packet in &packets {
            to_b.send(b_key, packet).await.expect("a connection");
            to_a.send(a_key, packet).await.expect("a connection");
        }
    };
    let receiving = async {
        for packet in &packets {
            assert!(
                b.packet().await == (a_key, packet.clone()),
                "{} bytes",
                packet.len()
            );
            assert!(
                a.packet().await == (b_key, packet.clone()),
                "{} bytes",
                packet.len()
            );
        }
    };
    tokio::join!(sending, receiving);
}

async fn a_client_may_send_to_itself(relay: &Relay) {
    let mut a = relay.client(1).await;
    a.send(a.key, b"note to self").await;
    assert_eq!(a.packet().await, (a.key, b"note to self".to_vec()));
}

async fn a_packet_may_follow_the_login_at_once(relay: &Relay) {
    let mut b = relay.client(2).await;
    let mut a = relay.raw().await;
    let server = a.greeting().await;
    let mut bytes = Vec::new();
    let login = login(1);
    let wait = server
        .hello(&login.key, &login.info, [1; 24], &mut bytes)
        .expect("a key");
    ClientFrame::SendPacket {
        dst: b.key,
        packet: b"at once",
    }
    .encode(&mut bytes);
    ClientFrame::Ping([7; 8]).encode(&mut bytes);
    a.send(&bytes).await;
    assert_eq!(b.packet().await, (key(1), b"at once".to_vec()));
    // Whatever else there is to tell, that the client is admitted comes first.
    let frame = a.recv().await;
    let Ok(ServerFrame::ServerInfo(sealed)) = frame.as_server() else {
        panic!("{frame:?}")
    };
    wait.open(sealed).expect("the relay's key");
    a.expect(ServerFrame::Pong([7; 8])).await;
}

async fn frames_may_come_in_any_pieces(relay: &Relay) {
    let mut b = relay.client(2).await;
    let mut a = relay.raw_client(1).await;
    let mut bytes = Vec::new();
    let mut sent = Vec::new();
    for (n, size) in [0, 5, 70, 3000, 0, 20_000, 1].into_iter().enumerate() {
        let packet = vec![u8::try_from(n).expect("few"); size];
        ClientFrame::SendPacket {
            dst: b.key,
            packet: &packet,
        }
        .encode(&mut bytes);
        sent.push((key(1), packet));
    }
    for byte in bytes.drain(..200) {
        a.send(&[byte]).await;
    }
    for piece in bytes.chunks(1009) {
        a.send(piece).await;
    }
    for expected in sent {
        assert!(b.packet().await == expected, "{} bytes", expected.1.len());
    }
}

async fn a_reader_that_stops_holds_nobody_up(relay: &Relay) {
    relay.tune(|tunables| {
        tunables.write_timeout = None;
        tunables.notsent_low_water = Some(16 << 10);
    });
    let [mut a, mut b] = [relay.client(1).await, relay.client(2).await];
    // It never reads: nobody polls it.
    let mut c = relay.client(3).await;
    let mut n = 0_u32;
    while relay.dropped("queue_head") == 0 {
        assert!(
            n < 5000,
            "the relay holds {n} packets for a client that takes none"
        );
        let packet = n.to_be_bytes();
        a.send(c.key, &[&packet[..], &[0; 50_000]].concat()).await;
        a.send(b.key, &packet).await;
        assert_eq!(b.packet().await, (a.key, packet.to_vec()));
        n += 1;
    }
    assert_eq!(a.received().await, [], "nobody sent it anything");
    // It reads again. What had left the relay comes, then the youngest of what waited.
    let mut got = Vec::new();
    while got.last() != Some(&(n - 1)) {
        let (src, packet) = c.packet().await;
        assert_eq!((src, packet.len()), (a.key, 50_004));
        got.push(u32::from_be_bytes(*packet.first_chunk().expect("a number")));
    }
    let dropped = u32::try_from(relay.dropped("queue_head")).expect("few");
    let (before, after) = got.split_at(got.len() - 32);
    assert!(after.iter().copied().eq(n - 32..n), "{after:?}");
    assert!(before.iter().copied().eq(0..n - 32 - dropped), "{before:?}");
}

async fn only_disco_learns_that_nobody_is_there_and_not_too_often(relay: &Relay) {
    let mut a = relay.raw_client(1).await;
    let nobody = key(9);
    let disco = disco();
    let plain = ClientFrame::SendPacket {
        dst: nobody,
        packet: b"plain",
    };
    a.send_frames(&[plain]).await;
    assert_eq!(a.received().await, []);
    // They come at once, so that no time passes between them.
    let frame = ClientFrame::SendPacket {
        dst: nobody,
        packet: &disco,
    };
    a.send_frames(&[frame; 6]).await;
    for _ in 0..3 {
        a.expect(ServerFrame::PeerGone {
            key: nobody,
            reason: PeerGoneReason::NOT_HERE,
        })
        .await;
    }
    assert_eq!(a.received().await, []);
    relay.drops("unknown_dest", 7).await;
    let kind = [("reason", "unknown_dest"), ("kind", "disco")];
    assert_eq!(relay.metric("derp_packets_dropped", &kind), 6);
    relay.counts("derp_peer_gone_not_here_frames", 3).await;
}

/// Each kind of connection to each other, at one relay.
async fn links_of_all_kinds_reach_one_another(relay: &Relay) {
    let mut clients = Vec::new();
    for (kind, n) in Kind::TOGETHER.into_iter().zip(1..) {
        clients.push(relay.admit_over(kind, &login(n)).await);
    }
    let keys: Vec<NodePublic> = clients.iter().map(|client| client.key).collect();
    for size in [3, 1280, 65_536] {
        for from in 0..clients.len() {
            for to in 0..clients.len() {
                let packet = vec![u8::try_from(10 * from + to).expect("few"); size];
                clients[from].send(keys[to], &packet).await;
                let got = clients[to].recv().await;
                let expected = Received::Packet {
                    src: keys[from],
                    packet: packet.into(),
                };
                assert!(got == expected, "{size} bytes from {from} to {to}");
            }
        }
    }
    let snapshots = relay.server.clients();
    assert_eq!(snapshots.len(), clients.len());
    for snapshot in snapshots {
        // Each got three packets from each, itself included.
        let expected = 8 * (3 + 1280 + 65_536);
        assert_eq!(
            (snapshot.packets_sent, snapshot.bytes_sent),
            (24, expected),
            "{snapshot:?}"
        );
        // And sent as many.
        let received = (snapshot.packets_received, snapshot.bytes_received);
        assert_eq!(received, (24, expected), "{snapshot:?}");
    }
    let waiting = || {
        relay
            .server
            .clients()
            .iter()
            .map(|client| client.bytes_waiting)
            .sum::<usize>()
    };
    eventually("nothing waits", || waiting() == 0).await;
    clients.clear();
    eventually("all have left", || relay.server.clients().is_empty()).await;
}

#[test]
fn every_kind_to_every_kind() {
    tell(Kind::Plain, links_of_all_kinds_reach_one_another);
}
