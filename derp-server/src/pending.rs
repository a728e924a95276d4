//! Connections on their way to a login: how many there are, how many bytes they hold, and which of
//! them makes room for another where there are too many.
//!
//! Whoever says nothing, or one byte, costs next to nothing, and could take all places for as long as
//! a step may take. So before anybody is refused a place the oldest goes that is silent, or else the
//! oldest that has not proven a key in [`HASTE`]; and where bytes are short, that one goes at any age.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::error::Budget;

/// In this time honest clients prove their keys, and are left in peace: where many come at once,
/// those who set out arrive, rather than all making room for one another.
const HASTE: Duration = Duration::from_secs(1);

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Logins(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    /// Those that have a place, by age; as many as [`Logins::begin`] allows.
    taken: BTreeMap<u64, Place>,
    /// Those of them that have said nothing.
    silent: BTreeSet<u64>,
    /// Those of them that have said something, and have not proven a key.
    unproven: BTreeSet<u64>,
    /// What all of them hold.
    bytes: usize,
    next: u64,
}

#[derive(Debug)]
struct Place {
    /// When the connection set out.
    since: Instant,
    /// How many bytes came and are kept.
    held: usize,
    /// Whom to tell when the place is taken away.
    waker: Option<Waker>,
}

/// One connection on its way; what it holds is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    logins: &'a Logins,
    max_bytes: usize,
    number: u64,
}

impl Logins {
    /// Lets one more set out at `now`, which has said nothing; where there are `max` already, in the
    /// place of the oldest that has not either, or else of the oldest that has not proven a key in
    /// [`HASTE`]. All may hold `max_bytes` together.
    pub(crate) fn begin(
        &self,
        max: usize,
        max_bytes: usize,
        now: Instant,
    ) -> Result<Pending<'_>, Budget> {
        let mut places = self.lock();
        if places.taken.len() >= max {
            let slow = || places.oldest_unproven(now.checked_sub(HASTE)?);
            let oldest = places.silent.first().copied().or_else(slow);
            places.shed(oldest.ok_or(Budget::Logins)?);
        }
        let number = places.next;
        places.next += 1;
        let place = Place {
            since: now,
            held: 0,
            waker: None,
        };
        places.taken.insert(number, place);
        places.silent.insert(number);
        Ok(Pending {
            logins: self,
            max_bytes,
            number,
        })
    }

    #[cfg(test)]
    pub(crate) fn is_nobody_silent(&self) -> bool {
        self.lock().silent.is_empty()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().taken.len()
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    /// The oldest that has said something and has not proven a key, if it set out by then.
    fn oldest_unproven(&self, set_out_by: Instant) -> Option<u64> {
        let oldest = self.unproven.first()?;
        (self.taken.get(oldest)?.since <= set_out_by).then_some(*oldest)
    }

    fn remove(&mut self, number: u64) -> Option<Place> {
        self.silent.remove(&number);
        self.unproven.remove(&number);
        let place = self.taken.remove(&number)?;
        self.bytes -= place.held;
        Some(place)
    }

    /// Takes a connection's place away, and lets it know.
    fn shed(&mut self, number: u64) {
        if let Some(waker) = self.remove(number).and_then(|place| place.waker) {
            waker.wake();
        }
    }
}

