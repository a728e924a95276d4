//! A link to another relay of the region, which takes packets or refuses them as it is told.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use derp_proto::NodePublic;

use super::chaos::key_of;
use super::mark::Mark;
use crate::forwarder::{Forwarder, Refused};

#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) is_dead: AtomicBool,
    pub(super) refuses: AtomicBool,
    accepted: Mutex<Vec<Mark>>,
    refused: Mutex<u64>,
}

impl Link {
    /// Takes what has been accepted since the last time.
    pub(super) fn take_accepted(&self) -> Vec<Mark> {
        std::mem::take(&mut self.accepted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn refused(&self) -> u64 {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forwarder for Link {
    fn forward(&self, src: NodePublic, dst: NodePublic, packet: &[u8]) -> Result<(), Refused> {
        assert!(!self.is_dead.load(Relaxed), "a packet for a dead link");
        let mark = Mark::of(packet);
        assert_eq!((key_of(mark.src), key_of(mark.dst)), (src, dst));
        if self.refuses.load(Relaxed) {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            return Err(Refused);
        }
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        accepted.push(mark);
        Ok(())
    }
}
