//! A verifier that spares another one: its answers are remembered, its requests bounded.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use derp_proto::NodePublic;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

use crate::Verifier;
use crate::breaker::{Breaker, Failures, Pass};
use crate::cache::{Lifetimes, VerdictCache};
use crate::candidate::Candidate;
use crate::counters::{VerifyCounters, VerifyResult};
use crate::verdict::{FailMode, Verdict, VerifyError};

/// How long answers hold, and how much is asked.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CacheOptions {
    /// How long an admission holds that does not say so itself; default 60 s.
    pub allow: Duration,
    /// How long a denial holds at most; default 1 s.
    pub deny: Duration,
    /// How old an admission may be that is used in an outage; default 10 min.
    pub stale: Duration,
    /// How many admissions are remembered; default 65 536, in some 20 MiB.
    pub max_entries: usize,
    /// How many requests are under way at once; default 64.
    pub max_in_flight: usize,
    /// How many more may wait for their turn; default 1024. What comes then is not asked.
    pub max_waiting: usize,
    /// How long a request may take; default 5 s, which is what backends allow themselves.
    pub timeout: Duration,
    /// From how many failures in a row on the verifier is left in peace; default 5.
    pub failures: u32,
    /// How often one request finds out whether it answers again; default 1 s.
    pub probe_interval: Duration,
    /// What becomes of clients while the verifier cannot be reached; default closed.
    pub fail_mode: FailMode,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            allow: Duration::from_secs(60),
            deny: Duration::from_secs(1),
            stale: Duration::from_secs(600),
            max_entries: 1 << 16,
            max_in_flight: 64,
            max_waiting: 1024,
            timeout: Duration::from_secs(5),
            failures: 5,
            probe_interval: Duration::from_secs(1),
            fail_mode: FailMode::Closed,
        }
    }
}

impl CacheOptions {
    /// Remembers nothing, as the reference does; the bounds on requests stay.
    #[must_use]
    pub fn uncached() -> Self {
        Self {
            allow: Duration::ZERO,
            deny: Duration::ZERO,
            stale: Duration::ZERO,
            ..Self::default()
        }
    }
}

/// Remembers the answers of `V`, asks it once where several ask about the same key, and spares it
/// while it fails.
///
/// An answer is that of a key: a verifier that also looks at where a client comes from gives
/// different answers for one key only as often as this one asks it.
///
/// The request of a client that hangs up is dropped, unless others wait for the same answer, in
/// which case one of them asks again.
pub struct Cached<V> {
    inner: V,
    options: CacheOptions,
    counters: Arc<VerifyCounters>,
    /// Held for a lookup or an insertion, as are the two below; never two of them at once.
    cache: Mutex<VerdictCache>,
    breaker: Mutex<Breaker>,
    /// As many as there are clients in this verifier. The last to leave takes the entry with it.
    flights: Mutex<HashMap<NodePublic, Arc<Flight>>>,
    turns: Semaphore,
    waiting: AtomicUsize,
}

/// One request, and the answer for all who wait for it.
type Flight = OnceCell<Result<Verdict, VerifyError>>;

impl<V: Verifier> Cached<V> {
    /// Stands in front of `inner`, and counts under `name`.
    #[must_use]
    pub fn new(name: impl Into<String>, inner: V, options: CacheOptions) -> Self {
        Self::counting(Arc::new(VerifyCounters::new(name)), inner, options)
    }

    /// Stands in front of `inner`, and counts on where another verifier has left off.
    #[must_use]
    pub fn counting(counters: Arc<VerifyCounters>, inner: V, options: CacheOptions) -> Self {
        let lifetimes = Lifetimes {
            allow: options.allow,
            deny: options.deny,
            stale: options.stale,
            max_entries: options.max_entries,
        };
        let turns = options.max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            inner,
            counters,
            cache: Mutex::new(VerdictCache::new(lifetimes)),
            breaker: Mutex::new(Breaker::new(options.failures, options.probe_interval)),
            flights: Mutex::default(),
            turns: Semaphore::new(turns),
            waiting: AtomicUsize::new(0),
            options,
        }
    }

    /// How often it gave which result.
    #[must_use]
    pub fn counters(&self) -> Arc<VerifyCounters> {
        Arc::clone(&self.counters)
    }

    /// The verifier behind.
    pub const fn inner(&self) -> &V {
        &self.inner
    }

    /// Forgets what is known of a key, so that the next answer is a new one.
    pub fn forget(&self, key: &NodePublic) {
        lock(&self.cache).forget(key);
    }

    /// How many verdicts are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        lock(&self.cache).len()
    }

    /// How many requests are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        let turns = self.options.max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        turns - self.turns.available_permits()
    }

    async fn shared_answer(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let seat = Seat::take(&self.flights, client.key);
        seat.flight().get_or_init(|| self.ask(client)).await.clone()
    }

    async fn ask(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let _turn = self.turn().await?;
        let asking = Asking::begin(&self.breaker)?;
        let limit = self.options.timeout;
        let answer = timeout(limit, self.inner.verify(client)).await;
        let answer = answer.unwrap_or(Err(VerifyError::TimedOut(limit)));
        let now = now();
        asking.end(&answer, now);
        if let Ok(verdict) = &answer {
            lock(&self.cache).insert(client.key, verdict, now);
        }
        answer
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, VerifyError> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        let _waiting = Waiting::begin(&self.waiting, self.options.max_waiting)?;
        // Whoever waits longer is turned away before there is an answer, and what is known of the
        // client would not be used.
        let turn = timeout(LONGEST_WAIT, self.turns.acquire()).await;
        let turn = turn.map_err(|_| VerifyError::Overloaded)?;
        Ok(turn.expect("the semaphore is never closed"))
    }

    /// What becomes of a client without an answer.
    fn without_answer(
        &self,
        key: &NodePublic,
        err: VerifyError,
    ) -> (VerifyResult, Result<Verdict, VerifyError>) {
        if err.is_outage()
            && let Some(verdict) = lock(&self.cache).stale(key, now())
        {
            return (VerifyResult::Stale, Ok(verdict));
        }
        if err.is_unreachable() && self.options.fail_mode == FailMode::Open {
            let verdict = Verdict {
                reason: format!("admitted without an answer: {err}").into(),
                time_to_live: Some(Duration::ZERO),
                ..Verdict::allow()
            };
            return (VerifyResult::FailOpen, Ok(verdict));
        }
        (VerifyResult::Error, Err(err))
    }
}

