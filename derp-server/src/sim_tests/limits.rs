//! Limits of rate, of one client, of a group and of all.

use std::time::Duration;

use derp_proto::{ClientFrame, NodePublic};
use derp_verify::RateLimit;

use super::sim;
use crate::inbox::Message;
use crate::sim::{ClientOptions, LINKS, Sim, SimClient, key};
use crate::tunables::{FrameRate, Tunables};

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
fn frames_of_no_use_count_towards_a_limit_like_others() {
    for link in LINKS {
        let mut sim = sim();
        let rate = Some(RateLimit {
            bytes_per_second: 65_568,
            burst_bytes: 1,
        });
        let options = ClientOptions {
            link,
            rate,
            ..Default::default()
        };
        let mut a = sim.connect(key(1), &options);
        let frame = [&[0x77, 0, 1, 0, 0x20][..], &[0; 65_568]].concat();
        a.send_bytes(&frame.repeat(3));
        sim.run();
        let mut counts = vec![sim.hub.metrics.sum().unknown_frames];
        for _ in 0..3 {
            sim.pass(Duration::from_millis(1005));
            counts.push(sim.hub.metrics.sum().unknown_frames);
        }
        assert_eq!(counts, [1, 2, 3, 3], "{link:?}");
        assert!(!a.is_closed());
    }
}

#[test]
fn frames_may_be_limited_by_their_number() {
    let mut sim = Sim::new(Tunables {
        client_frame_rate: Some(FrameRate {
            per_second: 2.0,
            burst: 3.0,
        }),
        ..Tunables::default()
    });
    let [mut a, mut b] = [1, 2].map(|n| sim.plain(n));
    for _ in 0..6 {
        a.send_packet(b.key, b"small");
    }
    let mut counts = Vec::new();
    for _ in 0..3 {
        sim.pass(Duration::from_millis(505));
        counts.push(b.packets().len());
    }
    assert_eq!(counts, [4, 1, 1]);
    assert_eq!(sim.hub.metrics.sum().frame_rate_waited, 3);
    sim.assert_ledger_balances();
}

#[test]
fn how_long_frames_of_no_use_may_be_can_be_set() {
    let mut sim = Sim::new(Tunables {
        max_unknown_frame_len: 100,
        ..Tunables::default()
    });
    let [mut a, mut b] = [1, 2].map(|n| sim.plain(n));
    a.send_bytes(&[&[0x77, 0, 0, 0, 100][..], &[0; 100]].concat());
    b.send_bytes(&[0x77, 0, 0, 0, 101]);
    sim.run();
    assert!(!a.is_closed() && b.is_closed());
}

/// The burst of a limit is a whole packet at least. At this rate the next takes 65.6 seconds.
const SLOW: RateLimit = RateLimit {
    bytes_per_second: 1000,
    burst_bytes: 0,
};

#[test]
fn a_worker_that_comes_late_does_not_close_whom_it_kept_waiting() {
    for link in LINKS {
        let mut sim = sim();
        let options = ClientOptions {
            link,
            rate: Some(SLOW),
            ..Default::default()
        };
        let mut a = sim.connect(key(1), &options);
        let mut b = sim.plain(2);
        for _ in 0..2 {
            a.send_packet(b.key, &[0; 65_536]);
        }
        sim.wait(Duration::from_millis(65_200));
        assert_eq!(b.packets().len(), 1);
        // The client's turn comes, and behind it the moment to see what is unfinished.
        sim.now += Duration::from_secs(1);
        sim.rest();
        assert!(!a.is_closed(), "{link:?}");
        assert_eq!(b.packets().len(), 1);
    }
}

#[test]
fn whoever_waits_for_a_new_limit_is_not_woken_for_the_former_one() {
    let mut sim = Sim::new(Tunables {
        client_rate: Some(SLOW),
        ..Tunables::default()
    });
    sim.hub.set_workers(vec![sim.worker_inbox()]);
    let mut a = sim.plain(1);
    let mut b = sim.plain(2);
    for _ in 0..4 {
        a.send_packet(b.key, &[0; 65_536]);
    }
    sim.wait(Duration::from_secs(1));
    let counts = |sim: &Sim, b: &mut SimClient| {
        let waited = sim.hub.metrics.sum().rate_limit_waited;
        (b.packets().len(), waited)
    };
    assert_eq!(counts(&sim, &mut b), (1, 1));
    sim.hub.set_tunables(Tunables {
        client_rate: Some(RateLimit {
            bytes_per_second: 500,
            ..SLOW
        }),
        ..Tunables::default()
    });
    sim.rest();
    assert_eq!(counts(&sim, &mut b), (1, 2));
    // The former limit would have let it send again by now.
    sim.wait(Duration::from_secs(70));
    assert_eq!(counts(&sim, &mut b), (0, 2));
    sim.wait(Duration::from_secs(62));
    assert_eq!(counts(&sim, &mut b), (1, 3));
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
    // Its next packet would be due in a minute.
    sim.hub.set_tunables(Tunables::default());
    sim.run();
    let got = b.packets();
    assert_eq!((from(&got, mesh.key), from(&got, a.key)), (0, 2));
    sim.assert_ledger_balances();
}

/// As in the reference, whose limiter stops waiting when the connection's context is cancelled. What
/// a client sent before it hung up is still read by its limit, as long as nobody writes to it.
#[test]
fn a_client_that_is_held_back_goes_at_once_when_it_is_closed_or_takes_nothing_any_more() {
    for link in LINKS {
        for hangs_up in [true, false] {
            let mut sim = sim();
            let rate = Some(RateLimit {
                bytes_per_second: 1000,
                burst_bytes: 0,
            });
            let options = ClientOptions {
                link,
                rate,
                ..Default::default()
            };
            let mut a = sim.connect(key(1), &options);
            let mut b = sim.plain(2);
            for _ in 0..3 {
                a.send_packet(b.key, &[0; 65_536]);
            }
            sim.run();
            assert_eq!(b.packets().len(), 1, "{link:?}");
            match hangs_up {
                true => {
                    a.hang_up();
                    b.send_packet(a.key, b"are you there?");
                }
                false => sim.worker_inbox().post(Message::Close(a.id)),
            }
            sim.run();
            let case = format!("{link:?}, hangs up: {hangs_up}");
            assert!(a.is_closed(), "{case}");
            assert_eq!(sim.worker().conns(), 1, "{case}");
            assert_eq!(sim.held_unfinished(), 0, "{case}");
            sim.assert_ledger_balances();
        }
    }
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
