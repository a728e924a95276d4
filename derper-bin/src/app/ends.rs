//! When verdicts end that say so themselves: then it is asked anew whether the client may stay.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use derp_proto::NodePublic;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// The ends of verdicts, in their order.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Held for a few lookups.
    known: Mutex<Known>,
    earlier: Notify,
}

/// One end for each key, and no more than [`MOST`].
#[derive(Debug, Default)]
struct Known {
    by_key: HashMap<NodePublic, Instant>,
    in_order: BTreeSet<(Instant, NodePublic)>,
}

impl Ends {
    /// What was last said of `key` holds for so long from now on. Beyond the bound it is not
    /// noted, and ends when everybody is asked about.
    pub(super) fn note(&self, key: NodePublic, holds: Duration) {
        let at = Instant::now() + holds.max(LEAST);
        let mut known = self.lock();
        known.forget(&key);
        if known.by_key.len() >= MOST {
            return;
        }
        known.by_key.insert(key, at);
        known.in_order.insert((at, key));
        if known.first() == Some(at) {
            self.earlier.notify_one();
        }
    }

    /// Waits until some have ended, and gives their keys, which are then forgotten. Dropping the
    /// future loses none.
    pub(super) async fn ended(&self) -> Vec<NodePublic> {
        loop {
            let first = {
                let mut known = self.lock();
                let ended = known.take_until(Instant::now());
                if !ended.is_empty() {
                    return ended;
                }
                known.first()
            };
            let end = async {
                match first {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = end => {}
                () = self.earlier.notified() => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn first(&self) -> Option<Instant> {
        self.in_order.first().map(|(at, _)| *at)
    }

    fn forget(&mut self, key: &NodePublic) {
        if let Some(at) = self.by_key.remove(key) {
            self.in_order.remove(&(at, *key));
        }
    }

    fn take_until(&mut self, now: Instant) -> Vec<NodePublic> {
        let mut ended = Vec::new();
        while let Some((at, key)) = self.in_order.pop_first() {
            if at > now {
                self.in_order.insert((at, key));
                break;
            }
            self.by_key.remove(&key);
            ended.push(key);
        }
        ended
    }
}

/// How long a verdict holds at least for somebody who is connected.
const LEAST: Duration = Duration::from_secs(1);
/// How many ends are noted: as many clients as a large relay has.
const MOST: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn key(n: u32) -> NodePublic {
        let mut bytes = [0x42; 32];
        bytes[..4].copy_from_slice(&n.to_le_bytes());
        NodePublic::from_bytes(bytes)
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn verdicts_end_in_their_order_and_the_last_word_on_a_key_counts() {
        let ends = Ends::default();
        ends.note(key(1), 10 * SECOND);
        ends.note(key(2), 5 * SECOND);
        ends.note(key(3), Duration::ZERO);
        ends.note(key(2), 20 * SECOND);
        let start = Instant::now();
        for (keys, seconds) in [([3], 1), ([1], 10), ([2], 20)] {
            assert_eq!(ends.ended().await, keys.map(key));
            assert_eq!(start.elapsed().as_secs(), seconds);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_end_wakes_whoever_waits() {
        let ends = Ends::default();
        ends.note(key(1), 100 * SECOND);
        let start = Instant::now();
        let (ended, ()) = tokio::join!(ends.ended(), async {
            advance(SECOND).await;
            ends.note(key(2), 2 * SECOND);
        });
        assert_eq!((ended, start.elapsed().as_secs()), (vec![key(2)], 3));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_noted_than_a_bound() {
        let ends = Ends::default();
        for n in 0..100_000 {
            ends.note(key(n), SECOND);
        }
        assert_eq!(ends.ended().await.len(), MOST);
    }
}
