//! Looks after one certificate: takes what is kept, orders the next in time, and waits longer and
//! longer where that fails.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use crate::authority::{Authority, Failure, FailureKind, Issued, Wanted, readable};
use crate::held::Held;
use crate::schedule::{self, LOOK, MAX_PAUSE, Window};
use crate::store::{Pause, Store, StoreError};
use crate::subject::Subject;

/// How long an order may take.
const ATTEMPT: Duration = Duration::from_secs(5 * 60);
/// However often [`Keeper::hurry`] is called, between two attempts is as much time.
const LEAST_PAUSE: Duration = Duration::from_secs(60);
/// How often the authority is asked when it would like a renewal, whatever it says itself.
const LEAST_WINDOW_CHECK: Duration = Duration::from_secs(6 * 60 * 60);
const MOST_WINDOW_CHECK: Duration = Duration::from_secs(24 * 60 * 60);

/// The time of day.
pub type WallClock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// What became of orders.
#[derive(Debug, Default)]
pub struct KeeperCounters {
    issued: AtomicU64,
    failures: [AtomicU64; FAILURE_KINDS.len()],
    in_a_row: AtomicU64,
}

const FAILURE_KINDS: [FailureKind; 4] = [
    FailureKind::Unreachable,
    FailureKind::Refused,
    FailureKind::NotFound,
    FailureKind::TooMany,
];

impl KeeperCounters {
    /// Orders by what became of them: a word, and how many.
    pub fn orders(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let issued = ("issued", self.issued.load(Ordering::Relaxed));
        let failed = FAILURE_KINDS
            .iter()
            .zip(&self.failures)
            .map(|(kind, count)| (kind.label(), count.load(Ordering::Relaxed)));
        std::iter::once(issued).chain(failed)
    }

    /// How many orders have failed since the last that did not.
    pub fn failures_in_a_row(&self) -> u64 {
        self.in_a_row.load(Ordering::Relaxed)
    }

