//! Changes on their way to whoever wants to hear of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::verdict::Change;
use crate::outcome::Outcome;

/// How many changes may wait; more than a fleet of hundreds of relays has when all of it breaks.
const WAITING: usize = 4_096;

/// A change and the run that made it.
#[derive(Debug, Clone)]
pub struct Item {
    /// The run.
    pub outcome: Outcome,
    /// What it changed.
    pub change: Change,
}

/// Where changes are told. Cheap to clone.
#[derive(Debug, Clone)]
pub struct News {
    /// `None` where nobody listens.
    sender: Option<mpsc::Sender<Item>>,
    lost: Arc<AtomicU64>,
}

impl News {
    /// Told to nobody.
    #[must_use]
    pub fn to_nobody() -> Self {
        Self {
            sender: None,
            lost: Arc::default(),
        }
    }

    /// Told to whoever has the other end.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Item>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let news = Self {
            sender: Some(sender),
            ..Self::to_nobody()
        };
        (news, receiver)
    }

    /// Tells of a change, or counts it where too many wait.
    pub(super) fn tell(&self, outcome: &Outcome, change: Change) {
        let Some(sender) = &self.sender else { return };
        let item = Item {
            outcome: outcome.clone(),
            change,
        };
        if sender.try_send(item).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many could not be told.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}