#[async_trait]
impl<V: Verifier> Verifier for Cached<V> {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let known = lock(&self.cache).fresh(&client.key, now());
        if let Some(verdict) = known.filter(|_| !client.is_recheck) {
            self.counters.count(VerifyResult::Cache);
            return Ok(verdict);
        }
        let (result, answer) = match self.shared_answer(client).await {
            Ok(verdict) if verdict.allow => (VerifyResult::Allow, Ok(verdict)),
            Ok(verdict) => (VerifyResult::Deny, Ok(verdict)),
            Err(err) => self.without_answer(&client.key, err),
        };
        self.counters.count(result);
        answer
    }
}

impl<V: fmt::Debug> fmt::Debug for Cached<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached")
            .field("name", &self.counters.name())
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// A request that the breaker let pass. A probe that is dropped without an answer, for the client
/// has hung up or another verifier was quicker, is left to the next who asks.
struct Asking<'a> {
    breaker: &'a Mutex<Breaker>,
    pass: Pass,
    has_ended: bool,
}

impl<'a> Asking<'a> {
    fn begin(breaker: &'a Mutex<Breaker>) -> Result<Self, VerifyError> {
        let passed = lock(breaker).pass(now());
        let pass = passed.map_err(|failures| {
            let Failures {
                count,
                is_unreachable,
            } = failures;
            VerifyError::Suspended {
                failures: count,
                is_unreachable,
            }
        })?;
        Ok(Self {
            breaker,
            pass,
            has_ended: false,
        })
    }

    fn end(mut self, answer: &Result<Verdict, VerifyError>, now: std::time::Instant) {
        self.has_ended = true;
        let mut breaker = lock(self.breaker);
        match answer {
            Err(err) if err.is_outage() => breaker.failed(now, err.is_unreachable()),
            Ok(_) | Err(_) => breaker.answered(),
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.pass == Pass::Probe && !self.has_ended {
            lock(self.breaker).give_back(now());
        }
    }
}

/// A place among those who wait for the answer about one key.
struct Seat<'a> {
    flights: &'a Mutex<HashMap<NodePublic, Arc<Flight>>>,
    key: NodePublic,
    /// Taken when the seat is left.
    flight: Option<Arc<Flight>>,
}

impl<'a> Seat<'a> {
    fn take(flights: &'a Mutex<HashMap<NodePublic, Arc<Flight>>>, key: NodePublic) -> Self {
        let mut known = lock(flights);
        let flight = known.entry(key).or_default();
        // A flight that has landed serves those who waited for it and nobody who comes later.
        if flight.initialized() {
            *flight = Arc::default();
        }
        let flight = Some(Arc::clone(flight));
        Self {
            flights,
            key,
            flight,
        }
    }

    fn flight(&self) -> &Flight {
        let flight = self.flight.as_ref();
        flight.expect("a seat that is left is not sat in")
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut known = lock(self.flights);
        // Under the lock: of two who leave at once, the second has to see that it is the last.
        drop(self.flight.take());
        let flight = known.get(&self.key);
        if flight.is_some_and(|flight| Arc::strong_count(flight) == 1) {
            known.remove(&self.key);
        }
    }
}

/// One who waits for a turn.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize, max: usize) -> Result<Self, VerifyError> {
        let before = count.fetch_add(1, Ordering::Relaxed);
        let waiting = Self(count);
        if before >= max {
            return Err(VerifyError::Overloaded);
        }
        Ok(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How long a client waits for its turn: with the answer, less than relays wait for both.
const LONGEST_WAIT: Duration = Duration::from_secs(6);

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// What is locked here is never left half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
