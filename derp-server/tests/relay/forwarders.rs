//! Clients that another relay of the region has: how packets find them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use derp_proto::{ClientFrame, NodePublic, PeerGoneReason};
use derp_server::{Forwarder, PacketCounts, Refused};

use crate::support::{Kind, Relay, eventually, key, mesh_login, over_every_kind, tell};

over_every_kind! {
    packets_for_another_relays_client_are_forwarded,
    a_forwarder_without_room_makes_for_drops,
    a_client_that_is_here_comes_before_one_that_is_elsewhere,
    a_departure_from_the_region_is_told,
}

/// Keeps what it is given, as long as there is room.
#[derive(Debug, Default)]
struct Recorder {
    packets: Mutex<Vec<(NodePublic, NodePublic, Vec<u8>)>>,
    is_full: bool,
}

impl Forwarder for Recorder {
    fn forward(&self, src: NodePublic, dst: NodePublic, packet: &[u8]) -> Result<(), Refused> {
        if self.is_full {
            return Err(Refused);
        }
        self.packets
            .lock()
            .expect("no panic")
            .push((src, dst, packet.to_vec()));
        Ok(())
    }
}

impl Recorder {
    async fn has(&self, expected: &[(NodePublic, NodePublic, Vec<u8>)]) {
        let packets = || self.packets.lock().expect("no panic").clone();
        eventually("the packets are forwarded", || {
            packets().len() >= expected.len()
        })
        .await;
        assert_eq!(packets(), expected);
    }
}

fn forwarder<F: Forwarder>(forwarder: &Arc<F>) -> Arc<dyn Forwarder> {
    Arc::clone(forwarder) as Arc<dyn Forwarder>
}

async fn packets_for_another_relays_client_are_forwarded(relay: &Relay) {
    let recorder = Arc::new(Recorder::default());
    let mut a = relay.client(1).await;
    relay.server.add_forwarder(key(9), forwarder(&recorder));
    let mut expected = Vec::new();
    for size in [0, 5, 1280, 65_536] {
        let packet = vec![3; size];
        a.send(key(9), &packet).await;
        expected.push((a.key, key(9), packet));
        recorder.has(&expected).await;
    }
    relay.has_received(4).await;
    let counts = PacketCounts {
        received: 4,
        forwarded: 4,
        ..PacketCounts::default()
    };
    assert_eq!(relay.server.metrics().packets(), counts);
    relay.server.remove_forwarder(key(9), &forwarder(&recorder));
    a.send(key(9), b"nowhere").await;
    assert_eq!(a.received().await, []);
    relay.drops("unknown_dest", 1).await;
}

async fn a_forwarder_without_room_makes_for_drops(relay: &Relay) {
    let full = Arc::new(Recorder {
        is_full: true,
        ..Recorder::default()
    });
    relay.server.add_forwarder(key(9), forwarder(&full));
    let mut a = relay.client(1).await;
    a.send(key(9), b"one too many").await;
    assert_eq!(a.received().await, []);
    relay.drops("queue_tail", 1).await;
}

async fn a_client_that_is_here_comes_before_one_that_is_elsewhere(relay: &Relay) {
    let gauges = relay.server.metrics().gauges();
    let counts = || (gauges.clients_local.get(), gauges.clients_remote.get());
    let recorder = Arc::new(Recorder::default());
    let a = relay.client(1).await;
    let mut b = relay.client(2).await;
    relay.server.add_forwarder(key(2), forwarder(&recorder));
    assert_eq!(counts(), (2, 0));
    a.send(b.key, b"here").await;
    assert_eq!(b.packet().await, (a.key, b"here".to_vec()));
    drop(b);
    eventually("it is only elsewhere", || counts() == (1, 1)).await;
    a.send(key(2), b"elsewhere").await;
    recorder
        .has(&[(a.key, key(2), b"elsewhere".to_vec())])
        .await;
    // It comes here again, and stays when the other relay has it no longer.
    let mut b = relay.client(2).await;
    assert_eq!(counts(), (2, 0));
    a.send(b.key, b"here again").await;
    assert_eq!(b.packet().await, (a.key, b"here again".to_vec()));
    relay.server.remove_forwarder(key(2), &forwarder(&recorder));
    a.send(b.key, b"still here").await;
    assert_eq!(b.packet().await, (a.key, b"still here".to_vec()));
    drop(b);
    eventually("it is nowhere", || counts() == (1, 0)).await;
    assert_eq!(gauges.forwarder_delete_other_value.get(), 0);
}

