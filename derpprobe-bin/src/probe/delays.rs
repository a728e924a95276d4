//! Delays of packets: percentiles, and the reference's histogram (`prober/derp.go`). Pure.

use std::time::Duration;

use crate::outcome::Findings;

/// The bounds of the histogram in milliseconds, and what their counts are called.
const BOUNDS: [(u64, &str); 8] = [
    (5, "delay_le_0.005"),
    (10, "delay_le_0.01"),
    (25, "delay_le_0.025"),
    (50, "delay_le_0.05"),
    (100, "delay_le_0.1"),
    (250, "delay_le_0.25"),
    (500, "delay_le_0.5"),
    (1_000, "delay_le_1"),
];

/// The percentiles that are told, in parts of a hundred.
const PERCENTILES: [(usize, &str); 4] = [
    (50, "delay_p50"),
    (90, "delay_p90"),
    (99, "delay_p99"),
    (100, "delay_max"),
];

/// The delays of the packets that arrived.
#[derive(Debug, Clone, Default)]
pub(super) struct Delays(Vec<Duration>);

impl Delays {
    pub(super) fn push(&mut self, delay: Duration) {
        self.0.push(delay);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// Notes the percentiles, and how many packets took no longer than each bound.
    pub(super) fn tell(&self, findings: &mut Findings) {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        for (percent, what) in PERCENTILES {
            if let Some(delay) = percentile(&sorted, percent) {
                findings.seconds(what, delay);
            }
        }
        for (bound, what) in BOUNDS {
            let bound = Duration::from_millis(bound);
            let within = sorted.partition_point(|delay| *delay <= bound);
            findings.count(what, within as u64);
        }
        findings.count("delay_le_inf", self.count());
        findings.seconds("delay_sum", sorted.iter().sum());
    }
}

/// The smallest of the delays that so many of a hundred do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_delays_that_were_seen() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let hundred: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        let of = |sorted: &[Duration]| PERCENTILES.map(|(percent, _)| percentile(sorted, percent));
        assert_eq!(of(&hundred), [ms(50), ms(90), ms(99), ms(100)]);
        assert_eq!(of(&hundred[..1]), [ms(1), ms(1), ms(1), ms(1)]);
        assert_eq!(of(&hundred[..3]), [ms(2), ms(3), ms(3), ms(3)]);
        assert_eq!(of(&[]), [None; 4]);
    }

    #[test]
    fn counts_are_of_all_packets_up_to_each_bound() {
        let mut delays = Delays::default();
        for ms in [5, 6, 30, 1_000, 3_000] {
            delays.push(Duration::from_millis(ms));
        }
        let mut findings = Findings::default();
        delays.tell(&mut findings);
        let counts: Vec<_> = findings
            .measured
            .iter()
            .filter(|measured| measured.what.starts_with("delay_le_"))
            .map(|measured| measured.value.to_string())
            .collect();
        assert_eq!(counts.join(" "), "1 2 2 3 3 3 3 4 5");
    }
}
