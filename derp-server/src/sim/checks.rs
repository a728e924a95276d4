//! What must be true of a relay, whatever happened before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::chaos::{Chaos, KEYS, key_of};
use crate::forwarder::Forwarder;
use crate::packet::{DropReason, PacketKind};
use crate::peer::Peer;
use crate::registry::Route;

impl Chaos {
    /// After any turn of any worker.
    pub(super) fn check(&mut self) {
        self.collect_forwarded();
        let all = self.sim.hub.registry.all();
        self.check_sessions(&all);
        let waiting = self.check_queues(&all);
        self.check_packets(waiting);
        self.check_routes();
    }

    fn collect_forwarded(&mut self) {
        for link in 0..self.mesh.len() {
            let accepted = self.mesh[link].take_accepted();
            self.forwarded += accepted.len() as u64;
            for mark in accepted {
                self.on_delivered(mark, None);
            }
        }
    }

    /// The registry has each connection that a worker serves, once, and so say the gauges.
    fn check_sessions(&self, all: &[Arc<Peer>]) {
        let hub = &self.sim.hub;
        let mut registered: Vec<_> = all.iter().map(|peer| peer.id).collect();
        let mut served = Vec::new();
        for worker in &self.sim.workers {
            let ids = worker.worker.conn_ids();
            assert_eq!(
                ids.len(),
                worker.inbox.load.load(Relaxed),
                "a worker's load"
            );
            served.extend(ids);
        }
        registered.sort_unstable();
        served.sort_unstable();
        assert_eq!(registered, served, "registered, and served");

        let mut by_key = BTreeMap::<_, usize>::new();
        for peer in all {
            *by_key
                .entry(self.players[self.sessions[&peer.id]].key)
                .or_default() += 1;
            assert!(peer.key == key_of(self.players[self.sessions[&peer.id]].key));
        }
        let several = by_key.values().filter(|count| **count > 1);
        let elsewhere = self.routes.keys().filter(|key| !by_key.contains_key(key));
        let gauges = hub.metrics.gauges();
        let counted = [
            ("connections", gauges.connections.get(), all.len()),
            ("local clients", gauges.clients_local.get(), by_key.len()),
            (
                "remote clients",
                gauges.clients_remote.get(),
                elsewhere.count(),
            ),
            (
                "duplicate keys",
                gauges.dup_client_keys.get(),
                several.clone().count(),
            ),
            ("duplicates", gauges.dup_client_conns.get(), several.sum()),
            ("panics", gauges.panics.get(), 0),
        ];
        for (what, counted, there) in counted {
            assert_eq!(counted, there as u64, "{what}");
        }
        assert!(gauges.home_connections.get() <= all.len() as u64);
        assert!(gauges.watchers.get() <= all.len() as u64);
        let keys: BTreeSet<_> = by_key.keys().chain(self.routes.keys()).collect();
        assert_eq!(
            hub.registry.len(),
            keys.len(),
            "keys that the registry knows"
        );
    }

    /// What waits is counted right, for each client and for all. Returns how many packets wait.
    fn check_queues(&self, all: &[Arc<Peer>]) -> usize {
        let (mut held, mut packets) = (0, 0);
        for peer in all {
            let waiting = peer.waiting();
            assert_eq!(peer.held(), waiting.lane_bytes + waiting.pending);
            assert!(waiting.packets.iter().all(|lane| *lane <= self.lane_depth));
            held += peer.held();
            packets += waiting.packets.iter().sum::<usize>();
        }
        assert_eq!(self.sim.hub.queued.used(), held, "what all hold");
        let rests = self.sim.held_unfinished();
        assert_eq!(self.sim.hub.unfinished.used(), rests, "what is unfinished");
        packets
    }

    /// Each packet that was received is sent, forwarded, dropped for a reason, or waits.
    fn check_packets(&self, waiting: usize) {
        let hub = &self.sim.hub;
        let counts = hub.metrics.packets();
        let done = counts.sent + counts.forwarded + counts.dropped;
        assert_eq!(counts.received, done + waiting as u64, "{counts:?}");
        let offered: u64 = self
            .players
            .iter()
            .map(|player| u64::from(player.sent))
            .sum();
        assert!(counts.received <= offered, "{counts:?} of {offered}");
        assert_eq!(counts.forwarded, self.forwarded);
        let arrived = self.delivered.len() as u64 - self.forwarded;
        assert!(arrived <= counts.sent, "{arrived} of {counts:?}");
        let sum = hub.metrics.sum();
        let refused = PacketKind::ALL.map(|kind| sum.packets_dropped(DropReason::QueueTail, kind));
        let by_links: u64 = self.mesh.iter().map(|link| link.refused()).sum();
        assert!(by_links <= refused.iter().sum());
    }

