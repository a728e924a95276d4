//! The server's half of a WebSocket, with every message in one frame.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use bytes::{Buf, BytesMut};
use data_encoding::BASE64;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::Peer;

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// Opens a WebSocket.
    pub async fn open_websocket(&mut self) -> String {
        let head = self.request().await;
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let joined = format!(
            "{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
            key.expect("a key")
        );
        let accept = BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, joined.as_bytes()).as_ref());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: derp\r\n\r\n"
        );
        self.write(answer.as_bytes()).await;
        head
    }

    /// Sends a message whose first byte, type and FIN, is `first`.
    pub async fn send_message(&mut self, first: u8, payload: &[u8]) {
        let mut wire = vec![first];
        match u8::try_from(payload.len()) {
            Ok(len @ ..126) => wire.push(len),
            _ => {
                wire.push(127);
                wire.extend((payload.len() as u64).to_be_bytes());
            }
        }
        wire.extend_from_slice(payload);
        self.write(&wire).await;
    }

    /// The client's next message: its first byte, and its payload.
    pub async fn recv_message(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some(message) = take_message(&mut self.buf) {
                return message;
            }
            let read = self
                .io
                .read_buf(&mut self.buf)
                .await
                .expect("the client writes");
            assert!(read > 0, "the client left");
        }
    }
}

fn take_message(buf: &mut BytesMut) -> Option<(u8, Vec<u8>)> {
    let (&[first, len], rest) = buf.split_first_chunk::<2>()?;
    assert!(len & 0x80 != 0, "clients mask");
    let (len, header) = match len & 0x7f {
        126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => panic!("a message longer than the Go server takes"),
        short => (usize::from(short), 2),
    };
    if buf.len() < header + 4 + len {
        return None;
    }
    buf.advance(header);
    let mask = buf.split_to(4);
    let payload = buf.split_to(len);
    let unmasked = payload
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask);
    Some((first, unmasked.collect()))
}
