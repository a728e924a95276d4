//! The numbers of certificates, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use derp_certs::{Acme, KeeperCounters};
use derp_ops::exposition::{Exposition, Kind};

/// What is counted. Certificates of one relay together.
#[derive(Debug, Default)]
pub struct CertNumbers {
    /// Seconds since 1970; 0 without a certificate.
    not_after: AtomicU64,
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

    /// How many certificates are served, and when the first of them expires.
    pub(super) fn note_served(&self, count: usize, first_to_expire: Option<SystemTime>) {
        let seconds = first_to_expire
            .and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok())
            .unwrap_or_default()
            .as_secs();
        self.served.store(count as u64, Ordering::Relaxed);
        self.not_after.store(seconds, Ordering::Relaxed);
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

    /// Whether a certificate that is served has expired at `now`.
    #[must_use]
    pub fn has_expired(&self, now: SystemTime) -> bool {
        let not_after = self.not_after.load(Ordering::Relaxed);
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
