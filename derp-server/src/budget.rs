//! How much all waiting packets together may hold. When it is too much, whoever holds the most
//! gives up its oldest packets first.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use crate::peer::Peer;
use crate::shared::{AtomicUsize, Mutex};
use crate::tally::Tally;

/// The bytes that wait for all clients of a server, and their limit.
#[derive(Debug)]
pub(crate) struct QueueBudget {
    used: AtomicUsize,
    limit: AtomicUsize,
    /// One at a time looks for the largest.
    relief: Mutex<()>,
}

impl QueueBudget {
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

    /// A client that held `before` bytes holds `now`.
    pub(crate) fn change(&self, before: usize, now: usize) {
        if now >= before {
            self.used.fetch_add(now - before, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(before - now, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_exceeded(&self) -> bool {
        self.used() > self.limit.load(Ordering::Relaxed)
    }

    /// Cuts the largest queues of `peers` by half until the budget holds.
    ///
    /// The caller holds no lock. Rare and linear: it happens once for each halving.
    pub(crate) fn relieve(&self, peers: &[Weak<Peer>], tally: &mut Tally) {
        let Ok(_one_at_a_time) = self.relief.try_lock() else {
            return;
        };
        let mut holders: Vec<Arc<Peer>> = peers.iter().filter_map(Weak::upgrade).collect();
        holders.sort_by_key(|peer| std::cmp::Reverse(peer.held()));
        for peer in holders {
            if !self.is_exceeded() {
                return;
            }
            peer.shrink_to(peer.held() / 2, tally);
        }
    }
}
