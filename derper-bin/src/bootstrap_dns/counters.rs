//! How often who asked for what, by the reference's names.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use derp_ops::exposition::Exposition;

/// How many different names asked for are remembered, at most; then counting begins anew.
const MAX_DISTINCT: usize = 500;

#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    published_hits: AtomicU64,
    published_misses: AtomicU64,
    unpublished_hits: AtomicU64,
    unpublished_misses: AtomicU64,
    percent_misses: AtomicU64,
    queried: AtomicU64,
    distinct: Mutex<Distinct>,
}

/// Which names were asked for: only hashes, for the names are strangers' texts.
#[derive(Debug, Default)]
struct Distinct {
    hashes: HashSet<u64>,
    hasher: RandomState,
}

impl Counters {
    pub(super) fn note_request(&self) {
        add(&self.requests);
    }

    /// Somebody asked for this name.
    pub(super) fn note_query(&self, name: &str) {
        let mut distinct = self.distinct.lock().unwrap_or_else(PoisonError::into_inner);
        if distinct.note(name) {
            add(&self.queried);
        }
    }

    /// The name is an unpublished one.
    pub(super) fn unpublished_hit(&self) {
        add(&self.unpublished_hits);
    }

    /// It is not told to whoever asked.
    pub(super) fn percent_miss(&self) {
        add(&self.percent_misses);
    }

    /// How many addresses the name has, if it is published; a name that is not counts as a miss of
    /// the unpublished ones, even if it is one that is not told.
    pub(super) fn note_published(&self, addresses: Option<usize>) {
        add(match addresses {
            Some(0) => &self.published_misses,
            Some(_) => &self.published_hits,
            None => &self.unpublished_misses,
        });
    }

    pub(super) fn expose(&self, metrics: &mut Exposition) {
        for (name, counter) in [
            ("requests", &self.requests),
            ("published_hits", &self.published_hits),
            ("published_misses", &self.published_misses),
            ("unpublished_hits", &self.unpublished_hits),
            ("unpublished_misses", &self.unpublished_misses),
            ("unpublished_percent_misses", &self.percent_misses),
            ("queried_domains", &self.queried),
        ] {
            let value = counter.load(Ordering::Relaxed);
            metrics.counter(&format!("bootstrap_dns_{name}"), value);
        }
    }
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Distinct {
    /// Whether the name is new.
    fn note(&mut self, name: &str) -> bool {
        if self.hashes.len() >= MAX_DISTINCT {
            self.hashes.clear();
        }
        let hash = self.hasher.hash_one(name);
        self.hashes.insert(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_names_takes_no_memory() {
        let mut distinct = Distinct::default();
        for number in 0..10_000 {
            distinct.note(&format!("{number}.example.com"));
            assert!(distinct.hashes.len() <= MAX_DISTINCT);
        }
    }
}
