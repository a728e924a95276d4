//! How much memory all clients together may make the relay hold: packets that wait for them, and
//! the beginnings of frames that they have not finished.

use std::cmp::Reverse;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::registry::Registry;
use crate::shared::{AtomicUsize, Mutex};
use crate::tally::Tally;

/// Bytes that are held for all clients of a server, and their limit.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    used: AtomicUsize,
    limit: AtomicUsize,
    /// One at a time makes room.
    relief: Mutex<()>,
}

impl HeldBytes {
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            relief: Mutex::new(()),
        }
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// A client that held `before` bytes holds `now`.
    pub(crate) fn change(&self, before: usize, now: usize) {
        if now >= before {
            self.used.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_exceeded(&self) -> bool {
        self.used() > self.limit()
    }

    /// For packets that wait: cuts the largest queues by half, until an eighth of the limit is
    /// free or each was cut.
    ///
    /// The caller holds no lock. Linear, and once for each eighth.
    pub(crate) fn shorten_queues(&self, registry: &Registry, tally: &mut Tally) {
        let Ok(_one_at_a_time) = self.relief.try_lock() else {
            return;
        };
        let mut holders = registry.all();
        holders.sort_by_cached_key(|peer| Reverse(peer.held()));
        for peer in holders {
            if self.used() <= self.limit() / 8 * 7 {
                return;
            }
            peer.shrink_to(peer.held() / 2, tally);
        }
    }

    /// For unfinished frames: closes those clients that have held the most for the longest,
    /// until a quarter of the limit is free. Returns how many.
    ///
    /// Most bytes times longest time, for an honest client's frame is short, or soon finished, and
    /// an attacker's must be neither to be worth sending. Linear, and once for each quarter.
    pub(crate) fn close_unfinished(&self, registry: &Registry, now: Instant) -> u64 {
        let Ok(_one_at_a_time) = self.relief.try_lock() else {
            return 0;
        };
        let (mut going, mut holders) = (0, Vec::new());
        for peer in registry.all() {
            let (bytes, age) = peer.ledger.unfinished(now);
            // Some have been asked to go already, and have not yet.
            if peer.is_gone() {
                going += bytes;
            } else if bytes > 0 {
                let weight = bytes as u128 * (age.as_micros() + 1);
                holders.push((weight, bytes, peer));
            }
        }
        holders.sort_by_key(|(weight, ..)| Reverse(*weight));
        // Read last: who has gone meanwhile is not to be made up for by another.
        let mut excess = self.used().saturating_sub(self.limit() / 4 * 3 + going);
        let mut closed = 0;
        for (_, bytes, peer) in holders {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(bytes);
            tracing::debug!(conn = %peer.id, client = ?peer.key, bytes, "too much is unfinished");
            peer.close();
            closed += 1;
        }
        closed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use derp_proto::PeerPresentFlags;

    use crate::inbound::Inbound;
    use crate::peer::Peer;
    use crate::sim::{Sim, key};
    use crate::tunables::Tunables;

    #[test]
    fn nobody_is_closed_in_place_of_one_who_is_leaving() {
        let sim = Sim::new(Tunables {
            max_unfinished_bytes: 1000,
            ..Tunables::default()
        });
        let (hub, now) = (&sim.hub, sim.now);
        let client = |n: u8, bytes: usize| {
            let (flags, budget) = (PeerPresentFlags::REGULAR, Arc::clone(&hub.queued));
            let peer = Peer::of_task(key(n), hub.next_conn(), flags, budget);
            assert!(hub.registry.register(&peer).is_none());
            let mut inbound = Inbound::new(peer, None, hub, now);
            inbound.note_rest(bytes, hub, now);
            inbound
        };
        let stays = client(0, 10);
        for _ in 0..30 {
            let leaving: Vec<_> = (1..=100).map(|n| client(n, 1000)).collect();
            for n in 1..=100 {
                hub.registry.connections_of(&key(n))[0].close();
            }
            std::thread::scope(|scope| {
                let leave = scope.spawn(|| leaving.into_iter().for_each(|it| it.leave(hub)));
                while !leave.is_finished() {
                    assert_eq!(hub.unfinished.close_unfinished(&hub.registry, now), 0);
                }
            });
        }
        assert_eq!(hub.unfinished.used(), 10);
        stays.leave(hub);
    }
}
