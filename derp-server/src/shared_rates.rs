//! Limits that several clients share: one for all of them, and one for each group that a verifier
//! has put clients into.
//!
//! Whoever sends books its bytes at once and learns when they are paid for. So clients take turns
//! in the order in which they came, nobody asks twice, and a booking is one number that is
//! exchanged: no lock is taken for a frame.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use derp_verify::RateLimit;

use crate::rate_limit::MIN_BURST_BYTES;
use crate::shared::{AtomicU64, Mutex};
use crate::tunables::{GroupRates, Tunables};

/// A bucket that several clients take from, wherever they are served. It starts full.
///
/// It is the generic cell rate algorithm: what was booked is held as the moment at which the
/// rate will have paid for it, and a burst is how far that moment may lie ahead.
#[derive(Debug)]
pub(crate) struct SharedBucket {
    /// Times are counted from here.
    origin: Instant,
    /// Nanoseconds until all that was booked is paid for.
    paid_at: AtomicU64,
    /// What a byte costs in nanoseconds, as the bits of a number; 0 where there is no limit.
    byte_cost: AtomicU64,
    /// How many nanoseconds the bookings may be ahead of the payment.
    burst: AtomicU64,
}

impl SharedBucket {
    fn new(limit: Option<RateLimit>, now: Instant) -> Self {
        let bucket = Self {
            origin: now,
            paid_at: AtomicU64::new(0),
            byte_cost: AtomicU64::new(0),
            burst: AtomicU64::new(0),
        };
        bucket.set(limit);
        bucket
    }

    /// Limits anew, with a full bucket.
    #[expect(
        clippy::cast_precision_loss,
        reason = "limits beyond 2^53 bytes are no limits"
    )]
    fn set(&self, limit: Option<RateLimit>) {
        let limit = limit.filter(|limit| limit.bytes_per_second > 0);
        let byte_cost = limit.map_or(0.0, |limit| 1e9 / limit.bytes_per_second as f64);
        let burst = limit.map_or(0, |limit| limit.burst_bytes.max(MIN_BURST_BYTES));
        self.byte_cost.store(byte_cost.to_bits(), Relaxed);
        self.burst.store(nanos(byte_cost, burst), Relaxed);
        self.paid_at.store(0, Relaxed);
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.byte_cost.load(Relaxed) != 0
    }

    /// Books `bytes`, which may pass after the time that is returned.
    pub(crate) fn book(&self, bytes: u64, now: Instant) -> Duration {
        let cost = nanos(f64::from_bits(self.byte_cost.load(Relaxed)), bytes);
        let now = self.at(now);
        let after = |paid_at: u64| paid_at.max(now).saturating_add(cost);
        let before = self
            .paid_at
            .fetch_update(Relaxed, Relaxed, |paid_at| Some(after(paid_at)))
            .expect("it is always exchanged");
        let ahead = after(before) - now;
        Duration::from_nanos(ahead.saturating_sub(self.burst.load(Relaxed)))
    }

    fn at(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.origin).as_nanos();
        u64::try_from(passed).unwrap_or(u64::MAX)
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bytes of a frame or burst at a cost above 0; too much becomes the largest number"
)]
fn nanos(byte_cost: f64, bytes: u64) -> u64 {
    (byte_cost * bytes as f64) as u64
}

/// The buckets of a server.
#[derive(Debug)]
pub(crate) struct SharedRates {
    total: Arc<SharedBucket>,
    /// Held for a lookup at a login, and while limits change.
    groups: Mutex<Groups>,
    /// How often limits have changed, the clients' own among them.
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct Groups {
    rates: GroupRates,
    /// Of each group that has a client, limited or not: so that it can be limited while they are
    /// here. Twice as many as there are such groups at most, and some.
    buckets: HashMap<Box<str>, Weak<SharedBucket>>,
    /// At how many of them those without a client are looked for.
    tidy_at: usize,
}

impl SharedRates {
    pub(crate) fn new(tunables: &Tunables, now: Instant) -> Self {
        Self {
            total: Arc::new(SharedBucket::new(tunables.total_rate, now)),
            groups: Mutex::new(Groups {
                rates: tunables.group_rates.clone(),
                ..Groups::default()
            }),
            changes: AtomicU64::new(0),
        }
    }

    /// Puts other limits in place of those that changed; whoever waits by the former ones has yet
    /// to be told.
    pub(crate) fn change(&self, from: &Tunables, to: &Tunables) {
        if from.total_rate != to.total_rate {
            self.total.set(to.total_rate);
        }
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.rates.clone_from(&to.group_rates);
        for (name, bucket) in &groups.buckets {
            let rate = to.group_rates.of(name);
            if rate != from.group_rates.of(name)
                && let Some(bucket) = bucket.upgrade()
            {
                bucket.set(rate);
            }
        }
        drop(groups);
        self.changes.fetch_add(1, Relaxed);
    }

