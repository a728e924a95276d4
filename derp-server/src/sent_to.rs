//! Whom a client has sent something, so that they can be told when it leaves.

use std::sync::{Arc, Weak};

use crate::peer::{ConnId, Peer};

/// The most connections that are remembered for one sender; beyond that the oldest is forgotten,
/// and is not told.
const MAX: usize = 4096;

/// Connections, sorted by number and without repeats. Bounded by [`MAX`].
#[derive(Debug, Default)]
pub(crate) struct SentTo(Vec<(ConnId, Weak<Peer>)>);

impl SentTo {
    pub(crate) fn insert(&mut self, peer: &Arc<Peer>) {
        self.insert_weak(peer.id, || Arc::downgrade(peer));
    }

    fn insert_weak(&mut self, id: ConnId, peer: impl FnOnce() -> Weak<Peer>) {
        let Err(mut at) = self.0.binary_search_by_key(&id, |(id, _)| *id) else {
            return;
        };
        if self.0.len() == self.0.capacity() {
            // Before it grows, room is made by forgetting those that have left.
            self.0.retain(|(_, peer)| peer.strong_count() > 0);
            if self.0.len() >= MAX {
                self.0.remove(0);
            }
            at = self.0.partition_point(|(known, _)| *known < id);
        }
        self.0.insert(at, (id, peer()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (id, peer) in other.0 {
            self.insert_weak(id, || peer);
        }
    }

    /// Those that are still connected.
    pub(crate) fn into_living(self) -> Vec<Arc<Peer>> {
        self.0
            .iter()
            .filter_map(|(_, peer)| peer.upgrade())
            .filter(|peer| !peer.is_gone())
            .collect()
    }
}
