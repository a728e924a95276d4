//! Stories of the fast path, told over every kind of link that a worker serves, in time that
//! passes when the story says so.

use std::sync::Arc;
use std::time::Duration;

use derp_proto::{
    ClientFrame, FrameType, NodePublic, PeerGoneReason, PeerPresent, PeerPresentFlags, ServerFrame,
};
use derp_verify::RateLimit;

use crate::forwarder::{Forwarder, Refused};
use crate::packet::{DropReason, PacketKind};
use crate::sim::{ClientOptions, LINKS, SERVER, Sim, SimClient, key};
use crate::tunables::Tunables;

fn sim() -> Sim {
    Sim::new(Tunables::default())
}

/// Tells a story once for each kind of link.
fn over_every_link(story: impl Fn(&mut Sim, &dyn Fn(&mut Sim, u8) -> SimClient)) {
    for link in LINKS {
        let connect = |sim: &mut Sim, n| {
            sim.connect(
                key(n),
                &ClientOptions {
                    link,
                    ..ClientOptions::default()
                },
            )
        };
        let mut sim = sim();
        story(&mut sim, &connect);
        sim.run();
        sim.assert_ledger_balances();
    }
}

fn disco() -> Vec<u8> {
    [b"TS\xf0\x9f\x92\xac", &[5; 56][..]].concat()
}

fn gone(frames: &[derp_proto::OwnedFrame]) -> Vec<(NodePublic, PeerGoneReason)> {
    frames
        .iter()
        .filter_map(|frame| match frame.as_server().unwrap() {
            ServerFrame::PeerGone { key, reason } => Some((key, reason)),
            _ => None,
        })
        .collect()
}

fn dropped(sim: &Sim, reason: DropReason) -> u64 {
    let sum = sim.hub.metrics.sum();
    PacketKind::ALL
        .iter()
        .map(|kind| sum.packets_dropped(reason, *kind))
        .sum()
}

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

#[test]
fn only_disco_learns_that_nobody_is_there_and_not_too_often() {
    over_every_link(|sim, connect| {
        let mut a = connect(sim, 1);
        a.send_packet(key(9), b"plain");
        sim.run();
        assert_eq!(gone(&a.receive()), []);
        for _ in 0..5 {
            a.send_packet(key(9), &disco());
        }
        sim.run();
        assert_eq!(gone(&a.receive()), [(key(9), PeerGoneReason::NOT_HERE); 3]);
        sim.pass(Duration::from_secs(1));
        for _ in 0..5 {
            a.send_packet(key(9), &disco());
        }
        sim.run();
        assert_eq!(gone(&a.receive()), [(key(9), PeerGoneReason::NOT_HERE)]);
        assert_eq!(dropped(sim, DropReason::UnknownDest), 11);
    });
}

#[test]
fn a_departure_is_told_each_time_and_once_to_those_it_concerns() {
    over_every_link(|sim, connect| {
        let [mut b, mut c] = [2, 3].map(|n| connect(sim, n));
        for round in 0..3 {
            let mut a = connect(sim, 1);
            for _ in 0..3 {
                a.send_packet(b.key, b"hello");
            }
            c.send_packet(a.key, b"hello");
            sim.run();
            a.hang_up();
            sim.run();
            let told = [(key(1), PeerGoneReason::DISCONNECTED)];
            assert_eq!(gone(&b.receive()), told, "round {round}");
            assert_eq!(gone(&c.receive()), [], "it was never sent anything");
        }
    });
}

#[test]
fn a_key_is_gone_when_its_last_connection_is() {
    over_every_link(|sim, connect| {
        let mut b = connect(sim, 2);
        let mut first = connect(sim, 1);
        first.send_packet(b.key, b"from the first");
        sim.run();
        let second = connect(sim, 1);
        first.hang_up();
        sim.run();
        assert_eq!(gone(&b.receive()), []);
        second.hang_up();
        sim.run();
        assert_eq!(gone(&b.receive()), [(key(1), PeerGoneReason::DISCONNECTED)]);
        let gauges = sim.hub.metrics.gauges();
        assert_eq!(
            (gauges.dup_client_keys.get(), gauges.dup_client_conns.get()),
            (0, 0)
        );
    });
}

