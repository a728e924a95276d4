//! What strangers send, and how soon they are rid of their connection.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::send;
use crate::support::{Kind, Relay, over_every_kind_with_a_request, request, tell, within};

over_every_kind_with_a_request! {
    what_is_no_request_is_refused_and_counted,
    what_a_proxy_could_understand_otherwise_is_refused,
    a_head_that_never_ends_does,
    a_connection_without_a_word_ends,
}

const LIMIT: Duration = Duration::from_millis(150);
/// Longer than a test waits for anything.
const NEVER: Duration = Duration::from_secs(3600);

#[expect(clippy::disallowed_methods, reason = "it is about time that passes")]
fn now() -> Instant {
    Instant::now()
}

/// Sends `bytes`, and reads until the relay ends the connection.
async fn answer(relay: &Relay, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = send(relay, relay.kind, bytes).await;
    let response = within("the connection's end", request::read_all(&mut stream.io)).await;
    String::from_utf8(response).expect("text")
}

async fn what_is_no_request_is_refused_and_counted(relay: &Relay) {
    relay.tune(|tunables| {
        tunables.head_timeout = NEVER;
        tunables.login_timeout = NEVER;
    });
    let mut bystander = relay.client(2).await;
    let long = format!(
        "GET /derp HTTP/1.1\r\nHost: relay\r\nX: {}\r\n\r\n",
        "x".repeat(9000)
    );
    let many = format!(
        "GET /derp HTTP/1.1\r\nHost: relay\r\n{}\r\n",
        "X: y\r\n".repeat(64)
    );
    let cases: [(&[u8], &str); 7] = [
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            "400 Bad Request",
        ),
        (b"\x01\x00\x00\x00\x28DERP", "400 Bad Request"),
        (b"\r\n\r\n", "400 Bad Request"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "400 Bad Request"),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "505 HTTP Version Not Supported",
        ),
        (long.as_bytes(), "431 Request Header Fields Too Large"),
        (many.as_bytes(), "431 Request Header Fields Too Large"),
    ];
    for ((bytes, status), n) in cases.into_iter().zip(1..) {
        let response = answer(relay, bytes).await;
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{bytes:?}: {response}"
        );
        relay.counts("derper_bad_requests", n).await;
    }
    assert_eq!(bystander.received().await, []);
}

async fn what_a_proxy_could_understand_otherwise_is_refused(relay: &Relay) {
    let derp = request::derp;
    let cases = [
        (derp("").replace("GET", "POST"), "405 Method Not Allowed"),
        (derp("Content-Length: 5\r\n"), "400 Bad Request"),
        (derp("Transfer-Encoding: chunked\r\n"), "400 Bad Request"),
        (derp("Host: other\r\n"), "400 Bad Request"),
        (derp("Upgrade: websocket\r\n"), "400 Bad Request"),
        (derp("").replace("Host: relay\r\n", ""), "400 Bad Request"),
        (derp("").replace("\r\n", "\n"), "400 Bad Request"),
        (
            request::websocket("").replace("Version: 13", "Version: 8"),
            "426 Upgrade Required",
        ),
        (
            request::websocket("").replace("dGhl", ""),
            "400 Bad Request",
        ),
    ];
    for ((request, status), n) in cases.into_iter().zip(1..) {
        let response = answer(relay, &request).await;
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{request}: {response}"
        );
        relay.counts("derper_bad_requests", n).await;
    }
}

async fn a_head_that_never_ends_does(relay: &Relay) {
    relay.tune(|tunables| {
        tunables.head_timeout = LIMIT;
        tunables.login_timeout = NEVER;
    });
    let mut bystander = relay.client(2).await;
    let start = now();
    assert_eq!(
        answer(relay, "GET /derp HTTP/1.1\r\nHost: relay\r\n").await,
        ""
    );
    assert!(start.elapsed() >= LIMIT);
    relay.counts("derper_login_failures", 1).await;
    assert_eq!(bystander.received().await, []);
}

async fn a_connection_without_a_word_ends(relay: &Relay) {
    relay.tune(|tunables| {
        tunables.head_timeout = NEVER;
        tunables.tls_timeout = NEVER;
        tunables.login_timeout = LIMIT;
    });
    let start = now();
    // On a busy machine the time may be over before TLS stands.
    if let Ok(mut stream) = within("an answer", relay.open(relay.kind)).await {
        let response = within("the connection's end", request::read_all(&mut stream.io)).await;
        assert_eq!(response, b"");
    }
    assert!(start.elapsed() >= LIMIT);
    relay.counts("derper_login_failures", 1).await;
}

async fn what_is_no_tls(relay: &Relay) {
    relay.tune(|tunables| tunables.login_timeout = NEVER);
    let mut bystander = relay.client(2).await;
    let open = async |bytes: &[u8]| {
        let mut tcp = TcpStream::connect(relay.tls).await.expect("a connection");
        tcp.write_all(bytes).await.expect("the relay reads");
        within("the connection's end", request::read_all(&mut tcp)).await
    };
    // Plain HTTP is seen by its first bytes.
    assert_eq!(open(request::derp("").as_bytes()).await, b"");
    relay.counts("derper_tls_handshake_failures", 1).await;
    open(&[0x16, 0x03, 0x01, 0xff, 0xff]).await;
    relay.counts("derper_tls_handshake_failures", 2).await;

    relay.tune(|tunables| tunables.tls_timeout = LIMIT);
    let start = now();
    // The beginning of a hello that does not go on.
    assert_eq!(open(&[0x16, 0x03, 0x01, 0x01, 0x00, 0x01, 0x00]).await, b"");
    assert!(start.elapsed() >= LIMIT);
    relay.counts("derper_login_failures", 1).await;
    assert_eq!(bystander.received().await, []);
}

#[test]
fn a_listener_for_tls_is_rid_of_all_else() {
    tell(Kind::Tls13, what_is_no_tls);
}
