//! Responses that the relay writes itself, byte for byte, because the connection stops being
//! HTTP with them.

use derp_proto::http::{
    PUBLIC_KEY_HEADER, UPGRADE_DERP, UPGRADE_WEBSOCKET, VERSION_HEADER, WEBSOCKET_PROTOCOL,
};
use derp_proto::{NodePublic, PROTOCOL_VERSION};

use super::head::{DerpUpgrade, HeadError, Upgrade};

/// What a client is answered before the first frame or message: nothing, where it asked for a
/// fast start.
///
/// The spelling and the order of the headers are those of `derp/derpserver/handler.go`.
pub(crate) fn upgrade_response(upgrade: &Upgrade, server_key: &NodePublic) -> Vec<u8> {
    let response = match upgrade {
        Upgrade::Derp(DerpUpgrade {
            fast_start: true, ..
        }) => String::new(),
        Upgrade::Derp(DerpUpgrade {
            fast_start: false, ..
        }) => format!(
            "HTTP/1.1 101 Switching Protocols\r\n\
             Upgrade: {UPGRADE_DERP}\r\n\
             Connection: Upgrade\r\n\
             {VERSION_HEADER}: {PROTOCOL_VERSION}\r\n\
             {PUBLIC_KEY_HEADER}: {}\r\n\
             \r\n",
            server_key.to_hex(),
        ),
        Upgrade::WebSocket { accept } => format!(
            "HTTP/1.1 101 Switching Protocols\r\n\
             Connection: Upgrade\r\n\
             Upgrade: {UPGRADE_WEBSOCKET}\r\n\
             Sec-WebSocket-Accept: {}\r\n\
             Sec-WebSocket-Protocol: {WEBSOCKET_PROTOCOL}\r\n\
             \r\n",
            accept.as_str(),
        ),
    };
    response.into_bytes()
}

/// What a client is answered whose request head is refused.
pub(crate) fn refusal(error: HeadError) -> Vec<u8> {
    let status = error.status();
    let body = format!("{error}\n");
    let mut response = format!(
        "HTTP/1.1 {} {}\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Connection: close\r\n\
         Content-Length: {}\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or_default(),
        body.len(),
    );
    if let Some((name, value)) = error.hint() {
        response.push_str(&format!("{name}: {value}\r\n"));
    }
    response.push_str("\r\n");
    response.push_str(&body);
    response.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::AcceptKey;

    const KEY: NodePublic = NodePublic::from_bytes([0x0f; 32]);

    fn response(upgrade: &Upgrade) -> String {
        String::from_utf8(upgrade_response(upgrade, &KEY)).unwrap()
    }

    #[test]
    fn a_slow_start_is_answered_as_the_reference_does_to_the_byte() {
        let upgrade = Upgrade::Derp(DerpUpgrade {
            fast_start: false,
            ideal_node: true,
        });
        let expected = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\
             Derp-Version: 2\r\nDerp-Public-Key: {}\r\n\r\n",
            "0f".repeat(32),
        );
        assert_eq!(response(&upgrade), expected);
    }

    #[test]
    fn a_fast_start_is_not_answered() {
        let upgrade = Upgrade::Derp(DerpUpgrade {
            fast_start: true,
            ideal_node: false,
        });
        assert_eq!(response(&upgrade), "");
    }

    #[test]
    fn a_websocket_is_answered_with_its_key_and_the_subprotocol() {
        let accept = AcceptKey::of(b"dGhlIHNhbXBsZSBub25jZQ==").unwrap();
        assert_eq!(
            response(&Upgrade::WebSocket { accept }),
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Sec-WebSocket-Protocol: derp\r\n\r\n",
        );
    }

    #[test]
    fn a_refusal_says_why_and_what_would_do() {
        let refusal = |error| String::from_utf8(refusal(error)).unwrap();
        assert_eq!(
            refusal(HeadError::UpgradeMethod),
            "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Connection: close\r\nContent-Length: 25\r\nallow: GET\r\n\r\n\
             a DERP upgrade needs GET\n",
        );
        assert_eq!(
            refusal(HeadError::TooLong).lines().next(),
            Some("HTTP/1.1 431 Request Header Fields Too Large"),
        );
        let version = refusal(HeadError::WebSocketVersion);
        assert!(
            version.contains("sec-websocket-version: 13\r\n"),
            "{version}"
        );
    }
}
