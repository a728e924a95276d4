//! A client that reaches the relay through an HTTP proxy (`derp/derphttp/derphttp_test.go`).

use derp_client::{Connector, Proxy, StartKind, Target};
use derp_proto::DerpNode;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Kind, Relay, TestClient, login, request, tell, within};

/// Opens one tunnel to `to`, whatever it is asked for, and returns the request.
async fn proxy(listener: TcpListener, to: std::net::SocketAddr) -> String {
    let (mut client, _) = listener.accept().await.expect("a connection");
    let request = request::read_head(&mut client).await;
    client
        .write_all(b"HTTP/1.1 200 OK\r\n\r\n")
        .await
        .expect("the client reads");
    let mut relay = TcpStream::connect(to).await.expect("a relay");
    // It ends when either side does, by whatever error.
    let _ended = copy_bidirectional(&mut client, &mut relay).await;
    request
}

async fn a_client_behind_a_proxy(relay: &Relay) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("a bound socket");
    let proxying = tokio::spawn(proxy(listener, relay.tls));
    let proxy: Proxy = format!("http://{addr}").parse().expect("a URL");
    let node = DerpNode {
        name: "1a".into(),
        host_name: "relay.test".into(),
        derp_port: relay.tls.port().into(),
        insecure_for_tests: true,
        ..DerpNode::default()
    };
    let login = login(1);
    let connecting = Connector::new().with_proxy(proxy);
    let client = connecting
        .connect(&Target::Node(node), &login)
        .await
        .expect("a tunnel");
    assert_eq!(client.info().start, StartKind::Fast);
    let mut client = TestClient::admitted(client, &login).await;
    assert_eq!(client.received().await, [], "it is answered");
    drop(client);
    let request = within("the proxy's end", proxying).await.expect("no panic");
    // The port is the node's, and not that of TLS.
    let port = relay.tls.port();
    let expected = format!("CONNECT relay.test:{port} HTTP/1.1\r\nHost: relay.test:{port}\r\n\r\n");
    assert_eq!(request, expected);
}

#[test]
fn a_client_reaches_the_relay_through_a_proxy() {
    tell(Kind::Tls13, a_client_behind_a_proxy);
}
