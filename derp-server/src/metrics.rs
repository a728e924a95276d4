//! The relay's counters and gauges, under the reference's names.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use crate::outcomes::Outcomes;
use crate::packet::{DropReason, PacketKind};
use crate::proxy_protocol::ProxyCounts;
use crate::recent_mean::RecentMean;
use crate::shared::{AtomicU64, Mutex};
use crate::tally::{Tally, Totals};
use crate::tls_versions::TlsVersions;

/// A number that goes up and down, or only up.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! gauges {
    ($($(#[$doc:meta])* $name:ident: $kind:ident $metric:literal,)*) => {
        /// Numbers that change when clients come and go, not with each packet.
        #[derive(Debug, Default)]
        pub struct Gauges {
            $($(#[$doc])* pub $name: Gauge,)*
        }

        impl Gauges {
            fn visit(&self, visitor: &mut dyn MetricVisitor) {
                $(visitor.sample(&Sample {
                    name: $metric,
                    kind: MetricKind::$kind,
                    labels: &[],
                    value: Value::Whole(self.$name.get()),
                });)*
            }
        }
    };
}

gauges! {
    /// Connections that were handed to the relay.
    accepts: Counter "derp_accepts",
    /// Connections of admitted clients.
    connections: Gauge "derp_current_connections",
    /// Of these, those that call this relay their home.
    home_connections: Gauge "derp_current_home_connections",
    /// Of these, those that would rather have reached another node.
    not_ideal_connections: Gauge "derp_current_notideal_connections",
    /// Keys with a connection here.
    clients_local: Gauge "derp_clients_local",
    /// Keys that only another relay of the region has.
    clients_remote: Gauge "derp_clients_remote",
    /// Keys with several connections.
    dup_client_keys: Gauge "derp_current_dup_client_keys",
    /// Connections of such keys.
    dup_client_conns: Gauge "derp_current_dup_client_conns",
    /// Connections that came while their key had another.
    total_dup_client_conns: Counter "derp_total_dup_client_conns",
    /// Mesh peers that are told of clients that come and go.
    watchers: Gauge "derp_watchers",
    /// Connections that went because their key had too many.
    displaced_connections: Counter "derper_displaced_connections",
    /// Connections that are not told when somebody leaves who sent them something, for it sent to
    /// too many.
    departures_forgotten: Counter "derper_departures_forgotten",
    /// Keys that came to have several forwarders.
    multiforwarder_created: Counter "derp_multiforwarder_created",
    /// Keys that came to have one forwarder after several.
    multiforwarder_deleted: Counter "derp_multiforwarder_deleted",
    /// Removals of forwarders that were not there.
    forwarder_delete_other_value: Counter "derp_packet_forwarder_delete_other_value",
    /// Clients that made this their home later than five seconds after they came.
    home_moves_in: Counter "derp_home_moves_in",
    /// Clients that made another relay their home.
    home_moves_out: Counter "derp_home_moves_out",
    /// Clients whose connection took nothing for too long.
    write_timeouts: Counter "derp_sclient_write_timeouts",
    /// Clients that did not finish a frame in time.
    frame_timeouts: Counter "derper_frame_timeouts",
    /// Clients closed because all together held too much of frames that were not finished.
    unfinished_closed: Counter "derper_unfinished_closed",
    /// WebSocket connections.
    websocket_accepts: Counter "derp_websocket_accepts",
    /// Connections that were accepted by a listener.
    accepted_connections: Counter "tls_listener_accepted_connections",
    /// Connections that a listener closed at once, to keep within limits.
    rejected_connections: Counter "tls_listener_rejected_connections",
    /// Errors of listeners, after each of which they went on.
    accept_errors: Counter "derper_accept_errors",
    /// Connections that ended before TLS stood.
    tls_failures: Counter "derper_tls_handshake_failures",
    /// Requests that were not understood.
    bad_requests: Counter "derper_bad_requests",
    /// Logins that failed or did not come in time.
    login_failures: Counter "derper_login_failures",
    /// Clients that the verifier turned away.
    verify_denied: Counter "derper_verify_denied",
    /// Clients that the verifier had no answer for.
    verify_errors: Counter "derper_verify_errors",
    /// Clients whose frames broke the protocol.
    protocol_errors: Counter "derper_protocol_errors",
    /// Connections whose code panicked; others are not affected.
    panics: Counter "derper_panics",
}

/// What kind of number a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// It only goes up.
    Counter,
    /// It goes up and down.
    Gauge,
    /// The reference does not say.
    Untyped,
}

/// The value of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A count.
    Whole(u64),
    /// A measure.
    Real(f64),
}

/// One number with its name.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// The name, as the reference exposes it.
    pub name: &'a str,
    /// What kind of number it is.
    pub kind: MetricKind,
    /// Label names and values, from closed sets.
    pub labels: &'a [(&'a str, &'a str)],
    /// The number.
    pub value: Value,
}

