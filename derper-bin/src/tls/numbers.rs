//! The numbers of certificates, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use derp_certs::{Acme, KeeperCounters};
use derp_ops::exposition::{Exposition, Kind};

/// What is counted. Certificates of one relay together.
#[derive(Debug, Default)]
pub struct CertNumbers {
    /// Of the first to expire, in seconds since 1970; 0 without a certificate.
    not_after: AtomicU64,
    /// The same of the main one.
    main_not_after: AtomicU64,
    served: AtomicU64,
    reloads: AtomicU64,
    rejected: AtomicU64,
    bad_now: AtomicU64,
    hook_runs: AtomicU64,
    hook_failures: AtomicU64,
    orders: Arc<KeeperCounters>,
    authority: OnceLock<Arc<Acme>>,
}

impl CertNumbers {
    /// Where orders are counted.
    #[must_use]
    pub const fn orders(&self) -> &Arc<KeeperCounters> {
        &self.orders
    }

    pub(super) fn note_authority(&self, authority: Arc<Acme>) {
        // A relay has one.
        let _another = self.authority.set(authority);
    }

    /// When the certificates that are served expire, the main one first; `None` for one that is yet
    /// to come.
    pub(super) fn note_served(&self, ends: impl IntoIterator<Item = Option<SystemTime>>) {
        let seconds = |time: Option<SystemTime>| {
            let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
            since.unwrap_or_default().as_secs()
        };
        let ends: Vec<_> = ends.into_iter().collect();
        let served = || ends.iter().copied().flatten();
        let main = ends.first().copied().flatten();
        self.served
            .store(served().count() as u64, Ordering::Relaxed);
        self.not_after
            .store(seconds(served().min()), Ordering::Relaxed);
        self.main_not_after.store(seconds(main), Ordering::Relaxed);
    }

    pub(super) fn note_reload(&self) {
        self.reloads.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_rejected(&self) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
    }

    /// How many pairs of files are of no use as they are.
    pub(super) fn note_bad(&self, count: usize) {
        self.bad_now.store(count as u64, Ordering::Relaxed);
    }

    pub(super) fn note_hook(&self, succeeded: bool) {
        self.hook_runs.fetch_add(1, Ordering::Relaxed);
        if !succeeded {
            self.hook_failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether the main certificate has expired at `now`, the one that most clients see. Any other
    /// is no reason to take the relay from those who do not.
    #[must_use]
    pub fn has_expired(&self, now: SystemTime) -> bool {
        let not_after = self.main_not_after.load(Ordering::Relaxed);
        let now = now.duration_since(SystemTime::UNIX_EPOCH);
        not_after > 0 && now.is_ok_and(|now| now.as_secs() > not_after)
    }

    /// How many times files were found to be of no use.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// How many times a new certificate was taken from files.
    #[must_use]
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Relaxed)
    }

    /// Adds them to `metrics`.
    pub fn expose(&self, metrics: &mut Exposition) {
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        metrics.gauge("derper_cert_not_after_seconds", get(&self.not_after));
        metrics.gauge("derper_certs_served", get(&self.served));
        metrics.gauge("derper_cert_files_bad", get(&self.bad_now));
        for (result, count) in [("ok", &self.reloads), ("rejected", &self.rejected)] {
            let labels = [("result", result)];
            metrics.sample("derper_cert_reloads", Kind::Counter, &labels, get(count));
        }
        metrics.counter("derper_cert_hook_runs", get(&self.hook_runs));
        metrics.counter("derper_cert_hook_failures", get(&self.hook_failures));
        let Some(authority) = self.authority.get() else {
            return;
        };
        metrics.counter("derper_acme_requests", authority.requests());
        for (result, count) in self.orders.orders() {
            let labels = [("result", result)];
            metrics.sample("derper_acme_orders", Kind::Counter, &labels, count);
        }
        let failures = self.orders.failures_in_a_row();
        metrics.gauge("derper_acme_failures_in_a_row", failures);
    }
}
