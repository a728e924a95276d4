//! When a worker has to look at which of its connections again. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

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

/// Bounded by four for each connection: its owner sets each timer anew only when it was due.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<(Instant, ConnId, Timer)>>);

impl Timers {
    pub(crate) fn set(&mut self, at: Instant, conn: ConnId, timer: Timer) {
        self.0.push(Reverse((at, conn, timer)));
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, ..))| *at)
    }

    /// Takes one that is due, the earliest first.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(ConnId, Timer)> {
        if self.next()? > now {
            return None;
        }
        let Reverse((_, conn, timer)) = self.0.pop()?;
        Some((conn, timer))
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;
    use std::time::Duration;

    #[test]
    fn the_earliest_comes_first_and_not_before_its_time() {
        let start = now();
        let at = |s| start + Duration::from_secs(s);
        let mut timers = Timers::default();
        timers.set(at(2), ConnId(1), Timer::KeepAlive);
        timers.set(at(1), ConnId(2), Timer::Write);
        assert_eq!((timers.next(), timers.pop(start)), (Some(at(1)), None));
        assert_eq!(timers.pop(at(3)), Some((ConnId(2), Timer::Write)));
        assert_eq!(timers.pop(at(3)), Some((ConnId(1), Timer::KeepAlive)));
        assert_eq!(timers.pop(at(3)), None);
    }
}
