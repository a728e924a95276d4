//! Round-trip times of clients' connections: counted every ten seconds as the reference does
//! (`derp/derpserver/derpserver_linux.go`), and asked for when an operator looks.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use derp_ops::exposition::{Exposition, Kind};

use crate::round_trips::{self, RoundTrip};

/// How often each connection is counted.
const INTERVAL: Duration = Duration::from_secs(10);
/// Up to how many milliseconds each class goes. Classes are not cumulative, whatever the label's
/// name says.
const CLASSES: [(u64, &str); 8] = [
    (10, "10ms"),
    (20, "20ms"),
    (50, "50ms"),
    (100, "100ms"),
    (150, "150ms"),
    (250, "250ms"),
    (500, "500ms"),
    (u64::MAX, "inf"),
];

/// Counts by class.
#[derive(Debug, Default)]
pub(super) struct RttStats {
    /// Where clients come to by TCP.
    listeners: Vec<SocketAddr>,
    counts: [AtomicU64; CLASSES.len()],
    errors: AtomicU64,
    has_failed: AtomicBool,
}

impl RttStats {
    /// Of the connections to these listeners; of none where nothing is to be counted.
    pub(super) fn new(listeners: Vec<SocketAddr>) -> Self {
        Self {
            listeners,
            ..Self::default()
        }
    }

    /// Counts all connections now and then, for ever.
    pub(super) async fn run(self: Arc<Self>) -> Infallible {
        if self.listeners.is_empty() {
            return std::future::pending().await;
        }
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let stats = Arc::clone(&self);
            // The kernel looks through all connections of a port.
            if let Err(error) = tokio::task::spawn_blocking(move || stats.count()).await {
                tracing::error!(%error, "cannot count round-trip times");
            }
        }
    }

    fn count(&self) {
        let found = match self.ask() {
            Ok(found) => found,
            Err(error) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                if !self.has_failed.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %error,
                        "the kernel does not tell round-trip times; a sandbox has to allow \
                         AF_NETLINK, or set tcp.rtt_stats = false"
                    );
                }
                return;
            }
        };
        for RoundTrip { time, .. } in found {
            let class = CLASSES
                .iter()
                .position(|(millis, _)| time <= Duration::from_millis(*millis))
                .expect("the last class has no end");
            self.counts[class].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn ask(&self) -> io::Result<Vec<RoundTrip>> {
        let mut all = Vec::new();
        for listener in &self.listeners {
            all.append(&mut round_trips::of_listener(*listener)?);
        }
        Ok(all)
    }

    /// The round-trip times as they are now, by the other end; none where the kernel does not tell.
    pub(super) fn now(&self) -> HashMap<SocketAddr, Duration> {
        let found = self.ask().unwrap_or_default();
        found.into_iter().map(|it| (it.remote, it.time)).collect()
    }

    pub(super) fn expose(&self, metrics: &mut Exposition) {
        let classes = CLASSES.iter().zip(&self.counts);
        let counts = classes.map(|((_, class), count)| (*class, count));
        for (class, count) in counts.chain([("error", &self.errors)]) {
            let count = count.load(Ordering::Relaxed);
            metrics.sample("derp_tcp_rtt", Kind::Counter, &[("le", class)], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_connection_counts_every_ten_seconds() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clients = [(); 2].map(|()| {
            let client = TcpStream::connect(address).unwrap();
            (client, listener.accept().unwrap())
        });
        let stats = Arc::new(RttStats::new(vec![address]));
        stats.count();
        stats.count();
        let counts: Vec<_> = stats
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        // On loopback, whatever else the machine does.
        assert_eq!(counts.iter().sum::<u64>(), 4);
        assert_eq!(stats.errors.load(Ordering::Relaxed), 0);
        let now = stats.now();
        assert_eq!(now.len(), 2);
        assert!(now.contains_key(&clients[0].0.local_addr().unwrap()));
    }
}