async fn a_departure_from_the_region_is_told(relay: &Relay) {
    let recorder = Arc::new(Recorder::default());
    let mesh = relay.admit(&mesh_login(7)).await;
    let mut b = relay.client(2).await;
    let gone = (key(9), PeerGoneReason::DISCONNECTED);
    for _ in 0..2 {
        relay.server.add_forwarder(key(9), forwarder(&recorder));
        mesh.writer()
            .forward_packet(key(9), b.key, b"hello")
            .await
            .expect("a connection");
        assert_eq!(b.packet().await, (key(9), b"hello".to_vec()));
        relay.server.remove_forwarder(key(9), &forwarder(&recorder));
        assert_eq!(b.gone().await, gone);
    }
    // A client that is here and elsewhere has gone when it is neither.
    let a = relay.client(1).await;
    relay.server.add_forwarder(key(1), forwarder(&recorder));
    a.send(b.key, b"from here").await;
    assert_eq!(b.packet().await, (key(1), b"from here".to_vec()));
    drop(a);
    relay.has_connections(2).await;
    assert_eq!(b.received().await, []);
    relay.server.remove_forwarder(key(1), &forwarder(&recorder));
    assert_eq!(b.gone().await, (key(1), PeerGoneReason::DISCONNECTED));
}

/// How the table of forwarders changes, as its counters tell it.
async fn forwarders_come_and_go(relay: &Relay) {
    let gauges = relay.server.metrics().gauges();
    let counts = || {
        let multi = (
            gauges.multiforwarder_created.get(),
            gauges.multiforwarder_deleted.get(),
        );
        (
            gauges.clients_remote.get(),
            multi,
            gauges.forwarder_delete_other_value.get(),
        )
    };
    let [first, second, third] = [(); 3].map(|()| Arc::new(Recorder::default()));
    let add = |n, recorder| relay.server.add_forwarder(key(n), forwarder(recorder));
    let remove = |n, recorder| relay.server.remove_forwarder(key(n), &forwarder(recorder));
    add(8, &first);
    add(9, &second);
    assert_eq!(counts(), (2, (0, 0), 0));
    remove(8, &second);
    remove(50, &first);
    assert_eq!(
        counts(),
        (2, (0, 0), 1),
        "of an unknown key nothing is removed"
    );
    remove(8, &first);
    assert_eq!(counts(), (1, (0, 0), 1));

    // Of several, the first that has come is used for as long as it stays.
    add(9, &first);
    assert_eq!(counts(), (1, (1, 0), 1));
    add(9, &first);
    add(9, &second);
    assert_eq!(counts(), (1, (1, 0), 1));
    remove(9, &third);
    assert_eq!(counts(), (1, (1, 0), 2));
    let a = relay.client(1).await;
    a.send(key(9), b"1").await;
    second.has(&[(a.key, key(9), b"1".to_vec())]).await;
    remove(9, &second);
    assert_eq!(counts(), (1, (1, 1), 2));
    a.send(key(9), b"2").await;
    first.has(&[(a.key, key(9), b"2".to_vec())]).await;
    remove(9, &first);
    assert_eq!(counts(), (0, (1, 1), 2));
}

/// Counts, and always has room.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Forwarder for Counter {
    fn forward(&self, _: NodePublic, _: NodePublic, _: &[u8]) -> Result<(), Refused> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

async fn no_packet_is_lost_while_forwarders_change(relay: &Relay) {
    const PACKETS: u64 = 5000;
    let counters = [(); 3].map(|()| Arc::new(Counter::default()));
    let total = || {
        counters
            .iter()
            .map(|counter| counter.0.load(Ordering::Relaxed))
            .sum::<u64>()
    };
    for counter in &counters {
        relay.server.add_forwarder(key(9), forwarder(counter));
    }
    let sender = Arc::new(());
    let sends = Arc::downgrade(&sender);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _sends = { sender };
            let sending = async {
                let mut a = relay.raw_client(1).await;
                let frame = ClientFrame::SendPacket {
                    dst: key(9),
                    packet: b"through",
                };
                for _ in 0..PACKETS / 100 {
                    a.send_frames(&[frame; 100]).await;
                }
                eventually("all are forwarded", || total() == PACKETS).await;
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(sending);
        });
        // Never all at once: the first stays.
        for counter in &counters[1..] {
            scope.spawn(|| {
                while sends.strong_count() > 0 {
                    relay.server.remove_forwarder(key(9), &forwarder(counter));
                    relay.server.add_forwarder(key(9), forwarder(counter));
                }
            });
        }
    });
    assert_eq!(relay.server.metrics().packets().dropped, 0);
}

#[test]
fn the_table_of_forwarders_keeps_its_counters() {
    tell(Kind::Plain, forwarders_come_and_go);
}

#[test]
fn forwarders_may_change_while_packets_pass() {
    tell(Kind::Tls13, no_packet_is_lost_while_forwarders_change);
}
