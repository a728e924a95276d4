//! The client's half of WebSocket messages, as plain as RFC 6455, 5.2 allows.

use bytes::{Buf, BytesMut};

/// More than this in a message is refused by the relay.
pub const MESSAGE: usize = 60_000;

/// Appends `payload` to `out` as one binary message, masked with zeros.
pub fn encode(payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x82);
    match u16::try_from(payload.len()).expect("a message of ours") {
        len @ ..126 => out.push(0x80 | u8::try_from(len).expect("it is below 126")),
        len => {
            out.push(0x80 | 126);
            out.extend(len.to_be_bytes());
        }
    }
    out.extend([0; 4]);
    out.extend_from_slice(payload);
}

/// A message from the relay.
#[derive(Debug)]
pub enum Message {
    Binary(BytesMut),
    Close,
}

/// Takes a message off the front of `buf`, or none until it is whole.
pub fn decode(buf: &mut BytesMut) -> Option<Message> {
    let (&[first, len], rest) = buf.split_first_chunk::<2>()?;
    let (header, len) = match len {
        126 => (4, u16::from_be_bytes(*rest.first_chunk()?).into()),
        127 => {
            let len = u64::from_be_bytes(*rest.first_chunk()?);
            (10, usize::try_from(len).expect("a message of a relay"))
        }
        len => (2, usize::from(len)),
    };
    if buf.len() < header + len {
        return None;
    }
    buf.advance(header);
    let payload = buf.split_to(len);
    match first {
        0x82 => Some(Message::Binary(payload)),
        0x88 => Some(Message::Close),
        other => panic!("a message that begins with {other:#04x}"),
    }
}
