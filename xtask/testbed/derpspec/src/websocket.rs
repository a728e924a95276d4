//! WebSocket frames by hand (RFC 6455, 5.2), right or wrong.

use bytes::{Buf, BytesMut};

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const WS_PING: u8 = 9;
pub(crate) const WS_PONG: u8 = 10;

/// The bit that ends a message.
pub(crate) const FIN: u8 = 0x80;

/// A client's frame: `first` is the first byte, with its opcode; the payload is masked by `mask`.
pub(crate) fn masked(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, 0x80, payload.len());
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}

/// A frame without a mask, as only servers may send it.
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, 0, payload.len());
    frame.extend_from_slice(payload);
    frame
}

fn head(first: u8, mask_bit: u8, len: usize) -> Vec<u8> {
    let mut head = vec![first];
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ ..126), _) => head.push(mask_bit | len),
        (_, Ok(len)) => {
            head.push(mask_bit | 126);
            head.extend(len.to_be_bytes());
        }
        _ => {
            head.push(mask_bit | 127);
            head.extend(
                u64::try_from(len)
                    .expect("lengths have 64 bits")
                    .to_be_bytes(),
            );
        }
    }
    head
}

/// A frame of the server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// The first byte: FIN, reserved bits, opcode.
    pub(crate) first: u8,
    pub(crate) is_masked: bool,
    pub(crate) payload: Vec<u8>,
}

impl Message {
    pub(crate) const fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    /// The status of a close frame.
    pub(crate) fn close_code(&self) -> Option<u16> {
        self.payload
            .first_chunk()
            .map(|code| u16::from_be_bytes(*code))
    }
}

/// Takes a frame off the front of `buf`, or none until it is whole.
pub(crate) fn take(buf: &mut BytesMut) -> Option<Message> {
    let (&[first, second], rest) = buf.split_first_chunk::<2>()?;
    let is_masked = second & 0x80 != 0;
    let (mut header, len) = match second & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (10, u64::from_be_bytes(*rest.first_chunk()?)),
        len => (2, u64::from(len)),
    };
    if is_masked {
        header += 4;
    }
    let len = usize::try_from(len).ok()?;
    if buf.len().checked_sub(header)? < len {
        return None;
    }
    buf.advance(header);
    Some(Message {
        first,
        is_masked,
        payload: buf.split_to(len).to_vec(),
    })
}

/// What `Sec-WebSocket-Accept` has to be for `key` (RFC 6455, 4.2.2).
pub(crate) fn accept(key: &str) -> String {
    use sha1::{Digest, Sha1};
    let hash = Sha1::digest([key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat());
    data_encoding::BASE64.encode(&hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_laid_out_as_in_the_rfc() {
        // RFC 6455, 5.7: a single-frame masked text message.
        let hello = masked(FIN | TEXT, [0x37, 0xfa, 0x21, 0x3d], b"Hello");
        assert_eq!(
            hello,
            [
                0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58
            ]
        );
        assert_eq!(unmasked(FIN | BINARY, &[7; 256])[..4], [0x82, 0x7e, 1, 0]);
        let long = unmasked(FIN | BINARY, &[7; 65536]);
        assert_eq!(long[..10], [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn frames_are_taken_when_they_are_whole() {
        for len in [0, 125, 126, 65535, 65536] {
            let sent = unmasked(FIN | BINARY, &vec![7; len]);
            let mut buf = BytesMut::from(&sent[..sent.len() - 1]);
            assert_eq!(take(&mut buf), None, "{len}");
            buf.extend_from_slice(&sent[sent.len() - 1..]);
            let message = take(&mut buf).unwrap();
            assert_eq!(message.payload, vec![7; len]);
            assert!(buf.is_empty());
        }
    }

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }
}
