//! The client's half of WebSocket framing (RFC 6455), as far as DERP uses it. Pure: bytes in,
//! bytes out.
//!
//! Messages are a byte stream cut at arbitrary places, so none is ever put together: what has
//! arrived of a message's payload is passed on. There are no extensions.

use std::fmt;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use data_encoding::BASE64;
use thiserror::Error;

use crate::random;
use crate::target::printable;

/// The longest payload of a message that is sent. The Go server takes 32 KiB.
const MAX_PAYLOAD_LEN: usize = 16 << 10;
/// The longest payload of a control frame (RFC 6455, 5.5).
const MAX_CONTROL_LEN: usize = 125;

/// What the client asks the server in the upgrade, to see that it understands WebSockets.
#[derive(Debug)]
pub(crate) struct Challenge {
    key: String,
}

impl Challenge {
    pub(crate) fn from_random(random: [u8; 16]) -> Self {
        Self {
            key: BASE64.encode(&random),
        }
    }

    /// The value of `Sec-WebSocket-Key`.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The value of `Sec-WebSocket-Accept` that answers it.
    pub(crate) fn accept(&self) -> String {
        let joined = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", self.key);
        BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, joined.as_bytes()).as_ref())
    }
}

/// The types of frames.
mod opcode {
    pub(super) const CONTINUATION: u8 = 0;
    pub(super) const TEXT: u8 = 1;
    pub(super) const BINARY: u8 = 2;
    pub(super) const CLOSE: u8 = 8;
    pub(super) const PING: u8 = 9;
    pub(super) const PONG: u8 = 10;
}

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Appends `payload` to `out` as binary messages.
pub(crate) fn encode_binary(payload: &[u8], out: &mut BytesMut) {
    for part in payload.chunks(MAX_PAYLOAD_LEN) {
        encode(opcode::BINARY, part, random::bytes(), out);
    }
}

/// Appends the answer to a ping.
pub(crate) fn encode_pong(payload: &[u8], out: &mut BytesMut) {
    encode(opcode::PONG, payload, random::bytes(), out);
}

/// Appends the frame that says that nothing follows: 1000, "normal closure".
pub(crate) fn encode_close(out: &mut BytesMut) {
    encode(opcode::CLOSE, &1000_u16.to_be_bytes(), random::bytes(), out);
}

fn encode(opcode: u8, payload: &[u8], mask: [u8; 4], out: &mut BytesMut) {
    out.put_u8(FIN | opcode);
    match payload.len() {
        short @ ..126 => out.put_u8(MASKED | u8::try_from(short).expect("it is below 126")),
        long => {
            out.put_u8(MASKED | 126);
            out.put_u16(u16::try_from(long).expect("messages are cut into parts of 16 KiB"));
        }
    }
    out.put_slice(&mask);
    let at = out.len();
    out.put_slice(payload);
    for (byte, mask) in out[at..].iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

/// What a [`Decoder`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The next bytes of the stream.
    Payload(BytesMut),
    /// The server wants this back in a pong.
    Ping(Bytes),
    /// The server closes the connection as it should.
    Closed,
}

/// Takes a server's frames apart.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    /// How many bytes of the current data frame are still to come.
    remaining: u64,
    /// Whether the message goes on with another frame.
    unfinished: bool,
}

impl Decoder {
    /// Takes what comes next off the front of `raw`, or `None` until more bytes are there.
    pub(crate) fn decode(&mut self, raw: &mut BytesMut) -> Result<Option<Event>, WebSocketError> {
        loop {
            if self.remaining > 0 {
                let here = usize::try_from(self.remaining)
                    .unwrap_or(usize::MAX)
                    .min(raw.len());
                self.remaining -= here as u64;
                return Ok((here > 0).then(|| Event::Payload(raw.split_to(here))));
            }
            let Some(Header {
                fin,
                opcode,
                len,
                header_len,
            }) = Header::parse(raw)?
            else {
                return Ok(None);
            };
            match opcode {
                opcode::TEXT => return Err(WebSocketError::Text),
                opcode::BINARY | opcode::CONTINUATION => {
                    if self.unfinished != (opcode == opcode::CONTINUATION) {
                        return Err(WebSocketError::Broken("fragments out of order"));
                    }
                    raw.advance(header_len);
                    self.unfinished = !fin;
                    self.remaining = len;
                }
                opcode::CLOSE | opcode::PING | opcode::PONG => {
                    let len = usize::try_from(len).unwrap_or(usize::MAX);
                    if !fin || len > MAX_CONTROL_LEN {
                        return Err(WebSocketError::Broken("oversized control frame"));
                    }
                    if raw.len() < header_len + len {
                        return Ok(None);
                    }
                    raw.advance(header_len);
                    let payload = raw.split_to(len).freeze();
                    match opcode {
                        opcode::PING => return Ok(Some(Event::Ping(payload))),
                        opcode::CLOSE => return closed(&payload).map(Some),
                        _ => {}
                    }
                }
                _ => return Err(WebSocketError::Broken("frame of an unknown type")),
            }
        }
    }
}

