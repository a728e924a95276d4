//! Times, counted in buckets that are at most 1/64 of their value wide.

/// Buckets of one power of two.
const STEPS: u64 = 64;

/// How often each time was seen, in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            buckets: vec![0; bucket(u64::MAX) + 1],
            count: 0,
        }
    }

    /// How many times were seen.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn add(&mut self, nanos: u64) {
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
    }

    /// The time that this share of all times does not exceed, in microseconds; 0 for none.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count far below 2^53")]
        let rank = (share * self.count as f64).max(1.0);
        let mut seen = 0;
        for (bucket, &count) in self.buckets.iter().enumerate() {
            seen += count;
            #[expect(clippy::cast_precision_loss, reason = "a count far below 2^53")]
            if count > 0 && seen as f64 >= rank {
                return micros(middle(bucket));
            }
        }
        0.0
    }
}

/// Nanoseconds as microseconds.
#[expect(clippy::cast_precision_loss, reason = "below 2^53 ns is 104 days")]
pub(crate) fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

fn bucket(nanos: u64) -> usize {
    let shift = (u64::BITS - nanos.leading_zeros()).saturating_sub(STEPS.ilog2() + 1);
    let index = u64::from(shift) * STEPS + (nanos >> shift);
    usize::try_from(index).expect("64 powers of 64 buckets")
}

fn middle(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).expect("64 powers of 64 buckets");
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let low = (bucket - shift * STEPS) << shift;
    low + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_a_bucket_near_it() {
        for power in 0..63 {
            for nanos in [
                1 << power,
                (1 << power) + 1,
                (3 << power) / 2,
                (2 << power) - 1,
            ] {
                let middle = middle(bucket(nanos));
                assert!(
                    middle.abs_diff(nanos) <= nanos / 64,
                    "{nanos} ns are told as {middle}"
                );
            }
        }
        assert_eq!(bucket(0), 0);
        assert!(bucket(u64::MAX) < Histogram::new().buckets.len());
    }

    #[test]
    fn quantiles_are_those_of_the_times() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), 0.0);
        for nanos in 1..=1000 {
            histogram.add(nanos * 1000);
        }
        for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let told = histogram.quantile(share);
            assert!(
                (told - expected).abs() <= expected / 64.0,
                "{share}: {told}"
            );
        }
    }
}
