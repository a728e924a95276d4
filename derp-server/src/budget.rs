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
        let mut excess = self.used().saturating_sub(self.limit() / 4 * 3);
        let mut holders = Vec::new();
        for peer in registry.all() {
            let (bytes, age) = peer.ledger.unfinished(now);
            // Some have been asked to go already, and have not yet.
            if peer.is_gone() {
                excess = excess.saturating_sub(bytes);
            } else if bytes > 0 {
                let weight = bytes as u128 * (age.as_micros() + 1);
                holders.push((weight, bytes, peer));
            }
        }
        holders.sort_by_key(|(weight, ..)| Reverse(*weight));
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
