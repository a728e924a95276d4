//! Token buckets. Pure: the time is passed in.

use std::time::{Duration, Instant};

use derp_verify::RateLimit;

use crate::tunables::FrameRate;

/// The smallest burst that lets the longest frame pass: a packet and its key
/// (`derp/derpserver/derpserver.go`).
pub(crate) const MIN_BURST_BYTES: u64 = 65_536 + 32;

/// A bucket that fills at a steady rate. It starts full.
#[derive(Debug, Clone)]
pub(crate) struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled_at: Instant,
}

impl TokenBucket {
    /// A bucket of `burst` tokens that gains `per_second` of them each second.
    pub(crate) const fn new(per_second: f64, burst: f64, now: Instant) -> Self {
        Self {
            per_second,
            burst,
            tokens: burst,
            filled_at: now,
        }
    }

    /// A bucket of bytes; a burst that no full frame fits into is raised to one that does.
    #[expect(
        clippy::cast_precision_loss,
        reason = "limits beyond 2^53 bytes are no limits"
    )]
    pub(crate) fn of_bytes(limit: RateLimit, now: Instant) -> Self {
        let burst = limit.burst_bytes.max(MIN_BURST_BYTES);
        Self::new(limit.bytes_per_second as f64, burst as f64, now)
    }

    /// Whether both fill in the same way, however full they are.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (self.per_second, self.burst) == (other.per_second, other.burst)
    }

    /// How many tokens there will be.
    pub(crate) fn left_at(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        (self.tokens + passed * self.per_second).min(self.burst)
    }

    /// A bucket of things that are counted.
    pub(crate) const fn of(rate: FrameRate, now: Instant) -> Self {
        Self::new(rate.per_second, rate.burst.max(1.0), now)
    }

    /// Takes a token for each byte; see [`Self::take`].
    #[expect(clippy::cast_precision_loss, reason = "no frame has 2^53 bytes")]
    pub(crate) fn take_bytes(&mut self, bytes: u64, now: Instant) -> Result<(), Duration> {
        self.take(bytes as f64, now)
    }

    /// Takes `n` tokens if they are there.
    ///
    /// # Errors
    /// How long it will be until they are. A request larger than the bucket counts as a full one.
    pub(crate) fn take(&mut self, n: f64, now: Instant) -> Result<(), Duration> {
        if let Some(wait) = self.wait_for(n, now) {
            return Err(wait);
        }
        self.tokens = self.left_at(now) - n.min(self.burst);
        self.filled_at = self.filled_at.max(now);
        Ok(())
    }

    /// How long it will be until `n` tokens are there, if they are not.
    pub(crate) fn wait_for(&self, n: f64, now: Instant) -> Option<Duration> {
        let missing = n.min(self.burst) - self.left_at(now);
        if missing <= 0.0 {
            return None;
        }
        // A millisecond more, so that rounding never makes the caller come too early.
        let wait = Duration::try_from_secs_f64(missing / self.per_second + 0.001);
        Some(wait.unwrap_or(Duration::from_secs(3600)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;

    #[test]
    fn a_full_frame_a_second_passes_once_a_second() {
        let start = now();
        let limit = RateLimit {
            bytes_per_second: MIN_BURST_BYTES,
            burst_bytes: 10,
        };
        let mut bucket = TokenBucket::of_bytes(limit, start);
        assert_eq!(bucket.take(65_568.0, start), Ok(()));
        let wait = bucket.take(65_568.0, start).unwrap_err();
        assert!(
            wait >= Duration::from_secs(1) && wait < Duration::from_millis(1010),
            "{wait:?}"
        );
        assert!(
            bucket
                .take(65_568.0, start + Duration::from_millis(990))
                .is_err()
        );
        assert_eq!(
            bucket.take(65_568.0, start + Duration::from_secs(1)),
            Ok(())
        );
        assert!(bucket.take(1.0, start + Duration::from_secs(1)).is_err());
    }

    #[test]
    fn three_at_once_and_then_one_a_second() {
        let start = now();
        let mut bucket = TokenBucket::new(1.0, 3.0, start);
        let passed = |bucket: &mut TokenBucket, at| {
            (0..5)
                .filter(|_| bucket.take(1.0, start + Duration::from_secs(at)).is_ok())
                .count()
        };
        assert_eq!(passed(&mut bucket, 0), 3);
        assert_eq!(passed(&mut bucket, 1), 1);
        assert_eq!(passed(&mut bucket, 100), 3);
    }

    #[test]
    fn time_that_stands_still_or_runs_back_gives_nothing() {
        let start = now() + Duration::from_secs(10);
        let mut bucket = TokenBucket::new(1.0, 1.0, start);
        assert_eq!(bucket.take(1.0, start), Ok(()));
        assert!(bucket.take(1.0, start - Duration::from_secs(10)).is_err());
        assert!(bucket.take(1.0, start).is_err());
    }
}
