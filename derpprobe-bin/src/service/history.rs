//! What became of a probe's runs over the last day, in pieces of five minutes: enough to draw, and
//! small enough to keep for thousands of probes.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a piece is.
pub const PIECE: Duration = Duration::from_secs(5 * 60);
/// How many pieces are kept: those of a day.
pub const PIECES: u32 = 288;

/// The runs that ended within a piece of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Piece {
    /// Which piece it is, counted in [`PIECE`]s from 1970 on.
    pub at: u32,
    /// How many runs were good.
    pub good: u16,
    /// How many were bad.
    pub bad: u16,
    /// The mean of the good ones' results: the number that the probe is there to measure, in
    /// seconds or in bytes per second, or how long it took. Zero without good runs.
    pub mean: f32,
    /// The worst of them: the longest time, or the lowest rate.
    pub worst: f32,
}

/// A probe's last day. No more than [`PIECES`] long.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    pieces: VecDeque<Piece>,
}

/// What a run adds to the history.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Point {
    /// It was bad.
    Bad,
    /// It was good, and took so many seconds.
    Seconds(f64),
    /// It was good, and so many bytes per second got through.
    Rate(f64),
}

impl Piece {
    /// When it begins.
    #[must_use]
    pub fn begins(&self) -> SystemTime {
        UNIX_EPOCH + PIECE * self.at
    }
}

impl History {
    /// The history of these pieces, of which those count that are in order, within a day, and not of
    /// a time that has not come `now`.
    #[must_use]
    pub fn of(pieces: impl IntoIterator<Item = Piece>, now: SystemTime) -> Self {
        let mut history = Self::default();
        let latest = latest(now);
        for piece in pieces.into_iter().filter(|piece| piece.at <= latest) {
            if history.pieces.back().is_none_or(|last| last.at < piece.at) {
                history.pieces.push_back(piece);
                history.forget_before(piece.at);
            }
        }
        history
    }

    /// Adds what a run that ended now showed. Where the clock went back a little, it counts as of the
    /// last piece; pieces of a clock that was far ahead are forgotten.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a plot does not show what a float leaves out"
    )]
    pub fn add(&mut self, now: SystemTime, point: Point) {
        let latest = latest(now);
        while self.pieces.back().is_some_and(|last| last.at > latest) {
            self.pieces.pop_back();
        }
        let at = self.pieces.back().map_or(0, |last| last.at).max(piece(now));
        if self.pieces.back().is_none_or(|last| last.at < at) {
            self.pieces.push_back(Piece {
                at,
                good: 0,
                bad: 0,
                mean: 0.0,
                worst: 0.0,
            });
            self.forget_before(at);
        }
        let Some(last) = self.pieces.back_mut() else {
            return;
        };
        let (value, is_worse): (f64, fn(f32, f32) -> bool) = match point {
            Point::Bad => {
                last.bad = last.bad.saturating_add(1);
                return;
            }
            Point::Seconds(seconds) => (seconds, |new, old| new > old),
            Point::Rate(rate) => (rate, |new, old| new < old),
        };
        let value = value as f32;
        if last.good == 0 || is_worse(value, last.worst) {
            last.worst = value;
        }
        last.good = last.good.saturating_add(1);
        last.mean += (value - last.mean) / f32::from(last.good);
    }

    /// The pieces in which a run ended, the oldest first.
    pub fn pieces(&self) -> impl DoubleEndedIterator<Item = &Piece> + ExactSizeIterator {
        self.pieces.iter()
    }

    /// Whether nothing ended within a day.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    fn forget_before(&mut self, at: u32) {
        let oldest = at.saturating_sub(PIECES - 1);
        while self.pieces.front().is_some_and(|first| first.at < oldest) {
            self.pieces.pop_front();
        }
    }
}

/// The latest piece that is believed: clocks are set, but not by hours.
fn latest(now: SystemTime) -> u32 {
    piece(now).saturating_add(PIECES / 24)
}

/// The piece that a time is in.
#[must_use]
pub fn piece(time: SystemTime) -> u32 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_secs() / PIECE.as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(piece: u32) -> SystemTime {
        UNIX_EPOCH + PIECE * piece + Duration::from_secs(7)
    }

    #[test]
    fn a_piece_has_the_mean_and_the_worst_of_its_runs() {
        let mut history = History::default();
        for point in [
            Point::Seconds(0.5),
            Point::Bad,
            Point::Seconds(1.5),
            Point::Seconds(1.0),
        ] {
            history.add(at(9), point);
        }
        history.add(at(11), Point::Bad);
        history.add(at(12), Point::Rate(8.0));
        history.add(at(12), Point::Rate(4.0));
        let piece = |at, good, bad, mean, worst| Piece {
            at,
            good,
            bad,
            mean,
            worst,
        };
        assert_eq!(
            history.pieces().copied().collect::<Vec<_>>(),
            [
                piece(9, 3, 1, 1.0, 1.5),
                piece(11, 0, 1, 0.0, 0.0),
                piece(12, 2, 0, 6.0, 4.0),
            ]
        );
    }

    #[test]
    fn a_day_is_kept_and_no_more() {
        let mut history = History::default();
        for piece in 0..1_000 {
            history.add(at(piece), Point::Bad);
        }
        assert_eq!(history.pieces().len(), PIECES as usize);
        assert_eq!(history.pieces().next().map(|first| first.at), Some(712));
        // After a gap, what is older than a day is forgotten at once.
        history.add(at(5_000), Point::Bad);
        assert_eq!(history.pieces().len(), 1);
    }

    #[test]
    fn a_clock_that_goes_back_does_not_disorder_the_day() {
        let mut history = History::default();
        history.add(at(10), Point::Bad);
        history.add(at(3), Point::Bad);
        let pieces: Vec<_> = history.pieces().map(|last| (last.at, last.bad)).collect();
        assert_eq!(pieces, [(10, 2)]);
        let again = [10, 3, 11, 11].map(|at| Piece {
            at,
            good: 1,
            bad: 0,
            mean: 0.0,
            worst: 0.0,
        });
        let again = History::of(again, at(11));
        let pieces: Vec<_> = again.pieces().map(|last| last.at).collect();
        assert_eq!(pieces, [10, 11]);
    }

    #[test]
    fn a_clock_that_was_ahead_does_not_stop_the_day() {
        let mut history = History::default();
        // Within the hour, and a year.
        for piece in [100, 112, 100, 105_220, 101, 102] {
            history.add(at(piece), Point::Bad);
        }
        let pieces: Vec<_> = history.pieces().map(|last| (last.at, last.bad)).collect();
        assert_eq!(pieces, [(101, 1), (102, 1)]);

        let mut ahead = History::default();
        ahead.add(at(100), Point::Bad);
        ahead.add(at(113), Point::Bad);
        let known: Vec<_> = ahead.pieces().copied().collect();
        let pieces = |now| History::of(known.clone(), at(now)).pieces().len();
        assert_eq!((pieces(100), pieces(101)), (1, 2));
    }
}
