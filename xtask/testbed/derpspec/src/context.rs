//! What a running case has at hand: the relay, its patience, and the record of what was sent and
//! received, which is shown if it fails.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::fault::Fault;
use crate::target::Target;
use crate::verdict::shown;

/// How long a case watches that nothing happens.
pub(crate) const GRACE: Duration = Duration::from_millis(150);

/// How many lines of a record are kept.
const KEPT: usize = 40;

/// One run of one case.
#[derive(Debug, Clone)]
pub(crate) struct Cx(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    target: Arc<Target>,
    fault: Option<Fault>,
    /// How long it waits for what must happen.
    patience: Duration,
    connections: AtomicUsize,
    trace: Mutex<Vec<String>>,
}

impl Cx {
    pub(crate) fn new(target: Arc<Target>, fault: Option<Fault>, patience: Duration) -> Self {
        Self(Arc::new(Inner {
            target,
            fault,
            patience,
            connections: AtomicUsize::new(0),
            trace: Mutex::default(),
        }))
    }

    pub(crate) fn target(&self) -> &Target {
        &self.0.target
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.0.fault
    }

    pub(crate) fn patience(&self) -> Duration {
        self.0.patience
    }

    /// The number of a connection of this run, from one.
    pub(crate) fn next_connection(&self) -> usize {
        self.0.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes what happened.
    pub(crate) fn note(&self, line: String) {
        let mut trace = self.0.trace.lock().unwrap_or_else(PoisonError::into_inner);
        if trace.len() == KEPT {
            trace.remove(0);
        }
        trace.push(line);
    }

    /// Notes bytes that went over connection `n`.
    pub(crate) fn note_bytes(&self, n: usize, direction: char, bytes: &[u8]) {
        self.note(format!("#{n} {direction} {}", shown(bytes)));
    }

    /// What happened, oldest first.
    pub(crate) fn trace(&self) -> Vec<String> {
        self.0
            .trace
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
