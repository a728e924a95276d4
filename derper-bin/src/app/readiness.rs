//! Whether the relay can take clients, for load balancers and whoever restarts it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use super::numbers::Numbers;

/// What is known of it beside the numbers.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    is_stopping: AtomicBool,
}

impl Readiness {
    /// From now on no client is wanted.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// What is in the way of a new client; nothing on a relay that is ready.
    pub(super) fn problems(&self, numbers: &Numbers, now: SystemTime) -> Vec<&'static str> {
        let mut problems = Vec::new();
        if self.is_stopping.load(Ordering::Relaxed) || numbers.server().is_none() {
            problems.push("the relay is stopping");
        }
        if numbers.certs().has_expired(now) {
            problems.push("the certificate has expired");
        }
        problems
    }
}
