//! DERP over WebSocket, which is how browsers speak it (`derp/derpserver/websocket.go`).
//!
//! [`frame`] is the codec, without I/O; [`WsStream`] makes a byte stream of the messages. Own
//! code, because a relay needs little of RFC 6455: binary messages whose boundaries mean nothing,
//! no extensions, and next to no memory for a client that is silent.
//!
//! The upgrade itself is decided in [`crate::http`].

pub(crate) mod frame;
mod outbox;
mod stream;

pub(crate) use stream::WsStream;

use std::fmt;

use aws_lc_rs::digest;
use data_encoding::BASE64;

/// What a client's key is hashed with (RFC 6455, 1.3).
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The value of `Sec-WebSocket-Accept`: shows a client that the server is no mere HTTP server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct AcceptKey(String);

impl AcceptKey {
    /// The answer to a `Sec-WebSocket-Key`; `None` where that is not the base64 form of 16 bytes.
    pub(crate) fn of(key: &[u8]) -> Option<Self> {
        if BASE64.decode(key).ok()?.len() != 16 {
            return None;
        }
        // RFC 6455 wants SHA-1 here, as a checksum and not for secrecy.
        let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        hash.update(key);
        hash.update(ACCEPT_GUID);
        Some(Self(BASE64.encode(hash.finish().as_ref())))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AcceptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_is_answered_as_the_rfc_says() {
        let accept = AcceptKey::of(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        assert_eq!(accept.as_str(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_key_is_sixteen_bytes_in_base64() {
        for bad in [
            "",
            "x",
            "dGhlIHNhbXBsZSBub25jZQ",
            "dGhlIHNhbXBsZSBub25jZQ=",
            "AAAA",
        ] {
            assert_eq!(AcceptKey::of(bad.as_bytes()), None, "{bad}");
        }
    }
}