    fn count(&self, kind: FailureKind) {
        for (of, count) in FAILURE_KINDS.iter().zip(&self.failures) {
            if *of == kind {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Looks after the certificate for one subject.
pub struct Keeper {
    subject: Subject,
    store: Store,
    authority: Arc<dyn Authority>,
    clock: WallClock,
    counters: Arc<KeeperCounters>,
    profile: Option<String>,
    hurry: Notify,
    held: Mutex<Option<Held>>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("subject", &self.subject)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

impl Keeper {
    /// Takes what `store` holds for `subject`; the rest is for [`Self::keep`] to do. Counts into
    /// `counters`, which several may share.
    ///
    /// # Errors
    /// There is a file that cannot be read. One that is of no use is told to the log, and will be
    /// replaced.
    pub fn new(
        subject: Subject,
        store: Store,
        authority: Arc<dyn Authority>,
        clock: WallClock,
        counters: Arc<KeeperCounters>,
    ) -> Result<Self, StoreError> {
        let held = match store.load(&subject) {
            Ok(held) => held,
            Err(StoreError::Certificate(path, reason)) => {
                tracing::warn!(file = %path.display(), %reason, "a kept certificate is of no use");
                None
            }
            Err(err) => return Err(err),
        };
        Ok(Self {
            subject,
            store,
            authority,
            clock,
            counters,
            profile: None,
            hurry: Notify::new(),
            held: Mutex::new(held),
        })
    }

    /// Orders this kind of certificate, by the authority's name for it.
    #[must_use]
    pub fn profile(mut self, profile: Option<String>) -> Self {
        self.profile = profile;
        self
    }

    /// The certificate as it is, if there is one.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whom the certificate is for.
    #[must_use]
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Has a failed order tried again at once, instead of after its pause: somebody has mended
    /// what was wrong.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Orders a certificate whenever one is due, and tells `on_new` of each. Never ends.
    pub async fn keep(&self, on_new: impl Fn(&Held) + Send + Sync) {
        let mut failures = self.wait_as_before().await;
        loop {
            self.wait_until_due(failures).await;
            if self.held().is_none() && failures == 0 {
                tracing::info!(
                    subject = %self.subject,
                    authority = self.authority.name(),
                    "there is no certificate yet: ordering one; the authority will check by \
                     connecting to this name, on port 80 or 443"
                );
            }
            let started = Instant::now();
            let failure = match self.order(failures).await {
                Ok(held) => {
                    on_new(&held);
                    self.announce(&held);
                    // Ordering another at once would bring the same.
                    if schedule::renew_at(held.life(), None, 1.0) <= (self.clock)() {
                        let what =
                            "the one that came is due to be renewed already: check the clock";
                        Failure::new(FailureKind::Refused, what)
                    } else {
                        failures = 0;
                        self.counters.in_a_row.store(0, Ordering::Relaxed);
                        self.store.set_pause(&self.subject, None);
                        continue;
                    }
                }
                Err(failure) => failure,
            };
            failures = failures.saturating_add(1);
            self.counters.count(failure.kind);
            self.counters
                .in_a_row
                .store(failures.into(), Ordering::Relaxed);
            self.pause(&failure, failures, started).await;
        }
    }

    /// A restart does not shorten a pause.
    async fn wait_as_before(&self) -> u32 {
        let Some(Pause { failures, until }) = self.store.pause(&self.subject) else {
            return 0;
        };
        let left = until.duration_since((self.clock)()).unwrap_or_default();
        // The clock may have been wrong when the pause began.
        let left = left.min(schedule::MAX_RETRY_AFTER.max(MAX_PAUSE) * 5 / 4);
        if !left.is_zero() {
            tracing::warn!(
                subject = %self.subject,
                failures,
                next = readable((self.clock)() + left),
                "the last order failed, before a restart; waiting as long as was decided then \
                 (SIGHUP tries at once)"
            );
            tokio::select! {
                () = sleep(left) => {}
                () = self.hurry.notified() => {}
            }
        }
        failures
    }

    /// Returns when an order is due: at once where there is no certificate.
    async fn wait_until_due(&self, failures: u32) {
        let Some(held) = self.held() else { return };
        let random = random();
        let mut window = None;
        // Not at once: a relay that starts again and again would ask each time.
        let mut next_check = Instant::now() + LOOK.mul_f64(0.5 + random / 2.0);
        loop {
            let now = (self.clock)();
            let due = schedule::renew_at(held.life(), window, random);
            let Ok(left) = due.duration_since(now) else {
                return;
            };
            if left.is_zero() {
                return;
            }
            // An authority that fails to give a certificate is not asked for more.
            if failures == 0 && Instant::now() >= next_check {
                let (new, again) = self.window(&held).await;
                window = new.or(window);
                next_check = Instant::now() + again;
                continue;
            }
            let wait = match failures {
                0 => next_check.saturating_duration_since(Instant::now()),
                _ => LOOK,
            };
            sleep(left.min(LOOK).min(wait)).await;
        }
    }

    async fn window(&self, held: &Held) -> (Option<Window>, Duration) {
        match timeout(ATTEMPT, self.authority.renewal_window(held)).await {
            Ok(Ok(Some((window, again)))) => {
                let again = again.clamp(LEAST_WINDOW_CHECK, MOST_WINDOW_CHECK);
                (Some(window), again)
            }
            Ok(Ok(None)) | Err(_) => (None, MOST_WINDOW_CHECK),
            Ok(Err(failure)) => {
                tracing::debug!(subject = %self.subject, %failure, "no advice about a renewal");
                (None, MOST_WINDOW_CHECK)
            }
        }
    }

    async fn order(&self, failures: u32) -> Result<Held, Failure> {
        let held = self.held();
        let wanted = Wanted {
            subject: &self.subject,
            // Should the authority stumble over it, the next attempt does without.
            replaces: held.as_ref().filter(|_| failures == 0),
            profile: self.profile.as_deref(),
        };
        let issued = match timeout(ATTEMPT, self.authority.obtain(&wanted)).await {
            Ok(issued) => issued?,
            Err(_) => {
                let seconds = ATTEMPT.as_secs();
                let what = format!("the order was not finished after {seconds} seconds");
                return Err(Failure::new(FailureKind::Unreachable, what));
            }
        };
        self.take(&issued)
    }

    fn take(&self, issued: &Issued) -> Result<Held, Failure> {
        let chain = issued.chain.as_bytes();
        let held = Held::from_pem(chain, issued.key.as_bytes(), &self.subject)
            .map_err(|err| Failure::new(FailureKind::Refused, format!("what came is {err}")))?;
        self.counters.issued.fetch_add(1, Ordering::Relaxed);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held.clone());
        // Served from memory it is as good; ordering it again would not make the disk larger.
        if let Err(error) = self.store.save(&self.subject, issued) {
            tracing::error!(
                %error,
                source = error_source(&error),
                "the new certificate could not be kept; a restart will order another"
            );
        }
        Ok(held)
    }

    /// Tells the log, once the certificate is served: whoever reads it may connect.
    fn announce(&self, held: &Held) {
        let life = held.life();
        tracing::info!(
            subject = %self.subject,
            valid_until = readable(life.not_after),
            renewed_from = readable(schedule::renew_at(life, None, 1.0)),
            "a new certificate"
        );
    }

    async fn pause(&self, failure: &Failure, failures: u32, started: Instant) {
        let pause = schedule::pause(failures, failure.kind, failure.retry_after, random());
        let until = (self.clock)() + pause;
        self.store
            .set_pause(&self.subject, Some(Pause { failures, until }));
        let next = readable(until);
        let serving = match self.held() {
            Some(held) => format!("valid until {}", readable(held.life().not_after)),
            None => "none".to_owned(),
        };
        tracing::error!(
            subject = %self.subject,
            authority = self.authority.name(),
            serving,
            failures,
            next,
            "no new certificate: {failure} (SIGHUP tries at once)"
        );
        let end = Instant::now() + pause;
        tokio::select! {
            () = tokio::time::sleep_until(end) => {}
            () = self.hurry.notified() => {
                tokio::time::sleep_until((started + LEAST_PAUSE).min(end)).await;
            }
        }
    }
}

fn error_source(error: &dyn std::error::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

/// A number from 0 to 1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    // Nothing secret depends on it.
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}
