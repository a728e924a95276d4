use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::*;

const KEY: NodePublic = NodePublic::from_bytes([0x0f; 32]);
const DERP: &str = "Connection: Upgrade\r\nUpgrade: DERP\r\n";
const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: derp\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A client of somebody's hyper server with the relay in it, and the connections that it upgraded.
fn embedded() -> (DuplexStream, mpsc::Receiver<Upgrading>) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let (upgrades, upgraded) = mpsc::channel(1);
    let service = service_fn(move |mut request| {
        let upgrades = upgrades.clone();
        async move {
            let response = match mount(&mut request, &KEY) {
                Mounted::Respond(response) => response,
                Mounted::Upgrade {
                    response,
                    upgrading,
                } => {
                    upgrades.send(upgrading).await.unwrap();
                    response
                }
            };
            Ok::<_, std::convert::Infallible>(response.map(Full::new))
        }
    });
    let serving = http1::Builder::new().serve_connection(TokioIo::new(server), service);
    tokio::spawn(serving.with_upgrades());
    (client, upgraded)
}

async fn get(client: &mut DuplexStream, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn by_itself_it_answers_probes_and_asks_for_an_upgrade() {
    let (mut client, _upgraded) = embedded();
    for path in ["/derp/probe", "/derp/latency-check"] {
        let response = get(&mut client, path, "").await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    }
    let response = get(&mut client, "/derp/sdf", "").await;
    assert!(
        response.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
        "{response}"
    );
}

#[tokio::test]
async fn an_upgraded_connection_is_a_stream() {
    let (mut client, mut upgraded) = embedded();
    let response = get(&mut client, "/relay", &format!("{DERP}Ideal-Node: x\r\n")).await;
    assert!(
        response.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{response}"
    );
    for header in [
        "connection: Upgrade".to_owned(),
        "upgrade: DERP".to_owned(),
        "derp-version: 2".to_owned(),
        format!("derp-public-key: {}", "0f".repeat(32)),
    ] {
        assert!(
            response.contains(&format!("\r\n{header}\r\n")),
            "{header} in {response}"
        );
    }
    let upgrading = upgraded.recv().await.unwrap();
    assert!(upgrading.is_not_ideal());
    let mut server = upgrading.stream().await.unwrap();
    talk(&mut server, &mut client, b"hello", b"\x01frames").await;
}

#[tokio::test]
async fn a_websocket_is_a_stream_as_well() {
    let (mut client, mut upgraded) = embedded();
    let response = get(&mut client, "/derp", WEBSOCKET).await;
    assert!(
        response.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{response}"
    );
    for header in [
        "upgrade: websocket",
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "sec-websocket-protocol: derp",
    ] {
        assert!(
            response.contains(&format!("\r\n{header}\r\n")),
            "{header} in {response}"
        );
    }
    let upgrading = upgraded.recv().await.unwrap();
    assert!(!upgrading.is_not_ideal());
    let mut server = upgrading.stream().await.unwrap();
    talk(
        &mut server,
        &mut client,
        b"\x82\x85\0\0\0\0hello",
        b"\x82\x07\x01frames",
    )
    .await;
}

/// Sends `hello` and `\x01frames`, which are `up` and `down` on the wire.
async fn talk(server: &mut MountedStream, client: &mut DuplexStream, up: &[u8], down: &[u8]) {
    client.write_all(up).await.unwrap();
    let mut received = [0; 5];
    server.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"hello");
    server.write_all(b"\x01frames").await.unwrap();
    server.flush().await.unwrap();
    let mut received = vec![0; down.len()];
    client.read_exact(&mut received).await.unwrap();
    assert_eq!(received, down);
}

#[tokio::test]
async fn a_fast_start_is_refused_where_it_cannot_be_served() {
    let (mut client, _upgraded) = embedded();
    let response = get(
        &mut client,
        "/derp",
        &format!("{DERP}Derp-Fast-Start: 1\r\n"),
    )
    .await;
    assert!(
        response.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{response}"
    );
    assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
    let mut body = String::new();
    client.read_to_string(&mut body).await.unwrap();
    assert_eq!(body, "fast start needs a TLS listener of the relay's own\n");
}

#[tokio::test]
async fn what_is_refused_elsewhere_is_refused_here() {
    let (mut client, _upgraded) = embedded();
    let response = get(&mut client, "/derp", &WEBSOCKET.replace("13", "8")).await;
    assert!(
        response.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
        "{response}"
    );
    assert!(
        response.contains("\r\nsec-websocket-version: 13\r\n"),
        "{response}"
    );
}
