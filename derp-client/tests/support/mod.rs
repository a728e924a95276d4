//! A relay made of `derp-proto`'s server half that does what a test says, and nothing else.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

pub mod talk;
pub mod tls;
pub mod websocket;

use bytes::BytesMut;
use derp_client::{Client, ClientReader, ClientWriter, Login, Received};
use derp_proto::{
    ClientFrame, ClientHello, ClientSide, FrameDecoder, Greeted, MAX_CLIENT_INFO_LEN, NodePrivate,
    NodePublic, OwnedFrame, ServerFrame, ServerInfo,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};

pub const ALICE: NodePublic = NodePublic::from_bytes([0xa1; 32]);
pub const BOB: NodePublic = NodePublic::from_bytes([0xb0; 32]);

/// The key of the scripted relay.
pub fn server_key() -> NodePrivate {
    NodePrivate::from_random([0x11; 32])
}

/// The key of the client under test.
pub fn client_key() -> NodePrivate {
    NodePrivate::from_random([0x22; 32])
}

/// A pipe with room for `room` bytes in each direction: the client's end, and the relay's.
pub fn pipe(room: usize) -> (DuplexStream, Peer<DuplexStream>) {
    let (ours, theirs) = duplex(room);
    (ours, Peer::new(theirs))
}

/// A client that was admitted, over a pipe with room for `room` bytes.
pub async fn connected(room: usize) -> (Client, Peer<DuplexStream>) {
    let (io, mut peer) = pipe(room);
    let login = Login::new(client_key());
    let (client, _) = tokio::join!(Client::handshake_over(io, &login), peer.accept());
    let mut client = client.expect("a login");
    assert_eq!(
        client.recv().await.expect("it is admitted"),
        Received::ServerInfo(ServerInfo::plain())
    );
    (client, peer)
}

pub async fn split(room: usize) -> (ClientReader, ClientWriter, Peer<DuplexStream>) {
    let (client, peer) = connected(room).await;
    let (reader, writer) = client.split();
    (reader, writer, peer)
}

pub fn packet(src: NodePublic, packet: &[u8]) -> Received {
    Received::Packet {
        src,
        packet: packet.to_vec().into(),
    }
}

/// The relay's end of a connection.
pub struct Peer<S> {
    pub io: S,
    pub buf: BytesMut,
    decoder: FrameDecoder<ClientSide>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub fn new(io: S) -> Self {
        Self {
            io,
            buf: BytesMut::new(),
            decoder: FrameDecoder::new(),
        }
    }

    /// Greets, and reads the client's login.
    pub async fn greet(&mut self) -> ClientHello {
        let mut wire = Vec::new();
        let greeted = Greeted::greet(&server_key().public(), MAX_CLIENT_INFO_LEN, &mut wire);
        self.write(&wire).await;
        self.login(&greeted).await
    }

    /// Reads the login of a client that knows the relay's key.
    pub async fn fast_start(&mut self) -> ClientHello {
        let key = server_key().public();
        let greeted = Greeted::greet(&key, MAX_CLIENT_INFO_LEN, &mut Vec::new());
        self.login(&greeted).await
    }

    async fn login(&mut self, greeted: &Greeted) -> ClientHello {
        loop {
            if let Some((claim, len)) = greeted.read(&self.buf).expect("a login") {
                let secret = server_key()
                    .shared_secret(&claim.key())
                    .expect("a usable key");
                let hello = claim.open(secret).expect("a login that proves its key");
                drop(self.buf.split_to(len));
                return hello;
            }
            self.fill().await;
        }
    }

    /// Admits the client.
    pub async fn admit(&mut self, hello: &ClientHello, info: &ServerInfo) {
        let mut wire = Vec::new();
        hello.answer([9; 24], info, &mut wire);
        self.write(&wire).await;
    }

    /// Greets and admits, without asking for anything.
    pub async fn accept(&mut self) -> ClientHello {
        let hello = self.greet().await;
        self.admit(&hello, &ServerInfo::plain()).await;
        hello
    }

    pub async fn send(&mut self, frame: ServerFrame<'_>) {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        self.write(&wire).await;
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.expect("the client reads");
        self.io.flush().await.expect("the client reads");
    }

    /// The client's next frame.
    pub async fn recv(&mut self) -> OwnedFrame {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buf).expect("frames") {
                return frame;
            }
            self.fill().await;
        }
    }

    /// Checks that the client's next frame is this one.
    pub async fn expect(&mut self, expected: ClientFrame<'_>) {
        let frame = self.recv().await;
        assert_eq!(frame.as_client().expect("a frame"), expected);
    }

    /// Checks that the client's next bytes are these.
    pub async fn expect_bytes(&mut self, expected: &[u8]) {
        while self.buf.len() < expected.len() {
            self.fill().await;
        }
        assert_eq!(self.buf.split_to(expected.len()), expected);
    }

    /// Checks that the client has closed the connection, and sent nothing more.
    pub async fn expect_end(&mut self) {
        let read = self.io.read_buf(&mut self.buf).await;
        assert!(read.is_err() || self.buf.is_empty(), "{:?}", self.buf);
    }

    async fn fill(&mut self) {
        let read = self
            .io
            .read_buf(&mut self.buf)
            .await
            .expect("the client writes");
        assert!(read > 0, "the client left");
    }
}
