//! Whom a client has sent something, so that they can be told when it leaves.

use std::sync::{Arc, Weak};

use crate::peer::{ConnId, Peer};

/// The most connections that are remembered for one sender; beyond that the oldest are forgotten,
/// and are not told.
const MAX: usize = 4096;

/// Connections, sorted by number and without repeats. Bounded by [`MAX`].
#[derive(Debug, Default)]
pub(crate) struct SentTo(Vec<(ConnId, Weak<Peer>)>);

impl SentTo {
    /// Returns how many others are forgotten for it.
    pub(crate) fn insert(&mut self, peer: &Arc<Peer>) -> u64 {
        self.insert_weak(peer.id, || Arc::downgrade(peer))
    }

    fn insert_weak(&mut self, id: ConnId, peer: impl FnOnce() -> Weak<Peer>) -> u64 {
        let Err(mut at) = self.0.binary_search_by_key(&id, |(id, _)| *id) else {
            return 0;
        };
        let mut forgotten = 0;
        if self.0.len() == self.0.capacity() {
            forgotten = self.make_room();
            at = self.0.partition_point(|(known, _)| *known < id);
        }
        self.0.insert(at, (id, peer()));
        forgotten
    }

    /// Forgets those that have left, and has room for a quarter more afterwards: that many come
    /// before all are looked at again.
    fn make_room(&mut self) -> u64 {
        self.0.retain(|(_, peer)| peer.strong_count() > 0);
        let quarter = self.0.len().div_ceil(4);
        if self.0.len() + quarter > MAX {
            self.0.drain(..quarter).count() as u64
        } else {
            self.0.reserve(quarter);
            0
        }
    }

    pub(crate) fn contains(&self, id: ConnId) -> bool {
        self.0.binary_search_by_key(&id, |(id, _)| *id).is_ok()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns how many are forgotten because there are too many.
    pub(crate) fn merge(&mut self, other: Self) -> u64 {
        let others = other.0.into_iter();
        others.map(|(id, peer)| self.insert_weak(id, || peer)).sum()
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

#[cfg(test)]
mod tests {
    use derp_proto::PeerPresentFlags;

    use super::*;
    use crate::budget::HeldBytes;
    use crate::sim::key;

    #[test]
    fn beyond_the_bound_the_oldest_quarter_is_forgotten_at_once() {
        let budget = Arc::new(HeldBytes::new(0));
        let peers: Vec<_> = (0..=4096)
            .map(|n| {
                let flags = PeerPresentFlags::REGULAR;
                Peer::of_task(key(1), ConnId(n), flags, Arc::clone(&budget))
            })
            .collect();
        let mut sent_to = SentTo::default();
        let forgotten: Vec<_> = peers.iter().map(|peer| sent_to.insert(peer)).collect();
        assert_eq!(forgotten[..4096], [0; 4096]);
        assert_eq!(forgotten[4096], 1024);
        let known: Vec<_> = sent_to.into_living().iter().map(|peer| peer.id.0).collect();
        assert_eq!(known, (1024..=4096).collect::<Vec<_>>());
    }
}
