//! What a WebSocket connection has still to send: one message that grows until it is flushed,
//! and control frames before or after it, never inside.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::frame::{FrameHeader, MAX_HEADER_LEN, MAX_OUTBOUND_LEN, Opcode};

/// Bytes on their way out. Owns no memory while there are none.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// How many of them are sent.
    sent: usize,
    /// Where the message that still grows begins, with room for the longest header.
    open: Option<usize>,
}

impl Outbox {
    /// Whether a message is growing.
    pub(super) const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether there are bytes that [`Self::poll_drain`] would send.
    pub(super) fn has_sealed(&self) -> bool {
        self.sent < self.sealed_end()
    }

    /// Whether a new message may begin: what is sealed goes first, so that the outbox never
    /// holds more than one message.
    pub(super) fn can_grow(&self) -> bool {
        match self.open {
            Some(start) => self.payload_len(start) < MAX_OUTBOUND_LEN,
            None => !self.has_sealed(),
        }
    }

    /// Appends payload to the message that grows, or begins one. Returns how much was taken: all,
    /// or as much as the message has room for.
    pub(super) fn push_payload(&mut self, payload: &[u8]) -> usize {
        let start = *self.open.get_or_insert_with(|| {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(&[0; MAX_HEADER_LEN]);
            start
        });
        let room = MAX_OUTBOUND_LEN - self.payload_len(start);
        let taken = payload.len().min(room);
        self.bytes.extend_from_slice(&payload[..taken]);
        taken
    }

    /// Appends a whole control frame. No message may be growing.
    pub(super) fn push_frame(&mut self, opcode: Opcode, payload: &[u8]) {
        debug_assert!(
            !self.is_open(),
            "a control frame would end up inside a message"
        );
        self.bytes
            .extend_from_slice(FrameHeader::new(opcode, payload.len()).as_bytes());
        self.bytes.extend_from_slice(payload);
    }

    /// Ends the message that grows, if one does.
    pub(super) fn seal(&mut self) {
        let Some(start) = self.open.take() else {
            return;
        };
        let header = FrameHeader::new(Opcode::Binary, self.payload_len(start));
        let header = header.as_bytes();
        // Only a short message has a header shorter than the room that was kept, so that few
        // bytes are moved.
        self.bytes
            .drain(start..start + MAX_HEADER_LEN - header.len());
        self.bytes[start..start + header.len()].copy_from_slice(header);
    }

    /// Sends what is sealed, and gives the memory back once nothing is left.
    pub(super) fn poll_drain<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.has_sealed() {
            let rest = &self.bytes[self.sent..self.sealed_end()];
            let written = ready!(Pin::new(&mut *io).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        if !self.is_open() {
            *self = Self::default();
        }
        Poll::Ready(Ok(()))
    }

    fn sealed_end(&self) -> usize {
        self.open.unwrap_or(self.bytes.len())
    }

    fn payload_len(&self, start: usize) -> usize {
        self.bytes.len() - start - MAX_HEADER_LEN
    }

    /// How much memory it owns.
    #[cfg(test)]
    pub(super) const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
