//! What a client sends, and where it gets.

use derp_proto::{ClientFrame, ServerFrame};

use super::{over_every_link, sim};
use crate::sim::{ClientOptions, LINKS, key};

#[test]
fn a_packet_reaches_its_destination_and_nobody_else() {
    over_every_link(|sim, connect| {
        let [mut a, mut b, mut c] = [1, 2, 3].map(|n| connect(sim, n));
        a.send_packet(b.key, b"to b");
        b.send_packet(c.key, b"to c");
        sim.run();
        assert_eq!(a.packets(), []);
        assert_eq!(b.packets(), [(a.key, b"to b".to_vec())]);
        assert_eq!(c.packets(), [(b.key, b"to c".to_vec())]);
    });
}

#[test]
fn packets_of_every_size_arrive_in_order_however_they_are_cut() {
    over_every_link(|sim, connect| {
        let [mut a, mut b] = [1, 2].map(|n| connect(sim, n));
        let sizes = [0, 1, 61, 62, 1280, 16_000, 16_384, 40_000, 65_535, 65_536];
        let mut stream = Vec::new();
        let mut sent = Vec::new();
        for (n, size) in sizes.into_iter().cycle().take(30).enumerate() {
            let packet = vec![u8::try_from(n).unwrap(); size];
            ClientFrame::SendPacket {
                dst: b.key,
                packet: &packet,
            }
            .encode(&mut stream);
            sent.push((a.key, packet));
        }
        let mut received = Vec::new();
        for piece in stream.chunks(10_007) {
            a.send_bytes(piece);
            sim.run();
            received.extend(b.packets());
        }
        assert_eq!(received, sent);
    });
}

#[test]
fn links_of_different_kinds_reach_one_another() {
    for from in LINKS {
        for to in LINKS {
            let mut sim = sim();
            let options = |link| ClientOptions {
                link,
                ..ClientOptions::default()
            };
            let mut a = sim.connect(key(1), &options(from));
            let mut b = sim.connect(key(2), &options(to));
            for size in [3, 1280, 65_536] {
                let packet = vec![7; size];
                a.send_packet(b.key, &packet);
                a.send_packet(b.key, &packet);
                sim.run();
                assert_eq!(
                    b.packets(),
                    vec![(a.key, packet); 2],
                    "{from:?} to {to:?}, {size}"
                );
            }
            sim.assert_ledger_balances();
        }
    }
}

#[test]
fn a_client_may_send_to_itself() {
    over_every_link(|sim, connect| {
        let mut a = connect(sim, 1);
        a.send_packet(a.key, b"note to self");
        sim.run();
        assert_eq!(a.packets(), [(a.key, b"note to self".to_vec())]);
    });
}

#[test]
fn a_ping_is_answered_with_its_first_eight_bytes() {
    over_every_link(|sim, connect| {
        let mut a = connect(sim, 1);
        let mut long = vec![0x12, 0, 0, 3, 0xe8];
        long.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 0x2a]);
        long.resize(5 + 1000, 0);
        a.send_bytes(&long);
        sim.run();
        let frames = a.receive();
        let pong = ServerFrame::Pong([1, 2, 3, 4, 5, 6, 7, 0x2a]);
        assert_eq!(
            frames
                .iter()
                .map(|f| f.as_server().unwrap())
                .collect::<Vec<_>>(),
            [pong]
        );
    });
}

#[test]
fn what_breaks_the_protocol_closes_that_connection_alone() {
    let broken: [&[u8]; 9] = [
        &[0x04, 0, 1, 0, 0x21],                         // a packet of 65537
        &[0x04, 0, 0, 0, 31],                           // no room for a key
        &[0x12, 0, 0, 0, 7],                            // a short ping
        &[0x12, 0, 0, 3, 0xe9],                         // a ping of 1001
        &[0x07, 0, 0, 0, 2],                            // a home note of two
        &[0x77, 0xff, 0xff, 0xff, 0xff],                // four gigabytes of nothing
        &[0x10, 0, 0, 0, 0],                            // watching without the right to
        &[[0x11, 0, 0, 0, 32], [9; 5]].concat(),        // half a ClosePeer: waits
        &[&[0x0a, 0, 0, 0, 64][..], &[9; 64]].concat(), // forwarding without the right to
    ];
    over_every_link(|sim, connect| {
        for (n, bytes) in broken.iter().enumerate() {
            let [mut a, mut b, mut good] = [1, 2, 3].map(|n| connect(sim, n));
            a.send_packet(b.key, b"before");
            a.send_bytes(bytes);
            sim.run();
            assert_eq!(a.is_closed(), n != 7, "case {n}");
            good.send_packet(b.key, b"still here");
            sim.run();
            let expected = [
                (a.key, b"before".to_vec()),
                (good.key, b"still here".to_vec()),
            ];
            assert_eq!(b.packets(), expected, "case {n}");
            for client in [&mut a, &mut b, &mut good] {
                client.hang_up();
            }
            sim.run();
            assert_eq!(
                (sim.worker().conns(), sim.hub.registry.len()),
                (0, 0),
                "case {n}"
            );
        }
    });
}

#[test]
fn frames_of_unknown_types_are_skipped() {
    over_every_link(|sim, connect| {
        let mut a = connect(sim, 1);
        let mut bytes = vec![0x77, 0, 0, 0x80, 0];
        bytes.resize(5 + 0x8000, 0x12);
        ClientFrame::Ping([1; 8]).encode(&mut bytes);
        for piece in bytes.chunks(1000) {
            a.send_bytes(piece);
            sim.run();
        }
        assert_eq!(a.receive()[0].as_server(), Ok(ServerFrame::Pong([1; 8])));
        assert_eq!(sim.hub.metrics.sum().unknown_frames, 1);
    });
}
