//! The sending half of a client: straight to its socket while that takes bytes, and into bounded
//! lanes while it does not. Whoever has something for the client does this, under its lock.

use std::io;
use std::task::Waker;
use std::time::{Duration, Instant};

use derp_proto::PeerGoneReason;

use crate::FRAME_OVERHEAD;
use crate::lanes::{Lanes, Taken, Waiting};
use crate::packet::DropReason;
use crate::parcel::{Chunk, Parcel};
use crate::tally::Tally;
use crate::tls13::{RecordError, RecordWriter, Sealer, seal_behind};
use crate::wire::Wire;

/// How much is handed to the kernel at once, and so the most that can be left over when it takes
/// less: what is sealed cannot be dropped any more. A single longer frame goes alone.
pub(crate) const MAX_FLIGHT: usize = 32 << 10;
/// How much one turn writes to one connection out of its lanes, so that others get theirs.
const DRAIN_BUDGET: usize = 128 << 10;

/// What protects the bytes of a connection that is written to directly.
#[derive(Debug)]
pub(crate) enum Seal {
    Plain,
    Tls13(Box<Sealer>),
}

/// Where bytes go.
#[derive(Debug)]
pub(crate) enum Sink {
    /// To a socket, at once.
    Direct(Seal),
    /// To a task that owns the stream, and that is woken to fetch them.
    Queued {
        waker: Option<Waker>,
        /// The stream takes nothing at the moment: the task need not hear of more to send.
        is_stuck: bool,
    },
}

/// What the holder of the lock must do once it has let go of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[must_use = "the owner of the connection waits for it"]
pub(crate) struct Notice {
    /// The connection stopped taking bytes: its owner has to watch the time.
    pub(crate) stalled: bool,
    /// The connection is broken: its owner has to remove it.
    pub(crate) broken: bool,
    /// The turn's budget is spent, and the connection takes more: its owner has to go on.
    pub(crate) more: bool,
}

/// What a send needs to know beside the packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendContext {
    pub(crate) now: Instant,
    /// How many packets each lane holds.
    pub(crate) depth: usize,
}

/// What waits for a client at some moment; for consistency checks.
#[cfg(any(test, feature = "fuzzing"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WaitingNow {
    /// Of disco, and of others.
    pub(crate) packets: [usize; 2],
    pub(crate) lane_bytes: usize,
    pub(crate) pending: usize,
    pub(crate) control: bool,
}

/// The sending half of one connection. Behind its lock; see [`crate::peer::Peer`].
#[derive(Debug)]
pub(crate) struct Tx {
    sink: Sink,
    /// Bytes that are committed, and that the kernel has not taken: [`MAX_FLIGHT`] at most and a
    /// frame, with their records.
    pending: Vec<u8>,
    pending_at: usize,
    /// Exists only while something waits, or a task fetches.
    lanes: Option<Box<Lanes>>,
    /// Since when the kernel has taken nothing, while bytes are pending.
    blocked_since: Option<Instant>,
    /// The owner watches the time of this block already.
    deadline_watched: bool,
    /// The owner has been asked to drain, and has not yet.
    drain_asked: bool,
    gone: bool,
    /// It goes once what waits is sent, or is gone: packets come too late.
    too_late: bool,
    pub(crate) packets_sent: u64,
    pub(crate) bytes_sent: u64,
}

impl Tx {
    pub(crate) const fn new(sink: Sink) -> Self {
        Self {
            sink,
            pending: Vec::new(),
            pending_at: 0,
            lanes: None,
            blocked_since: None,
            deadline_watched: false,
            drain_asked: false,
            gone: false,
            too_late: false,
            packets_sent: 0,
            bytes_sent: 0,
        }
    }

    /// Bytes held for this client: waiting packets, and what the kernel has not taken.
    pub(crate) fn held(&self) -> usize {
        self.lanes.as_ref().map_or(0, |lanes| lanes.bytes()) + self.pending.len() - self.pending_at
    }