    /// Packets for a key go to a connection that has it, or to a link that says so.
    fn check_routes(&self) {
        for key in 0..u8::try_from(KEYS).expect("keys are few") {
            let here = self.players.iter().filter(|p| p.is_alive && p.key == key);
            let here: Vec<_> = here.map(|player| player.client.id).collect();
            match self.sim.hub.registry.route(&key_of(key)) {
                Route::Local(peer) => {
                    assert!(here.contains(&peer.id), "{key} by {peer:?}");
                    for other in self.sim.hub.registry.connections_of(&key_of(key)) {
                        assert_eq!(other.is_duplicate(), here.len() > 1, "{other:?}");
                        let is_active = other.id == peer.id && !other.is_gone();
                        assert_eq!(other.is_current(), is_active, "{other:?}");
                    }
                }
                Route::Remote(forwarder) => {
                    assert!(here.is_empty(), "key {key} is here");
                    let first = self.routes.get(&key).and_then(|links| links.first());
                    let first = first.expect("no link has it");
                    let first: Arc<dyn Forwarder> =
                        Arc::<super::link::Link>::clone(&self.mesh[*first]);
                    assert!(Arc::ptr_eq(&forwarder, &first), "the first link is used");
                }
                Route::Duplicated => panic!("somebody always spoke last"),
                Route::Unknown => {
                    assert!(here.is_empty(), "key {key} is here");
                    assert!(!self.routes.contains_key(&key), "key {key} is elsewhere");
                }
            }
        }
    }

    /// When workers rest and clients have read all there was.
    pub(super) fn check_settled(&mut self) {
        self.check();
        self.check_budget();
        let here: BTreeSet<_> = self
            .players
            .iter()
            .filter(|p| p.is_alive)
            .map(|p| p.key)
            .collect();
        let peers = self.sim.hub.registry.all();
        for player in self.players.iter().filter(|p| p.is_alive && !p.is_blocked) {
            let peer = peers.iter().find(|peer| peer.id == player.client.id);
            let peer = peer.expect("it is registered");
            assert!(!peer.is_leaving(), "{} has all, and stays", player.session);
            let waiting = peer.waiting();
            assert_eq!(
                waiting,
                crate::tx::WaitingNow::default(),
                "{} reads, and something waits for it",
                player.session
            );
            if player.watches {
                let is_known = player.outbox.is_empty() && !player.has_left && !player.is_garbled;
                assert!(
                    !is_known || player.view == here,
                    "{} of {here:?}",
                    player.session
                );
            } else {
                self.check_told_gone(player);
            }
        }
    }

    /// When there was time for all that clients sent.
    pub(super) fn check_understood(&self) {
        for player in self.players.iter().filter(|player| player.is_alive) {
            let is_read = player.client.wire.inward() == 0;
            assert!(is_read, "nobody reads what {} sends", player.session);
        }
    }

    /// Whoever had packets of a key is told once each time that it has gone, and nobody more
    /// often than it went.
    fn check_told_gone(&self, player: &super::player::Player) {
        for key in 0..KEYS {
            let number = u8::try_from(key).expect("keys are few");
            if number == player.key {
                assert_eq!(player.told_gone[key], 0, "its own key is there");
                continue;
            }
            let gone = self.presences.gone[key];
            let heard = player.heard_from.iter().filter(|(from, _)| *from == number);
            let must = heard.filter(|(_, epoch)| *epoch < gone).count();
            let may = gone - player.epochs_before[key];
            let told = player.told_gone[key];
            assert!(
                must <= told as usize && told <= may,
                "{} was told {told} times that {key} has gone, which is not {must} to {may}",
                player.session
            );
        }
    }

    /// All that waits keeps to its budget, or there is nothing left to give up.
    fn check_budget(&mut self) {
        let budget = Arc::clone(&self.sim.hub.queued);
        for _ in 0..40 {
            if !budget.is_exceeded() {
                return;
            }
            self.sim.step(0);
        }
        let all = self.sim.hub.registry.all();
        let lanes: usize = all.iter().map(|peer| peer.waiting().lane_bytes).sum();
        assert_eq!(
            lanes,
            0,
            "{} is beyond {}",
            budget.used(),
            self.queue_budget
        );
    }

    /// When everybody has left: no entry, no timer, no byte, and nobody who holds a connection.
    pub(super) fn check_empty(&mut self) {
        self.check();
        let hub = &self.sim.hub;
        assert_eq!((hub.registry.len(), hub.queued.used()), (0, 0));
        assert_eq!(hub.unfinished.used(), 0);
        let gauges = hub.metrics.gauges();
        let left = [
            gauges.connections.get(),
            gauges.home_connections.get(),
            gauges.watchers.get(),
            gauges.clients_local.get(),
            gauges.clients_remote.get(),
        ];
        assert_eq!(left, [0; 5], "gauges of what is there");
        for worker in &self.sim.workers {
            assert_eq!((worker.worker.conns(), worker.worker.timers()), (0, 0));
        }
        for player in &self.players {
            let holders = Arc::strong_count(&player.client.wire);
            assert_eq!(
                holders, 1,
                "somebody holds the connection of {}",
                player.session
            );
            assert!(
                player.client.is_closed(),
                "{} was never closed",
                player.session
            );
        }
    }
}