#[test]
fn of_several_connections_the_last_writer_gets_the_packets() {
    over_every_link(|sim, connect| {
        let mut a = connect(sim, 1);
        let mut older = connect(sim, 2);
        a.send_packet(key(2), b"1");
        sim.run();
        let mut newer = connect(sim, 2);
        a.send_packet(key(2), b"2");
        sim.run();
        older.send_bytes(&[0x77, 0, 0, 0, 0]); // any frame will do
        sim.run();
        a.send_packet(key(2), b"3");
        sim.run();
        let got = |client: &mut SimClient| {
            client
                .packets()
                .iter()
                .map(|(_, packet)| packet[0])
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (got(&mut older), got(&mut newer)),
            (b"13".to_vec(), b"2".to_vec())
        );
        older.hang_up();
        sim.run();
        a.send_packet(key(2), b"4");
        sim.run();
        assert_eq!(got(&mut newer), b"4");
    });
}

#[test]
fn a_ninth_connection_of_a_key_replaces_the_oldest_idle_one() {
    let mut sim = sim();
    let mut clients: Vec<_> = (0..8).map(|_| sim.plain(2)).collect();
    clients[0].send(&ClientFrame::Ping([0; 8]));
    sim.run();
    let ninth = sim.plain(2);
    let closed: Vec<_> = clients.iter().map(SimClient::is_closed).collect();
    // The ninth is active; of the others the oldest goes.
    assert_eq!(
        closed,
        [true, false, false, false, false, false, false, false]
    );
    assert!(!ninth.is_closed());
    assert_eq!(sim.hub.metrics.gauges().dup_client_conns.get(), 8);
}

#[test]
fn no_more_than_eight_connections_of_a_key_stay_when_many_come_at_a_time() {
    let mut sim = sim();
    let options = ClientOptions::default();
    // None is told to go before all have come.
    let clients: Vec<_> = (0..40).map(|_| sim.admit(0, key(2), &options)).collect();
    sim.run();
    let open = clients.iter().filter(|client| !client.is_closed()).count();
    assert_eq!(
        (open, sim.hub.metrics.gauges().dup_client_conns.get()),
        (8, 8)
    );
}

#[test]
fn a_connection_that_has_ended_is_not_held_by_those_who_sent_to_it() {
    let mut sim = sim();
    let (mut speaks, mut is_silent) = (sim.plain(1), sim.plain(2));
    let (one, other) = (sim.plain(3), sim.plain(4));
    speaks.send_packet(key(3), b"hello");
    is_silent.send_packet(key(4), b"hello");
    sim.run();
    for client in [&one, &other] {
        client.hang_up();
    }
    sim.run();
    // Who sends again finds out at once, and who does not when the next keep-alive is due.
    speaks.send_packet(key(3), b"still there?");
    sim.run();
    assert_eq!((one.holders(), other.holders()), (0, 1));
    sim.pass(Duration::from_secs(66));
    assert_eq!((one.holders(), other.holders()), (0, 0));
}

#[test]
fn home_notes_are_counted_once() {
    over_every_link(|sim, connect| {
        let [mut a, mut b] = [1, 2].map(|n| connect(sim, n));
        let homes = |sim: &Sim| sim.hub.metrics.gauges().home_connections.get();
        for (home, count) in [(true, 1), (true, 1), (false, 0), (false, 0)] {
            a.send(&ClientFrame::NotePreferred(home));
            sim.run();
            assert_eq!(homes(sim), count);
        }
        b.send(&ClientFrame::NotePreferred(true));
        sim.run();
        b.hang_up();
        sim.run();
        assert_eq!(homes(sim), 0);
        assert_eq!(sim.hub.metrics.gauges().connections.get(), 1);
    });
}

#[test]
fn an_idle_client_hears_from_the_relay_each_minute() {
    over_every_link(|sim, connect| {
        let mut a = connect(sim, 1);
        sim.pass(Duration::from_millis(59_999));
        assert_eq!(a.receive(), []);
        sim.pass(Duration::from_millis(1));
        let types: Vec<_> = a.receive().iter().map(|frame| frame.ty).collect();
        assert_eq!(types, [FrameType::KEEP_ALIVE]);
        sim.pass(Duration::from_secs(600));
        assert_eq!(a.receive().len(), 10);
    });
}

