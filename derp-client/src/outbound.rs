//! Frames that are to be written, as bytes: in WebSocket messages or directly. Pure.

use bytes::{Buf, Bytes, BytesMut};
use derp_proto::{ClientFrame, PingData};

use crate::websocket;

/// An empty buffer that has grown beyond this is given back.
const MAX_IDLE_CAPACITY: usize = 16 << 10;

/// The writing side of a connection: whole frames that have not been written yet, or what is left
/// of them.
#[derive(Debug)]
pub(crate) struct Outbound {
    bytes: BytesMut,
    is_websocket: bool,
}

impl Outbound {
    pub(crate) fn new(is_websocket: bool) -> Self {
        Self {
            bytes: BytesMut::new(),
            is_websocket,
        }
    }

    /// Adds a frame.
    pub(crate) fn frame(&mut self, frame: &ClientFrame<'_>) {
        if self.is_websocket {
            let mut wire = BytesMut::with_capacity(frame.encoded_len());
            frame.encode(&mut wire);
            websocket::encode_binary(&wire, &mut self.bytes);
        } else {
            self.bytes.reserve(frame.encoded_len());
            frame.encode(&mut self.bytes);
        }
    }

    /// Adds frames that are encoded already.
    pub(crate) fn encoded(&mut self, frames: &[u8]) {
        if self.is_websocket {
            websocket::encode_binary(frames, &mut self.bytes);
        } else {
            self.bytes.extend_from_slice(frames);
        }
    }

    /// Adds the answers that are due, and forgets them.
    pub(crate) fn pongs(&mut self, due: Pongs) {
        if let Some(data) = due.derp {
            self.frame(&ClientFrame::Pong(data));
        }
        if let Some(payload) = due.websocket {
            websocket::encode_pong(&payload, &mut self.bytes);
        }
    }

    /// Adds what says that nothing follows, if the connection has a way to say it.
    pub(crate) fn end(&mut self) {
        if self.is_websocket {
            websocket::encode_close(&mut self.bytes);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What is to be written; the writer takes from the front what it wrote.
    pub(crate) fn unwritten(&mut self) -> &mut impl Buf {
        &mut self.bytes
    }

    /// Everything was written.
    pub(crate) fn note_written(&mut self) {
        if self.bytes.capacity() > MAX_IDLE_CAPACITY {
            self.bytes = BytesMut::new();
        }
    }
}

/// Answers that are due. There is one of each kind at most, and the latest ping counts: a server
/// that pings faster than it reads gets fewer pongs, not a queue of them.
#[derive(Debug, Default)]
pub(crate) struct Pongs {
    pub(crate) derp: Option<PingData>,
    pub(crate) websocket: Option<Bytes>,
}
