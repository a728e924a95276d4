//! What is known of one client for whoever looks at the relay: what it sent, and since when it is
//! here.
//!
//! Whoever owns the connection is the only writer. It stands apart from [`crate::peer::Peer`], on
//! memory of its own: senders read the peer with each packet, and would lose its cache lines to a
//! client that sends at the same time.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    since: OnceLock<Instant>,
    packets: AtomicU64,
    bytes: AtomicU64,
    /// Since when something is unfinished, in microseconds of the session.
    unfinished_since: AtomicU64,
    /// How many bytes of it are held; zero for a mesh peer, which is nobody's to close.
    unfinished: AtomicU32,
    is_home: AtomicBool,
}

impl Ledger {
    /// The session begins.
    pub(crate) fn begin(&self, now: Instant) {
        self.since.get_or_init(|| now);
    }

    /// The client sent a packet of so many bytes, keys not counted.
    pub(crate) fn count(&self, bytes: u64) {
        // There is one writer, so these need not be one step each.
        self.packets.store(self.packets.load(Relaxed) + 1, Relaxed);
        self.bytes.store(self.bytes.load(Relaxed) + bytes, Relaxed);
    }

    /// The client says whether this relay is its home.
    pub(crate) fn set_home(&self, is_home: bool) {
        self.is_home.store(is_home, Relaxed);
    }

    pub(crate) fn is_home(&self) -> bool {
        self.is_home.load(Relaxed)
    }

    /// Of what the client has sent, so many bytes wait for more, the first of them since `since`.
    /// Whoever finds fewer than before also finds what their owner has done before.
    pub(crate) fn set_unfinished(&self, bytes: u32, since: Instant) {
        let at = self.age(since).as_micros();
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        self.unfinished_since.store(at, Relaxed);
        self.unfinished.store(bytes, Release);
    }

    pub(crate) fn unfinished_bytes(&self) -> u32 {
        self.unfinished.load(Acquire)
    }

    /// How many bytes wait for more, and for how long.
    pub(crate) fn unfinished(&self, now: Instant) -> (usize, Duration) {
        let since = Duration::from_micros(self.unfinished_since.load(Relaxed));
        let bytes = self.unfinished_bytes();
        let bytes = usize::try_from(bytes).expect("there are no smaller machines");
        (bytes, self.age(now).saturating_sub(since))
    }

    /// Packets and bytes that the client sent so far.
    pub(crate) fn received(&self) -> (u64, u64) {
        (self.packets.load(Relaxed), self.bytes.load(Relaxed))
    }

    /// How long the session is; zero before it begins.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        let since = self.since.get().copied();
        now.saturating_duration_since(since.unwrap_or(now))
    }
}