#[test]
fn packets_do_not_wait_until_all_who_are_idle_have_heard() {
    let mut sim = sim();
    let mut clients: Vec<_> = (0..200).map(|n| sim.plain(n)).collect();
    sim.pass(Duration::from_millis(59_999));
    sim.now += Duration::from_millis(1);
    let to = clients[199].key;
    clients[0].send_packet(to, b"packet");
    sim.step(0);
    assert_eq!(clients[199].packets().len(), 1);
    let heard = clients[..199]
        .iter_mut()
        .map(|client| client.receive().len());
    assert_eq!(heard.sum::<usize>(), 64);
    while sim.step(0) {}
    let heard = clients.iter_mut().map(|client| client.receive().len());
    assert_eq!(heard.sum::<usize>(), 200 - 64);
}

#[test]
fn a_receiver_that_stops_loses_its_oldest_packets_and_then_its_connection() {
    for link in LINKS {
        let mut sim = sim();
        let mut a = sim.plain(1);
        let mut good = sim.plain(3);
        let mut b = sim.connect(
            key(2),
            &ClientOptions {
                link,
                room: 4000,
                ..Default::default()
            },
        );
        for n in 0..100_u8 {
            a.send_packet(b.key, &[n; 1000]);
            sim.run();
        }
        a.send_packet(good.key, b"hello");
        sim.run();
        assert_eq!(good.packets().len(), 1, "others are not held up");
        assert_eq!(a.packets(), []);
        let sent = u8::try_from(sim.packets().sent - 1).unwrap();
        assert!((3..=4).contains(&sent), "{sent}");
        assert_eq!(
            dropped(&sim, DropReason::QueueHead),
            u64::from(100 - sent) - 32
        );
        // It reads again: what waited arrives, the youngest last.
        let mut got = Vec::new();
        for _ in 0..30 {
            got.extend(b.packets().iter().map(|(_, packet)| packet[0]));
            sim.run();
        }
        let expected: Vec<_> = (0..sent).chain(68..100).collect();
        assert_eq!(got, expected);
        sim.assert_ledger_balances();

        // And now it stops for good, while bytes wait for it.
        for n in 0..100 {
            a.send_packet(b.key, &[n; 1000]);
            sim.run();
        }
        sim.pass(Duration::from_millis(1999));
        assert!(!b.is_closed());
        b.receive_some(100); // one that takes a little is left alone
        sim.pass(Duration::from_millis(1999));
        assert!(!b.is_closed());
        sim.pass(Duration::from_millis(2));
        assert!(b.is_closed());
        assert_eq!(sim.hub.metrics.gauges().write_timeouts.get(), 1);
        assert_eq!(sim.hub.queued.used(), 0);
        sim.assert_ledger_balances();
    }
}

#[test]
fn disco_has_a_lane_of_its_own_and_goes_first() {
    let mut sim = sim();
    let mut a = sim.plain(1);
    let mut b = sim.connect(
        key(2),
        &ClientOptions {
            room: 1500,
            ..Default::default()
        },
    );
    for n in 0..40_u8 {
        a.send_packet(b.key, &[n; 1000]);
        sim.run();
    }
    a.send_packet(b.key, &disco());
    sim.run();
    let mut got = Vec::new();
    for _ in 0..100 {
        got.extend(b.packets().iter().map(|(_, packet)| packet[0]));
        sim.run();
    }
    assert_eq!(got[..4], [0, 1, b'T', 8], "{got:?}");
    sim.assert_ledger_balances();
}

#[test]
fn an_unfinished_frame_is_not_waited_for_forever() {
    over_every_link(|sim, connect| {
        let [mut a, idle] = [1, 2].map(|n| connect(sim, n));
        a.send_bytes(&[0x04, 0, 1, 0, 0x20, 1, 2, 3]);
        sim.pass(Duration::from_secs(41));
        assert!(!a.is_closed());
        sim.pass(Duration::from_secs(3));
        assert!(a.is_closed());
        sim.pass(Duration::from_secs(600));
        assert!(!idle.is_closed());
    });
}

