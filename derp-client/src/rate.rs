//! The send limit that a server may ask for with its ServerInfo. Pure: the clock is passed in.

use std::time::Instant;

use derp_proto::{HEADER_LEN, KEY_LEN, MAX_PACKET_LEN, ServerInfo};

/// What a SendPacket frame is long beyond its packet.
const OVERHEAD: usize = HEADER_LEN + KEY_LEN;

/// A token bucket, full at the start, that says which packets may be sent.
///
/// The others are to be dropped: whoever sends packets through a relay retransmits what is lost,
/// and what is late is of no use (`derp/derp_client.go`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendLimiter {
    /// Bytes per second.
    rate: f64,
    /// The most bytes that the bucket holds.
    burst: f64,
    /// The bytes in the bucket at `updated`.
    tokens: f64,
    updated: Instant,
}

impl SendLimiter {
    /// The limit that `info` asks for, or `None` where it asks for none.
    ///
    /// A rate without a burst would let nothing through at all: then the largest packet fits.
    pub(crate) fn asked_for(info: &ServerInfo, now: Instant) -> Option<Self> {
        if info.token_bucket_bytes_per_second <= 0 {
            return None;
        }
        let burst = match info.token_bucket_bytes_burst {
            ..=0 => (OVERHEAD + MAX_PACKET_LEN) as f64,
            burst => burst as f64,
        };
        let rate = info.token_bucket_bytes_per_second as f64;
        Some(Self {
            rate,
            burst,
            tokens: burst,
            updated: now,
        })
    }

    /// Whether a packet of `len` bytes may be sent; if so, its tokens are gone.
    #[must_use]
    pub(crate) fn allow(&mut self, len: usize, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.updated);
        self.updated = now;
        self.tokens = (self.tokens + elapsed.as_secs_f64() * self.rate).min(self.burst);
        let cost = (OVERHEAD + len) as f64;
        if self.tokens < cost {
            return false;
        }
        self.tokens -= cost;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn asking(rate: i64, burst: i64) -> ServerInfo {
        ServerInfo {
            token_bucket_bytes_per_second: rate,
            token_bucket_bytes_burst: burst,
            ..ServerInfo::plain()
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do, and only this gives one"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_burst_passes_and_the_rest_is_dropped() {
        let now = start();
        let mut limiter = SendLimiter::asked_for(&asking(1, 2 * 1037), now).unwrap();
        let sent = (0..1000).filter(|_| limiter.allow(1000, now)).count();
        assert_eq!(sent, 2);
    }

    #[test]
    fn tokens_come_back_with_time_up_to_the_burst() {
        let mut now = start();
        let mut limiter = SendLimiter::asked_for(&asking(1037, 1037), now).unwrap();
        let mut allowed_after = |millis| {
            now += Duration::from_millis(millis);
            limiter.allow(1000, now)
        };
        let story = [0, 0, 999, 1, 500, 500, 3_600_000, 0].map(&mut allowed_after);
        assert_eq!(story, [true, false, false, true, false, true, true, false]);
    }

    #[test]
    fn a_server_that_asks_for_nothing_gets_no_limit() {
        for rate in [0, -1, i64::MIN] {
            assert!(
                SendLimiter::asked_for(&asking(rate, 5), start()).is_none(),
                "{rate}"
            );
        }
    }

    #[test]
    fn a_rate_without_a_burst_lets_the_largest_packet_through() {
        let now = start();
        for burst in [0, -1, i64::MIN] {
            let mut limiter = SendLimiter::asked_for(&asking(1, burst), now).unwrap();
            assert!(
                limiter.allow(MAX_PACKET_LEN, now) && !limiter.allow(0, now),
                "{burst}"
            );
        }
        let mut limiter = SendLimiter::asked_for(&asking(i64::MAX, i64::MAX), now).unwrap();
        assert!((0..1000).all(|_| limiter.allow(MAX_PACKET_LEN, now)));
    }

    #[test]
    fn a_clock_that_goes_backwards_gives_nothing() {
        let now = start() + Duration::from_secs(10);
        let mut limiter = SendLimiter::asked_for(&asking(1000, 1037), now).unwrap();
        assert!(limiter.allow(1000, now));
        assert!(!limiter.allow(0, now.checked_sub(Duration::from_secs(9)).unwrap()));
    }
}
