//! The relay inside of other programs: the examples run as code, HTTP servers that it is mounted
//! into, and verifiers of an embedder's own.

mod support;

#[path = "../examples/axum.rs"]
#[expect(dead_code, reason = "of an example everything runs but `main`")]
mod axum_example;
#[path = "../examples/database.rs"]
#[expect(dead_code, reason = "of an example everything runs but `main`")]
mod database_example;
#[path = "../examples/drain.rs"]
#[expect(dead_code, reason = "of an example everything runs but `main`")]
mod drain_example;
#[path = "../examples/embed.rs"]
#[expect(dead_code, reason = "of an example everything runs but `main`")]
mod embed_example;
#[path = "../examples/numbers.rs"]
#[expect(dead_code, reason = "of an example everything runs but `main`")]
mod numbers_example;
#[path = "../examples/streams.rs"]
#[expect(dead_code, reason = "of an example everything runs but `main`")]
mod streams_example;

use std::convert::Infallible;
use std::net::SocketAddr;

use derp_client::{Client, Connector, Received, ServerUrl, StartKind, Target, Transport};
use derp_server::{ListenOptions, Mounted, Server, mount};
use derp_verify::ConnMeta;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use support::{TestClient, key, login, private, request, within};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("a bound socket");
    (listener, addr)
}

/// Client `n` of the relay at `addr`.
async fn client(addr: SocketAddr, transport: Transport, n: u8) -> TestClient {
    let url: ServerUrl = format!("http://{addr}").parse().expect("a URL");
    let (target, login) = (Target::from(url), login(n));
    let connector = Connector::new().with_transport(transport);
    let client = within("a login", connector.connect(&target, &login))
        .await
        .expect("a login");
    let expected = match transport {
        Transport::WebSocket => StartKind::WebSocket,
        _ => StartKind::Slow,
    };
    assert_eq!(client.info().start, expected);
    TestClient::admitted(client, &login).await
}

/// Two clients that reach each other.
async fn relays(addr: SocketAddr) {
    let mut a = client(addr, Transport::Upgrade, 1).await;
    let mut b = client(addr, Transport::WebSocket, 2).await;
    for size in [0, 100, 65_536] {
        let packet = vec![7; size];
        a.send(b.key, &packet).await;
        assert!(b.packet().await == (a.key, packet.clone()), "{size} bytes");
        b.send(a.key, &packet).await;
        assert!(a.packet().await == (b.key, packet), "{size} bytes");
    }
    drop(b);
    assert!(matches!(a.recv().await, Received::PeerGone { key: gone, .. } if gone == key(2)));
}

async fn ask(addr: SocketAddr, request: &str) -> String {
    let mut tcp = TcpStream::connect(addr).await.expect("a connection");
    tcp.write_all(request.as_bytes())
        .await
        .expect("the server reads");
    String::from_utf8(within("a response", request::read_all(&mut tcp)).await).expect("text")
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn the_example_of_a_relay_with_a_port_of_its_own_relays() {
    let (listener, addr) = listener().await;
    let relay = tokio::spawn(embed_example::relay(listener));
    relays(addr).await;
    relay.abort();
}

fn server() -> Server {
    let builder = Server::builder(private(0xee)).workers(1);
    builder.start().expect("a thread")
}

#[tokio::test]
async fn the_example_with_a_database_lets_in_whom_the_table_has() {
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("nodes.sqlite");
    let database = rusqlite::Connection::open(&file).expect("a database");
    let add = |n| {
        let name = key(n).to_string();
        let added = database.execute("INSERT INTO nodes VALUES (?1)", [name]);
        assert_eq!(added, Ok(1));
    };
    let (listener, addr) = listener().await;
    let builder = Server::builder(private(0xee)).workers(1);
    let builder = builder.verifier(database_example::Table(file));
    let server = builder.start().expect("a thread");
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener, ListenOptions::plain("http")).await }
    });
    let url: ServerUrl = format!("http://{addr}").parse().expect("a URL");
    let target = Target::from(url);
    let may = async |n| {
        let (connector, login) = (Connector::new(), login(n));
        let connected = connector.connect(&target, &login);
        let Ok(mut client) = within("an answer", connected).await else {
            return false;
        };
        // The relay answers those alone whom it has let in.
        within("an answer", client.ping(|_| {})).await.is_ok()
    };
    assert!(!may(1).await, "without a table there is no answer");
    let made = database.execute("CREATE TABLE nodes (key TEXT PRIMARY KEY)", []);
    assert_eq!(made, Ok(0));
    add(1);
    assert!(may(1).await);
    assert!(!may(2).await);
    add(2);
    assert!(may(2).await);
    serving.abort();
    within("the threads", server.shutdown()).await;
}