#[test]
fn a_rate_limit_holds_a_client_back_and_loses_nothing() {
    for link in LINKS {
        let mut sim = sim();
        let rate = Some(RateLimit {
            bytes_per_second: 65_568,
            burst_bytes: 1,
        });
        let mut a = sim.connect(
            key(1),
            &ClientOptions {
                link,
                rate,
                ..Default::default()
            },
        );
        let mut b = sim.plain(2);
        let mut stream = Vec::new();
        for n in 0..4 {
            ClientFrame::SendPacket {
                dst: b.key,
                packet: &vec![n; 65_536],
            }
            .encode(&mut stream);
        }
        a.send_bytes(&stream);
        sim.run();
        let mut counts = vec![b.packets().len()];
        for _ in 0..4 {
            sim.pass(Duration::from_millis(1005));
            counts.push(b.packets().len());
        }
        assert_eq!(counts, [1, 1, 1, 1, 0], "{link:?}");
        assert!(sim.worker().timers() <= 4 * sim.worker().conns());
        assert!(sim.hub.metrics.sum().rate_limit_waited >= 3);
        // A client that waits for its limit is not one that does not finish.
        assert!(!a.is_closed());
        sim.assert_ledger_balances();
    }
}

#[test]
fn mesh_peers_are_never_limited_but_others_are_when_limits_change() {
    let mut sim = sim();
    let options = ClientOptions {
        is_mesh_peer: true,
        ..Default::default()
    };
    let mut mesh = sim.connect(key(7), &options);
    let mut a = sim.plain(1);
    let mut b = sim.plain(2);
    sim.hub.set_workers(vec![sim.worker_inbox()]);
    let client_rate = Some(RateLimit {
        bytes_per_second: 1000,
        burst_bytes: 0,
    });
    sim.hub.set_tunables(Tunables {
        client_rate,
        ..Tunables::default()
    });
    sim.run();
    for client in [&mut mesh, &mut a] {
        for _ in 0..3 {
            client.send_packet(b.key, &[0; 65_536]);
        }
    }
    sim.run();
    let from =
        |got: &[(NodePublic, Vec<u8>)], key| got.iter().filter(|(src, _)| *src == key).count();
    let got = b.packets();
    assert_eq!((from(&got, mesh.key), from(&got, a.key)), (3, 1));
    sim.hub.set_tunables(Tunables::default());
    a.hang_up();
    sim.pass(Duration::from_secs(1));
}

#[test]
fn clients_share_the_limit_of_all_in_turn() {
    let mut sim = Sim::new(Tunables {
        total_rate: Some(RateLimit {
            bytes_per_second: 2 * 65_568,
            burst_bytes: 0,
        }),
        ..Tunables::default()
    });
    let [mut a, mut b] = [1, 2].map(|n| sim.plain(n));
    let mut dst = sim.plain(3);
    for client in [&mut a, &mut b] {
        for _ in 0..3 {
            client.send_packet(dst.key, &[0; 65_536]);
        }
    }
    sim.run();
    let count = |dst: &mut SimClient| {
        let got = dst.packets();
        let from = |key| got.iter().filter(|(src, _)| *src == key).count();
        (from(a.key), from(b.key))
    };
    // One has the burst. From then on it is one every half second, and each in its turn.
    assert_eq!(count(&mut dst), (1, 0));
    let mut counts = Vec::new();
    for _ in 0..5 {
        sim.pass(Duration::from_millis(501));
        counts.push(count(&mut dst));
    }
    assert_eq!(counts, [(0, 1), (1, 0), (0, 1), (1, 0), (0, 1)]);
    assert!(sim.hub.metrics.sum().total_rate_limit_waited >= 5);
    assert_eq!(sim.hub.metrics.sum().rate_limit_waited, 0);
    sim.assert_ledger_balances();
}

#[test]
fn a_group_shares_its_limit_and_leaves_others_alone() {
    let mut sim = sim();
    sim.hub.set_workers(vec![sim.worker_inbox()]);
    let grouped = |sim: &mut Sim, n, group| {
        sim.connect(
            key(n),
            &ClientOptions {
                group: Some(group),
                ..Default::default()
            },
        )
    };
    let mut a = grouped(&mut sim, 1, "slow");
    let mut b = grouped(&mut sim, 2, "slow");
    let mut c = grouped(&mut sim, 3, "fast");
    let mut dst = sim.plain(4);
    let slow = RateLimit {
        bytes_per_second: 1000,
        burst_bytes: 0,
    };
    let mut tunables = Tunables::default();
    tunables.group_rates.named.insert("slow".into(), slow);
    sim.hub.set_tunables(tunables.clone());
    sim.run();
    for client in [&mut a, &mut b, &mut c] {
        for _ in 0..2 {
            client.send_packet(dst.key, &[0; 65_536]);
        }
        sim.run();
    }
    let count = |dst: &mut SimClient| {
        let got = dst.packets();
        [a.key, b.key, c.key].map(|key| got.iter().filter(|(src, _)| *src == key).count())
    };
    assert_eq!(count(&mut dst), [1, 0, 2]);
    assert_eq!(sim.hub.metrics.sum().group_rate_limit_waited, 2);
    // Whoever waits goes on at once where the limit is lifted.
    sim.hub.set_tunables(Tunables::default());
    sim.run();
    assert_eq!(count(&mut dst), [1, 2, 0]);
    sim.assert_ledger_balances();
}

