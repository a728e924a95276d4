//! When to connect again. Pure: clock and randomness are passed in.
//!
//! A connection that comes about proves little: a server that takes every client and drops it a
//! moment later would be hammered by clients that start from nothing each time. So what was
//! learned from failures is only forgotten after a connection stayed healthy for a while.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long to wait between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The shortest wait.
    pub floor: Duration,
    /// The longest wait after the first failure; it doubles with each further one.
    pub first: Duration,
    /// The longest wait of all.
    pub max: Duration,
    /// How long a client must have been admitted for its earlier failures to be forgotten.
    pub healthy_after: Duration,
}

impl Policy {
    /// For clients: anything between nothing and 0.1 s, 0.2 s, 0.4 s … 30 s ("full jitter"), so
    /// that those of a server that restarts do not come back all at once.
    pub const CLIENT: Self = Self {
        floor: Duration::ZERO,
        first: Duration::from_millis(100),
        max: Duration::from_secs(30),
        healthy_after: Duration::from_secs(30),
    };

    /// For links between the relays of a region: always 5 s (`derp/derphttp/mesh_client.go`).
    pub const MESH: Self = Self {
        floor: Duration::from_secs(5),
        first: Duration::from_secs(5),
        max: Duration::from_secs(5),
        healthy_after: Duration::from_secs(30),
    };
}

impl Default for Policy {
    fn default() -> Self {
        Self::CLIENT
    }
}

/// However chance has it, there are no more attempts than this …
const MOST_ATTEMPTS: usize = 12;
/// … in any time of this length.
const WINDOW: Duration = Duration::from_secs(60);

/// What is remembered of earlier attempts to connect.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: Policy,
    /// Failures in a row, where a connection that was not healthy counts as one.
    failures: u32,
    /// Since when the client is admitted.
    admitted: Option<Instant>,
    /// When the server asked clients to be back.
    advice: Option<Instant>,
    /// When the latest attempts began; [`MOST_ATTEMPTS`] at most.
    attempts: VecDeque<Instant>,
}

impl Backoff {
    /// The state before the first attempt.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let attempts = VecDeque::with_capacity(MOST_ATTEMPTS);
        Self {
            policy,
            failures: 0,
            admitted: None,
            advice: None,
            attempts,
        }
    }

    /// An attempt begins.
    pub fn attempt(&mut self, now: Instant) {
        if self.attempts.len() == MOST_ATTEMPTS {
            self.attempts.pop_front();
        }
        self.attempts.push_back(now);
        self.admitted = None;
        self.advice = None;
    }

    /// The attempt led to a connection, and the server admitted the client.
    pub fn admitted(&mut self, now: Instant) {
        self.admitted = Some(now);
    }

    /// The server says that it restarts, and how long from now clients should be back. It is
    /// believed up to the longest wait of the policy.
    pub fn advise(&mut self, now: Instant, reconnect_in: Duration) {
        self.advice = Some(now + reconnect_in.min(self.policy.max));
    }

    /// The attempt failed, or the connection ended. Returns how long to wait before the next
    /// attempt, of which `random` decides: 64 uniform bits.
    #[must_use]
    pub fn failed(&mut self, now: Instant, random: u64) -> Duration {
        let healthy = self.policy.healthy_after;
        if self
            .admitted
            .take()
            .is_some_and(|at| now.saturating_duration_since(at) >= healthy)
        {
            self.failures = 0;
        }
        let doubled = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        let ceiling = self
            .policy
            .first
            .saturating_mul(doubled)
            .min(self.policy.max);
        self.failures = self.failures.saturating_add(1);

        let jittered =
            self.policy.floor + fraction(ceiling.saturating_sub(self.policy.floor), random);
        let advised = self.advice.take().unwrap_or(now);
        jittered
            .max(advised.saturating_duration_since(now))
            .max(self.room_in(now))
    }

    /// How long until another attempt is within what [`WINDOW`] allows.
    fn room_in(&self, now: Instant) -> Duration {
        match self.attempts.front() {
            Some(&oldest) if self.attempts.len() == MOST_ATTEMPTS => {
                (oldest + WINDOW).saturating_duration_since(now)
            }
            _ => Duration::ZERO,
        }
    }
}

