//! The relay's numbers as metrics: those of its parts, and those of the process.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use derp_mesh::Mesh;
use derp_ops::exposition::{Exposition, Kind};
use derp_ops::logging;
use derp_server::{MetricKind, MetricVisitor, Sample, Server, Value};
use derp_stun::StunHandle;
use derp_verify::RateLimit;

use super::admit::Admit;
use super::mesh;
use super::recheck::Rechecks;
use super::rtt_stats::RttStats;
use crate::args::PROGRAM;
use crate::bootstrap_dns::BootstrapDns;
use crate::config::Config;
use crate::look::{Answers, Link};
use crate::process;
use crate::tls::numbers::CertNumbers;
use crate::usage;

/// Where numbers come from.
#[derive(Debug)]
pub(super) struct Numbers {
    /// The server's pages lead here, and this leads back to the server: so it is taken out when
    /// the server stops.
    server: Mutex<Option<Server>>,
    /// The same holds for the links, which hold the server.
    mesh: Mutex<Option<Mesh>>,
    stun: Option<StunHandle>,
    bootstrap_dns: Arc<BootstrapDns>,
    admit: Arc<Admit>,
    rtt_stats: Arc<RttStats>,
    rechecks: Arc<Rechecks>,
    started: SystemTime,
    stun_bind_failures: AtomicU64,
    open_relay: AtomicU64,
    too_open: AtomicU64,
    certs: Arc<CertNumbers>,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
    last_reload_failed: AtomicBool,
}

impl Numbers {
    pub(super) fn new(
        started: SystemTime,
        stun: Option<StunHandle>,
        bootstrap_dns: Arc<BootstrapDns>,
        admit: Arc<Admit>,
        rtt_stats: Arc<RttStats>,
        certs: Arc<CertNumbers>,
    ) -> Self {
        Self {
            server: Mutex::new(None),
            mesh: Mutex::new(None),
            stun,
            bootstrap_dns,
            admit,
            rtt_stats,
            rechecks: Arc::default(),
            started,
            stun_bind_failures: AtomicU64::new(0),
            open_relay: AtomicU64::new(0),
            too_open: AtomicU64::new(0),
            certs,
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
            last_reload_failed: AtomicBool::new(false),
        }
    }

    /// Where it is counted what became of connected clients.
    pub(super) const fn rechecks(&self) -> &Arc<Rechecks> {
        &self.rechecks
    }

    pub(super) fn attach(&self, server: Server) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    pub(super) fn attach_mesh(&self, mesh: Mesh) {
        *self.mesh.lock().unwrap_or_else(PoisonError::into_inner) = Some(mesh);
    }

