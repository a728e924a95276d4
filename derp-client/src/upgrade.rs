//! From HTTP to DERP: the request, and what comes of it.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::BytesMut;
use derp_proto::http::{
    FAST_START_HEADER, IDEAL_NODE_HEADER, UPGRADE_DERP, UPGRADE_WEBSOCKET, WEBSOCKET_PROTOCOL,
};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::endpoint::Endpoint;
use crate::response::{Head, HeadError};
use crate::target::printable;
use crate::websocket::Challenge;

/// What the request asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// DERP, after a response and a greeting.
    SlowStart,
    /// DERP at once: the client knows the server's key, and its first frame follows the request.
    FastStart,
    /// A WebSocket that DERP is spoken in.
    WebSocket(&'a Challenge),
}

/// Asks for a slow start or a WebSocket and reads the response; returns what was read beyond it.
pub(crate) async fn upgrade(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    endpoint: &Endpoint,
    wanted: Wanted<'_>,
) -> Result<BytesMut, UpgradeError> {
    stream
        .write_all(&request(endpoint, wanted))
        .await
        .map_err(HeadError::Io)?;
    stream.flush().await.map_err(HeadError::Io)?;
    response(stream, wanted).await
}

/// The head of the request, with the blank line at its end.
pub(crate) fn request(endpoint: &Endpoint, wanted: Wanted<'_>) -> Vec<u8> {
    let upgrade = match wanted {
        Wanted::SlowStart | Wanted::FastStart => UPGRADE_DERP,
        Wanted::WebSocket(_) => UPGRADE_WEBSOCKET,
    };
    let mut head = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nConnection: Upgrade\r\n\
         Upgrade: {upgrade}\r\n",
        endpoint.path,
        endpoint.host_header(),
    );
    let mut header = |name: &str, value: &str| {
        write!(head, "{name}: {value}\r\n").expect("a String takes whatever is written to it");
    };
    match wanted {
        Wanted::SlowStart => {}
        Wanted::FastStart => header(FAST_START_HEADER, "1"),
        Wanted::WebSocket(challenge) => {
            header("Sec-WebSocket-Version", "13");
            header("Sec-WebSocket-Key", challenge.key());
            header("Sec-WebSocket-Protocol", WEBSOCKET_PROTOCOL);
        }
    }
    // The name is a map's; it is for the server's statistics and not worth an error.
    if let Some(node) = &endpoint.ideal_node
        && node.bytes().all(|byte| byte.is_ascii_graphic())
    {
        header(IDEAL_NODE_HEADER, node);
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// How long the body of a refusal may take to come.
const REASON_WITHIN: Duration = Duration::from_millis(500);

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

async fn response(
    io: &mut (impl AsyncRead + Unpin),
    wanted: Wanted<'_>,
) -> Result<BytesMut, UpgradeError> {
    let mut buf = BytesMut::new();
    let head = Head::read(io, &mut buf).await?;
    if head.status != 101 {
        if buf.is_empty() {
            // The reason is worth one read and a moment. Whether it comes or not, the status is
            // the error.
            buf.reserve(512);
            let _reason_or_not = timeout(REASON_WITHIN, io.read_buf(&mut buf)).await;
        }
        let reason = printable(String::from_utf8_lossy(&buf).trim());
        return Err(UpgradeError::Refused {
            status: head.status,
            reason,
        });
    }
    if let Wanted::WebSocket(challenge) = wanted {
        check_websocket(&head, challenge)?;
    }
    // After a slow start nothing but the status counts: old servers say nothing else.
    Ok(buf)
}

/// The rules of RFC 6455, section 4.1, for the server's half of the handshake.
fn check_websocket(head: &Head, challenge: &Challenge) -> Result<(), UpgradeError> {
    let named = |name: &str, token: &str| {
        let mut tokens = head.header(name).flat_map(|value| value.split(','));
        tokens.any(|given| given.trim().eq_ignore_ascii_case(token))
    };
    if !named("Upgrade", UPGRADE_WEBSOCKET) || !named("Connection", "Upgrade") {
        return Err(UpgradeError::NotWebSocket(
            "it does not say that it upgrades",
        ));
    }
    if !head
        .header("Sec-WebSocket-Accept")
        .eq([challenge.accept().as_str()])
    {
        return Err(UpgradeError::NotWebSocket(
            "it does not prove that it read the request",
        ));
    }
    if head.header("Sec-WebSocket-Extensions").next().is_some() {
        return Err(UpgradeError::NotWebSocket(
            "it chose an extension that was not offered",
        ));
    }
    if !head
        .header("Sec-WebSocket-Protocol")
        .eq([WEBSOCKET_PROTOCOL])
    {
        return Err(UpgradeError::NotWebSocket(
            "it does not speak the derp subprotocol",
        ));
    }
    Ok(())
}

/// A server that does not upgrade to DERP.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// It answered, and declined.
    #[error("the server answers with HTTP status {status}: {reason}")]
    Refused {
        /// The status.
        status: u16,
        /// The beginning of the response's body.
        reason: String,
    },
    /// It answered without opening a WebSocket.
    #[error("the server's answer opens no WebSocket: {0}")]
    NotWebSocket(&'static str),
    /// What it answered is no HTTP response.
    #[error(transparent)]
    Head(#[from] HeadError),
}

#[cfg(test)]
mod tests {
    use derp_proto::DerpNode;

    use super::*;

    fn endpoint() -> Endpoint {
        let node = DerpNode {
            host_name: "derp.test".into(),
            ..DerpNode::default()
        };
        Endpoint::of_node(&node, false).unwrap()
    }

    fn shown(endpoint: &Endpoint, wanted: Wanted<'_>) -> String {
        String::from_utf8(request(endpoint, wanted)).unwrap()
    }

    #[test]
    fn requests_ask_for_what_is_wanted() {
        let common = format!(
            "GET /derp HTTP/1.1\r\nHost: derp.test\r\nUser-Agent: {USER_AGENT}\r\n\
             Connection: Upgrade\r\n"
        );
        let slow = format!("{common}Upgrade: DERP\r\n\r\n");
        assert_eq!(shown(&endpoint(), Wanted::SlowStart), slow);
        let fast = format!("{common}Upgrade: DERP\r\nDerp-Fast-Start: 1\r\n\r\n");
        assert_eq!(shown(&endpoint(), Wanted::FastStart), fast);
        let challenge = Challenge::from_random(*b"the sample nonce");
        let websocket = format!(
            "{common}Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: derp\r\n\r\n"
        );
        assert_eq!(shown(&endpoint(), Wanted::WebSocket(&challenge)), websocket);
    }

    #[test]
    fn the_ideal_node_is_named_unless_its_name_would_break_the_head() {
        let with = |node: &str| Endpoint {
            ideal_node: Some(node.into()),
            ..endpoint()
        };
        let named = shown(&with("1a"), Wanted::FastStart);
        assert!(
            named.ends_with("Derp-Fast-Start: 1\r\nIdeal-Node: 1a\r\n\r\n"),
            "{named}"
        );
        let hostile = shown(&with("1a\r\nX: y"), Wanted::FastStart);
        assert_eq!(hostile, shown(&endpoint(), Wanted::FastStart));
    }

    async fn answered(mut bytes: &[u8]) -> Result<BytesMut, UpgradeError> {
        response(&mut bytes, Wanted::SlowStart).await
    }

    #[tokio::test]
    async fn only_the_status_counts_and_the_greeting_is_kept() {
        let rest = answered(b"HTTP/1.1 101 \r\n\r\n\x01\0\0").await.unwrap();
        assert_eq!(&rest[..], b"\x01\0\0");
    }

    #[tokio::test]
    async fn a_refusal_is_told_with_its_reason() {
        let refusal =
            b"HTTP/1.1 426 Upgrade Required\r\n\r\nDERP requires\x1b connection upgrade\n";
        let err = answered(refusal).await.unwrap_err();
        let told = "the server answers with HTTP status 426: DERP requires connection upgrade";
        assert_eq!(err.to_string(), told);
    }

    #[tokio::test]
    async fn a_websocket_must_be_opened_by_the_rules() {
        let challenge = Challenge::from_random(*b"the sample nonce");
        let good = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\n\
                    Connection: keep-alive, upgrade\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                    Sec-WebSocket-Protocol: derp\r\n\r\n";
        let open = async |answer: &str| {
            response(&mut answer.as_bytes(), Wanted::WebSocket(&challenge))
                .await
                .is_ok()
        };
        assert!(open(good).await);
        let extended = good.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n");
        assert!(!open(&extended).await);
        for line in ["Upgrade: ", "Connection", "Accept: ", "Protocol: derp"] {
            assert!(good.contains(line), "{line}");
            assert!(!open(&good.replacen(line, "X-", 1)).await, "{line}");
        }
    }
}
