//! How a relay ends, and that it does.

use std::sync::{Arc, Weak};

use derp_client::Client;
use derp_proto::NodePublic;
use derp_server::{ListenOptions, Server};
use derp_verify::{AllowAll, ConnMeta, Verifier};
use tokio::io::{AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    Kind, Relay, TestClient, eventually, key, login, over_every_kind, private, request, tell,
    within,
};

over_every_kind! {
    a_shutdown_closes_all_connections,
}

async fn a_shutdown_closes_all_connections(relay: &Relay) {
    let mut clients = [relay.client(1).await, relay.client(2).await];
    let mut pending = relay.raw().await;
    pending.greeting().await;
    within("the threads", relay.server.shutdown()).await;
    for client in &mut clients {
        assert_eq!(client.closed().await, []);
    }
    assert!(!relay.admits(&login(3)).await);
    relay.has_connections(0).await;
    // Once more does no harm.
    within("the threads", relay.server.shutdown()).await;
}

/// Connections that are no clients'.
async fn shutdown_with_strangers(relay: &Relay) {
    let mut idle = TcpStream::connect(relay.tcp).await.expect("a connection");
    idle.write_all(b"GET /derp/probe HTTP/1.1\r\nHost: relay\r\n\r\n")
        .await
        .expect("it reads");
    let head = request::read_head(&mut idle).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let mut silent = TcpStream::connect(relay.tls).await.expect("a connection");
    let mut port_80 = ListenOptions::plain("port 80");
    port_80.only_redirects = true;
    let port_80 = relay.listen(port_80).await;
    let mut other = TcpStream::connect(port_80).await.expect("a connection");
    let gauges = relay.server.metrics().gauges();
    eventually("all are accepted", || {
        gauges.accepted_connections.get() == 3
    })
    .await;
    relay.server.shutdown().await;
    for stranger in [&mut idle, &mut silent, &mut other] {
        assert_eq!(
            within("a stranger's end", request::read_all(stranger)).await,
            b""
        );
    }
    // That all tasks end, and soon, is looked at after each story.
}

#[test]
fn a_shutdown_waits_for_no_stranger() {
    tell(Kind::Plain, shutdown_with_strangers);
}

/// A server, and what is left of it once nothing of it runs any more.
fn server(workers: usize) -> (Server, Weak<dyn Verifier>) {
    let verifier: Arc<dyn Verifier> = Arc::new(AllowAll);
    let left = Arc::downgrade(&verifier);
    let builder = Server::builder(private(0xee))
        .workers(workers)
        .shared_verifier(verifier);
    (builder.start().expect("threads"), left)
}

async fn client_over(stream: impl crate::support::stream::Io + 'static, n: u8) -> TestClient {
    let client = Client::handshake_over(stream, &login(n))
        .await
        .expect("a login");
    TestClient::admitted(client, &login(n)).await
}

#[tokio::test]
async fn after_a_shutdown_no_thread_is_left() {
    let (server, left) = server(3);
    within("the threads", server.shutdown()).await;
    drop(server);
    assert!(
        left.upgrade().is_none(),
        "somebody still has the server's state"
    );
}

#[tokio::test]
async fn a_server_that_nobody_holds_ends_with_its_clients() {
    for workers in [0, 2] {
        let (server, left) = server(workers);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("a bound socket");
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve(listener, ListenOptions::plain("http")).await }
        });
        let mut tcp = TcpStream::connect(addr).await.expect("a connection");
        request::upgrade(&mut tcp, &request::derp(""))
            .await
            .expect("an upgrade");
        let mut a = client_over(tcp, 1).await;
        let (ours, theirs) = duplex(4096);
        let piped = tokio::spawn({
            let server = server.clone();
            async move { server.serve_upgraded(theirs, ConnMeta::default()).await }
        });
        let mut b = client_over(ours, 2).await;
        a.send(b.key, b"hello").await;
        assert_eq!(b.packet().await, (key(1), b"hello".to_vec()));

        // Whoever drops a future ends what it served, and no more than that.
        piped.abort();
        assert_eq!(b.closed().await, []);
        let keys = || {
            server
                .clients()
                .iter()
                .map(|client| client.key)
                .collect::<Vec<NodePublic>>()
        };
        eventually("it has left", || keys() == [key(1)]).await;
        serving.abort();
        assert!(serving.await.is_err_and(|err| err.is_cancelled()));
        if workers > 0 {
            // A worker's clients stay as long as the server.
            assert_eq!(a.received().await, []);
        }
        drop(server);
        assert_eq!(a.closed().await, []);
        eventually("nothing of the server is left", || left.upgrade().is_none()).await;
    }
}
