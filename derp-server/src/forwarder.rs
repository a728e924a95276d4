//! Packets for clients of the region's other relays.

use std::fmt::Debug;
use std::sync::Arc;

use derp_proto::NodePublic;

/// Takes packets to another relay of the region.
///
/// It is called from the thread that received the packet, which serves many other clients: it
/// must not wait. What it cannot take at once it refuses; its queue is bounded.
pub trait Forwarder: Debug + Send + Sync + 'static {
    /// Forwards `packet` from `src`, a client of this relay, to `dst`, a client of the other.
    ///
    /// # Errors
    /// [`Refused`] where there is no room for it; the packet is counted as dropped.
    fn forward(&self, src: NodePublic, dst: NodePublic, packet: &[u8]) -> Result<(), Refused>;
}

/// A packet that a forwarder had no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the forwarder's queue is full")]
pub struct Refused;

/// The other relays that say they have a client; the first that said so is used.
#[derive(Debug, Default, Clone)]
pub(crate) struct Forwarders {
    /// In the order in which they were added. Bounded by the number of mesh links.
    list: Vec<Arc<dyn Forwarder>>,
}

/// What a change of [`Forwarders`] was, for the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing: it was there already, or was not there.
    Nothing,
    /// It is the first, or was the last.
    Plain,
    /// There are several now, and there were not; or the reverse.
    Multi,
    /// One of several came or went.
    AmongSeveral,
}

impl Forwarders {
    pub(crate) fn add(&mut self, forwarder: Arc<dyn Forwarder>) -> Change {
        if self.position(&forwarder).is_some() {
            return Change::Nothing;
        }
        self.list.push(forwarder);
        match self.list.len() {
            1 => Change::Plain,
            2 => Change::Multi,
            _ => Change::AmongSeveral,
        }
    }

    pub(crate) fn remove(&mut self, forwarder: &Arc<dyn Forwarder>) -> Change {
        let Some(at) = self.position(forwarder) else {
            return Change::Nothing;
        };
        self.list.remove(at);
        match self.list.len() {
            0 => Change::Plain,
            1 => Change::Multi,
            _ => Change::AmongSeveral,
        }
    }

    pub(crate) fn preferred(&self) -> Option<&Arc<dyn Forwarder>> {
        self.list.first()
    }

    fn position(&self, forwarder: &Arc<dyn Forwarder>) -> Option<usize> {
        self.list
            .iter()
            .position(|known| Arc::ptr_eq(known, forwarder))
    }
}