/// Takes the samples of one reading, those of one name after another.
pub trait MetricVisitor {
    /// Takes a sample.
    fn sample(&mut self, sample: &Sample<'_>);
}

/// All numbers of a server.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) proxy_headers: ProxyCounts,
    pub(crate) outcomes: Outcomes,
    pub(crate) tls_versions: TlsVersions,
    /// One for each worker, and the first for all tasks.
    totals: Box<[Arc<Totals>]>,
    /// Of packets that had to wait. Held for a reading.
    wait: Mutex<RecentMean>,
}

impl Metrics {
    pub(crate) fn new(workers: usize) -> Self {
        let of_workers = (0..workers).map(|_| Arc::new(Totals::of_one_writer()));
        let totals = std::iter::once(Arc::default()).chain(of_workers);
        Self {
            gauges: Arc::default(),
            proxy_headers: ProxyCounts::default(),
            outcomes: Outcomes::default(),
            tls_versions: TlsVersions::default(),
            totals: totals.collect(),
            wait: Mutex::default(),
        }
    }

    /// The totals of worker `n`, counted from one; zero are those of tasks.
    pub(crate) fn totals(&self, n: usize) -> &Arc<Totals> {
        &self.totals[n]
    }

    /// The numbers that change when clients come and go.
    #[must_use]
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// What became of connections that had to begin with a PROXY header.
    #[must_use]
    pub const fn proxy_headers(&self) -> &ProxyCounts {
        &self.proxy_headers
    }

    /// What became of connections. With those that are on their way they are
    /// [`Gauges::accepts`].
    #[must_use]
    pub const fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// Requests and clients, by their version of TLS.
    #[must_use]
    pub const fn tls_versions(&self) -> &TlsVersions {
        &self.tls_versions
    }

    pub(crate) fn sum(&self) -> Tally {
        let mut sum = Tally::default();
        for totals in &self.totals {
            totals.sum_into(&mut sum);
        }
        sum
    }

    /// What became of all packets so far.
    #[must_use]
    pub fn packets(&self) -> PacketCounts {
        let sum = self.sum();
        PacketCounts {
            received: sum.packets_received + sum.packets_forwarded_in,
            sent: sum.packets_sent,
            forwarded: sum.packets_forwarded_out,
            dropped: sum.all_dropped(),
        }
    }

    /// How long packets that had to wait did so lately, in nanoseconds; see [`RecentMean::read`].
    fn mean_wait(&self, sum: &Tally) -> f64 {
        let mut wait = self.wait.lock().unwrap_or_else(PoisonError::into_inner);
        wait.read(crate::clock::now(), sum.queued_nanos, sum.queued_packets)
    }

