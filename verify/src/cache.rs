//! Verdicts that were given, and how long they hold. No clock, no locks: the time is passed in.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use derp_proto::NodePublic;

use crate::verdict::Verdict;

/// How long verdicts are kept, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetimes {
    pub(crate) allow: Duration,
    pub(crate) deny: Duration,
    pub(crate) stale: Duration,
    pub(crate) max_entries: usize,
}

/// The verdicts of one verifier.
///
/// Denials are kept apart: strangers can bring about any number of them, which must not push out
/// what is known of members.
#[derive(Debug)]
pub(crate) struct VerdictCache {
    lifetimes: Lifetimes,
    allowed: Shelf,
    denied: Shelf,
}

impl VerdictCache {
    pub(crate) fn new(lifetimes: Lifetimes) -> Self {
        let max = lifetimes.max_entries;
        Self {
            lifetimes,
            allowed: Shelf::new(max),
            denied: Shelf::new(max.min(MAX_DENIALS)),
        }
    }

    /// The verdict on `key`, if it still holds; one that says for how long says what is left of it.
    pub(crate) fn fresh(&self, key: &NodePublic, now: Instant) -> Option<Verdict> {
        let denied = self.denied.entries.get(key);
        let entry = denied.or_else(|| self.allowed.entries.get(key))?;
        let left = entry.holds_until.checked_duration_since(now)?;
        let mut verdict = (!left.is_zero()).then(|| entry.verdict.clone())?;
        verdict.time_to_live = verdict.time_to_live.map(|_| left);
        Some(verdict)
    }

    /// The last admission of `key`, for the time of an outage.
    pub(crate) fn stale(&self, key: &NodePublic, now: Instant) -> Option<Verdict> {
        if self.denied.entries.contains_key(key) {
            return None;
        }
        let entry = self.allowed.entries.get(key)?;
        let age = now.saturating_duration_since(entry.given_at);
        (age < self.lifetimes.stale).then(|| entry.verdict.clone())
    }

    /// Takes a verdict that was given at `now` in place of what was known of `key`.
    pub(crate) fn insert(&mut self, key: NodePublic, verdict: &Verdict, now: Instant) {
        let Lifetimes {
            allow, deny, stale, ..
        } = self.lifetimes;
        self.forget(&key);
        let (shelf, holds, kept) = if verdict.allow {
            let holds = verdict.time_to_live.unwrap_or(allow);
            (&mut self.allowed, holds, holds.max(stale))
        } else {
            let holds = verdict.time_to_live.map_or(deny, |ttl| ttl.min(deny));
            (&mut self.denied, holds, holds)
        };
        let entry = |seq| Entry {
            verdict: verdict.clone(),
            given_at: now,
            holds_until: after(now, holds),
            kept_until: after(now, kept),
            seq,
        };
        if !kept.is_zero() {
            shelf.insert(key, entry, now);
        }
    }

    pub(crate) fn forget(&mut self, key: &NodePublic) {
        self.allowed.remove(key);
        self.denied.remove(key);
    }

    pub(crate) fn len(&self) -> usize {
        self.allowed.entries.len() + self.denied.entries.len()
    }
}

fn after(now: Instant, time: Duration) -> Instant {
    now.checked_add(time.min(LONGEST)).unwrap_or(now)
}

#[derive(Debug)]
struct Entry {
    verdict: Verdict,
    given_at: Instant,
    holds_until: Instant,
    kept_until: Instant,
    seq: u64,
}

/// Verdicts of one kind, at most `max` of them; the oldest gives way.
#[derive(Debug)]
struct Shelf {
    /// Keys are chosen by strangers, so the map hashes them with a secret of its own.
    entries: HashMap<NodePublic, Entry>,
    /// The keys by age.
    order: BTreeMap<u64, NodePublic>,
    next_seq: u64,
    max: usize,
}

impl Shelf {
    fn new(max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            next_seq: 0,
            max,
        }
    }

    fn insert(&mut self, key: NodePublic, entry: impl FnOnce(u64) -> Entry, now: Instant) {
        // The oldest are the first to be of no more use, and a few are let go of each time.
        for _ in 0..2 {
            let Some((_, oldest)) = self.order.first_key_value() else {
                break;
            };
            let oldest = *oldest;
            let is_over = self
                .entries
                .get(&oldest)
                .is_none_or(|entry| entry.kept_until <= now);
            if !is_over && self.entries.len() < self.max {
                break;
            }
            self.remove(&oldest);
        }
        if self.entries.len() >= self.max {
            return;
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.order.insert(seq, key);
        self.entries.insert(key, entry(seq));
    }

    fn remove(&mut self, key: &NodePublic) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.seq);
        }
    }
}