/// `random`, as a fraction of all 64-bit numbers, of `whole`.
fn fraction(whole: Duration, random: u64) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(
        clippy::disallowed_methods,
        reason = "any instant will do, and only this gives one"
    )]
    fn start() -> Instant {
        Instant::now()
    }

    /// Ceilings of the waits after connections that were admitted and lasted for `lived`.
    fn ceilings(lived: Duration, count: usize) -> Vec<Duration> {
        let mut now = start();
        let mut backoff = Backoff::new(Policy::CLIENT);
        let mut waits = Vec::new();
        for _ in 0..count {
            backoff.attempt(now);
            backoff.admitted(now);
            now += lived;
            waits.push(backoff.failed(now, u64::MAX));
            now += WINDOW;
        }
        waits
    }

    /// The largest random number is not quite one.
    fn almost(wait: Duration, millis: u64) -> bool {
        wait.abs_diff(Duration::from_millis(millis)) <= Duration::from_nanos(1)
    }

    #[test]
    fn a_server_that_connects_and_dies_is_asked_ever_more_rarely() {
        let expected = [
            100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000,
        ];
        let waits = ceilings(Duration::from_millis(29_999), expected.len());
        for (wait, millis) in waits.iter().zip(expected) {
            assert!(almost(*wait, millis), "{waits:?}");
        }
    }

    #[test]
    fn failures_are_forgotten_after_thirty_healthy_seconds() {
        let waits = ceilings(30 * SECOND, 40);
        assert!(waits.iter().all(|&wait| almost(wait, 100)), "{waits:?}");
    }

    #[test]
    fn a_connection_that_was_never_admitted_is_not_healthy() {
        let mut now = start();
        let mut backoff = Backoff::new(Policy::CLIENT);
        for millis in [100, 200, 400] {
            backoff.attempt(now);
            now += 100 * SECOND;
            assert!(almost(backoff.failed(now, u64::MAX), millis));
        }
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let wait = |random| {
            let mut backoff = Backoff::new(Policy::CLIENT);
            backoff.failures = 100;
            backoff.failed(start(), random)
        };
        let quarter = u64::MAX / 4 + 1;
        let waits = [0, quarter, 2 * quarter, 3 * quarter].map(wait);
        assert_eq!(waits, [0, 7500, 15_000, 22_500].map(Duration::from_millis));
    }

    #[test]
    fn chance_cannot_make_a_storm() {
        let begin = start();
        let (mut now, mut attempts) = (begin, Vec::new());
        let mut backoff = Backoff::new(Policy::CLIENT);
        while attempts.len() < 100 {
            attempts.push(now);
            backoff.attempt(now);
            backoff.admitted(now);
            // Chance says each time that there is no need to wait at all.
            now += backoff.failed(now, 0);
        }
        for pair in attempts.windows(MOST_ATTEMPTS + 1) {
            assert!(pair[MOST_ATTEMPTS] - pair[0] >= WINDOW);
        }
    }

    #[test]
    fn a_restarting_server_says_when_and_is_believed_within_reason() {
        let now = start();
        let wait = |advice| {
            let mut backoff = Backoff::new(Policy::CLIENT);
            backoff.attempt(now);
            backoff.admitted(now);
            backoff.advise(now, advice);
            (backoff.failed(now, 0), backoff.failed(now, 0))
        };
        assert_eq!(wait(2 * SECOND), (2 * SECOND, Duration::ZERO));
        assert_eq!(
            wait(Duration::from_millis(u32::MAX.into())),
            (30 * SECOND, Duration::ZERO)
        );
    }

    #[test]
    fn a_restart_that_was_announced_is_waited_for_once() {
        let begin = start();
        let wait = |lasted: Duration| {
            let mut backoff = Backoff::new(Policy::CLIENT);
            backoff.attempt(begin);
            backoff.admitted(begin);
            backoff.advise(begin, 7 * SECOND);
            backoff.failed(begin + lasted, u64::MAX)
        };
        assert_eq!(wait(Duration::ZERO), 7 * SECOND);
        assert_eq!(wait(3 * SECOND), 4 * SECOND);
        assert!(almost(wait(7 * SECOND), 100));
        assert!(almost(wait(20 * SECOND), 100));
    }

    #[test]
    fn mesh_links_always_wait_for_five_seconds() {
        let now = start();
        let mut backoff = Backoff::new(Policy::MESH);
        for random in [0, u64::MAX, 7] {
            assert_eq!(backoff.failed(now, random), 5 * SECOND);
        }
    }
}
