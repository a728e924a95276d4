//! The mean of what was counted in the last minute, from sums that only grow. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far the mean reaches back.
const WINDOW: Duration = Duration::from_secs(60);
/// Readings that come closer together than this are not kept apart.
const STEP: Duration = Duration::from_secs(5);

/// What the sums were when they were read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    total: u64,
    count: u64,
}

/// Remembers readings of the last minute, and one from before it. Bounded by [`WINDOW`] and
/// [`STEP`].
#[derive(Debug, Default)]
pub(crate) struct RecentMean(VecDeque<Reading>);

impl RecentMean {
    /// The mean of what was added to `total` in the last minute by the number of those who were
    /// added to `count`: since the reading before it, that is, or since the start where there is
    /// none. Zero where nobody was.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a mean of nanoseconds is no exact thing"
    )]
    pub(crate) fn read(&mut self, now: Instant, total: u64, count: u64) -> f64 {
        while self.0.get(1).is_some_and(|next| next.at + WINDOW <= now) {
            self.0.pop_front();
        }
        let since = self.0.front().map_or((0, 0), |it| (it.total, it.count));
        if self.0.back().is_none_or(|last| last.at + STEP <= now) {
            let at = now;
            self.0.push_back(Reading { at, total, count });
        }
        match count.saturating_sub(since.1) {
            0 => 0.0,
            counted => total.saturating_sub(since.0) as f64 / counted as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    #[test]
    fn a_mean_follows_the_last_minute_however_often_it_is_read() {
        for every in [1, 7, 15, 30] {
            let start = now();
            let mut mean = RecentMean::default();
            let (mut total, mut count, mut last) = (0, 0, 0.0_f64);
            for second in 0..=600 {
                // Ten wait each second: at first for long, later for a moment.
                let each = if second < 300 { 500 } else { 2 };
                total += 10 * each;
                count += 10;
                if second % every == 0 {
                    last = mean.read(start + Duration::from_secs(second), total, count);
                }
                if second == 300 - 300 % every {
                    assert!((last - 500.0).abs() < 20.0, "{last}");
                }
            }
            assert!((last - 2.0).abs() < 1e-9, "{last}");
            assert!(mean.0.len() <= 14);
        }
    }

    #[test]
    fn where_nobody_waited_lately_the_mean_is_zero() {
        let start = now();
        let mut mean = RecentMean::default();
        assert!(mean.read(start, 0, 0).abs() < 1e-9);
        assert!((mean.read(start, 30, 3) - 10.0).abs() < 1e-9);
        let later = start + Duration::from_secs(70);
        assert!((mean.read(later, 30, 3) - 10.0).abs() < 1e-9);
        let later = later + Duration::from_secs(70);
        assert!(mean.read(later, 30, 3).abs() < 1e-9);
    }
}
