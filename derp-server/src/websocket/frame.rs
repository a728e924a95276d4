//! The server's side of RFC 6455 framing, for binary messages.
//!
//! Payload is unmasked where it lies and handed out as it comes: a message is never put together,
//! because its boundaries mean nothing to DERP. No I/O, no clock, no allocation.

use std::ops::Range;

use thiserror::Error;

/// How long a client's message may be, in all its frames together: enough for the largest DERP
/// packet, with frame header and key, in one message.
pub(crate) const MAX_MESSAGE_LEN: usize = 72 * 1024;

/// How long the server's messages may be. The WebSocket library of Go's browser client refuses
/// more.
pub(crate) const MAX_OUTBOUND_LEN: usize = 32 * 1024;

/// How long the payload of a control frame may be (RFC 6455, 5.5).
pub(crate) const MAX_CONTROL_LEN: usize = 125;

/// How many bytes the header of the server's frames has at most.
pub(crate) const MAX_HEADER_LEN: usize = 4;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;

/// The kinds of frame (RFC 6455, 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Why a connection ends, as a close frame says it (RFC 6455, 7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CloseCode(u16);

impl CloseCode {
    pub(crate) const NORMAL: Self = Self(1000);
    pub(crate) const PROTOCOL_ERROR: Self = Self(1002);
    pub(crate) const UNSUPPORTED_DATA: Self = Self(1003);
    pub(crate) const INVALID_TEXT: Self = Self(1007);
    pub(crate) const MESSAGE_TOO_BIG: Self = Self(1009);

    /// Whether a peer may send this code.
    const fn is_legal(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

/// What a client did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub(crate) enum Fault {
    /// A frame that RFC 6455 does not allow here.
    #[error("WebSocket protocol violated: {0}")]
    Protocol(&'static str),
    /// A text message.
    #[error("WebSocket text message where only binary ones mean anything")]
    Text,
    /// More than [`MAX_MESSAGE_LEN`].
    #[error("WebSocket message too long")]
    TooLong,
    /// The reason in a close frame is not UTF-8.
    #[error("reason of a WebSocket close frame is not UTF-8")]
    CloseReason,
}

impl Fault {
    /// What to tell the client.
    pub(crate) const fn close_code(self) -> CloseCode {
        match self {
            Self::Protocol(_) => CloseCode::PROTOCOL_ERROR,
            Self::Text => CloseCode::UNSUPPORTED_DATA,
            Self::TooLong => CloseCode::MESSAGE_TOO_BIG,
            Self::CloseReason => CloseCode::INVALID_TEXT,
        }
    }
}

/// Something that a client sent. Ranges are places in the input, unmasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Bytes of a binary message. Never empty.
    Payload(Range<usize>),
    /// To be answered with a pong of the same payload.
    Ping(Range<usize>),
    /// The client closes, with this code if it gave one. Nothing it sends later counts.
    Close(Option<CloseCode>),
}

/// How far a call to [`Decoder::decode`] got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// How many bytes of the input are done with, those of the event included.
    pub(crate) consumed: usize,
    /// `None` asks for more input. What was not consumed must be presented again: at most the
    /// bytes of one header and one control payload.
    pub(crate) event: Option<Event>,
}

/// Takes a client's frames apart.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// The data frame whose payload is under way.
    payload: Option<Payload>,
    /// How long the message that is under way has been announced to be so far.
    message: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Payload {
    remaining: usize,
    /// Turned so that its first byte is for the next byte of payload.
    mask: [u8; 4],
}

/// A client's frame header.
struct Header {
    is_final: bool,
    opcode: Opcode,
    payload_len: usize,
    mask: [u8; 4],
    /// Its own length.
    len: usize,
}

impl Decoder {
    /// Finds what comes next in `input`, with no more than `max_payload` bytes of payload.
    ///
    /// # Errors
    /// [`Fault`], after which the decoder is of no more use. Lengths are judged by the header
    /// alone.
    pub(crate) fn decode(
        &mut self,
        input: &mut [u8],
        max_payload: usize,
    ) -> Result<Decoded, Fault> {
        let mut at = 0;
        loop {
            if let Some(payload) = &mut self.payload {
                let len = payload.remaining.min(max_payload).min(input.len() - at);
                let range = at..at + len;
                payload.mask = unmask(&mut input[range.clone()], payload.mask);
                payload.remaining -= len;
                if payload.remaining == 0 {
                    self.payload = None;
                }
                let event = (len > 0).then_some(Event::Payload(range.clone()));
                return Ok(Decoded {
                    consumed: range.end,
                    event,
                });
            }
            let Some(header) = Header::parse(&input[at..])? else {
                return Ok(Decoded {
                    consumed: at,
                    event: None,
                });
            };
            if !header.opcode.is_control() {
                self.begin_data(&header)?;
                at += header.len;
                continue;
            }
            let range = at + header.len..at + header.len + header.payload_len;
            if input.len() < range.end {
                return Ok(Decoded {
                    consumed: at,
                    event: None,
                });
            }
            unmask(&mut input[range.clone()], header.mask);
            at = range.end;
            let event = match header.opcode {
                Opcode::Ping => Event::Ping(range),
                Opcode::Close => Event::Close(close_code(&input[range])?),
                // Nobody waits for a pong here, but RFC 6455, 5.5.3 allows unasked ones.
                _ => continue,
            };
            return Ok(Decoded {
                consumed: at,
                event: Some(event),
            });
        }
    }

