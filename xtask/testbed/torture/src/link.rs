//! One connection to the relay: bytes, requests, and frames where it is a client's.

use std::fmt;
use std::io;

use anyhow::{Context, Result, bail, ensure};
use derp_proto::http::{DERP_PATH, FAST_START_HEADER, UPGRADE_DERP};
use derp_proto::{
    ClientFrame, ClientInfo, FrameHeader, FrameType, HEADER_LEN, NodePrivate, ServerFrame,
    ServerIdentity,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::random;

/// What a relay's connections run over.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Io for S {}

/// The upgrade that tailscaled asks for.
pub(crate) fn upgrade_request() -> String {
    format!(
        "GET {DERP_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n\
         Upgrade: {UPGRADE_DERP}\r\n{FAST_START_HEADER}: 1\r\n\r\n"
    )
}

/// The upgrade that a browser asks for.
pub(crate) const WEBSOCKET_REQUEST: &str = "GET /derp HTTP/1.1\r\nHost: 127.0.0.1\r\n\
     Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: derp\r\n\r\n";

/// The most that is kept of what a relay sends.
const MOST_KEPT: usize = 1 << 20;

/// A connection.
pub(crate) struct Link {
    io: Box<dyn Io>,
    /// Received and not used yet; frames of DERP, whatever carries them.
    received: Vec<u8>,
    websocket: Option<WebSocket>,
}

/// The reading side of a WebSocket.
#[derive(Default)]
struct WebSocket {
    /// Received, with the headers of WebSocket frames.
    raw: Vec<u8>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(io: Box<dyn Io>) -> Self {
        Self {
            io,
            received: Vec::new(),
            websocket: None,
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.io.shutdown().await
    }

    /// Asks to become a client, by a fast start.
    pub(crate) async fn upgrade(&mut self) -> Result<()> {
        Ok(self.send_bytes(upgrade_request().as_bytes()).await?)
    }

    /// Asks to become a client as a browser does.
    pub(crate) async fn upgrade_to_websocket(&mut self) -> Result<()> {
        self.send_bytes(WEBSOCKET_REQUEST.as_bytes()).await?;
        let head = self.response_head().await?;
        ensure!(head.starts_with("HTTP/1.1 101"), "no WebSocket: {head}");
        let raw = std::mem::take(&mut self.received);
        self.websocket = Some(WebSocket { raw });
        self.unwrap_websocket()
    }

    /// Logs in over a connection that was upgraded.
    pub(crate) async fn log_in(&mut self, key: &NodePrivate) -> Result<()> {
        self.log_in_as(key, &ClientInfo::plain()).await
    }

    /// The same for a client that says this of itself.
    pub(crate) async fn log_in_as(&mut self, key: &NodePrivate, info: &ClientInfo) -> Result<()> {
        let server = loop {
            if let Some((server, len)) = ServerIdentity::read(&self.received)? {
                self.received.drain(..len);
                break server;
            }
            self.receive().await.context("waiting for the greeting")?;
        };
        let mut hello = Vec::new();
        let login = server.hello(key, info, random::bytes(), &mut hello)?;
        self.send_frames(&hello).await?;
        let (ty, body) = self.frame().await.context("waiting to be admitted")?;
        let ServerFrame::ServerInfo(sealed) = ServerFrame::parse(ty, &body)? else {
            bail!("{ty:?} in place of ServerInfo");
        };
        login.open(sealed)?;
        Ok(())
    }

    /// Reads the greeting and forgets it.
    pub(crate) async fn skip_greeting(&mut self) -> Result<()> {
        self.frame().await?;
        Ok(())
    }

    /// Sends a frame.
    pub(crate) async fn send(&mut self, frame: &ClientFrame<'_>) -> Result<()> {
        let mut bytes = Vec::with_capacity(frame.encoded_len());
        frame.encode(&mut bytes);
        self.send_frames(&bytes).await
    }

    /// Sends frames that are encoded already.
    pub(crate) async fn send_frames(&mut self, frames: &[u8]) -> Result<()> {
        if self.websocket.is_none() {
            return Ok(self.send_bytes(frames).await?);
        }
        Ok(self.send_bytes(&websocket_frame(frames)).await?)
    }

    /// The next frame's type and body.
    ///
    /// # Errors
    /// The connection has ended.
    pub(crate) async fn frame(&mut self) -> Result<(FrameType, Vec<u8>)> {
        loop {
            if let Some(header) = FrameHeader::parse(&self.received) {
                let end = HEADER_LEN + usize::try_from(header.len)?;
                ensure!(end <= MOST_KEPT, "{:?} of {end} bytes", header.ty);
                if self.received.len() >= end {
                    let body = self.received[HEADER_LEN..end].to_vec();
                    self.received.drain(..end);
                    return Ok((header.ty, body));
                }
            }
            self.receive().await?;
        }
    }

    /// Asks for a page, and returns it without its head.
    pub(crate) async fn get(&mut self, path: &str) -> Result<String> {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        self.send_bytes(request.as_bytes()).await?;
        self.response_head().await?;
        // Whatever ends the connection ends the page.
        while self.receive().await.is_ok() {}
        Ok(String::from_utf8_lossy(&self.received).into_owned())
    }

    /// Asks for a page and keeps the connection, as probes do.
    pub(crate) async fn get_and_keep(&mut self, path: &str) -> Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        self.send_bytes(request.as_bytes()).await?;
        self.response_head().await?;
        Ok(())
    }

    async fn response_head(&mut self) -> Result<String> {
        loop {
            let end = self
                .received
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            self.receive().await?;
        }
    }

    /// Waits until the relay ends the connection, and forgets what it sends until then.
    pub(crate) async fn ended(&mut self) {
        let mut buffer = [0; 4096];
        while self.io.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    }

    async fn receive(&mut self) -> Result<()> {
        let mut buffer = [0; 16 << 10];
        let read = self.io.read(&mut buffer).await?;
        ensure!(read > 0, "the relay closed the connection");
        ensure!(
            self.received.len() < MOST_KEPT,
            "the relay sends more than it should"
        );
        let Some(websocket) = &mut self.websocket else {
            self.received.extend_from_slice(&buffer[..read]);
            return Ok(());
        };
        websocket.raw.extend_from_slice(&buffer[..read]);
        self.unwrap_websocket()
    }

    /// Takes whole WebSocket frames, none of which a relay makes longer than 64 KiB or so.
    fn unwrap_websocket(&mut self) -> Result<()> {
        let Some(WebSocket { raw }) = &mut self.websocket else {
            return Ok(());
        };
        while let Some(&[kind, short]) = raw.first_chunk::<2>() {
            let (start, len) = match short {
                126 => match raw.get(2..4) {
                    Some(len) => (4, usize::from(u16::from_be_bytes([len[0], len[1]]))),
                    None => break,
                },
                127 => bail!("a WebSocket frame of great length"),
                len => (2, usize::from(len)),
            };
            if raw.len() < start + len {
                break;
            }
            ensure!(kind & 0x0f != 8, "the relay closed the WebSocket");
            self.received.extend_from_slice(&raw[start..start + len]);
            raw.drain(..start + len);
        }
        Ok(())
    }
}

/// A binary WebSocket frame. Its mask is zero, so that the payload stands as it is.
pub(crate) fn websocket_frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82];
    match u16::try_from(payload.len()) {
        Ok(len @ 0..126) => frame.push(0x80 | len.to_be_bytes()[1]),
        Ok(len) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&len.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_found_wherever_pieces_end_and_whatever_carries_them() {
        let mut frames = Vec::new();
        ServerFrame::KeepAlive.encode(&mut frames);
        ServerFrame::Pong([7; 8]).encode(&mut frames);
        for websocket in [false, true] {
            let (mut relay, ours) = tokio::io::duplex(64);
            let mut link = Link::new(Box::new(ours));
            let mut wire = frames.clone();
            if websocket {
                link.websocket = Some(WebSocket::default());
                wire = vec![0x82, 18];
                wire.extend_from_slice(&frames);
            }
            let send = tokio::spawn(async move {
                for byte in wire {
                    relay.write_all(&[byte]).await.unwrap();
                }
            });
            assert_eq!(link.frame().await.unwrap(), (FrameType::KEEP_ALIVE, vec![]));
            assert_eq!(link.frame().await.unwrap(), (FrameType::PONG, vec![7; 8]));
            send.await.unwrap();
            assert!(link.frame().await.is_err(), "the relay has gone");
        }
    }

    #[test]
    fn websocket_frames_say_their_length_in_one_of_three_ways() {
        let head = |len: usize| {
            let frame = websocket_frame(&vec![1; len]);
            frame[..frame.len() - len].to_vec()
        };
        assert_eq!(head(125), [0x82, 0x80 | 125, 0, 0, 0, 0]);
        assert_eq!(head(126), [0x82, 0x80 | 126, 0, 126, 0, 0, 0, 0]);
        assert_eq!(
            head(70_000)[..10],
            [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x70]
        );
    }
}
