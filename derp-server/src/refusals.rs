//! Which lines the log gets that strangers cause: so many a second, and each key's once a minute.
//!
//! A client that is turned away comes again every few seconds, and strangers come with any number
//! of keys and connections; neither may fill an operator's log. Metrics count all of it, and a line
//! says how many were left out before it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use derp_proto::NodePublic;

use crate::rate_limit::TokenBucket;

/// A number of lines in a time.
#[derive(Debug)]
pub(crate) struct Lines {
    bucket: TokenBucket,
    untold: u64,
}

impl Lines {
    /// As many lines at once, and again each time so much time has passed.
    pub(crate) fn new(lines: u32, each: Duration, now: Instant) -> Self {
        let lines = f64::from(lines);
        Self {
            bucket: TokenBucket::new(lines / each.as_secs_f64(), lines, now),
            untold: 0,
        }
    }

    /// Whether the log gets one more line: then how many it did not get since the last.
    pub(crate) fn tell(&mut self, now: Instant) -> Option<u64> {
        if self.bucket.take(1.0, now).is_err() {
            self.untold += 1;
            return None;
        }
        Some(std::mem::take(&mut self.untold))
    }
}

/// What the log was told of lately.
#[derive(Debug)]
pub(crate) struct Refusals {
    /// When the log was told of which key; at most [`MOST`]. Strangers choose the keys, so the map
    /// hashes them with a secret of its own.
    told: HashMap<NodePublic, Instant>,
    lines: Lines,
}

impl Refusals {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            told: HashMap::new(),
            lines: Lines::new(LINES, Duration::from_secs(1), now),
        }
    }

    /// Whether the log is to be told at `now` of something that is about no key in particular:
    /// then how many lines it did not get since the last.
    pub(crate) fn tell(&mut self, now: Instant) -> Option<u64> {
        self.lines.tell(now)
    }

    /// The same about `key`.
    pub(crate) fn tell_of(&mut self, key: &NodePublic, now: Instant) -> Option<u64> {
        let is_over = |at: &Instant| now.saturating_duration_since(*at) >= ONCE_IN;
        let has_room = self.told.get(key).is_some_and(is_over) || {
            if self.told.len() >= MOST && !self.told.contains_key(key) {
                self.told.retain(|_, at| !is_over(at));
            }
            self.told.len() < MOST && !self.told.contains_key(key)
        };
        if !has_room {
            self.lines.untold += 1;
            return None;
        }
        let untold = self.lines.tell(now)?;
        self.told.insert(*key, now);
        Some(untold)
    }
}

/// How many lines strangers may cause at once, and each second: with what is at once, at most twice
/// as many in any second.
const LINES: u32 = 5;
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
        let t = crate::clock::now();
        let mut refusals = Refusals::new(t);
        let at = |seconds| t + Duration::from_secs(seconds);
        assert_eq!(refusals.tell_of(&key(1), at(0)), Some(0));
        assert_eq!(refusals.tell_of(&key(1), at(1)), None);
        assert_eq!(refusals.tell_of(&key(1), at(59)), None);
        assert_eq!(refusals.tell_of(&key(2), at(59)), Some(2));
        assert_eq!(refusals.tell_of(&key(1), at(60)), Some(0));
        assert_eq!(refusals.tell_of(&key(1), at(119)), None);
        assert_eq!(refusals.tell(at(119)), Some(1));
    }

    #[test]
    fn a_million_strangers_cause_no_more_than_ten_lines_in_any_second() {
        let t = crate::clock::now();
        let mut refusals = Refusals::new(t);
        let mut told = Vec::new();
        // A minute and a half, in which two lines are asked for each 180 microseconds.
        for n in 0..500_000 {
            let now = t + Duration::from_micros(180) * n;
            let n = usize::try_from(n).unwrap();
            let lines = [refusals.tell_of(&key(n), now), refusals.tell(now)];
            told.extend(lines.into_iter().flatten().map(|untold| (now, untold)));
        }
        let second = Duration::from_secs(1);
        let busiest = told.iter().enumerate().map(|(first, (at, _))| {
            let within = told[first..].iter();
            within
                .take_while(|(other, _)| *other < *at + second)
                .count()
        });
        let busiest = busiest.max().unwrap();
        assert!(busiest <= 10, "{busiest}");
        assert!(told.len() >= 400, "{}", told.len());
        let untold: u64 = told.iter().map(|(_, untold)| untold).sum();
        assert_eq!(
            told.len() as u64 + untold + refusals.lines.untold,
            1_000_000
        );
        assert!(refusals.told.len() <= MOST);
    }

    #[test]
    fn so_many_keys_are_remembered() {
        let t = crate::clock::now();
        let mut refusals = Refusals::new(t);
        // Slowly enough for all to be told of.
        refusals.lines = Lines::new(5000, Duration::from_secs(1), t);
        let told = |refusals: &mut Refusals, keys: std::ops::Range<usize>, at| {
            keys.filter(|n| refusals.tell_of(&key(*n), at).is_some())
                .count()
        };
        assert_eq!(told(&mut refusals, 0..5000, t), MOST);
        assert_eq!(refusals.told.len(), MOST);
        assert_eq!(told(&mut refusals, 5000..6000, t + ONCE_IN / 2), 0);
        assert_eq!(refusals.tell_of(&key(9999), t + ONCE_IN), Some(4976));
        assert_eq!(refusals.told.len(), 1, "the old ones have made room");
    }
}
