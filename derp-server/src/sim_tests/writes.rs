//! Connections that take little at some moment, or nothing.

use std::time::Duration;

use derp_proto::{FrameType, NodePublic, ServerFrame};

use super::{dropped, sim};
use crate::packet::DropReason;
use crate::sim::{ClientOptions, LINKS, Link, Sim, SimClient, key};
use crate::tunables::Tunables;

/// A client whose network holds this much.
fn narrow(sim: &mut Sim, n: u8, link: Link, room: usize) -> SimClient {
    sim.connect(
        key(n),
        &ClientOptions {
            link,
            room,
            ..ClientOptions::default()
        },
    )
}

/// Sends packets of which a few are more than a narrow connection takes.
fn send_long(from: &mut SimClient, to: NodePublic, count: usize) {
    for _ in 0..count {
        from.send_packet(to, &[1; 60_000]);
    }
}

#[test]
fn a_fault_of_ours_ends_one_connection_whatever_was_to_be_done_for_it() {
    type Cause = fn(&mut Sim, &mut SimClient, &SimClient);
    let causes: [Cause; 4] = [
        // Timers.
        |sim, _, _| sim.pass(Duration::from_secs(60)),
        // What others ask.
        |sim, _, faulty| {
            let peer = &sim.hub.registry.connections_of(&faulty.key)[0];
            peer.notify_frame(&ServerFrame::Health("a notice".into()));
        },
        // Packets of another client.
        |_, a, faulty| a.send_packet(faulty.key, b"packet"),
        // Room for what waits.
        |sim, a, faulty| {
            send_long(a, faulty.key, 3);
            sim.rest();
            faulty.wire.widen(1 << 20);
        },
    ];
    for link in LINKS {
        for (n, cause) in causes.iter().enumerate() {
            let mut sim = sim();
            let mut a = sim.plain(1);
            let (mut b, faulty) = (sim.plain(2), narrow(&mut sim, 3, link, 128 << 10));
            if n < 3 {
                faulty.wire.fail();
            }
            cause(&mut sim, &mut a, &faulty);
            faulty.wire.fail();
            sim.rest();
            assert!(sim.hub.metrics.gauges().panics.get() > 0, "{n} {link:?}");
            assert!(faulty.is_closed(), "{n} {link:?}");
            a.send_packet(faulty.key, b"nobody is there");
            a.send_packet(b.key, b"goes on");
            sim.rest();
            assert!(!a.is_closed() && !b.is_closed(), "{n} {link:?}");
            assert_eq!(b.packets(), [(a.key, b"goes on".to_vec())]);
        }
    }
}

#[test]
fn a_receiver_that_takes_a_little_at_a_time_stays() {
    for link in LINKS {
        let mut sim = sim();
        let mut a = sim.plain(1);
        let mut slow = narrow(&mut sim, 2, link, 128 << 10);
        send_long(&mut a, slow.key, 3);
        // The network neither reports room in two seconds nor takes anything.
        for _ in 0..80 {
            for _ in 0..10 {
                a.send_packet(slow.key, &[2; 1300]);
            }
            sim.wait(Duration::from_millis(500));
            slow.receive_some(5000);
            assert!(!slow.is_closed(), "{link:?}");
        }
        assert!(dropped(&sim, DropReason::QueueHead) > 0);
        // What it took last is noticed within two seconds, and then there are two more.
        sim.wait(Duration::from_secs(4));
        assert!(slow.is_closed());
        sim.assert_ledger_balances();
    }
}

#[test]
fn a_receiver_that_takes_nothing_goes_after_two_seconds() {
    for link in LINKS {
        let mut sim = sim();
        let mut a = sim.plain(1);
        let dead = narrow(&mut sim, 2, link, 128 << 10);
        send_long(&mut a, dead.key, 3);
        sim.wait(Duration::from_millis(1999));
        assert!(!dead.is_closed());
        sim.wait(Duration::from_millis(1));
        assert!(dead.is_closed());
        assert_eq!(sim.hub.metrics.gauges().write_timeouts.get(), 1);
        sim.assert_ledger_balances();
    }
}

