//! What a relay has counted. It counts a little later than its clients see things happen.

use derp_server::{MetricVisitor, PacketCounts, Sample, Value};

use super::relay::Relay;
use super::time::eventually;

impl Relay {
    /// The sum of the samples of this name that have all of these labels.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        struct Sum<'a>(&'a str, &'a [(&'a str, &'a str)], Option<u64>);
        impl MetricVisitor for Sum<'_> {
            fn sample(&mut self, sample: &Sample<'_>) {
                let Self(name, labels, sum) = self;
                if sample.name == *name && labels.iter().all(|label| sample.labels.contains(label))
                {
                    let Value::Whole(n) = sample.value else {
                        panic!("{name} is no count")
                    };
                    *sum = Some(sum.unwrap_or(0) + n);
                }
            }
        }
        let mut sum = Sum(name, labels, None);
        self.server.metrics().visit(&mut sum);
        sum.2
            .unwrap_or_else(|| panic!("there is no metric {name} with {labels:?}"))
    }

    /// How many packets were dropped for this reason.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.metric("derp_packets_dropped", &[("reason", reason)])
    }

    /// Waits until the metric of this name is `n`. What a client sees of an event may come before
    /// the relay has counted it.
    pub async fn counts(&self, name: &str, n: u64) {
        eventually(&format!("{name} is {n}"), || self.metric(name, &[]) == n).await;
    }

    /// Waits until `n` packets were dropped for this reason.
    pub async fn drops(&self, reason: &str, n: u64) {
        eventually(&format!("{n} drops by {reason}"), || {
            self.dropped(reason) == n
        })
        .await;
    }

    /// Waits until the relay has received `n` packets, and each is accounted for.
    pub async fn has_received(&self, n: u64) {
        let packets = || self.server.metrics().packets().received;
        eventually(&format!("{n} packets have come"), || packets() == n).await;
        self.settled().await;
    }

    /// Waits until no packet is on its way inside of the relay: each one received was sent,
    /// forwarded or dropped.
    pub async fn settled(&self) {
        eventually("each packet is accounted for", || {
            let PacketCounts {
                received,
                sent,
                forwarded,
                dropped,
            } = self.server.metrics().packets();
            received == sent + forwarded + dropped
        })
        .await;
    }

    /// Waits until so many connections are served.
    pub async fn has_connections(&self, n: u64) {
        let gauges = self.server.metrics().gauges();
        eventually(&format!("{n} connections"), || {
            gauges.connections.get() == n
        })
        .await;
    }
}