    /// Shows every sample to `visitor`.
    pub fn visit(&self, visitor: &mut dyn MetricVisitor) {
        use MetricKind::{Counter, Gauge, Untyped};
        self.gauges.visit(visitor);
        self.proxy_headers.visit(visitor);
        self.outcomes.visit(visitor);
        self.tls_versions.visit(visitor);
        let sum = self.sum();
        let clients = self.gauges.clients_local.get() + self.gauges.clients_remote.get();
        visitor.sample(&Sample {
            name: "derp_clients_total",
            kind: Gauge,
            labels: &[],
            value: Value::Whole(clients),
        });
        for (name, value) in SUMS {
            visitor.sample(&Sample {
                name,
                kind: Counter,
                labels: &[],
                value: Value::Whole(value(&sum)),
            });
        }
        visitor.sample(&Sample {
            name: "derp_average_queue_duration_ms",
            kind: Untyped,
            labels: &[],
            value: Value::Real(self.mean_wait(&sum) / 1e6),
        });
        for (limit, waited) in [
            ("client", sum.rate_limit_waited),
            ("frames", sum.frame_rate_waited),
            ("group", sum.group_rate_limit_waited),
            ("total", sum.total_rate_limit_waited),
        ] {
            visitor.sample(&Sample {
                name: "derper_rate_limit_waits",
                kind: Counter,
                labels: &[("limit", limit)],
                value: Value::Whole(waited),
            });
        }
        for kind in PacketKind::ALL {
            visitor.sample(&Sample {
                name: "derp_packets_received_kind",
                kind: Counter,
                labels: &[("kind", kind.label())],
                value: Value::Whole(sum.received_kind[kind as usize]),
            });
        }
        for (name, value) in DROPS {
            for reason in DropReason::ALL {
                for kind in PacketKind::ALL {
                    visitor.sample(&Sample {
                        name,
                        kind: Counter,
                        labels: &[("reason", reason.label()), ("kind", kind.label())],
                        value: Value::Whole(value(&sum, reason, kind)),
                    });
                }
            }
        }
    }
}

/// The names of what is counted without labels, and where it stands.
const SUMS: [(&str, SumOf); 15] = [
    ("derp_bytes_received", |sum| sum.bytes_received),
    ("derp_packets_received", |sum| sum.packets_received),
    ("derp_bytes_sent", |sum| sum.bytes_sent),
    ("derp_packets_sent", |sum| sum.packets_sent),
    ("derp_packets_forwarded_out", |sum| {
        sum.packets_forwarded_out
    }),
    ("derp_packets_forwarded_in", |sum| sum.packets_forwarded_in),
    ("derp_got_ping", |sum| sum.got_ping),
    ("derp_sent_pong", |sum| sum.sent_pong),
    ("derp_peer_gone_disconnected_frames", |sum| {
        sum.peer_gone_disconnected
    }),
    ("derp_peer_gone_not_here_frames", |sum| {
        sum.peer_gone_not_here
    }),
    ("derper_not_here_withheld", |sum| sum.not_here_withheld),
    ("derper_gone_notices_given_up", |sum| sum.gone_given_up),
    ("derp_unknown_frames", |sum| sum.unknown_frames),
    ("derp_rate_limit_per_client_waited", |sum| {
        sum.rate_limit_waited
    }),
    ("derper_socket_writes", |sum| sum.writes),
];
type SumOf = fn(&Tally) -> u64;

/// The names of what is counted for each reason and kind, and where it stands.
const DROPS: [(&str, DropCount); 2] = [
    ("derp_packets_dropped", Tally::packets_dropped),
    ("derp_bytes_dropped", Tally::bytes_dropped),
];
type DropCount = fn(&Tally, DropReason, PacketKind) -> u64;

/// What became of all packets: each one received is sent, forwarded, dropped, or still waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketCounts {
    /// From clients and from other relays.
    pub received: u64,
    /// To clients.
    pub sent: u64,
    /// To other relays.
    pub forwarded: u64,
    /// For any reason.
    pub dropped: u64,
}
