//! Bytes that were read, as frames: through WebSocket messages or directly. Pure but for
//! the buffer that a driver reads into.

use bytes::{Buf, Bytes, BytesMut};
use derp_proto::{FrameDecoder, HandshakeError, OwnedFrame, ServerIdentity, ServerSide};

use crate::error::{LoginError, RecvError};
use crate::websocket::{self, Event, WebSocketError};

/// How many bytes are read at a time: little while little comes, for a client that is idle holds
/// its buffer all the time.
const MIN_READ: usize = 2 << 10;
const MAX_READ: usize = 64 << 10;

/// The reading side of a connection.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// Frames, from the start of one on.
    stream: BytesMut,
    decoder: FrameDecoder<ServerSide>,
    websocket: Option<Messages>,
    read_len: usize,
}

/// The messages that the stream travels in.
#[derive(Debug, Default)]
struct Messages {
    raw: BytesMut,
    decoder: websocket::Decoder,
}

/// What comes next in the bytes that were read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A frame.
    Frame(OwnedFrame),
    /// The WebSocket under the connection wants this back.
    WebSocketPing(Bytes),
    /// The server closed the WebSocket under the connection.
    Closed,
}

impl Inbound {
    /// The reading side of a connection of which `read` was read already.
    pub(crate) fn new(read: BytesMut, is_websocket: bool) -> Self {
        let (stream, websocket) = if is_websocket {
            (
                BytesMut::new(),
                Some(Messages {
                    raw: read,
                    ..Messages::default()
                }),
            )
        } else {
            (read, None)
        };
        Self {
            stream,
            decoder: FrameDecoder::new(),
            websocket,
            read_len: MIN_READ,
        }
    }

    /// Where to read to. There is room in it.
    pub(crate) fn buffer(&mut self) -> &mut BytesMut {
        let buffer = match &mut self.websocket {
            None => &mut self.stream,
            Some(messages) => &mut messages.raw,
        };
        buffer.reserve(self.read_len);
        buffer
    }

    /// `len` bytes were read to the buffer. The next read asks for more if they came fast.
    pub(crate) fn note_read(&mut self, len: usize) {
        self.read_len = if len >= self.read_len {
            (2 * self.read_len).min(MAX_READ)
        } else if len < self.read_len / 4 {
            (self.read_len / 2).max(MIN_READ)
        } else {
            self.read_len
        };
    }

    /// Takes the greeting, or `None` until more bytes are there.
    pub(crate) fn greeting(&mut self) -> Result<Option<ServerIdentity>, LoginError> {
        loop {
            if let Some((server, len)) = ServerIdentity::read(&self.stream).map_err(refused)? {
                self.stream.advance(len);
                return Ok(Some(server));
            }
            let before = self.stream.len();
            match self.unpack()? {
                Some(Incoming::Closed) => return Err(LoginError::Closed),
                // A ping as early as this is left unanswered: its sender cannot be far.
                Some(_) => {}
                None if self.stream.len() == before => return Ok(None),
                None => {}
            }
        }
    }

    /// Takes what comes next, or `None` until more bytes are there.
    pub(crate) fn next(&mut self) -> Result<Option<Incoming>, RecvError> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.stream)? {
                return Ok(Some(Incoming::Frame(frame)));
            }
            let before = self.stream.len();
            match self.unpack()? {
                Some(incoming) => return Ok(Some(incoming)),
                None if self.stream.len() == before => return Ok(None),
                None => {}
            }
        }
    }

    /// Moves bytes from a message to the stream, or takes something else off; the stream stays
    /// the same where there is neither. What a message brings is looked at before what follows:
    /// a server may say something and close right behind it.
    fn unpack(&mut self) -> Result<Option<Incoming>, WebSocketError> {
        let Some(messages) = &mut self.websocket else {
            return Ok(None);
        };
        while let Some(event) = messages.decoder.decode(&mut messages.raw)? {
            match event {
                Event::Payload(bytes) if bytes.is_empty() => {}
                Event::Payload(bytes) => {
                    if self.stream.is_empty() {
                        // It costs no copy: the bytes are taken over.
                        self.stream = bytes;
                    } else {
                        self.stream.extend_from_slice(&bytes);
                    }
                    return Ok(None);
                }
                Event::Ping(payload) => return Ok(Some(Incoming::WebSocketPing(payload))),
                Event::Closed => return Ok(Some(Incoming::Closed)),
            }
        }
        Ok(None)
    }
}

fn refused(err: HandshakeError) -> LoginError {
    LoginError::Handshake(err)
}
