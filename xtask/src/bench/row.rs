//! Which figures the table tells, and what they should be.

/// One line of the table: a figure of a scenario.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) title: &'static str,
    pub(crate) scenario: &'static str,
    /// The field of the load generator's report.
    pub(crate) field: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) target: Target,
}

/// What makes a figure good enough.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Ours is this many times smaller than Go's.
    Smaller(f64),
    /// Ours is not above this, whatever Go's is.
    AtMost(f64),
    /// Ours is at least this share of Go's: a figure that should be large.
    Share(f64),
    /// Ours is at most this many times the same field of another scenario, of ours too.
    OwnTimes(f64, &'static str),
    /// Ours is at least this share of the same field of another scenario, of ours too.
    OwnShare(f64, &'static str),
    /// It is told, not judged; it should be small.
    ToldSmall,
    /// It is told, not judged; it should be large.
    ToldLarge,
}

const CPU: &str = "server_us_per_packet";
const LOGIN: &str = "server_us_per_login";
const ANSWER: &str = "server_us_per_answer";

const fn row(
    title: &'static str,
    scenario: &'static str,
    (field, unit): (&'static str, &'static str),
    target: Target,
) -> Row {
    Row {
        title,
        scenario,
        field,
        unit,
        target,
    }
}

/// All lines of the table.
pub(crate) const ROWS: &[Row] = &[
    row(
        "1 pair, window 16, 1280 B",
        "pair-16",
        (CPU, "µs"),
        Target::Smaller(5.5),
    ),
    row(
        "1 pair, window 32, 1280 B",
        "pair-32",
        (CPU, "µs"),
        Target::Smaller(5.0),
    ),
    row(
        "1 pair, window 16, 64 B",
        "pair-16-small",
        (CPU, "µs"),
        Target::Smaller(4.2),
    ),
    row("ping-pong", "ping-pong", (CPU, "µs"), Target::Smaller(2.0)),
    row("1 pair at 1 k/s", "pair-1k", (CPU, "µs"), Target::ToldSmall),
    row(
        "1 pair at 20 k/s",
        "pair-20k",
        (CPU, "µs"),
        Target::Smaller(3.0),
    ),
    row(
        "100 pairs at 20 k/s",
        "pairs-20k",
        (CPU, "µs"),
        Target::Smaller(2.6),
    ),
    row(
        "100 pairs at 20 k/s, 64 to 1400 B",
        "pairs-20k-mixed",
        (CPU, "µs"),
        Target::ToldSmall,
    ),
    row(
        "100 pairs, window 8",
        "pairs-8",
        (CPU, "µs"),
        Target::Smaller(4.7),
    ),
    row(
        "16 clients to 1",
        "fan-in",
        (CPU, "µs"),
        Target::Smaller(3.0),
    ),
    row(
        "1 client to 16",
        "fan-out",
        (CPU, "µs"),
        Target::Smaller(4.5),
    ),
    row(
        "plain TCP: 1 pair, window 16",
        "plain-pair-16",
        (CPU, "µs"),
        Target::ToldSmall,
    ),
    row(
        "plain TCP: ping-pong",
        "plain-ping-pong",
        (CPU, "µs"),
        Target::ToldSmall,
    ),
    row(
        "plain TCP: 100 pairs, window 8",
        "plain-pairs-8",
        (CPU, "µs"),
        Target::ToldSmall,
    ),
    row(
        "connection set-up, X25519",
        "setup-x25519",
        (LOGIN, "µs"),
        Target::Smaller(2.7),
    ),
    row(
        "connection set-up, X25519MLKEM768",
        "setup-hybrid",
        (LOGIN, "µs"),
        Target::Smaller(3.7),
    ),
    row(
        "memory of an idle client, of 4000",
        "idle-4000",
        ("rss_kib_per_client", "KiB"),
        Target::AtMost(3.0),
    ),
    row(
        "… after it exchanged a packet",
        "idle-4000",
        ("rss_kib_per_client_after_a_packet", "KiB"),
        Target::AtMost(3.0),
    ),
    row(
        "memory of an idle client, of 8000",
        "idle-8000",
        ("rss_kib_per_client", "KiB"),
        Target::AtMost(3.0),
    ),
    row(
        "CPU of 4000 idle clients",
        "idle-4000",
        ("server_ms_per_s", "ms/s"),
        Target::Smaller(15.0),
    ),
    row(
        "memory after 40 x 10 % left, growth",
        "churn",
        ("rss_growth", "x"),
        Target::AtMost(1.2),
    ),
    row(
        "100 pairs at 20 k/s beside 6000 idle",
        "busy-and-idle",
        (CPU, "µs"),
        Target::Smaller(3.0),
    ),
    row(
        "… memory of the relay",
        "busy-and-idle",
        ("rss_mb", "MB"),
        Target::Smaller(12.0),
    ),
    row(
        "age at a reader of 1 MB/s, p50",
        "slow-reader-1",
        ("p50_us", "µs"),
        Target::Smaller(8.0),
    ),
    row(
        "… p99",
        "slow-reader-1",
        ("p99_us", "µs"),
        Target::Smaller(8.0),
    ),
    row(
        "… goodput",
        "slow-reader-1",
        ("goodput_mb_per_s", "MB/s"),
        Target::Share(0.98),
    ),
    row(
        "age at a reader of 5 MB/s, p50",
        "slow-reader-5",
        ("p50_us", "µs"),
        Target::Smaller(8.0),
    ),
    row(
        "… p99",
        "slow-reader-5",
        ("p99_us", "µs"),
        Target::Smaller(8.0),
    ),
    row(
        "… goodput",
        "slow-reader-5",
        ("goodput_mb_per_s", "MB/s"),
        Target::Share(0.98),
    ),
    row(
        "STUN, window 1",
        "stun-1",
        (ANSWER, "µs"),
        Target::Smaller(1.5),
    ),
    row(
        "STUN, window 32",
        "stun-32",
        (ANSWER, "µs"),
        Target::Smaller(1.0),
    ),
    row(
        "2 CPUs: 100 pairs, window 8",
        "two-cpus-pairs-8",
        ("pps", "packets/s"),
        Target::ToldLarge,
    ),
    row(
        "2 CPUs: … CPU",
        "two-cpus-pairs-8",
        (CPU, "µs"),
        Target::ToldSmall,
    ),
    row(
        "2 CPUs: 100 pairs at 20 k/s, p50",
        "two-cpus-quiet",
        ("p50_us", "µs"),
        Target::ToldSmall,
    ),
    row(
        "2 CPUs: … p99",
        "two-cpus-quiet",
        ("p99_us", "µs"),
        Target::ToldSmall,
    ),
    row(
        "2 CPUs: … p99.9",
        "two-cpus-quiet",
        ("p999_us", "µs"),
        Target::ToldSmall,
    ),
    row(
        "2 CPUs: p99 beside 200 logins/s",
        "two-cpus-storm",
        ("p99_us", "µs"),
        Target::Smaller(2.0),
    ),
    row(
        "2 CPUs: … against our quiet p99",
        "two-cpus-storm",
        ("p99_us", "µs"),
        Target::OwnTimes(1.5, "two-cpus-quiet"),
    ),
    row(
        "2 CPUs: … logins",
        "two-cpus-storm",
        ("logins_per_s", "1/s"),
        Target::ToldLarge,
    ),
    row(
        "a tailnet's TCP, 100 ms, 20 Mbit/s",
        "far-away",
        ("mbit_per_s", "Mbit/s"),
        Target::Share(0.95),
    ),
    row(
        "… without the low-water mark",
        "far-away-no-mark",
        ("mbit_per_s", "Mbit/s"),
        Target::ToldLarge,
    ),
    row(
        "… with it, against without",
        "far-away",
        ("mbit_per_s", "Mbit/s"),
        Target::OwnShare(0.95, "far-away-no-mark"),
    ),
    row(
        "100 MB between two tailscaled, CPU",
        "two-tailscaled",
        ("relay_cpu_seconds", "s"),
        Target::Smaller(4.0),
    ),
    row(
        "… throughput",
        "two-tailscaled",
        ("mbit_per_s", "Mbit/s"),
        Target::ToldLarge,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::scenario::SCENARIOS;

    #[test]
    fn every_row_is_of_a_scenario_and_every_scenario_has_a_row() {
        for row in ROWS {
            assert!(
                SCENARIOS
                    .iter()
                    .any(|scenario| scenario.name == row.scenario),
                "{row:?}"
            );
            if let Target::OwnTimes(_, other) | Target::OwnShare(_, other) = row.target {
                assert!(
                    SCENARIOS.iter().any(|scenario| scenario.name == other),
                    "{row:?}"
                );
            }
        }
        for scenario in SCENARIOS {
            assert!(
                ROWS.iter().any(|row| row.scenario == scenario.name),
                "{scenario:?}"
            );
        }
    }
}