#[test]
fn who_is_over_its_own_limit_takes_nothing_from_the_others() {
    let mut sim = Sim::new(Tunables {
        client_rate: Some(RateLimit {
            bytes_per_second: 1,
            burst_bytes: 0,
        }),
        total_rate: Some(RateLimit {
            bytes_per_second: 1000,
            burst_bytes: 2 * 65_568,
        }),
        ..Tunables::default()
    });
    let [mut a, mut b] = [1, 2].map(|n| sim.plain(n));
    let mut dst = sim.plain(3);
    for _ in 0..3 {
        a.send_packet(dst.key, &[0; 65_536]);
    }
    sim.run();
    b.send_packet(dst.key, &[0; 65_536]);
    sim.run();
    let from: Vec<_> = dst.packets().into_iter().map(|(src, _)| src).collect();
    assert_eq!(from, [a.key, b.key]);
}

#[test]
fn watchers_learn_of_everybody_and_of_each_departure() {
    let mut sim = sim();
    let a = sim.plain(1);
    let mesh = |sim: &mut Sim, n| {
        sim.connect(
            key(n),
            &ClientOptions {
                is_mesh_peer: true,
                ..Default::default()
            },
        )
    };
    let mut watcher = mesh(&mut sim, 7);
    watcher.send(&ClientFrame::WatchConns);
    sim.run();
    let present = |frames: Vec<derp_proto::OwnedFrame>| {
        let mut all: Vec<_> = frames
            .iter()
            .filter_map(|frame| match frame.as_server().unwrap() {
                ServerFrame::PeerPresent(PeerPresent { key, flags, .. }) => Some((key, flags)),
                _ => None,
            })
            .collect();
        all.sort_by_key(|(key, _)| *key);
        all
    };
    let mut expected = vec![
        (a.key, PeerPresentFlags::REGULAR),
        (watcher.key, PeerPresentFlags::MESH_PEER),
    ];
    expected.sort_by_key(|(key, _)| *key);
    assert_eq!(present(watcher.receive()), expected);
    let b = sim.plain(2);
    assert_eq!(
        present(watcher.receive()),
        [(b.key, PeerPresentFlags::REGULAR)]
    );
    let again = sim.plain(2);
    assert_eq!(
        present(watcher.receive()),
        [(b.key, PeerPresentFlags::REGULAR)]
    );
    again.hang_up();
    sim.run();
    assert_eq!(gone(&watcher.receive()), []);
    b.hang_up();
    sim.run();
    assert_eq!(
        gone(&watcher.receive()),
        [(b.key, PeerGoneReason::DISCONNECTED)]
    );
    let mut second = mesh(&mut sim, 8);
    second.send(&ClientFrame::WatchConns);
    sim.run();
    assert_eq!(
        present(second.receive()).len(),
        3,
        "those that have gone are not told of"
    );
    second.hang_up();
    sim.run();
    assert_eq!(sim.hub.metrics.gauges().watchers.get(), 1);
}

#[test]
fn a_key_that_was_elsewhere_for_a_while_is_still_told_gone() {
    let mut sim = sim();
    let mut b = sim.plain(2);
    let mut first = sim.plain(1);
    first.send_packet(b.key, b"hello");
    sim.run();
    // The client is at another relay for a moment, and comes back before that one forgets it.
    let other: Arc<dyn Forwarder> = Arc::new(NoLink);
    let registry = Arc::clone(&sim.hub);
    let registry = &registry.registry;
    registry.add_forwarder(key(1), Arc::clone(&other));
    first.hang_up();
    sim.run();
    let second = sim.plain(1);
    registry.remove_forwarder(key(1), &other).tell(key(1));
    sim.run();
    assert_eq!(gone(&b.receive()), []);
    second.hang_up();
    sim.run();
    assert_eq!(gone(&b.receive()), [(key(1), PeerGoneReason::DISCONNECTED)]);
}

/// A link to another relay that takes nothing.
#[derive(Debug)]
struct NoLink;

