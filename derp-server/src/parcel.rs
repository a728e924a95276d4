//! Packets of one turn, where they lie in the receive buffer, and those of them that go to one
//! destination. Pure.

use derp_proto::HEADER_LEN;

use crate::FRAME_OVERHEAD;
use crate::packet::{DropReason, PacketKind};
use crate::tally::Tally;
use crate::tls13::{RECORD_HEADER, RECORD_TRAILER};

/// No further span.
pub(crate) const END: u32 = u32::MAX;

/// One RecvPacket frame in the receive buffer, rewritten and ready to go out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) at: u32,
    pub(crate) len: u32,
    /// The next one for the same destination, or [`END`].
    pub(crate) next: u32,
    pub(crate) kind: PacketKind,
    /// It fills a TLS record, whose header and trailer lie around it and are free for another.
    pub(crate) is_record: bool,
}

/// Some frames of a parcel that go out together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk {
    first: u32,
    pub(crate) packets: u32,
    /// Length of all frames, in bytes.
    len: usize,
}

impl Chunk {
    /// Length of all packets, without headers and keys, in bytes.
    pub(crate) const fn payload(&self) -> usize {
        self.len - self.packets as usize * FRAME_OVERHEAD
    }
}

/// The frames of a turn that go to one destination, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Parcel<'a> {
    buf: &'a mut [u8],
    spans: &'a [Span],
    next: u32,
}

impl<'a> Parcel<'a> {
    pub(crate) const fn new(buf: &'a mut [u8], spans: &'a [Span], first: u32) -> Self {
        Self {
            buf,
            spans,
            next: first,
        }
    }

    pub(crate) const fn empty() -> Self {
        Self {
            buf: &mut [],
            spans: &[],
            next: END,
        }
    }

    /// Takes frames of about `max` bytes off the front, and at least one.
    pub(crate) fn next_chunk(&mut self, max: usize) -> Option<Chunk> {
        if self.next == END {
            return None;
        }
        let mut chunk = Chunk {
            first: self.next,
            packets: 0,
            len: 0,
        };
        while self.next != END {
            let span = self.spans[self.next as usize];
            if chunk.packets > 0 && chunk.len + span.len as usize > max {
                break;
            }
            chunk.packets += 1;
            chunk.len += span.len as usize;
            self.next = span.next;
        }
        Some(chunk)
    }

    /// The bytes of a chunk: where they lie if that is in one piece, else in `scratch`.
    pub(crate) fn plain<'b>(&'b self, chunk: &Chunk, scratch: &'b mut Vec<u8>) -> &'b [u8] {
        let first = self.spans[chunk.first as usize];
        let mut end = first.at;
        let mut in_one_piece = true;
        self.for_each_span(chunk, |span| {
            in_one_piece &= span.at == end;
            end = span.at + span.len;
        });
        if in_one_piece {
            return &self.buf[first.at as usize..end as usize];
        }
        scratch.clear();
        self.for_each_frame(chunk, |frame| scratch.extend_from_slice(frame));
        scratch
    }

    /// Whether a chunk lies in a TLS record of its own, which can be sealed again in place.
    pub(crate) fn is_record(&self, chunk: &Chunk) -> bool {
        chunk.packets == 1 && self.spans[chunk.first as usize].is_record
    }

    /// The record around a chunk that [`Self::is_record`], header and trailer included.
    pub(crate) fn record(&mut self, chunk: &Chunk) -> &mut [u8] {
        let span = self.spans[chunk.first as usize];
        let (at, len) = (span.at as usize, span.len as usize);
        &mut self.buf[at - RECORD_HEADER..at + len + RECORD_TRAILER]
    }

    pub(crate) fn for_each_frame(&self, chunk: &Chunk, mut with: impl FnMut(&[u8])) {
        self.for_each_span(chunk, |span| {
            with(&self.buf[span.at as usize..(span.at + span.len) as usize]);
        });
    }

    fn for_each_span(&self, chunk: &Chunk, mut with: impl FnMut(Span)) {
        let mut at = chunk.first;
        for _ in 0..chunk.packets {
            let span = self.spans[at as usize];
            with(span);
            at = span.next;
        }
    }

    /// Takes one frame off the front.
    pub(crate) fn next_frame(&mut self) -> Option<(&[u8], PacketKind)> {
        if self.next == END {
            return None;
        }
        let span = self.spans[self.next as usize];
        self.next = span.next;
        Some((
            &self.buf[span.at as usize..(span.at + span.len) as usize],
            span.kind,
        ))
    }

    /// Counts what has not been taken off as dropped.
    pub(crate) fn drop_rest(&mut self, reason: DropReason, tally: &mut Tally) {
        while let Some((frame, kind)) = self.next_frame() {
            tally.dropped(reason, kind, frame.len() - FRAME_OVERHEAD);
        }
    }

    /// Counts the packets of a chunk as dropped.
    pub(crate) fn drop_chunk(&self, chunk: &Chunk, reason: DropReason, tally: &mut Tally) {
        self.for_each_span(chunk, |span| {
            tally.dropped(reason, span.kind, span.len as usize - FRAME_OVERHEAD);
        });
    }
}

const _: () = assert!(FRAME_OVERHEAD == HEADER_LEN + 32);
