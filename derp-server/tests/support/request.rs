//! HTTP by hand: requests as they are, and responses to the byte.

use derp_proto::http::UPGRADE_WEBSOCKET;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The request of a client for a slow start, with `headers` more.
pub fn derp(headers: &str) -> String {
    format!(
        "GET /derp HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n{headers}\r\n"
    )
}

/// The request of a client for a WebSocket, with `headers` more.
pub fn websocket(headers: &str) -> String {
    format!(
        "GET /derp HTTP/1.1\r\nHost: relay\r\nConnection: Upgrade\r\n\
         Upgrade: {UPGRADE_WEBSOCKET}\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: derp\r\n\
         {headers}\r\n"
    )
}

/// Reads the head of a response, and not a byte beyond it.
pub async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match io.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(err) => panic!("{err} after {:?}", String::from_utf8_lossy(&head)),
        }
    }
    String::from_utf8(head).expect("an ASCII head")
}

/// Sends a request that asks for an upgrade, and takes the response, which is a 101.
///
/// # Errors
/// Where the relay closes the connection instead.
pub async fn upgrade(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &str,
) -> std::io::Result<()> {
    io.write_all(request.as_bytes()).await?;
    io.flush().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    Ok(())
}

/// Reads until the connection ends, in order or not.
pub async fn read_all(io: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut read = Vec::new();
    // A reset is an end as well, and what came before it counts.
    let _how_it_ended = io.read_to_end(&mut read).await;
    read
}