/// How many denials are kept at most: they hold for a second.
const MAX_DENIALS: usize = 4096;
/// No verdict holds longer, so that adding to a time cannot fail.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn cache(max_entries: usize) -> VerdictCache {
        VerdictCache::new(Lifetimes {
            allow: MINUTE,
            deny: Duration::from_secs(1),
            stale: 10 * MINUTE,
            max_entries,
        })
    }

    fn key(n: u8) -> NodePublic {
        NodePublic::from_bytes([n; 32])
    }

    #[expect(clippy::disallowed_methods, reason = "any time will do")]
    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn an_admission_holds_a_minute_and_stands_in_for_ten() {
        let (mut cache, t) = (cache(10), now());
        cache.insert(key(1), &Verdict::allow(), t);
        let allow = Some(Verdict::allow());
        for (age, fresh, stale) in [
            (Duration::ZERO, &allow, &allow),
            (MINUTE - Duration::from_nanos(1), &allow, &allow),
            (MINUTE, &None, &allow),
            (10 * MINUTE - Duration::from_nanos(1), &None, &allow),
            (10 * MINUTE, &None, &None),
        ] {
            let found = (cache.fresh(&key(1), t + age), cache.stale(&key(1), t + age));
            assert_eq!(found, (fresh.clone(), stale.clone()), "{age:?}");
        }
    }

    #[test]
    fn a_denial_holds_a_second_and_ends_the_admission_before_it() {
        let (mut cache, t) = (cache(10), now());
        cache.insert(key(1), &Verdict::allow(), t);
        cache.insert(key(1), &Verdict::deny("gone"), t);
        assert_eq!(cache.fresh(&key(1), t), Some(Verdict::deny("gone")));
        assert_eq!(cache.fresh(&key(1), t + Duration::from_secs(1)), None);
        assert_eq!(cache.stale(&key(1), t), None);
    }

    #[test]
    fn a_verdict_may_say_how_long_it_holds_but_no_denial_holds_longer_than_ours() {
        let (mut cache, t) = (cache(10), now());
        let with_ttl = |verdict, secs| Verdict {
            time_to_live: Some(Duration::from_secs(secs)),
            ..verdict
        };
        cache.insert(key(1), &with_ttl(Verdict::allow(), 5), t);
        cache.insert(key(2), &with_ttl(Verdict::allow(), 3600), t);
        cache.insert(key(3), &with_ttl(Verdict::deny(""), 3600), t);
        let holds = |n, secs| {
            cache
                .fresh(&key(n), t + Duration::from_secs(secs))
                .is_some()
        };
        assert_eq!([holds(1, 4), holds(1, 5)], [true, false]);
        let left = cache.fresh(&key(1), t + Duration::from_secs(3));
        assert_eq!(left, Some(with_ttl(Verdict::allow(), 2)));
        assert_eq!([holds(2, 3599), holds(2, 3600)], [true, false]);
        assert_eq!([holds(3, 0), holds(3, 1)], [true, false]);
    }

    #[test]
    fn a_full_cache_gives_up_its_oldest_and_denials_push_out_no_admission() {
        let (mut cache, t) = (cache(3), now());
        for n in 1..=4 {
            cache.insert(key(n), &Verdict::allow(), t);
        }
        for n in 10..=20 {
            cache.insert(key(n), &Verdict::deny(""), t);
        }
        let known: Vec<u8> = (0..=30)
            .filter(|n| cache.fresh(&key(*n), t).is_some())
            .collect();
        assert_eq!(known, [2, 3, 4, 18, 19, 20]);
        assert_eq!(cache.len(), 6);
    }

    #[test]
    fn lifetimes_of_zero_keep_nothing() {
        let zero = Duration::ZERO;
        let lifetimes = Lifetimes {
            allow: zero,
            deny: zero,
            stale: zero,
            max_entries: 9,
        };
        let (mut cache, t) = (VerdictCache::new(lifetimes), now());
        cache.insert(key(1), &Verdict::allow(), t);
        cache.insert(key(2), &Verdict::deny(""), t);
        assert_eq!(cache.len(), 0);
    }
}
