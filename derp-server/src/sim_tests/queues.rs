//! What waits, for how long, and how much of it.

use std::time::Duration;

use derp_proto::FrameType;

use super::{disco, dropped, over_every_link, sim};
use crate::packet::DropReason;
use crate::sim::{ClientOptions, LINKS, Sim, key};
use crate::tunables::Tunables;

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
        // What it took was seen when it was looked at, half a second later at most.
        sim.pass(Duration::from_millis(502));
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
fn how_long_a_frame_may_take_can_be_set() {
    let mut sim = Sim::new(Tunables {
        frame_timeout: Duration::from_secs(3),
        frame_bytes_per_second: 1000,
        ..Tunables::default()
    });
    let mut a = sim.plain(1);
    a.send_bytes(&[0x04, 0, 0, 0x07, 0xd0, 1, 2, 3]);
    sim.pass(Duration::from_millis(4999));
    assert!(!a.is_closed());
    sim.pass(Duration::from_secs(1));
    assert!(a.is_closed());
}

#[test]
fn a_frame_of_no_use_leaves_no_patience_for_what_comes_behind_it() {
    let unknown = [&[0x77, 0, 0x10, 0, 0][..], &[0; 1 << 20]].concat();
    for link in &LINKS[1..] {
        let mut sim = sim();
        let options = ClientOptions {
            link: *link,
            ..Default::default()
        };
        let mut a = sim.connect(key(1), &options);
        a.send_bytes(&unknown);
        let record = a.protect(b"behind it", 100);
        a.wire.deliver(&record[..record.len() / 2]);
        sim.pass(Duration::from_secs(9));
        assert!(!a.is_closed());
        sim.pass(Duration::from_secs(3));
        assert!(a.is_closed(), "{link:?}");
    }
}

#[test]
fn a_frame_of_no_use_takes_no_time_from_what_comes_behind_it() {
    over_every_link(|sim, connect| {
        let mut a = connect(sim, 1);
        // 1,000 bytes, 200 of them at once.
        a.send_bytes(&[&[0x77, 0, 0, 3, 0xe8][..], &[0; 200]].concat());
        sim.pass(Duration::from_secs(8));
        let ping = [0x12, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
        a.send_bytes(&[&[0; 800], &ping[..3]].concat());
        sim.pass(Duration::from_secs(8));
        assert!(!a.is_closed());
        a.send_bytes(&ping[3..]);
        sim.pass(Duration::from_secs(1));
        let types: Vec<_> = a.receive().iter().map(|frame| frame.ty).collect();
        assert_eq!(types, [FrameType::PONG]);
    });
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
fn a_cut_of_all_queues_makes_room_for_some_time() {
    let mut sim = Sim::new(Tunables {
        queue_budget_bytes: 320_000,
        ..Tunables::default()
    });
    let mut a = sim.plain(1);
    let stalled = ClientOptions {
        room: 1000,
        ..Default::default()
    };
    let clients: Vec<_> = (2..12).map(|n| sim.connect(key(n), &stalled)).collect();
    let mut cuts = 0;
    for n in 0..300 {
        let before = dropped(&sim, DropReason::QueueBudget);
        a.send_packet(clients[n % 10].key, &[0; 2000]);
        sim.run();
        cuts += u32::from(dropped(&sim, DropReason::QueueBudget) > before);
    }
    // 640,000 bytes come in all, and an eighth of the limit is 40,000.
    assert!((2..=9).contains(&cuts), "{cuts}");
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
