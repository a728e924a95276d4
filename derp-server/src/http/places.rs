//! How many connections pages are served on: bounded, for probes keep theirs.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts them, of all listeners together.
#[derive(Debug, Default)]
pub(crate) struct PagePlaces(AtomicUsize);

/// One of them, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct PagePlace<'a> {
    places: &'a PagePlaces,
    max: usize,
}

impl PagePlaces {
    /// A place, unless `max` are taken already.
    pub(crate) fn take(&self, max: usize) -> Option<PagePlace<'_>> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        // Gives it back in any case.
        let place = PagePlace { places: self, max };
        (before < max).then_some(place)
    }
}

impl PagePlace<'_> {
    /// Whether the connection may stay for another request: not where most places are taken.
    pub(crate) fn may_keep(&self) -> bool {
        self.places.0.load(Ordering::Relaxed) <= self.max / 2
    }
}

impl Drop for PagePlace<'_> {
    fn drop(&mut self) {
        self.places.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_kept_while_half_of_the_places_are_free() {
        let places = PagePlaces::default();
        let [first, second] = [(); 2].map(|()| places.take(4).unwrap());
        assert!(first.may_keep() && second.may_keep());
        let [third, fourth] = [(); 2].map(|()| places.take(4).unwrap());
        assert!(!first.may_keep() && !fourth.may_keep());
        assert!(places.take(4).is_none());
        drop(third);
        assert!(places.take(4).is_some());
        drop(fourth);
        assert!(first.may_keep());
    }
}
