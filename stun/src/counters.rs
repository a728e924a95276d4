//! What the server counts, under the names that the reference's dashboards know
//! (`net/stunserver/stunserver.go`).
//!
//! No exposition format and no registry: a program visits the samples and prints them its way.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::AddrFamily;

/// The server's live counters. They never go down and share no lock.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) success: Counter,
    pub(crate) not_stun: Counter,
    pub(crate) read_error: Counter,
    pub(crate) write_error: Counter,
    pub(crate) quiet: Counter,
    ipv4: Counter,
    ipv6: Counter,
}

impl Counters {
    pub(crate) fn family(&self, family: AddrFamily) -> &Counter {
        match family {
            AddrFamily::Ipv4 => &self.ipv4,
            AddrFamily::Ipv6 => &self.ipv6,
        }
    }

    /// The values now. Each is exact; between two of them a datagram may have passed.
    pub(crate) fn snapshot(&self) -> CounterSnapshot {
        CounterSnapshot {
            success: self.success.value(),
            not_stun: self.not_stun.value(),
            read_error: self.read_error.value(),
            write_error: self.write_error.value(),
            ipv4: self.ipv4.value(),
            ipv6: self.ipv6.value(),
            quiet: self.quiet.value(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The server's counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CounterSnapshot {
    /// Requests answered.
    pub success: u64,
    /// Datagrams that got no answer because they were no request of a Tailscale client, or one
    /// that cannot be answered.
    pub not_stun: u64,
    /// Times that reading from the socket failed.
    pub read_error: u64,
    /// Valid requests whose answer the operating system would not send.
    pub write_error: u64,
    /// Valid requests from IPv4 addresses.
    pub ipv4: u64,
    /// Valid requests from IPv6 addresses.
    pub ipv6: u64,
    /// Datagrams thrown away unread while the server was told to be quiet; in none of the others.
    pub quiet: u64,
}

impl CounterSnapshot {
    /// Calls `visitor` once for each series, always all of them, also at zero.
    pub fn visit(&self, mut visitor: impl FnMut(Sample)) {
        for (disposition, value) in [
            ("success", self.success),
            ("not_stun", self.not_stun),
            ("read_error", self.read_error),
            ("write_error", self.write_error),
        ] {
            visitor(Sample {
                name: "stun_requests",
                label: Some(("disposition", disposition)),
                value,
            });
        }
        for (family, value) in [("ipv4", self.ipv4), ("ipv6", self.ipv6)] {
            visitor(Sample {
                name: "stun_addrfamily",
                label: Some(("family", family)),
                value,
            });
        }
        visitor(Sample {
            name: "derper_stun_quiet_datagrams",
            label: None,
            value: self.quiet,
        });
    }
}

/// One counter series: its name, its label if it has one, its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sample {
    /// Metric name; without prefix where the reference has the same metric.
    pub name: &'static str,
    /// Label name and value.
    pub label: Option<(&'static str, &'static str)>,
    /// Events so far.
    pub value: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_is_visited_under_the_references_names() {
        let counters = CounterSnapshot {
            success: 1,
            not_stun: 2,
            read_error: 3,
            write_error: 4,
            ipv4: 5,
            ipv6: 6,
            quiet: 7,
        };
        let mut seen = Vec::new();
        counters.visit(|Sample { name, label, value }| seen.push((name, label, value)));
        assert_eq!(
            seen,
            [
                ("stun_requests", Some(("disposition", "success")), 1),
                ("stun_requests", Some(("disposition", "not_stun")), 2),
                ("stun_requests", Some(("disposition", "read_error")), 3),
                ("stun_requests", Some(("disposition", "write_error")), 4),
                ("stun_addrfamily", Some(("family", "ipv4")), 5),
                ("stun_addrfamily", Some(("family", "ipv6")), 6),
                ("derper_stun_quiet_datagrams", None, 7),
            ]
        );
    }
}
