//! Counters of the packet path: plain numbers while a turn runs, added up once at its end.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::packet::{DropReason, PacketKind};

const REASONS: usize = DropReason::ALL.len();
const KINDS: usize = PacketKind::ALL.len();

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What one turn of a worker did. Plain numbers that nobody else sees.
        #[derive(Debug, Default, Clone, PartialEq, Eq)]
        pub(crate) struct Tally {
            $($(#[$doc])* pub(crate) $name: u64,)*
            pub(crate) received_kind: [u64; KINDS],
            dropped_packets: [[u64; KINDS]; REASONS],
            dropped_bytes: [[u64; KINDS]; REASONS],
            any: bool,
        }

        /// The sums of the turns of one worker, on cache lines of its own; or of all tasks.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub(crate) struct Totals {
            /// One thread alone adds, and needs no exclusive access for it.
            has_one_writer: bool,
            $(pub(crate) $name: AtomicU64,)*
            received_kind: [AtomicU64; KINDS],
            dropped_packets: [[AtomicU64; KINDS]; REASONS],
            dropped_bytes: [[AtomicU64; KINDS]; REASONS],
        }

        impl Totals {
            /// Sums to which only one thread will ever add.
            pub(crate) fn of_one_writer() -> Self {
                Self {
                    has_one_writer: true,
                    ..Self::default()
                }
            }

            /// Adds a turn, and leaves the tally at zero.
            pub(crate) fn add(&self, tally: &mut Tally) {
                let alone = self.has_one_writer;
                $(add(&self.$name, &mut tally.$name, alone);)*
                for (total, n) in self.received_kind.iter().zip(&mut tally.received_kind) {
                    add(total, n, alone);
                }
                if std::mem::take(&mut tally.any) {
                    add_all(&self.dropped_packets, &mut tally.dropped_packets, alone);
                    add_all(&self.dropped_bytes, &mut tally.dropped_bytes, alone);
                }
            }

            /// Adds these totals to a tally, for reading.
            pub(crate) fn sum_into(&self, tally: &mut Tally) {
                $(tally.$name += self.$name.load(Relaxed);)*
                for (n, total) in tally.received_kind.iter_mut().zip(&self.received_kind) {
                    *n += total.load(Relaxed);
                }
                sum_all(&mut tally.dropped_packets, &self.dropped_packets);
                sum_all(&mut tally.dropped_bytes, &self.dropped_bytes);
            }
        }
    };
}

counters! {
    /// SendPacket frames from clients.
    packets_received,
    /// Bytes of their packets, keys not counted.
    bytes_received,
    /// RecvPacket frames written to clients.
    packets_sent,
    /// Bytes of their packets, keys not counted.
    bytes_sent,
    /// Packets handed to another relay of the region.
    packets_forwarded_out,
    /// Packets that another relay handed over.
    packets_forwarded_in,
    /// Pings from clients.
    got_ping,
    /// Pongs written.
    sent_pong,
    /// PeerGone frames that say "disconnected", watchers' not counted.
    peer_gone_disconnected,
    /// PeerGone frames that say "not here".
    peer_gone_not_here,
    /// PeerGone frames of that kind that were not written, for the client had just had others.
    not_here_withheld,
    /// PeerGone frames of the other that were given up, for too many waited.
    gone_given_up,
    /// Frames of unknown types.
    unknown_frames,
    /// Nanoseconds that packets waited in lanes.
    queued_nanos,
    /// Packets that waited in lanes and were written.
    queued_packets,
    /// Times that a client was kept waiting by its rate limit.
    rate_limit_waited,
    /// Times that it was by its limit of frames.
    frame_rate_waited,
    /// Times that it was by its group's.
    group_rate_limit_waited,
    /// Times that it was by that of all clients.
    total_rate_limit_waited,
    /// Writes to sockets.
    writes,
}

fn add(total: &AtomicU64, n: &mut u64, alone: bool) {
    if *n == 0 {
        return;
    }
    let n = std::mem::take(n);
    if alone {
        total.store(total.load(Relaxed) + n, Relaxed);
    } else {
        total.fetch_add(n, Relaxed);
    }
}

fn add_all(totals: &[[AtomicU64; KINDS]], tally: &mut [[u64; KINDS]], alone: bool) {
    for (total, n) in totals.iter().flatten().zip(tally.iter_mut().flatten()) {
        add(total, n, alone);
    }
}

fn sum_all(tally: &mut [[u64; KINDS]], totals: &[[AtomicU64; KINDS]]) {
    for (n, total) in tally.iter_mut().flatten().zip(totals.iter().flatten()) {
        *n += total.load(Relaxed);
    }
}

impl Tally {
    pub(crate) fn dropped(&mut self, reason: DropReason, kind: PacketKind, bytes: usize) {
        self.any = true;
        self.dropped_packets[reason as usize][kind as usize] += 1;
        self.dropped_bytes[reason as usize][kind as usize] += bytes as u64;
    }

    pub(crate) fn sent(&mut self, bytes: usize) {
        self.packets_sent += 1;
        self.bytes_sent += bytes as u64;
    }

    pub(crate) fn packets_dropped(&self, reason: DropReason, kind: PacketKind) -> u64 {
        self.dropped_packets[reason as usize][kind as usize]
    }

    pub(crate) fn bytes_dropped(&self, reason: DropReason, kind: PacketKind) -> u64 {
        self.dropped_bytes[reason as usize][kind as usize]
    }

    pub(crate) fn all_dropped(&self) -> u64 {
        self.dropped_packets.iter().flatten().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_add_up() {
        for totals in [Totals::default(), Totals::of_one_writer()] {
            add_up_in(&totals);
        }
    }

    fn add_up_in(totals: &Totals) {
        for _ in 0..3 {
            let mut tally = Tally {
                bytes_received: 7,
                ..Tally::default()
            };
            tally.sent(5);
            tally.dropped(DropReason::QueueHead, PacketKind::Disco, 62);
            tally.received_kind[1] += 1;
            totals.add(&mut tally);
            assert_eq!(tally, Tally::default());
        }
        let mut sum = Tally::default();
        totals.sum_into(&mut sum);
        assert_eq!(
            (sum.bytes_received, sum.packets_sent, sum.bytes_sent),
            (21, 3, 15)
        );
        assert_eq!(
            sum.packets_dropped(DropReason::QueueHead, PacketKind::Disco),
            3
        );
        assert_eq!(
            sum.bytes_dropped(DropReason::QueueHead, PacketKind::Disco),
            186
        );
        assert_eq!((sum.received_kind, sum.all_dropped()), ([0, 3], 3));
    }
}
