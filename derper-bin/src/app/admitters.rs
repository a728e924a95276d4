//! Which of several verifiers admitted the clients that are here. If that one gives no answer they
//! stay, and whether others do is then of no account.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use derp_proto::NodePublic;
use tokio::time::Instant;

/// The verifiers' names, by client.
#[derive(Debug, Default)]
pub(super) struct Admitters {
    /// At most [`MOST`]. Held for a lookup, or to go through it once.
    known: Mutex<HashMap<NodePublic, Admitter>>,
}

#[derive(Debug)]
struct Admitter {
    name: Arc<str>,
    noted_at: Instant,
}

impl Admitters {
    /// The verifier called `name` has admitted `key`. Beyond the bound it is not noted: of such a
    /// client it is not known whose it is, and it stays while any verifier is away.
    pub(super) fn note(&self, key: NodePublic, name: &Arc<str>) {
        let mut known = self.lock();
        if known.len() >= MOST && !known.contains_key(&key) {
            return;
        }
        let admitter = Admitter {
            name: Arc::clone(name),
            noted_at: Instant::now(),
        };
        known.insert(key, admitter);
    }

    /// Who admitted `key`, if that is known.
    pub(super) fn of(&self, key: &NodePublic) -> Option<Arc<str>> {
        self.lock().get(key).map(|one| Arc::clone(&one.name))
    }

    /// Forgets all but those who are `here`, and those who may be about to be.
    pub(super) fn retain(&self, here: &HashSet<NodePublic>) {
        let now = Instant::now();
        self.lock()
            .retain(|key, one| here.contains(key) || now.duration_since(one.noted_at) < ARRIVING);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodePublic, Admitter>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many are noted: as many clients as a large relay has.
const MOST: usize = 1 << 16;
/// By when a client that was admitted is here, or will not come.
const ARRIVING: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_left_is_forgotten_and_who_is_about_to_come_is_not() {
        let key = |n| NodePublic::from_bytes([n; 32]);
        let (admitters, url) = (Admitters::default(), Arc::from("url"));
        admitters.note(key(1), &url);
        admitters.note(key(2), &url);
        advance(ARRIVING).await;
        admitters.note(key(3), &url);
        admitters.retain(&HashSet::from([key(1)]));
        let known = [1, 2, 3].map(|n| admitters.of(&key(n)).is_some());
        assert_eq!(known, [true, false, true]);
    }
}
