//! What the relay distinguishes about packets: their kind, and why one was dropped.

use derp_proto::is_disco;

/// The two kinds of packets, which have a lane and counters each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PacketKind {
    /// A path discovery message.
    Disco,
    /// Anything else: WireGuard's own.
    Other,
}

impl PacketKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Disco, Self::Other];

    /// The kind of `packet`.
    #[must_use]
    pub fn of(packet: &[u8]) -> Self {
        if is_disco(packet) {
            Self::Disco
        } else {
            Self::Other
        }
    }

    /// The value of the metrics' label, as in the reference.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disco => "disco",
            Self::Other => "other",
        }
    }
}

/// Why a packet was not delivered. Each packet that is not sent or forwarded has one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// Nobody with the destination's key is connected.
    UnknownDest,
    /// The same, for a packet that another relay of the region forwarded.
    UnknownDestOnForward,
    /// The destination was leaving.
    GoneDisconnected,
    /// It was the oldest in a full lane.
    QueueHead,
    /// There was no place for it: a forwarder's queue was full.
    QueueTail,
    /// The destination's connection broke before the packet was written.
    WriteError,
    /// Several connections have the destination's key and none of them is active.
    DupClient,
    /// All queues together held as much as they may, and this one held the most.
    QueueBudget,
}

impl DropReason {
    /// Every reason, so that each counter exists from the start.
    pub const ALL: [Self; 8] = [
        Self::UnknownDest,
        Self::UnknownDestOnForward,
        Self::GoneDisconnected,
        Self::QueueHead,
        Self::QueueTail,
        Self::WriteError,
        Self::DupClient,
        Self::QueueBudget,
    ];

    /// The value of the metrics' label. All but the last are the reference's words, so that
    /// dashboards keep working.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnknownDest => "unknown_dest",
            Self::UnknownDestOnForward => "unknown_dest_on_fwd",
            Self::GoneDisconnected => "gone_disconnected",
            Self::QueueHead => "queue_head",
            Self::QueueTail => "queue_tail",
            Self::WriteError => "write_error",
            Self::DupClient => "dup_client",
            Self::QueueBudget => "queue_budget",
        }
    }
}
