//! When a worker has to look at which of its connections again. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::peer::ConnId;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Tell the client that the relay is there.
    KeepAlive,
    /// See whether its connection has taken bytes.
    Write,
    /// See whether its unfinished frame has come whole.
    Frame,
    /// Its limit lets it send again.
    Resume,
}

/// Clients that are to be told that the relay is there are told together, this often: waking up
/// costs more than telling one.
const BEAT: Duration = Duration::from_millis(250);

/// Bounded by eight for each connection that there is, and a few more: its owner sets each timer
/// anew only when it was due, and [`Self::forget`]s. Only where limits change, each client that
/// waits for the former one is resumed by another timer than the one that there is.
#[derive(Debug)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, ConnId, Timer)>>,
    /// From when beats are counted.
    start: Instant,
}

impl Timers {
    pub(crate) const fn new(start: Instant) -> Self {
        Self {
            heap: BinaryHeap::new(),
            start,
        }
    }

    pub(crate) fn set(&mut self, at: Instant, conn: ConnId, timer: Timer) {
        let at = match timer {
            Timer::KeepAlive => self.beat(at),
            Timer::Write | Timer::Frame | Timer::Resume => at,
        };
        self.heap.push(Reverse((at, conn, timer)));
    }

    /// The first beat that is not before `at`.
    fn beat(&self, at: Instant) -> Instant {
        let beats = at
            .saturating_duration_since(self.start)
            .as_nanos()
            .div_ceil(BEAT.as_nanos());
        // Beats run out after thirty years; whatever is set then is due at once.
        self.start + BEAT * u32::try_from(beats).unwrap_or(u32::MAX)
    }

    /// Forgets the timers of connections that have ended, where they are many beside the
    /// `conns` that are left: they may end faster than their timers are due.
    pub(crate) fn forget(&mut self, conns: usize, has_ended: impl Fn(ConnId) -> bool) {
        if self.heap.len() > 8 * conns + 64 {
            self.heap.retain(|Reverse((_, conn, _))| !has_ended(*conn));
        }
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes one that is due, the earliest first.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(ConnId, Timer)> {
        if self.next()? > now {
            return None;
        }
        let Reverse((_, conn, timer)) = self.heap.pop()?;
        Some((conn, timer))
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    #[test]
    fn the_earliest_comes_first_and_not_before_its_time() {
        let start = now();
        let at = |s| start + Duration::from_secs(s);
        let mut timers = Timers::new(start);
        timers.set(at(2), ConnId(1), Timer::KeepAlive);
        timers.set(at(1), ConnId(2), Timer::Write);
        assert_eq!((timers.next(), timers.pop(start)), (Some(at(1)), None));
        assert_eq!(timers.pop(at(3)), Some((ConnId(2), Timer::Write)));
        assert_eq!(timers.pop(at(3)), Some((ConnId(1), Timer::KeepAlive)));
        assert_eq!(timers.pop(at(3)), None);
    }

    #[test]
    fn clients_are_told_together_and_none_too_early() {
        let start = now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::new(start);
        for (n, ms) in [(1, 60_001), (2, 60_000), (3, 60_249), (4, 60_250)] {
            timers.set(at(ms), ConnId(n), Timer::KeepAlive);
        }
        timers.set(at(60_100), ConnId(5), Timer::Resume);
        let mut due = Vec::new();
        while let Some(next) = timers.next() {
            while let Some((conn, _)) = timers.pop(next) {
                due.push((next, conn.0));
            }
        }
        let all = [
            (60_000, 2),
            (60_100, 5),
            (60_250, 1),
            (60_250, 3),
            (60_250, 4),
        ];
        assert_eq!(due, all.map(|(ms, conn)| (at(ms), conn)));
    }

    #[test]
    fn timers_of_connections_that_have_ended_do_not_pile_up() {
        let start = now();
        let mut timers = Timers::new(start);
        for n in 0..10_000 {
            timers.set(start + Duration::from_secs(60), ConnId(n), Timer::KeepAlive);
            timers.forget(4, |conn| conn.0 + 4 <= n);
            assert!(timers.len() <= 8 * 4 + 64);
        }
        timers.forget(0, |conn| conn.0 != 9_999);
        assert!(timers.pop(start + Duration::from_secs(61)).is_some());
    }
}
