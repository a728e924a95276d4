//! One turn of a worker: what several connections received, sent on to each destination at once.
//!
//! All bytes of a turn lie in one buffer of the worker. Frames are rewritten where they lie, and
//! remembered by destination; at the end of the turn each destination is locked once and gets
//! all that is for it. Connections own no buffer while nothing of theirs is unfinished.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use derp_proto::{HEADER_LEN, MAX_PACKET_LEN};

use crate::hub::Hub;
use crate::packet::PacketKind;
use crate::parcel::{END, Parcel, Span};
use crate::peer::Peer;
use crate::shared::share;
use crate::tally::{Tally, Totals};
use crate::tls13::MAX_RECORD;
use crate::tx::SendContext;
use std::time::Instant;

/// What one connection reads at a time.
pub(crate) const READ_SIZE: usize = 64 << 10;
/// The same of one that has limits: what it has sent and may not send yet waits in memory.
pub(crate) const LIMITED_READ_SIZE: usize = MAX_RECORD;
/// What may be unfinished of earlier reads: less than a frame, and less than a record.
const MAX_UNFINISHED: usize = HEADER_LEN + 64 + MAX_PACKET_LEN + MAX_RECORD;
/// The largest rest of a connection: its limit was reached before any of a read was understood.
/// Nothing more is received before that has been.
const MAX_REST: usize = MAX_UNFINISHED + READ_SIZE;
/// Room for some connections' reads, and for the largest rest.
const BUFFER: usize = 256 << 10;
const _: () = assert!(BUFFER >= MAX_REST + READ_SIZE);
/// A turn that holds more than this is sent before another connection is read: what came first
/// waits no longer than for about a hundred packets.
const FLUSH_AFTER: usize = 128 << 10;
/// A power of two.
const SLOTS: usize = 128;

/// The frames of a turn for one destination.
#[derive(Debug)]
struct Batch {
    peer: Arc<Peer>,
    first: u32,
    last: u32,
}

/// The working memory of one worker.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) buf: Box<[u8]>,
    /// How much of `buf` this turn has used.
    pub(crate) used: usize,
    /// Of the frames in `buf`, which bounds them.
    spans: Vec<Span>,
    batches: Vec<Batch>,
    /// By the low bits of a connection's number: where its batch may be. A collision costs a second
    /// batch, and what is left of an earlier turn is seen to be wrong.
    slots: Box<[u32; SLOTS]>,
    pub(crate) scratch: Vec<u8>,
    pub(crate) tally: Tally,
    pub(crate) now: Instant,
}

impl Turn {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            buf: vec![0; BUFFER].into(),
            used: 0,
            spans: Vec::with_capacity(256),
            batches: Vec::with_capacity(64),
            slots: Box::new([END; SLOTS]),
            scratch: Vec::with_capacity(BUFFER / 4),
            tally: Tally::default(),
            now,
        }
    }

    /// Whether a connection's rest, which has `rest` bytes, and a read fit into the buffer.
    pub(crate) fn has_room(&self, rest: usize) -> bool {
        self.used < FLUSH_AFTER && self.buf.len() - self.used >= rest + READ_SIZE
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0 && self.batches.is_empty()
    }

    /// Remembers the RecvPacket frame at `at` for `peer`.
    pub(crate) fn add(
        &mut self,
        peer: &Arc<Peer>,
        at: usize,
        len: usize,
        kind: PacketKind,
        is_record: bool,
    ) {
        let offset = |n: usize| u32::try_from(n).expect("the buffer is far smaller than 4 GiB");
        let this = offset(self.spans.len());
        let (at, len) = (offset(at), offset(len));
        self.spans.push(Span {
            at,
            len,
            next: END,
            kind,
            is_record,
        });
        let slot = usize::try_from(peer.id.0 % SLOTS as u64).expect("a remainder is small");
        if let Some(batch) = self.batches.get_mut(self.slots[slot] as usize)
            && batch.peer.id == peer.id
        {
            self.spans[batch.last as usize].next = this;
            batch.last = this;
            return;
        }
        self.slots[slot] = offset(self.batches.len());
        self.batches.push(Batch {
            peer: share(peer),
            first: this,
            last: this,
        });
    }

    /// Sends all that the turn holds, and counts it. The buffer is free after that.
    pub(crate) fn flush(&mut self, hub: &Hub, totals: &Totals) {
        let context = SendContext {
            now: self.now,
            depth: hub.lane_depth(),
        };
        for batch in self.batches.drain(..) {
            let mut parcel = Parcel::new(&mut self.buf, &self.spans, batch.first);
            let (peer, scratch, tally) = (&batch.peer, &mut self.scratch, &mut self.tally);
            // A fault of ours in sending to one client ends that client alone.
            let deliver = AssertUnwindSafe(|| peer.deliver(&mut parcel, context, scratch, tally));
            if catch_unwind(deliver).is_err() {
                hub.metrics.gauges().panics.add(1);
                peer.close();
            }
        }
        self.clear();
        self.settle(hub, totals);
    }

    /// Forgets what has not been sent.
    pub(crate) fn clear(&mut self) {
        self.batches.clear();
        self.spans.clear();
        self.used = 0;
    }

    /// Counts what was done, and keeps all queues together, and all that is unfinished, within
    /// their limits.
    pub(crate) fn settle(&mut self, hub: &Hub, totals: &Totals) {
        if hub.queued.is_exceeded() {
            hub.queued.shorten_queues(&hub.registry, &mut self.tally);
        }
        if hub.unfinished.is_exceeded() {
            let closed = hub.unfinished.close_unfinished(&hub.registry, self.now);
            hub.metrics.gauges().unfinished_closed.add(closed);
        }
        totals.add(&mut self.tally);
    }
}
