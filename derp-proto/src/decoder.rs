//! The owned form of the codec: frames as reference-counted bytes, for code that keeps them.

use bytes::{Buf, Bytes, BytesMut};

use crate::client_frame::ClientFrame;
use crate::error::DecodeError;
use crate::frame::FrameType;
use crate::scan::{Scanned, Scanner, Side};
use crate::server_frame::ServerFrame;

/// A frame that owns its body; cloning it copies nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedFrame {
    /// The frame's type.
    pub ty: FrameType,
    /// The frame's body; empty where the frame was skipped.
    pub body: Bytes,
}

impl OwnedFrame {
    /// Reads the frame as a client's.
    ///
    /// # Errors
    /// See [`ClientFrame::parse`].
    pub fn as_client(&self) -> Result<ClientFrame<'_>, DecodeError> {
        ClientFrame::parse(self.ty, &self.body)
    }

    /// Reads the frame as a server's.
    ///
    /// # Errors
    /// See [`ServerFrame::parse`].
    pub fn as_server(&self) -> Result<ServerFrame<'_>, DecodeError> {
        ServerFrame::parse(self.ty, &self.body)
    }
}

/// Cuts a growing buffer into owned frames.
///
/// Bodies are slices of the buffer that was read into: no payload is copied, and nothing is
/// reserved for bytes that have not arrived.
#[derive(Debug, Clone)]
pub struct FrameDecoder<S: Side> {
    scanner: Scanner<S>,
    /// A skipped frame that is reported once its last byte has gone.
    skipped: Option<FrameType>,
}

impl<S: Side> FrameDecoder<S> {
    /// A decoder at the start of a frame.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            scanner: Scanner::new(),
            skipped: None,
        }
    }

    /// Takes the next frame off the front of `buf`, or `None` until more bytes are there.
    ///
    /// # Errors
    /// Where a header breaks the limits of its type; nothing can be decoded after that.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<OwnedFrame>, DecodeError> {
        loop {
            if !self.scanner.is_skipping()
                && let Some(ty) = self.skipped.take()
            {
                return Ok(Some(OwnedFrame {
                    ty,
                    body: Bytes::new(),
                }));
            }
            match self.scanner.scan(buf)? {
                Scanned::Frame { ty, body } => {
                    buf.advance(body.start);
                    let body = buf.split_to(body.len()).freeze();
                    return Ok(Some(OwnedFrame { ty, body }));
                }
                Scanned::Skipped { ty, end, .. } => {
                    buf.advance(end);
                    self.skipped = Some(ty);
                }
                Scanned::Skipping { end } => buf.advance(end),
                Scanned::Partial { .. } => return Ok(None),
            }
        }
    }
}

impl<S: Side> Default for FrameDecoder<S> {
    fn default() -> Self {
        Self::new()
    }
}
