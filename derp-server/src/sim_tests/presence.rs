//! Who is there, who has gone, and who is told.

use std::time::Duration;

use derp_proto::{ClientFrame, PeerGoneReason};

use super::{disco, dropped, gone, over_every_link, sim};
use crate::packet::DropReason;
use crate::sim::{ClientOptions, Sim, SimClient, key};

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
        assert_eq!(sim.hub.metrics.sum().not_here_withheld, 6);
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
