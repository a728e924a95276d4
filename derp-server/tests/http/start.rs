//! How a connection becomes a client's: the slow start, the fast one, and what is neither.

use derp_proto::{AwaitServerInfo, ClientFrame, ServerFrame, ServerIdentity};
use tokio::io::AsyncWriteExt;

use crate::support::stream::Stream;
use crate::support::{
    Kind, Raw, Relay, TestClient, key, login, over_every_kind_with_a_request, request, tell,
};
use crate::{expect, send};

over_every_kind_with_a_request! {
    a_slow_start_is_answered_to_the_byte,
    a_fast_start_is_answered_by_the_first_frame,
    a_fast_start_may_come_byte_by_byte,
    nothing_behind_the_request_is_lost,
    only_a_one_asks_for_a_fast_start,
    a_connection_that_was_served_pages_may_still_become_a_clients,
}

/// The bytes of the relay's greeting.
fn greeting(relay: &Relay) -> Vec<u8> {
    let magic = *b"\x01\0\0\0\x28DERP\xf0\x9f\x94\x91";
    [&magic[..], relay.server.public_key().as_bytes()].concat()
}

/// The response to a slow start, and the greeting right behind it.
fn slow_start(relay: &Relay) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\
         Derp-Version: 2\r\nDerp-Public-Key: {}\r\n\r\n",
        relay.server.public_key().to_hex(),
    );
    [head.as_bytes(), &greeting(relay)].concat()
}

async fn a_slow_start_is_answered_to_the_byte(relay: &Relay) {
    let mut stream = send(relay, relay.kind, request::derp("")).await;
    expect(&mut stream, &slow_start(relay)).await;
    // Names of protocols have no case, and a proxy may have dropped `Connection`.
    let bare = "GET /derp?x=y HTTP/1.1\r\nUPGRADE: derp\r\nhost: relay:443\r\n\r\n";
    let mut stream = send(relay, relay.kind, bare).await;
    expect(&mut stream, &slow_start(relay)).await;
}

/// A client that has sent everything up to a ping, and not received anything.
struct Eager {
    bytes: Vec<u8>,
    wait: AwaitServerInfo,
}

impl Eager {
    /// A fast start, and right behind it a packet to client 2 and a ping.
    fn new(relay: &Relay) -> Self {
        let mut bytes = request::derp("Derp-Fast-Start: 1\r\n").into_bytes();
        let wait = Self::log_in(relay, &mut bytes);
        Self { bytes, wait }
    }

    fn log_in(relay: &Relay, bytes: &mut Vec<u8>) -> AwaitServerInfo {
        let server = ServerIdentity::known(relay.server.public_key());
        let login = login(1);
        let wait = server
            .hello(&login.key, &login.info, [2; 24], bytes)
            .expect("a key");
        ClientFrame::SendPacket {
            dst: key(2),
            packet: b"right behind",
        }
        .encode(bytes);
        ClientFrame::Ping(*b"at once!").encode(bytes);
        wait
    }

    /// Sees that the relay has understood all that; `b` is client 2.
    async fn serves(self, stream: Stream, b: &mut TestClient) {
        let mut raw = Raw::new(stream, false);
        raw.admitted(&self.wait).await;
        raw.expect(ServerFrame::Pong(*b"at once!")).await;
        assert_eq!(b.packet().await, (key(1), b"right behind".to_vec()));
    }
}

async fn a_fast_start_is_answered_by_the_first_frame(relay: &Relay) {
    let mut b = relay.client(2).await;
    let eager = Eager::new(relay);
    let mut stream = send(relay, relay.kind, &eager.bytes).await;
    // No byte of HTTP.
    expect(&mut stream, &greeting(relay)).await;
    eager.serves(stream, &mut b).await;
}

async fn a_fast_start_may_come_byte_by_byte(relay: &Relay) {
    let mut b = relay.client(2).await;
    let eager = Eager::new(relay);
    let mut stream = send(relay, relay.kind, "").await;
    for byte in &eager.bytes {
        stream
            .io
            .write_all(&[*byte])
            .await
            .expect("the relay reads");
        stream.io.flush().await.expect("the relay reads");
    }
    expect(&mut stream, &greeting(relay)).await;
    eager.serves(stream, &mut b).await;
}

async fn nothing_behind_the_request_is_lost(relay: &Relay) {
    let mut b = relay.client(2).await;
    // A client that knows the key need not ask for a fast start to be as fast in sending.
    let mut bytes = request::derp("").into_bytes();
    let wait = Eager::log_in(relay, &mut bytes);
    let eager = Eager { bytes, wait };
    let mut stream = send(relay, relay.kind, &eager.bytes).await;
    expect(&mut stream, &slow_start(relay)).await;
    eager.serves(stream, &mut b).await;
}

async fn only_a_one_asks_for_a_fast_start(relay: &Relay) {
    for value in ["0", "true", "11", "01", ""] {
        let request = request::derp(&format!("Derp-Fast-Start: {value}\r\n"));
        let mut stream = send(relay, relay.kind, request).await;
        expect(&mut stream, &slow_start(relay)).await;
    }
}

async fn a_connection_that_was_served_pages_may_still_become_a_clients(relay: &Relay) {
    let mut b = relay.client(2).await;
    let probe = "GET /derp/probe HTTP/1.1\r\nHost: relay\r\n\r\n";
    let mut stream = send(relay, relay.kind, probe).await;
    for _ in 0..3 {
        let head = request::read_head(&mut stream.io).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        stream
            .io
            .write_all(probe.as_bytes())
            .await
            .expect("the relay reads");
    }
    // The last request is not waited for.
    let mut bytes = request::derp("").into_bytes();
    let wait = Eager::log_in(relay, &mut bytes);
    let eager = Eager { bytes, wait };
    stream
        .io
        .write_all(&eager.bytes)
        .await
        .expect("the relay reads");
    let head = request::read_head(&mut stream.io).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    expect(&mut stream, &slow_start(relay)).await;
    eager.serves(stream, &mut b).await;
}

async fn websockets(relay: &Relay) {
    for kind in [Kind::Plain, Kind::Tls13] {
        let expected = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Sec-WebSocket-Protocol: derp\r\n\r\n";
        // The greeting is a message.
        let message = [&[0x82, 45][..], &greeting(relay)].concat();
        let expected = [expected.as_bytes(), &message].concat();
        let mut stream = send(relay, kind, request::websocket("Derp-Fast-Start: 1\r\n")).await;
        expect(&mut stream, &expected).await;
        // Without the subprotocol it is not a WebSocket that is meant.
        let other = request::websocket("").replace("Protocol: derp", "Protocol: chat");
        let mut stream = send(relay, kind, other).await;
        expect(&mut stream, &slow_start(relay)).await;
    }
    let gauges = relay.server.metrics().gauges();
    assert_eq!(gauges.websocket_accepts.get(), 2);
}

#[test]
fn a_websocket_is_answered_to_the_byte() {
    tell(Kind::Plain, websockets);
}