#[test]
fn what_the_network_takes_at_first_buys_a_dead_receiver_a_quarter_of_the_time() {
    for link in LINKS {
        let mut sim = sim();
        let mut a = sim.plain(1);
        let mut dead = narrow(&mut sim, 2, link, 128 << 10);
        send_long(&mut a, dead.key, 3);
        sim.rest();
        dead.receive_some(5000);
        sim.wait(Duration::from_millis(2499));
        assert!(!dead.is_closed(), "{link:?}");
        sim.wait(Duration::from_millis(1));
        assert!(dead.is_closed(), "{link:?}");
    }
}

#[test]
fn what_the_kernel_takes_of_its_own_accord_does_not_keep_a_dead_receiver() {
    for link in LINKS {
        let mut sim = sim();
        let mut a = sim.plain(1);
        let dead = narrow(&mut sim, 2, link, 128 << 10);
        send_long(&mut a, dead.key, 5);
        sim.wait(Duration::from_millis(1900));
        dead.wire.widen(160 << 10);
        sim.wait(Duration::from_millis(99));
        assert!(!dead.is_closed(), "{link:?}");
        sim.wait(Duration::from_millis(1));
        assert!(dead.is_closed(), "{link:?}");
    }
}

#[test]
fn a_receiver_that_was_blocked_before_has_all_its_time_again() {
    for link in LINKS {
        let mut sim = sim();
        let mut a = sim.plain(1);
        let slow = narrow(&mut sim, 2, link, 128 << 10);
        send_long(&mut a, slow.key, 3);
        sim.wait(Duration::from_millis(1900));
        slow.wire.widen(320 << 10);
        sim.wait(Duration::from_secs(50));
        send_long(&mut a, slow.key, 4);
        sim.wait(Duration::from_millis(1900));
        assert!(!slow.is_closed(), "{link:?}");
    }
}

#[test]
fn whoever_fills_a_connection_while_its_owner_hears_of_room_asks_it_to_go_on() {
    for link in LINKS {
        let mut sim = Sim::with_workers(2, Tunables::default());
        let mut a = sim.admit(1, key(1), &ClientOptions::default());
        let room = 4000;
        let options = ClientOptions {
            link,
            room,
            ..ClientOptions::default()
        };
        let mut b = sim.admit(0, key(2), &options);
        sim.rest();
        b.receive();
        b.wire.widen_unseen(1 << 20);
        for n in 0..10 {
            a.send_packet(b.key, &[n; 1000]);
        }
        sim.rest();
        let got: Vec<_> = b.packets().iter().map(|(_, packet)| packet[0]).collect();
        assert_eq!(got, (0..10).collect::<Vec<_>>(), "{link:?}");
        sim.assert_ledger_balances();
    }
}

#[test]
fn packets_do_not_wait_behind_a_notice_where_the_connection_takes_both() {
    for link in LINKS {
        let mut sim = sim();
        let mut leaving = sim.plain(1);
        let mut a = sim.plain(2);
        let mut b = narrow(&mut sim, 3, link, 1 << 20);
        leaving.send_packet(b.key, b"hello");
        sim.rest();
        assert_eq!(b.packets().len(), 1);
        // In one turn, one client leaves and another sends more than a lane holds.
        leaving.hang_up();
        for _ in 0..40 {
            a.send_packet(b.key, &[1; 1000]);
        }
        sim.step(0);
        let got = b.receive();
        assert!(matches!(
            got[0].as_server(),
            Ok(ServerFrame::PeerGone { key, .. }) if key == leaving.key
        ));
        let types: Vec<_> = got[1..].iter().map(|frame| frame.ty).collect();
        assert_eq!(types, [FrameType::RECV_PACKET; 40], "{link:?}");
        assert_eq!(sim.packets().dropped, 0);
    }
}

#[test]
fn a_write_timeout_that_is_set_again_holds_for_those_who_stalled_without_one() {
    let mut sim = Sim::new(Tunables {
        write_timeout: None,
        ..Tunables::default()
    });
    let mut a = sim.plain(1);
    let mut b = narrow(&mut sim, 2, Link::Plain, 4000);
    for _ in 0..20 {
        a.send_packet(b.key, &[1; 1000]);
    }
    sim.wait(Duration::from_secs(60));
    assert!(!b.is_closed());
    sim.hub.set_tunables(Tunables::default());
    // It takes what there is, and stops again before it has all.
    b.receive();
    sim.wait(Duration::from_millis(1999));
    assert!(!b.is_closed());
    sim.wait(Duration::from_millis(1));
    assert!(b.is_closed());
}