/// The fixed part of a frame from a server.
struct Header {
    fin: bool,
    opcode: u8,
    len: u64,
    header_len: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Option<Self>, WebSocketError> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(WebSocketError::Broken("reserved bits are set"));
        }
        if second & MASKED != 0 {
            return Err(WebSocketError::Broken("servers do not mask"));
        }
        let (len, header_len) = match second {
            126 => match rest.first_chunk() {
                Some(len) => (u16::from_be_bytes(*len).into(), 4),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(len) => (u64::from_be_bytes(*len), 10),
                None => return Ok(None),
            },
            short => (short.into(), 2),
        };
        if len > i64::MAX as u64 {
            return Err(WebSocketError::Broken("a length of 64 bits"));
        }
        Ok(Some(Self {
            fin: first & FIN != 0,
            opcode: first & 0x0f,
            len,
            header_len,
        }))
    }
}

/// What a close frame says: 1000, 1001 and nothing are an end, anything else is a complaint.
fn closed(payload: &[u8]) -> Result<Event, WebSocketError> {
    match payload.split_first_chunk() {
        None => Ok(Event::Closed),
        Some((code, reason)) => match u16::from_be_bytes(*code) {
            1000 | 1001 => Ok(Event::Closed),
            code => {
                let reason = printable(&String::from_utf8_lossy(reason));
                Err(WebSocketError::Closed {
                    code,
                    reason: Reason(reason),
                })
            }
        },
    }
}

/// A WebSocket that is of no more use; the server's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum WebSocketError {
    /// It breaks the framing.
    #[error("broken WebSocket framing: {0}")]
    Broken(&'static str),
    /// It sends text, where DERP is binary.
    #[error("a text message in a stream of bytes")]
    Text,
    /// It closed the connection with a complaint.
    #[error("the server closed the WebSocket with code {code}{reason}")]
    Closed {
        /// The code (RFC 6455, 7.4).
        code: u16,
        /// What it says for a reason.
        reason: Reason,
    },
}