impl Pending<'_> {
    /// It has said something.
    pub(crate) fn has_spoken(&self) {
        let mut places = self.logins.lock();
        if places.silent.remove(&self.number) {
            places.unproven.insert(self.number);
        }
    }

    /// It has proven its key, and makes no room for anybody any more.
    pub(crate) fn has_proven(&self) {
        self.logins.lock().unproven.remove(&self.number);
    }

    /// Holds so many bytes more, which have come and are kept. Where all together hold too many,
    /// the oldest give way that have not proven a key.
    ///
    /// # Errors
    /// It is this one that has to go.
    pub(crate) fn hold(&self, bytes: usize) -> Result<(), Budget> {
        let mut places = self.logins.lock();
        // Without a place it is on its way out; see `shed`.
        let Some(place) = places.taken.get_mut(&self.number) else {
            return Ok(());
        };
        place.held += bytes;
        places.bytes += bytes;
        while places.bytes > self.max_bytes {
            match places.unproven.first().copied() {
                Some(oldest) if oldest != self.number => places.shed(oldest),
                _ => return Err(Budget::PendingBytes),
            }
        }
        Ok(())
    }

    /// Waits until its place is taken away.
    pub(crate) async fn shed(&self) {
        poll_fn(|cx| self.poll_shed(cx)).await;
    }

    /// Ready once its place is taken away.
    pub(crate) fn poll_shed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut places = self.logins.lock();
        let Some(place) = places.taken.get_mut(&self.number) else {
            return Poll::Ready(());
        };
        match &mut place.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        // Where it was taken away, somebody else may have it already.
        self.logins.lock().remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::clock;

    fn is_shed(pending: &Pending<'_>) -> bool {
        let context = Context::from_waker(Waker::noop());
        pending.poll_shed(&context).is_ready()
    }

    /// One that sets out so many milliseconds after others.
    fn silent(logins: &Logins, max: usize, after: u64) -> Result<Pending<'_>, Budget> {
        static START: LazyLock<Instant> = LazyLock::new(clock::now);
        logins.begin(max, 100, *START + Duration::from_millis(after))
    }

    fn spoken(logins: &Logins, max: usize) -> Result<Pending<'_>, Budget> {
        let pending = silent(logins, max, 0)?;
        pending.has_spoken();
        Ok(pending)
    }

    #[test]
    fn what_one_held_is_there_for_the_next() {
        let logins = Logins::default();
        let first = spoken(&logins, 2).unwrap();
        let second = spoken(&logins, 2).unwrap();
        assert_eq!(spoken(&logins, 2).unwrap_err(), Budget::Logins);
        assert_eq!((first.hold(60), second.hold(40)), (Ok(()), Ok(())));
        first.has_proven();
        assert_eq!(second.hold(1), Err(Budget::PendingBytes));
        drop(second);
        assert_eq!(first.hold(40), Ok(()));
        drop(first);
        let third = spoken(&logins, 1).unwrap();
        assert_eq!(third.hold(100), Ok(()));
    }

    #[test]
    fn the_oldest_that_is_silent_makes_room() {
        let logins = Logins::default();
        let [first, second, third] = [(); 3].map(|()| silent(&logins, 3, 0).unwrap());
        first.has_spoken();
        let fourth = silent(&logins, 3, 0).unwrap();
        let gone = [&first, &second, &third, &fourth].map(is_shed);
        assert_eq!(gone, [false, true, false, false]);
        // Its place is not given back twice.
        drop(second);
        let fifth = silent(&logins, 3, 0).unwrap();
        assert!(is_shed(&third));
        for pending in [fourth, fifth] {
            pending.has_spoken();
        }
        assert_eq!(logins.0.lock().unwrap().taken.len(), 1, "two have gone");
    }

    #[test]
    fn where_nobody_is_silent_the_oldest_makes_room_that_had_its_time_to_prove_a_key() {
        let logins = Logins::default();
        let [first, second, third] = [(); 3].map(|()| spoken(&logins, 3).unwrap());
        first.has_proven();
        assert_eq!(silent(&logins, 3, 999).unwrap_err(), Budget::Logins);
        let fourth = silent(&logins, 3, 1000).unwrap();
        assert_eq!([&first, &second, &third].map(is_shed), [false, true, false]);
        for pending in [&third, &fourth] {
            pending.has_spoken();
            pending.has_proven();
        }
        assert_eq!(silent(&logins, 3, 9000).unwrap_err(), Budget::Logins);
    }

    #[test]
    fn where_bytes_are_short_the_oldest_without_a_key_makes_room() {
        let logins = Logins::default();
        let all = [(); 4].map(|()| spoken(&logins, 4).unwrap());
        let [first, second, third, fourth] = &all;
        for pending in [first, second, third] {
            assert_eq!(pending.hold(30), Ok(()));
        }
        first.has_proven();
        assert_eq!(fourth.hold(30), Ok(()));
        let gone = |all: &[Pending<'_>; 4]| all.each_ref().map(is_shed);
        assert_eq!(gone(&all), [false, true, false, false]);
        // Who is without a place holds nothing either.
        assert_eq!(second.hold(1000), Ok(()));
        assert_eq!(third.hold(1000), Err(Budget::PendingBytes));
        assert_eq!(gone(&all), [false, true, false, false]);
        drop(all);
        assert_eq!(logins.0.lock().unwrap().bytes, 0);
    }
}