    pub(super) fn detach(&self) {
        let _mesh = self
            .mesh
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Dropped after the lock: dropping a server ends its threads.
        let _server = self
            .server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    pub(super) fn server(&self) -> Option<Server> {
        self.server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The links to the region's other relays.
    pub(super) fn links(&self) -> Vec<Link> {
        let mesh = self.mesh.lock().unwrap_or_else(PoisonError::into_inner);
        let links = mesh.as_ref().map(Mesh::links).unwrap_or_default();
        let others = links.iter().filter(|link| !link.is_self);
        others.map(Link::from).collect()
    }

    /// How the verifiers answer.
    pub(super) fn answers(&self) -> Vec<Answers> {
        let verifiers = self.admit.current();
        let counters = verifiers.counters().iter();
        counters.map(|counters| Answers::of(counters)).collect()
    }

    /// How long packets take to each client and back.
    pub(super) fn round_trips(&self) -> HashMap<SocketAddr, Duration> {
        self.rtt_stats.now()
    }

    pub(super) fn certs(&self) -> &CertNumbers {
        &self.certs
    }

    /// The configuration was read again, and could be used or not.
    pub(super) fn note_reload(&self, is_good: bool) {
        let count = if is_good {
            &self.reloads
        } else {
            &self.failed_reloads
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.last_reload_failed.store(!is_good, Ordering::Relaxed);
    }

    pub(super) fn note_stun_failed(&self) {
        self.stun_bind_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_config(&self, config: &Config) {
        if let Some(rate) = config.tunables.client_rate {
            let (bytes_per_second, burst_bytes) = (rate.bytes_per_second, rate.burst_bytes);
            tracing::info!(bytes_per_second, burst_bytes, "what each client may send");
        }
        let open = config.listen.derp && config.admission.is_open();
        self.open_relay.store(u64::from(open), Ordering::Relaxed);
        self.too_open.store(config.too_open, Ordering::Relaxed);
    }

    pub(super) fn uptime(&self, now: SystemTime) -> Duration {
        now.duration_since(self.started).unwrap_or_default()
    }

    /// The text for Prometheus.
    pub(super) fn text(&self, now: SystemTime) -> String {
        let mut metrics = Exposition::new();
        if let Some(server) = self.server() {
            server.metrics().visit(&mut Exposer(&mut metrics));
            expose_client_rate(server.tunables().client_rate, &mut metrics);
        }
        if let Some(stun) = &self.stun {
            stun.counters().visit(|sample| {
                let labels: Vec<_> = sample.label.into_iter().collect();
                metrics.sample(sample.name, Kind::Counter, &labels, sample.value);
            });
        }
        self.bootstrap_dns.expose(&mut metrics);
        self.certs.expose(&mut metrics);
        self.rtt_stats.expose(&mut metrics);
        if let Some(mesh) = &*self.mesh.lock().unwrap_or_else(PoisonError::into_inner) {
            mesh::expose(&mesh.links(), &mut metrics);
        }
        for counters in self.admit.current().counters() {
            for (result, count) in counters.iter() {
                let labels = [("verifier", counters.name()), ("result", result.label())];
                metrics.sample("derper_verify_total", Kind::Counter, &labels, count);
            }
        }
        for (result, count) in self.rechecks.iter() {
            let labels = [("result", result)];
            metrics.sample("derper_recheck_total", Kind::Counter, &labels, count);
        }
        for (result, count) in [("ok", &self.reloads), ("rejected", &self.failed_reloads)] {
            let labels = [("result", result)];
            let count = count.load(Ordering::Relaxed);
            metrics.sample("derper_config_reloads", Kind::Counter, &labels, count);
        }
        let failed = self.last_reload_failed.load(Ordering::Relaxed);
        metrics.gauge("derper_config_rejected", u64::from(failed));
        metrics.counter("derper_log_lines_lost", logging::lines_lost());
        metrics.counter("uptime_sec", self.uptime(now).as_secs());
        metrics.untyped(
            "process_start_unix_time",
            since_1970(self.started).as_secs(),
        );
        if let Some(files) = process::open_files() {
            metrics.gauge("derp_current_file_descriptors", files);
        }
        usage::expose(&mut metrics);
        let version = [("version", PROGRAM.version), ("binary", PROGRAM.program)];
        metrics.sample("version", Kind::Untyped, &version, 1_u64);
        for (name, kind, number) in [
            (
                "derper_stun_bind_failures",
                Kind::Counter,
                &self.stun_bind_failures,
            ),
            ("derper_open_relay", Kind::Gauge, &self.open_relay),
            ("derper_secret_files_too_open", Kind::Gauge, &self.too_open),
        ] {
            metrics.sample(name, kind, &[], number.load(Ordering::Relaxed));
        }
        metrics.to_string()
    }
}

/// What each client may send, by the names that the reference has for it with `-rate-config`; 0 for
/// no limit.
fn expose_client_rate(rate: Option<RateLimit>, metrics: &mut Exposition) {
    let (per_second, burst) = rate.map_or((0, 0), |it| (it.bytes_per_second, it.burst_bytes));
    metrics.untyped("derp_rate_limit_per_client_bytes_per_second", per_second);
    metrics.untyped("derp_rate_limit_per_client_burst_bytes", burst);
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Takes the server's numbers.
struct Exposer<'a>(&'a mut Exposition);

impl MetricVisitor for Exposer<'_> {
    fn sample(&mut self, sample: &Sample<'_>) {
        let kind = match sample.kind {
            MetricKind::Counter => Kind::Counter,
            MetricKind::Gauge => Kind::Gauge,
            MetricKind::Untyped => Kind::Untyped,
        };
        match sample.value {
            Value::Whole(value) => self.0.sample(sample.name, kind, sample.labels, value),
            Value::Real(value) => self.0.sample(sample.name, kind, sample.labels, value),
        }
    }
}
