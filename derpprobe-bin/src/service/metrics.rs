//! Everything that is known of the probes, as metrics for Prometheus: the reference's names and
//! labels (`prober/prober.go`, `prober/derp.go`), and ours for what its probes do not measure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use derp_ops::exposition::{Exposition, Kind, Value};

use super::record::Record;
use super::totals::DELAYS;
use crate::args::PROGRAM;
use crate::report::printable;
use crate::subject::Class;

/// Numbers of a run that are metrics of their own: what findings call them, and what they are.
const MEASURED: [(&str, &str); 10] = [
    (
        "relay_seconds",
        "How long a packet took, without connecting",
    ),
    (
        "round_trip_seconds",
        "How long the answer to a STUN request took",
    ),
    (
        "login_seconds",
        "How long the relay took to admit the probe",
    ),
    (
        "refusal_seconds",
        "How long the relay took to refuse a stranger",
    ),
    (
        "convergence_seconds",
        "How long until a relay knew another one's client",
    ),
    (
        "forgotten_seconds",
        "How long until a relay knew that it had gone",
    ),
    ("bytes_per_second", "How much got through"),
    (
        "certificate_seconds_left",
        "How long the relay's certificate is still valid",
    ),
    (
        "certificate_lifetime_seconds",
        "How long the relay's certificate is valid in all",
    ),
    (
        "delay_p99",
        "Queuing delay that 99 of 100 packets stayed below, in seconds",
    ),
];

/// Numbers that are about the program.
#[derive(Debug, Clone, Copy)]
pub struct Whole {
    /// When it was started.
    pub started: SystemTime,
    /// How old the map is.
    pub map_age: Option<Duration>,
    /// Posts to the webhook that arrived, that did not, and changes that could not be told.
    pub posts: (u64, u64, u64),
}

/// The text.
pub fn text<'a>(records: impl Iterator<Item = (&'a String, &'a Record)>, whole: &Whole) -> String {
    let mut all = Exposition::new();
    let (mut good, mut bad, mut unknown) = (0_u64, 0_u64, 0_u64);
    for (name, record) in records {
        match &record.last {
            Some(Ok(_)) => good += 1,
            Some(Err(_)) => bad += 1,
            None => unknown += 1,
        }
        push(&mut all, name, record);
    }
    for (state, count) in [("good", good), ("bad", bad), ("unknown", unknown)] {
        let labels = [("state", state)];
        all.sample("derpprobe_probes", Kind::Gauge, &labels, count);
    }
    all.help(
        "derpprobe_probes",
        "Number of probes by how their last run ended",
    );
    if let Some(age) = whole.map_age {
        all.gauge("derpprobe_map_age_seconds", age.as_secs_f64());
    }
    let (arrived, given_up, lost) = whole.posts;
    for (result, count) in [("ok", arrived), ("fail", given_up)] {
        let labels = [("status", result)];
        all.sample(
            "derpprobe_webhook_posts_total",
            Kind::Counter,
            &labels,
            count,
        );
    }
    all.counter("derpprobe_webhook_changes_lost_total", lost);
    all.gauge("process_start_unix_time", unix(whole.started));
    let labels = [("version", PROGRAM.version)];
    all.sample("version", Kind::Gauge, &labels, 1_u64);
    all.to_string()
}

fn push(all: &mut Exposition, name: &str, record: &Record) {
    let mut labels = vec![
        ("name", printable(name)),
        ("class", record.subject.class.as_str().to_owned()),
    ];
    let of_subject = record.subject.labels().into_iter();
    labels.extend(of_subject.map(|(label, text)| (label, printable(&text))));
    let labels: Vec<_> = labels
        .iter()
        .map(|(label, text)| (*label, text.as_str()))
        .collect();
    let mut sample = |name: &str, kind, more: &[(&str, &str)], value: Value, help: &str| {
        let name = format!("derpprobe_{name}");
        all.sample(&name, kind, &[&labels, more].concat(), value);
        all.help(&name, help);
    };
    let interval = record.interval.as_secs_f64();
    sample(
        "interval_secs",
        Kind::Gauge,
        &[],
        interval.into(),
        "How often the probe runs, in seconds",
    );
    let running = u64::from(record.is_running);
    sample(
        "in_flight",
        Kind::Gauge,
        &[],
        running.into(),
        "Number of runs that are under way",
    );
    if let Some(started) = record.started {
        let help = "When the last run began, in seconds since 1970";
        sample("start_secs", Kind::Gauge, &[], unix(started).into(), help);
    }
    let (Some(ended), Some(last)) = (record.ended, &record.last) else {
        return;
    };
    let help = "When the last run ended, in seconds since 1970";
    sample("end_secs", Kind::Gauge, &[], unix(ended).into(), help);
    let result = u64::from(last.is_ok());
    sample(
        "result",
        Kind::Gauge,
        &[],
        result.into(),
        "Whether the last run was good",
    );
    if let Ok(took) = last {
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        sample(
            "latency_millis",
            Kind::Gauge,
            &[],
            millis.into(),
            "How long the last run took",
        );
    }
    for (status, runs) in [("fail", record.totals.bad), ("ok", record.totals.good)] {
        let status = [("status", status)];
        sample(
            "attempts_total",
            Kind::Counter,
            &status,
            runs.count.into(),
            "Number of runs",
        );
        let seconds = runs.time.as_secs_f64();
        sample(
            "seconds_total",
            Kind::Counter,
            &status,
            seconds.into(),
            "How long runs took",
        );
    }
    for (what, help) in MEASURED {
        if let Some(value) = record.measured(what) {
            sample(what, Kind::Gauge, &[], value.into(), help);
        }
    }
    if record.subject.class == Class::Bandwidth {
        let (bytes, seconds) = (record.totals.transfer_bytes, record.totals.transfer_seconds);
        let help = "How much a bandwidth probe sends";
        sample(
            "derp_bw_probe_size_bytes",
            Kind::Gauge,
            &[],
            bytes.into(),
            help,
        );
        let help = "How long bandwidth probes sent";
        sample(
            "derp_bw_transfer_time_seconds_total",
            Kind::Counter,
            &[],
            seconds.into(),
            help,
        );
    }
    if record.subject.class == Class::QueueDelay {
        let help = "Packets that did not arrive in time";
        let dropped = record.totals.dropped.into();
        sample(
            "derp_qd_probe_dropped_packets",
            Kind::Counter,
            &[],
            dropped,
            help,
        );
        push_delays(all, &labels, record);
    }
}

fn push_delays(all: &mut Exposition, labels: &[(&str, &str)], record: &Record) {
    const NAME: &str = "derpprobe_derp_qd_probe_delays_seconds";
    let upto = &record.totals.delays;
    let mut below = 0;
    let mut alone = |upto: &f64| {
        let alone = whole(*upto) - below;
        below = whole(*upto);
        alone
    };
    let bounds = DELAYS.iter().map(|(bound, _)| *bound);
    let buckets: Vec<_> = bounds.zip(upto.iter().map(&mut alone)).collect();
    let above = upto.last().map_or(0, |all| whole(*all)) - below;
    all.histogram(NAME, labels, buckets, above, record.totals.delay_sum);
    all.help(NAME, "Queuing delay");
}

/// A count that was added up as what findings have.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of packets are whole, and none below zero"
)]
fn whole(count: f64) -> u64 {
    count as u64
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

#[cfg(test)]
mod tests;