#[tokio::test]
async fn the_example_over_streams_relays_between_pipes() {
    let server = server();
    let connect = async |n| {
        let login = login(n);
        let pipe = streams_example::pipe(&server);
        let client = Client::handshake_over(pipe, &login).await.expect("a login");
        TestClient::admitted(client, &login).await
    };
    let (a, mut b) = (connect(1).await, connect(2).await);
    a.send(b.key, b"through pipes").await;
    let packet = b.packet().await;
    assert_eq!(packet, (a.key, b"through pipes".to_vec()));
    within("the threads", server.shutdown()).await;
}

#[tokio::test]
async fn the_example_with_numbers_tells_of_a_client() {
    let server = server();
    let login = login(1);
    let pipe = streams_example::pipe(&server);
    let client = Client::handshake_over(pipe, &login).await.expect("a login");
    let _client = TestClient::admitted(client, &login).await;
    let lines = numbers_example::lines(&server);
    let is_told = |wanted: &str| lines.lines().any(|line| line == wanted);
    assert!(is_told("derp_accepts:1|c"), "{lines}");
    assert!(is_told("derp_current_connections:1|g"), "{lines}");
    within("the threads", server.shutdown()).await;
}

#[tokio::test]
async fn the_example_that_leaves_tells_its_clients_to_go_elsewhere() {
    let (listener, addr) = listener().await;
    let (end, ended) = tokio::sync::oneshot::channel();
    let relay = tokio::spawn(drain_example::service(listener, async {
        let _told = ended.await;
    }));
    let mut a = client(addr, Transport::Upgrade, 1).await;
    end.send(()).expect("the relay runs");
    assert!(matches!(a.recv().await, Received::Restarting { .. }));
    let report = within("the end", relay)
        .await
        .expect("no panic")
        .expect("no error");
    assert_eq!((report.told, report.cut_off), (1, 0));
}

/// What every server that the relay is mounted into does.
async fn is_mounted(server: &Server, addr: SocketAddr) {
    relays(addr).await;
    let response = ask(addr, &get("/derp/probe")).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    let response = ask(addr, &get("/derp/sdf")).await;
    assert!(
        response.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
        "{response}"
    );
    // The other server has sent a response by then, which a fast start must not have.
    let response = ask(addr, &request::derp("Derp-Fast-Start: 1\r\n")).await;
    assert!(
        response.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{response}"
    );
    // The relay knows where its clients are.
    let a = client(addr, Transport::Upgrade, 1).await;
    let a = a.into_inner();
    let known = server
        .clients()
        .into_iter()
        .find(|client| client.key == key(1));
    assert_eq!(known.expect("it is connected").addr, a.info().local_addr);
}

#[tokio::test]
async fn a_relay_in_an_axum_server_stands_beside_other_routes() {
    let (listener, addr) = listener().await;
    let server = Server::builder(private(0xee))
        .workers(1)
        .start()
        .expect("a thread");
    let app = axum_example::router(server.clone());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    is_mounted(&server, addr).await;
    let response = ask(addr, &get("/")).await;
    assert!(
        response.ends_with("\r\n\r\na page of one's own\n"),
        "{response}"
    );
    serving.abort();
    within("the threads", server.shutdown()).await;
}

/// Serves a connection of a plain hyper server in which the relay is all there is.
async fn serve_by_hyper(tcp: TcpStream, peer: SocketAddr, server: Server) {
    let service = service_fn(|mut request| {
        let response = match mount(&mut request, &server.public_key()) {
            Mounted::Respond(response) => response,
            Mounted::Upgrade {
                response,
                upgrading,
            } => {
                let server = server.clone();
                tokio::spawn(async move {
                    let mut conn = ConnMeta::default();
                    conn.socket_peer = Some(peer);
                    let stream = upgrading.stream().await.expect("the response is sent");
                    // How the session ends is for the client to see.
                    let _ended = server.serve_upgraded(stream, conn).await;
                });
                response
            }
        };
        async { Ok::<_, Infallible>(response.map(Full::new)) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
    connection.with_upgrades().await.expect("requests");
}

#[tokio::test]
async fn a_relay_in_a_hyper_server() {
    let (listener, addr) = listener().await;
    let server = Server::builder(private(0xee))
        .workers(1)
        .start()
        .expect("a thread");
    let serving = tokio::spawn({
        let server = server.clone();
        async move {
            while let Ok((tcp, peer)) = listener.accept().await {
                tokio::spawn(serve_by_hyper(tcp, peer, server.clone()));
            }
        }
    });
    is_mounted(&server, addr).await;
    serving.abort();
    within("the threads", server.shutdown()).await;
}