    /// A number that is another one after each change.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    pub(crate) const fn total(&self) -> &Arc<SharedBucket> {
        &self.total
    }

    /// The bucket of a group, which lasts as long as somebody has it.
    pub(crate) fn group(&self, name: &str, now: Instant) -> Arc<SharedBucket> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = groups.buckets.get(name).and_then(Weak::upgrade) {
            return bucket;
        }
        if groups.buckets.len() >= groups.tidy_at {
            groups.buckets.retain(|_, bucket| bucket.strong_count() > 0);
            groups.tidy_at = 2 * groups.buckets.len() + 16;
        }
        let bucket = Arc::new(SharedBucket::new(groups.rates.of(name), now));
        groups.buckets.insert(name.into(), Arc::downgrade(&bucket));
        bucket
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const FRAME: u64 = 1000;

    fn limit(bytes_per_second: u64) -> RateLimit {
        RateLimit {
            bytes_per_second,
            burst_bytes: 0,
        }
    }

    #[test]
    fn whoever_books_over_the_burst_is_paid_for_in_turn() {
        let start = clock::now();
        let bucket = SharedBucket::new(Some(limit(100_000)), start);
        assert_eq!(bucket.book(MIN_BURST_BYTES, start), Duration::ZERO);
        let waits: Vec<_> = (0..3).map(|_| bucket.book(FRAME, start)).collect();
        assert_eq!(waits, [10, 20, 30].map(Duration::from_millis));
        // What was paid for meanwhile is there again.
        let later = start + Duration::from_millis(40);
        assert_eq!(bucket.book(FRAME, later), Duration::ZERO);
        assert_eq!(bucket.book(FRAME, later), Duration::from_millis(10));
        // It fills up to its burst, and no further.
        let later = start + Duration::from_secs(3600);
        assert_eq!(bucket.book(MIN_BURST_BYTES, later), Duration::ZERO);
        assert_eq!(bucket.book(FRAME, later), Duration::from_millis(10));
    }

    #[test]
    fn many_threads_get_no_more_than_the_rate_together() {
        let start = clock::now();
        let bucket = SharedBucket::new(Some(limit(1_000_000)), start);
        let second = Duration::from_secs(1);
        let passed: usize = std::thread::scope(|scope| {
            let is_due = |_: &usize| bucket.book(FRAME, start) <= second;
            let work = move || (0..1000).filter(is_due).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        // A second's bytes and the burst, which is 65.568 of these frames.
        assert_eq!(passed, 1065);
    }

    #[test]
    fn no_limit_books_nothing_and_a_new_one_begins_full() {
        let start = clock::now();
        let bucket = SharedBucket::new(None, start);
        assert!(!bucket.is_limited());
        for _ in 0..10 {
            assert_eq!(bucket.book(u64::MAX, start), Duration::ZERO);
        }
        bucket.set(Some(limit(1)));
        assert!(bucket.is_limited());
        assert_eq!(bucket.book(MIN_BURST_BYTES, start), Duration::ZERO);
        assert_eq!(bucket.book(FRAME, start), Duration::from_secs(1000));
        bucket.set(Some(limit(1000)));
        assert_eq!(bucket.book(MIN_BURST_BYTES, start), Duration::ZERO);
        assert_eq!(bucket.book(FRAME, start), Duration::from_secs(1));
    }

    #[test]
    fn groups_are_limited_by_name_while_they_have_clients() {
        let start = clock::now();
        let mut tunables = Tunables::default();
        let rates = SharedRates::new(&tunables, start);
        let [home, same, guests] = ["home", "home", "guests"].map(|name| rates.group(name, start));
        assert!(Arc::ptr_eq(&home, &same));
        assert!(!home.is_limited() && !guests.is_limited());
        let before = tunables.clone();
        tunables.group_rates.named.insert("home".into(), limit(10));
        rates.change(&before, &tunables);
        assert!(home.is_limited() && !guests.is_limited());
        let _spent = home.book(MIN_BURST_BYTES, start);
        let before = tunables.clone();
        tunables.group_rates.others = Some(limit(20));
        rates.change(&before, &tunables);
        assert_eq!(home.book(10, start), Duration::from_secs(1), "left alone");
        let _spent = guests.book(MIN_BURST_BYTES, start);
        assert_eq!(guests.book(20, start), Duration::from_secs(1));
        assert_eq!(rates.changes(), 2);
    }

    #[test]
    fn groups_without_clients_are_forgotten() {
        let start = clock::now();
        let rates = SharedRates::new(&Tunables::default(), start);
        let kept = rates.group("kept", start);
        for n in 0..1000 {
            drop(rates.group(&format!("group {n}"), start));
        }
        assert!(rates.groups.lock().unwrap().buckets.len() <= 40);
        assert!(Arc::ptr_eq(&kept, &rates.group("kept", start)));
    }
}
