//! A client that sends whatever bytes a test wants it to send.

use std::net::SocketAddr;

use bytes::BytesMut;
use crypto_box::aead::Aead;
use derp_client::Login;
use derp_proto::{
    AwaitServerInfo, ClientFrame, FrameDecoder, NodePrivate, NodePublic, OwnedFrame, ServerFrame,
    ServerIdentity, ServerInfo, ServerSide,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::stream::{Io, Stream};
use super::time::within;
use super::websocket::{self, Message};

/// A connection on which DERP is spoken from here on.
pub struct Raw {
    /// The address that the relay sees.
    pub addr: Option<SocketAddr>,
    io: Box<dyn Io>,
    /// What was received and is no whole message, where messages carry DERP.
    messages: Option<BytesMut>,
    buf: BytesMut,
    decoder: FrameDecoder<ServerSide>,
}

impl Raw {
    pub fn new(stream: Stream, is_websocket: bool) -> Self {
        Self {
            addr: stream.addr,
            io: stream.io,
            messages: is_websocket.then(BytesMut::new),
            buf: BytesMut::new(),
            decoder: FrameDecoder::new(),
        }
    }

    /// Sends these bytes by one write, if they are not too many for a message.
    ///
    /// Where the relay has closed the connection, that is seen by receiving.
    pub async fn send(&mut self, bytes: &[u8]) {
        let mut messages = Vec::new();
        let wire = match self.messages {
            None => bytes,
            Some(_) => {
                let parts = bytes.chunks(websocket::MESSAGE);
                parts.for_each(|part| websocket::encode(part, &mut messages));
                &messages
            }
        };
        let sending = async {
            self.io.write_all(wire).await?;
            self.io.flush().await
        };
        let _sent = within("a write", sending).await;
    }

    /// Sends these frames by one write.
    pub async fn send_frames(&mut self, frames: &[ClientFrame<'_>]) {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        self.send(&bytes).await;
    }

    /// Takes the relay's greeting.
    pub async fn greeting(&mut self) -> ServerIdentity {
        loop {
            if let Some((server, len)) = ServerIdentity::read(&self.buf).expect("a greeting") {
                drop(self.buf.split_to(len));
                return server;
            }
            assert!(self.read().await, "no greeting");
        }
    }

    /// Logs in, and is admitted.
    pub async fn log_in(&mut self, login: &Login) {
        let server = self.greeting().await;
        let mut hello = Vec::new();
        let wait = server
            .hello(&login.key, &login.info, [3; 24], &mut hello)
            .expect("a key");
        self.send(&hello).await;
        self.admitted(&wait).await;
    }

    /// Takes the answer to a login, which is that the client is admitted.
    pub async fn admitted(&mut self, wait: &AwaitServerInfo) {
        let frame = self.recv().await;
        let Ok(ServerFrame::ServerInfo(sealed)) = frame.as_server() else {
            panic!("{frame:?} in front of the ServerInfo frame");
        };
        assert_eq!(wait.open(sealed), Ok(ServerInfo::plain()));
    }

    /// The next frame.
    pub async fn recv(&mut self) -> OwnedFrame {
        match self.try_recv().await {
            Some(frame) => frame,
            None => panic!("the relay closed the connection"),
        }
    }

    /// The next frame, or none where the relay closes the connection.
    pub async fn try_recv(&mut self) -> Option<OwnedFrame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buf).expect("frames") {
                return Some(frame);
            }
            if !self.read().await {
                return None;
            }
        }
    }

    /// The next frame, which is this one.
    pub async fn expect(&mut self, expected: ServerFrame<'_>) {
        let frame = self.recv().await;
        assert_eq!(frame.as_server(), Ok(expected));
    }

    /// What has come: all frames in front of the answer to a ping that is sent now.
    pub async fn received(&mut self) -> Vec<OwnedFrame> {
        let mut frames = Vec::new();
        // A pong may come before what waits already, the next one cannot.
        for data in [*b"barrier1", *b"barrier2"] {
            self.send_frames(&[ClientFrame::Ping(data)]).await;
            loop {
                let frame = self.recv().await;
                if frame.as_server() == Ok(ServerFrame::Pong(data)) {
                    break;
                }
                frames.push(frame);
            }
        }
        frames
    }

    /// Receives until the relay closes the connection.
    pub async fn closed(&mut self) -> Vec<OwnedFrame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.try_recv().await {
            frames.push(frame);
        }
        frames
    }

    /// Receives something, or says that the connection has ended.
    async fn read(&mut self) -> bool {
        loop {
            if let Some(messages) = &mut self.messages
                && let Some(message) = websocket::decode(messages)
            {
                let Message::Binary(payload) = message else {
                    return false;
                };
                self.buf.extend_from_slice(&payload);
                return true;
            }
            let into = self.messages.as_mut().unwrap_or(&mut self.buf);
            let read = within("the relay's next bytes", self.io.read_buf(into)).await;
            // However it ends, it has ended.
            if read.unwrap_or(0) == 0 {
                return false;
            }
            if self.messages.is_none() {
                return true;
            }
        }
    }
}

/// A claim to a key, in any shape.
pub struct BoxedInfo {
    /// The key that the client says is its own.
    pub claimed: NodePublic,
    secret: crypto_box::SalsaBox,
}

impl BoxedInfo {
    /// The claim of whoever holds `client`.
    pub fn new(server: &NodePublic, client: &NodePrivate) -> Self {
        let theirs = crypto_box::PublicKey::from(*server.as_bytes());
        let ours = crypto_box::SecretKey::from(*client.expose_secret_bytes());
        Self {
            claimed: client.public(),
            secret: crypto_box::SalsaBox::new(&theirs, &ours),
        }
    }

    /// A claim to a point of low order, which needs no key: whoever multiplies it gets zero.
    pub fn by_nobody(claimed: NodePublic) -> Self {
        // What a server gets from such a point is zero, and so is what anybody gets from zero. The
        // point itself would not do: the library's private keys are no multiples of eight.
        let theirs = crypto_box::PublicKey::from([0; 32]);
        let ours = crypto_box::SecretKey::from([8; 32]);
        Self {
            claimed,
            secret: crypto_box::SalsaBox::new(&theirs, &ours),
        }
    }

    /// The ClientInfo frame with `json` in its box.
    pub fn frame(&self, json: &[u8]) -> Vec<u8> {
        let nonce = [4; 24];
        let boxed = self.secret.encrypt(&nonce.into(), json).expect("a box");
        let sealed = [&nonce[..], &boxed].concat();
        let mut frame = Vec::new();
        ClientFrame::ClientInfo {
            key: self.claimed,
            sealed: &sealed,
        }
        .encode(&mut frame);
        frame
    }
}