    /// What waits, counted anew.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn waiting(&self) -> WaitingNow {
        let lanes = self.lanes.as_deref();
        WaitingNow {
            packets: lanes.map_or([0; 2], Lanes::packets),
            lane_bytes: lanes.map_or(0, Lanes::count_bytes),
            pending: self.pending.len() - self.pending_at,
            control: lanes.is_some_and(Lanes::has_control),
        }
    }

    /// The lanes, for control frames. They are sent by the next [`Self::drain`].
    pub(crate) fn lanes(&mut self) -> &mut Lanes {
        self.lanes.get_or_insert_default()
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether the owner has to be asked to drain; it is asked once until it does.
    pub(crate) fn ask_to_drain(&mut self) -> bool {
        !std::mem::replace(&mut self.drain_asked, true)
    }

    fn has_pending(&self) -> bool {
        self.pending_at < self.pending.len()
    }

    /// Whether anything has not gone to the kernel, or to the task that fetches.
    pub(crate) fn is_waiting(&self) -> bool {
        self.has_pending() || self.lanes.as_ref().is_some_and(|lanes| !lanes.is_empty())
    }

    /// Sends the packets of `parcel`, or lets them wait, or drops them; counts each once.
    pub(crate) fn deliver(
        &mut self,
        wire: Option<&Wire>,
        parcel: &mut Parcel<'_>,
        context: SendContext,
        scratch: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Notice {
        if self.too_late {
            parcel.drop_rest(DropReason::GoneDisconnected, tally);
            return Notice::default();
        }
        let mut notice = Notice::default();
        if let Some(wire) = wire {
            let mut is_free = !self.is_waiting();
            if !is_free && self.blocked_since.is_none() {
                // Control frames wait for their owner, and the connection takes bytes.
                notice = self.drain(wire, context, scratch, tally);
                if notice.broken {
                    parcel.drop_rest(DropReason::GoneDisconnected, tally);
                    return notice;
                }
                is_free = !self.is_waiting();
                notice.more |= self.has_pending() && self.ask_to_drain();
            }
            while is_free && let Some(chunk) = parcel.next_chunk(MAX_FLIGHT) {
                if self
                    .send_chunk(wire, parcel, &chunk, scratch, tally)
                    .is_err()
                {
                    parcel.drop_chunk(&chunk, DropReason::WriteError, tally);
                    return self.broken(parcel, tally);
                }
                if self.has_pending() {
                    notice = self.blocked(context.now);
                    // The owner may have heard that there is room again before there was anything
                    // to see here, and does not hear it twice.
                    notice.more = self.ask_to_drain();
                    is_free = false;
                }
            }
        }
        self.enqueue_rest(parcel, context, tally);
        notice
    }

    /// Sends the packets of a chunk; what the connection does not take of them is pending.
    fn send_chunk(
        &mut self,
        wire: &Wire,
        parcel: &mut Parcel<'_>,
        chunk: &Chunk,
        scratch: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> io::Result<()> {
        let Sink::Direct(seal) = &mut self.sink else {
            unreachable!("a connection with a wire is written to directly");
        };
        let bytes = match seal {
            Seal::Plain => parcel.plain(chunk, scratch),
            Seal::Tls13(sealer) => {
                seal_chunk(sealer, parcel, chunk, scratch).map_err(io::Error::other)?
            }
        };
        tally.writes += 1;
        let left = &bytes[send(wire, bytes)?..];
        if !left.is_empty() {
            self.pending.clear();
            self.pending.extend_from_slice(left);
            self.pending_at = 0;
        }
        self.packets_sent += u64::from(chunk.packets);
        self.bytes_sent += chunk.payload() as u64;
        tally.packets_sent += u64::from(chunk.packets);
        tally.bytes_sent += chunk.payload() as u64;
        Ok(())
    }

    fn enqueue_rest(&mut self, parcel: &mut Parcel<'_>, context: SendContext, tally: &mut Tally) {
        let since = context.now;
        let mut waiting = false;
        while let Some((frame, kind)) = parcel.next_frame() {
            let packet = Waiting {
                frame: frame.into(),
                kind,
                since,
            };
            if let Some(evicted) = self.lanes().push(packet, context.depth) {
                let payload = evicted.frame.len() - FRAME_OVERHEAD;
                tally.dropped(DropReason::QueueHead, evicted.kind, payload);
            }
            waiting = true;
        }
        if waiting {
            self.wake();
        }
    }

    /// Wakes the task that fetches, where there is one, to send what waits.
    pub(crate) fn wake(&mut self) {
        if !matches!(self.sink, Sink::Queued { is_stuck: true, .. }) {
            self.wake_anyway();
        }
    }

    /// Wakes it for something else than sending.
    pub(crate) fn wake_anyway(&mut self) {
        if let Sink::Queued { waker, .. } = &mut self.sink
            && let Some(waker) = waker.take()
        {
            waker.wake();
        }
    }

    /// The connection broke: everything that waits or comes later is dropped.
    fn broken(&mut self, parcel: &mut Parcel<'_>, tally: &mut Tally) -> Notice {
        parcel.drop_rest(DropReason::GoneDisconnected, tally);
        self.close(tally);
        Notice {
            broken: true,
            ..Notice::default()
        }
    }

    fn blocked(&mut self, now: Instant) -> Notice {
        self.blocked_since.get_or_insert(now);
        let stalled = !std::mem::replace(&mut self.deadline_watched, true);
        Notice {
            stalled,
            ..Notice::default()
        }
    }

    /// Sends what waits, as far as the connection takes it, control frames first.
    pub(crate) fn drain(
        &mut self,
        wire: &Wire,
        context: SendContext,
        scratch: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Notice {
        self.drain_asked = false;
        if self.has_pending() {
            tally.writes += 1;
            let Ok(n) = send(wire, &self.pending[self.pending_at..]) else {
                return self.broken(&mut Parcel::empty(), tally);
            };
            self.pending_at += n;
            if n > 0 {
                self.blocked_since = None;
            }
            if self.has_pending() {
                return self.blocked(context.now);
            }
            self.pending = Vec::new();
            self.pending_at = 0;
        }
        self.blocked_since = None;
        let mut budget = DRAIN_BUDGET;
        while budget > 0 && !self.gone {
            scratch.clear();
            if !self.fetch_waiting(MAX_FLIGHT, context.now, scratch, tally) {
                return Notice::default();
            }
            budget = budget.saturating_sub(scratch.len());
            let Sink::Direct(seal) = &mut self.sink else {
                unreachable!("only connections with a wire are drained");
            };
            let bytes = match seal {
                Seal::Plain => Ok(&scratch[..]),
                Seal::Tls13(sealer) => seal_behind(sealer, scratch),
            };
            tally.writes += 1;
            let left = match bytes.map_err(io::Error::other) {
                Ok(bytes) => send(wire, bytes).map(|n| &bytes[n..]),
                Err(error) => Err(error),
            };
            let Ok(left) = left else {
                return self.broken(&mut Parcel::empty(), tally);
            };
            if !left.is_empty() {
                self.pending.extend_from_slice(left);
                return self.blocked(context.now);
            }
        }
        // The socket still takes bytes: no event will say so again.
        Notice {
            more: budget == 0,
            ..Notice::default()
        }
    }

    /// Moves waiting frames to `out`, about `max` bytes of them; says whether there were any.
    fn fetch_waiting(
        &mut self,
        max: usize,
        now: Instant,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> bool {
        let Some(lanes) = &mut self.lanes else {
            return false;
        };
        tally.gone_given_up += lanes.take_gone_given_up();
        let start = out.len();
        while out.len() == start || out.len() - start + lanes.next_len() <= max {
            let Some(taken) = lanes.next_into(out) else {
                self.lanes = None;
                break;
            };
            match taken {
                Taken::Packet { payload, since, .. } => {
                    self.packets_sent += 1;
                    self.bytes_sent += payload as u64;
                    tally.sent(payload);
                    tally.queued_packets += 1;
                    let waited = now.saturating_duration_since(since).as_nanos();
                    tally.queued_nanos += u64::try_from(waited).unwrap_or(u64::MAX);
                }
                Taken::PeerGone(PeerGoneReason::NOT_HERE) => tally.peer_gone_not_here += 1,
                Taken::PeerGone(_) => tally.peer_gone_disconnected += 1,
                Taken::Pong => tally.sent_pong += 1,
                Taken::Presence | Taken::Other => {}
            }
        }
        out.len() > start
    }

    /// For the task that owns the stream: moves waiting frames to `out`, which they leave only
    /// to be written. Where nothing waits, `waker` is woken when something does.
    pub(crate) fn fetch(
        &mut self,
        now: Instant,
        waker: &Waker,
        out: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> bool {
        let fetched = self.fetch_waiting(MAX_FLIGHT, now, out, tally);
        if !fetched {
            self.set_waker(waker, false);
        }
        fetched
    }

    /// For the task that owns the stream, which takes nothing: `waker` is woken when something
    /// else is to be done than sending.
    pub(crate) fn stuck(&mut self, waker: &Waker) {
        self.set_waker(waker, true);
    }

    fn set_waker(&mut self, waker: &Waker, stuck: bool) {
        let Sink::Queued {
            waker: slot,
            is_stuck,
        } = &mut self.sink
        else {
            return;
        };
        *is_stuck = stuck;
        match slot {
            Some(known) if known.will_wake(waker) => {}
            _ => *slot = Some(waker.clone()),
        }
    }

    /// When the connection will have taken nothing for `patience`. `None` where it takes bytes, or
    /// patience has no end: then the owner need not watch the time any more.
    pub(crate) fn write_deadline(&mut self, patience: Option<Duration>) -> Option<Instant> {
        let due = self
            .blocked_since
            .zip(patience)
            .map(|(since, patience)| since + patience);
        self.deadline_watched = due.is_some();
        due
    }

    /// Gives up waiting packets until at most `bytes` are held, of which those cannot be given up
    /// that are committed.
    pub(crate) fn shrink_to(&mut self, bytes: usize, tally: &mut Tally) {
        let committed = self.pending.len() - self.pending_at;
        let Some(lanes) = &mut self.lanes else { return };
        while lanes.bytes() + committed > bytes
            && let Some(packet) = lanes.give_up_oldest()
        {
            let payload = packet.frame.len() - FRAME_OVERHEAD;
            tally.dropped(DropReason::QueueBudget, packet.kind, payload);
        }
    }

    /// The client is to leave: packets that come later are dropped, and those that wait are not.
    pub(crate) fn take_no_more(&mut self) {
        self.too_late = true;
    }

    /// The client has left: what waits is dropped, and so is all that comes later.
    pub(crate) fn close(&mut self, tally: &mut Tally) {
        self.gone = true;
        self.too_late = true;
        if let Some(mut lanes) = self.lanes.take() {
            while let Some(packet) = lanes.give_up_oldest() {
                let payload = packet.frame.len() - FRAME_OVERHEAD;
                tally.dropped(DropReason::GoneDisconnected, packet.kind, payload);
            }
        }
        self.pending = Vec::new();
        self.pending_at = 0;
        self.blocked_since = None;
        self.wake();
    }

    /// The peer asks for a new key: the next record is sealed with one.
    pub(crate) fn update_key(&mut self) {
        if let Sink::Direct(Seal::Tls13(sealer)) = &mut self.sink {
            sealer.want_key_update();
        }
    }

    /// Says goodbye in the connection's own language, if it takes that.
    pub(crate) fn say_goodbye(&mut self, wire: &Wire, scratch: &mut Vec<u8>) {
        if let Sink::Direct(Seal::Tls13(sealer)) = &mut self.sink
            && !self.gone
            && self.pending_at == self.pending.len()
        {
            scratch.clear();
            sealer.close_notify(scratch);
            let _taken = send(wire, scratch);
        }
    }
}

/// Sends as much as the connection takes at once, which may be nothing.
fn send(wire: &Wire, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match wire.send(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            other => return other,
        }
    }
}

/// Seals a chunk where it lies if that is a whole record already, else in `scratch`.
fn seal_chunk<'a>(
    sealer: &mut Sealer,
    parcel: &'a mut Parcel<'_>,
    chunk: &Chunk,
    scratch: &'a mut Vec<u8>,
) -> Result<&'a [u8], RecordError> {
    if parcel.is_record(chunk) && !sealer.wants_key_update() {
        let record = parcel.record(chunk);
        sealer.seal(record);
        return Ok(record);
    }
    scratch.clear();
    let mut writer = RecordWriter::new(sealer, scratch)?;
    parcel.for_each_frame(chunk, |frame| writer.write(frame));
    writer.finish();
    Ok(scratch)
}