impl Forwarder for NoLink {
    fn forward(&self, _: NodePublic, _: NodePublic, _: &[u8]) -> Result<(), Refused> {
        Err(Refused)
    }
}

#[test]
fn a_relay_that_meshes_with_itself_is_not_told_of_its_own_clients() {
    let mut sim = sim();
    let options = ClientOptions {
        is_mesh_peer: true,
        ..Default::default()
    };
    let mut myself = sim.connect(key(SERVER), &options);
    myself.send(&ClientFrame::WatchConns);
    sim.run();
    assert_eq!((myself.receive(), myself.is_closed()), (vec![], false));
}

#[test]
fn a_mesh_peer_forwards_and_closes() {
    for link in LINKS {
        let mut sim = sim();
        let options = ClientOptions {
            is_mesh_peer: true,
            link,
            ..Default::default()
        };
        let mut mesh = sim.connect(key(7), &options);
        let mut a = sim.plain(1);
        let (src, dst) = (key(40), a.key);
        for size in [0, 5, 1280, 65_536] {
            mesh.send(&ClientFrame::ForwardPacket {
                src,
                dst,
                packet: &vec![3; size],
            });
            sim.run();
            assert_eq!(a.packets(), [(src, vec![3; size])]);
        }
        for _ in 0..5 {
            mesh.send(&ClientFrame::ForwardPacket {
                src,
                dst: key(50),
                packet: &disco(),
            });
        }
        sim.run();
        assert_eq!(
            gone(&mesh.receive()),
            [(key(50), PeerGoneReason::NOT_HERE); 3]
        );
        assert_eq!(dropped(&sim, DropReason::UnknownDestOnForward), 5);
        mesh.send(&ClientFrame::ClosePeer(a.key));
        mesh.send(&ClientFrame::ClosePeer(key(51)));
        sim.run();
        assert!(a.is_closed() && !mesh.is_closed());
        sim.assert_ledger_balances();
    }
}

#[test]
fn all_queues_together_keep_to_their_budget() {
    let mut sim = Sim::new(Tunables {
        queue_budget_bytes: 300_000,
        ..Tunables::default()
    });
    let mut a = sim.plain(1);
    let stalled = ClientOptions {
        room: 1000,
        ..Default::default()
    };
    let large = sim.connect(key(2), &stalled);
    let small = sim.connect(key(3), &stalled);
    for _ in 0..5 {
        a.send_packet(small.key, &[0; 1000]);
    }
    for n in 0..33 {
        a.send_packet(large.key, &vec![n; 60_000]);
        sim.run();
        assert!(
            sim.hub.queued.used() <= 300_000 + 64_000,
            "{}",
            sim.hub.queued.used()
        );
    }
    assert!(dropped(&sim, DropReason::QueueBudget) > 0);
    let held = |n| sim.hub.registry.connections_of(&key(n))[0].held();
    assert!(held(3) > 4000, "who holds little keeps it");
}

#[test]
fn beyond_the_budget_nothing_waits_but_what_is_on_its_way() {
    let mut sim = Sim::new(Tunables {
        queue_budget_bytes: 0,
        ..Tunables::default()
    });
    let mut a = sim.plain(1);
    let stalled = ClientOptions {
        room: 1000,
        ..Default::default()
    };
    let b = sim.connect(key(2), &stalled);
    for n in 0..30 {
        a.send_packet(b.key, &vec![n; 10_000]);
        sim.run();
    }
    let waiting = sim.hub.registry.connections_of(&b.key)[0].waiting();
    assert_eq!((waiting.packets, waiting.lane_bytes), ([0, 0], 0));
    assert!(waiting.pending > 0);
    assert_eq!(dropped(&sim, DropReason::QueueBudget), 29);
}

#[test]
fn what_a_limit_holds_back_waits_in_the_socket_rather_than_here() {
    let mut sim = Sim::new(Tunables {
        client_rate: Some(RateLimit {
            bytes_per_second: 1000,
            burst_bytes: 0,
        }),
        ..Tunables::default()
    });
    let mut a = sim.plain(1);
    let mut b = sim.plain(2);
    for n in 0..60 {
        a.send_packet(b.key, &[n; 5000]);
    }
    sim.run();
    assert_eq!(b.packets().len(), 13, "the burst");
    let held = sim.held_unfinished();
    assert!(0 < held && held < 20_000, "{held}");
}