/// A server's words, perhaps none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// The words, without control characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn decode_all(reads: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<Event>, WebSocketError> {
        let (mut decoder, mut raw, mut events) =
            (Decoder::default(), BytesMut::new(), Vec::<Event>::new());
        for read in reads {
            raw.extend_from_slice(&read);
            while let Some(event) = decoder.decode(&mut raw)? {
                match (events.last_mut(), event) {
                    (Some(Event::Payload(before)), Event::Payload(more)) => before.unsplit(more),
                    (_, event) => events.push(event),
                }
            }
        }
        Ok(events)
    }

    fn decode(bytes: &[u8]) -> Result<Vec<Event>, WebSocketError> {
        decode_all([bytes.to_vec()])
    }

    fn payload(bytes: &[u8]) -> Event {
        Event::Payload(BytesMut::from(bytes))
    }

    #[test]
    fn the_challenge_is_that_of_the_rfc() {
        let challenge = Challenge::from_random(*b"the sample nonce");
        assert_eq!(challenge.key(), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(challenge.accept(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn what_is_sent_is_masked_and_cut() {
        let mut out = BytesMut::new();
        encode(opcode::BINARY, b"Hello", [0x37, 0xfa, 0x21, 0x3d], &mut out);
        assert_eq!(&out[..], b"\x82\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");

        let packet: Vec<u8> = (0..70_000_u32).map(|n| n.to_be_bytes()[3]).collect();
        let (mut out, mut sent) = (BytesMut::new(), Vec::new());
        encode_binary(&packet, &mut out);
        while !out.is_empty() {
            let [0x82, 0xfe, high, low] = out[..4] else {
                panic!("a masked binary message")
            };
            let len = usize::from(u16::from_be_bytes([high, low]));
            assert!(len <= MAX_PAYLOAD_LEN);
            let message = out.split_to(8 + len);
            let unmasked = message[8..].iter().zip(message[4..8].iter().cycle());
            sent.extend(unmasked.map(|(byte, mask)| byte ^ mask));
        }
        assert_eq!(sent, packet);
    }

    #[test]
    fn messages_are_a_stream_with_pings_in_between() {
        let wire =
            b"\x02\x02ab\x89\x03hey\x00\x01c\x8a\x00\x80\x00\x82\x7e\x00\x02de\x88\x02\x03\xe8";
        let ping = Event::Ping(Bytes::from_static(b"hey"));
        let expected = [payload(b"ab"), ping, payload(b"cde"), Event::Closed];
        assert_eq!(decode(wire).unwrap(), expected);
    }

    #[test]
    fn a_payload_is_passed_on_before_its_frame_is_whole() {
        let mut decoder = Decoder::default();
        let mut raw = BytesMut::from(&b"\x82\x7f\0\0\0\0\xff\xff\xff\xffab"[..]);
        assert_eq!(decoder.decode(&mut raw), Ok(Some(payload(b"ab"))));
        assert_eq!(decoder.decode(&mut raw), Ok(None));
        raw.extend_from_slice(b"c");
        assert_eq!(decoder.decode(&mut raw), Ok(Some(payload(b"c"))));
    }

    #[test]
    fn a_server_that_breaks_the_rules_is_left() {
        let broken = [
            &b"\xc2\x00"[..],              // a reserved bit
            b"\x82\x80\0\0\0\0",           // masked
            b"\x80\x01x",                  // a continuation of nothing
            b"\x02\x00\x82\x00",           // a message within a message
            b"\x09\x00",                   // a ping in fragments
            b"\x89\x7e\x00\x7e",           // a ping of 126 bytes
            b"\x83\x00",                   // an unknown type
            b"\x82\x7f\x80\0\0\0\0\0\0\0", // 2^63 bytes
        ];
        for wire in broken {
            assert!(
                matches!(decode(wire), Err(WebSocketError::Broken(_))),
                "{wire:x?}"
            );
        }
        assert_eq!(decode(b"\x81\x02hi"), Err(WebSocketError::Text));
    }

    #[test]
    fn a_close_is_an_end_or_a_complaint() {
        for end in [&b"\x88\x00"[..], b"\x88\x02\x03\xe8", b"\x88\x03\x03\xe9x"] {
            assert_eq!(decode(end), Ok(vec![Event::Closed]), "{end:x?}");
        }
        let err = decode(b"\x88\x08\x03\xf0policy").unwrap_err();
        let told = "the server closed the WebSocket with code 1008: policy";
        assert_eq!(err.to_string(), told);
        let err = decode(b"\x88\x02\x03\xf3").unwrap_err();
        assert_eq!(
            err.to_string(),
            "the server closed the WebSocket with code 1011"
        );
    }

    proptest! {
        #[test]
        fn decoding_does_not_depend_on_where_reads_end(
            frames in vec((any::<bool>(), vec(any::<u8>(), 0..200)), 0..8),
            cuts in vec(1..5_usize, 1..16),
        ) {
            let (mut wire, mut expected) = (Vec::new(), Vec::<Event>::new());
            for (ping, body) in frames {
                let body = if ping { &body[..body.len().min(125)] } else { &body[..] };
                wire.push(if ping { 0x89 } else { 0x82 });
                match u8::try_from(body.len()) {
                    Ok(len @ ..126) => wire.push(len),
                    _ => wire.extend([126, 0, u8::try_from(body.len()).unwrap()]),
                }
                wire.extend_from_slice(body);
                match (expected.last_mut(), ping) {
                    (_, true) => expected.push(Event::Ping(Bytes::copy_from_slice(body))),
                    (_, false) if body.is_empty() => {}
                    (Some(Event::Payload(before)), false) => before.extend_from_slice(body),
                    (_, false) => expected.push(payload(body)),
                }
            }
            let mut reads = Vec::new();
            for cut in cuts.into_iter().cycle() {
                if wire.is_empty() {
                    break;
                }
                reads.push(wire.drain(..cut.min(wire.len())).collect());
            }
            prop_assert_eq!(decode_all(reads).unwrap(), expected);
        }

        #[test]
        fn no_bytes_make_it_panic(reads in vec(vec(any::<u8>(), 0..64), 0..16)) {
            drop(decode_all(reads));
        }
    }
}