    fn begin_data(&mut self, header: &Header) -> Result<(), Fault> {
        let so_far = match (header.opcode, self.message) {
            (Opcode::Continuation, None) => {
                return Err(Fault::Protocol("continuation of nothing"));
            }
            (Opcode::Binary, Some(_)) => {
                return Err(Fault::Protocol("message inside of a message"));
            }
            (_, so_far) => so_far.unwrap_or(0),
        };
        if header.payload_len > MAX_MESSAGE_LEN - so_far {
            return Err(Fault::TooLong);
        }
        self.message = (!header.is_final).then_some(so_far + header.payload_len);
        self.payload = (header.payload_len > 0).then_some(Payload {
            remaining: header.payload_len,
            mask: header.mask,
        });
        Ok(())
    }
}

impl Header {
    /// Reads a header and judges what can be judged without knowing of others; `None` where more
    /// bytes are needed.
    fn parse(input: &[u8]) -> Result<Option<Self>, Fault> {
        let Some((&[first, second], rest)) = input.split_first_chunk::<2>() else {
            return Ok(None);
        };
        if first & RESERVED != 0 {
            return Err(Fault::Protocol("reserved bit set"));
        }
        let opcode = Opcode::from_bits(first & OPCODE).ok_or(Fault::Protocol("unknown opcode"))?;
        if second & MASKED == 0 {
            return Err(Fault::Protocol("frame without a mask"));
        }
        let Some((payload_len, rest)) = read_payload_len(second & LENGTH, rest)? else {
            return Ok(None);
        };
        let is_final = first & FIN != 0;
        judge(opcode, is_final, payload_len)?;
        let Some((mask, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let len = input.len() - rest.len();
        Ok(Some(Self {
            is_final,
            opcode,
            payload_len,
            mask: *mask,
            len,
        }))
    }
}

/// Reads a length and returns it with what follows it. RFC 6455, 5.2 allows no form but the
/// shortest.
fn read_payload_len(short: u8, rest: &[u8]) -> Result<Option<(usize, &[u8])>, Fault> {
    let (len, shortest, rest) = match short {
        126 => match rest.split_first_chunk::<2>() {
            Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), 126, rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk::<8>() {
            Some((len, rest)) => (u64::from_be_bytes(*len), 1 << 16, rest),
            None => return Ok(None),
        },
        _ => (u64::from(short), 0, rest),
    };
    if len < shortest || len >> 63 != 0 {
        return Err(Fault::Protocol("length in an illegal form"));
    }
    let len = usize::try_from(len).map_err(|_| Fault::TooLong)?;
    Ok(Some((len, rest)))
}

/// Refuses what no frame before it could make legal.
const fn judge(opcode: Opcode, is_final: bool, payload_len: usize) -> Result<(), Fault> {
    match opcode {
        Opcode::Text => Err(Fault::Text),
        Opcode::Continuation | Opcode::Binary if payload_len > MAX_MESSAGE_LEN => {
            Err(Fault::TooLong)
        }
        Opcode::Continuation | Opcode::Binary => Ok(()),
        Opcode::Close | Opcode::Ping | Opcode::Pong if !is_final => {
            Err(Fault::Protocol("fragmented control frame"))
        }
        Opcode::Close | Opcode::Ping | Opcode::Pong if payload_len > MAX_CONTROL_LEN => {
            Err(Fault::Protocol("control frame too long"))
        }
        Opcode::Close | Opcode::Ping | Opcode::Pong => Ok(()),
    }
}

/// Reads the payload of a close frame (RFC 6455, 5.5.1).
fn close_code(payload: &[u8]) -> Result<Option<CloseCode>, Fault> {
    if payload.is_empty() {
        return Ok(None);
    }
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return Err(Fault::Protocol("half a close code"));
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    if !code.is_legal() {
        return Err(Fault::Protocol("illegal close code"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Fault::CloseReason);
    }
    Ok(Some(code))
}

/// Takes the mask off `bytes` and turns it for the bytes that follow them.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    let mut next = mask;
    next.rotate_left(bytes.len() % 4);
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let (words, tail) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    next
}

/// The header of a server's frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameHeader {
    bytes: [u8; MAX_HEADER_LEN],
    len: usize,
}

impl FrameHeader {
    /// The header of an unfragmented frame with `payload_len` bytes, of which there may be 65535.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "both lengths were compared"
    )]
    pub(crate) fn new(opcode: Opcode, payload_len: usize) -> Self {
        debug_assert!(
            payload_len <= usize::from(u16::MAX),
            "longer messages are split"
        );
        let first = FIN | opcode as u8;
        if payload_len < 126 {
            return Self {
                bytes: [first, payload_len as u8, 0, 0],
                len: 2,
            };
        }
        let [high, low] = (payload_len as u16).to_be_bytes();
        Self {
            bytes: [first, 126, high, low],
            len: 4,
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A close frame with a code and no reason.
pub(crate) const fn close_frame(code: CloseCode) -> [u8; 4] {
    let [high, low] = code.0.to_be_bytes();
    [FIN | Opcode::Close as u8, 2, high, low]
}

#[cfg(test)]
mod tests;
