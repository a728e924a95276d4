//! The connections of one key: mostly one.

use std::sync::Arc;

use crate::client_set::ClientSet;
use crate::peer::{ConnId, Peer};

#[derive(Debug)]
pub(super) enum Local {
    None,
    One(Arc<Peer>),
    Several(Box<Several>),
}

/// Several connections of one key.
#[derive(Debug)]
pub(super) struct Several {
    set: ClientSet<ConnId>,
    /// Bounded by `Registry::max_per_key`, and those that were told to go and have not gone yet.
    peers: Vec<Arc<Peer>>,
}

impl Local {
    pub(super) fn peers(&self) -> &[Arc<Peer>] {
        match self {
            Self::None => &[],
            Self::One(peer) => std::slice::from_ref(peer),
            Self::Several(several) => several.peers(),
        }
    }
}

impl Several {
    pub(super) fn new(older: Arc<Peer>, newer: Arc<Peer>) -> Self {
        Self {
            set: ClientSet::new(older.id, newer.id),
            peers: vec![older, newer],
        }
    }

    pub(super) fn peers(&self) -> &[Arc<Peer>] {
        &self.peers
    }

    /// A connection joins, and is active.
    pub(super) fn add(&mut self, peer: Arc<Peer>) {
        self.set.add(peer.id);
        self.peers.push(peer);
    }

    /// A connection said something, and is active.
    pub(super) fn note_activity(&mut self, id: ConnId) {
        self.set.note_activity(id);
        self.mark();
    }

    pub(super) fn find(&self, id: ConnId) -> Option<Arc<Peer>> {
        self.peers.iter().find(|peer| peer.id == id).cloned()
    }

    /// The connection that has to go because there are too many, if there are.
    ///
    /// Those that were told so before are not asked again: their workers may not have got to it
    /// yet, and when many connect at a time, each new one must send another one away.
    pub(super) fn surplus(&self, max: usize) -> Option<Arc<Peer>> {
        let staying = self.peers.iter().filter(|peer| !peer.is_gone()).count();
        if staying <= max {
            return None;
        }
        let mut standbys = self.set.standbys().filter_map(|id| self.find(id));
        standbys.find(|peer| !peer.is_gone())
    }

    pub(super) fn active(&self) -> Option<&Arc<Peer>> {
        let active = self.set.active()?;
        self.peers.iter().find(|peer| peer.id == active)
    }

    pub(super) fn remove(&mut self, id: ConnId) {
        self.set.remove(id);
        self.peers.retain(|peer| peer.id != id);
    }

    /// Writes each connection's part in the set onto it, for those who hold a route to it.
    pub(super) fn mark(&self) {
        let active = self.set.active();
        for peer in &self.peers {
            peer.set_duplicate(true, active == Some(peer.id));
        }
    }
}
