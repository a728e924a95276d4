//! Which refusals the log is told of: each key's once a minute, and no more keys than a bound.
//!
//! A client that is turned away comes again every few seconds, and strangers come with any number
//! of keys; neither may fill an operator's log. Metrics count every refusal.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use derp_proto::NodePublic;

/// The refusals that the log was told of lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// When the log was told of which key; at most [`MOST`]. Strangers choose the keys, so the map
    /// hashes them with a secret of its own.
    told: HashMap<NodePublic, Instant>,
    untold: u64,
}

impl Refusals {
    /// Whether the log is to be told that `key` was refused at `now`: then how many refusals it
    /// was not told of since the last that it was.
    pub(crate) fn tell(&mut self, key: &NodePublic, now: Instant) -> Option<u64> {
        let is_over = |at: &Instant| now.saturating_duration_since(*at) >= ONCE_IN;
        let has_room = self.told.get(key).is_some_and(is_over) || {
            if self.told.len() >= MOST && !self.told.contains_key(key) {
                self.told.retain(|_, at| !is_over(at));
            }
            self.told.len() < MOST && !self.told.contains_key(key)
        };
        if !has_room {
            self.untold += 1;
            return None;
        }
        self.told.insert(*key, now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// How often the log hears of the same key.
const ONCE_IN: Duration = Duration::from_secs(60);
/// Of how many keys it hears in that time.
const MOST: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> NodePublic {
        let mut bytes = [0x42; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        NodePublic::from_bytes(bytes)
    }

    #[test]
    fn a_key_is_told_of_once_a_minute_and_what_was_left_out_is_counted() {
        let (mut refusals, t) = (Refusals::default(), crate::clock::now());
        let at = |seconds| t + Duration::from_secs(seconds);
        assert_eq!(refusals.tell(&key(1), at(0)), Some(0));
        assert_eq!(refusals.tell(&key(1), at(1)), None);
        assert_eq!(refusals.tell(&key(1), at(59)), None);
        assert_eq!(refusals.tell(&key(2), at(59)), Some(2));
        assert_eq!(refusals.tell(&key(1), at(60)), Some(0));
        assert_eq!(refusals.tell(&key(1), at(119)), None);
    }

    #[test]
    fn a_crowd_of_strangers_is_told_of_up_to_a_bound() {
        let (mut refusals, t) = (Refusals::default(), crate::clock::now());
        let told = |refusals: &mut Refusals, keys: std::ops::Range<usize>, at| {
            keys.filter(|n| refusals.tell(&key(*n), at).is_some())
                .count()
        };
        assert_eq!(told(&mut refusals, 0..5000, t), MOST);
        assert_eq!(refusals.told.len(), MOST);
        assert_eq!(told(&mut refusals, 5000..6000, t + ONCE_IN / 2), 0);
        assert_eq!(refusals.tell(&key(9999), t + ONCE_IN), Some(4976));
        assert_eq!(refusals.told.len(), 1, "the old ones have made room");
    }
}
