//! What an embedder may do wrong: each time a typed error or a documented rule, never a hang, and
//! never a server that is worse for it.

mod support;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;

use derp_client::{Client, RecvError};
use derp_proto::ClientFrame;
use derp_server::{AcceptError, ListenOptions, MetricVisitor, Sample, Server};
use derp_verify::ConnMeta;
use support::{TestClient, eventually, key, login, private, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

fn server() -> Server {
    let builder = Server::builder(private(0xee)).workers(1);
    builder.start().expect("a thread")
}

/// A pipe to the server, and how its session ends.
fn pipe(server: &Server) -> (DuplexStream, JoinHandle<Result<(), AcceptError>>) {
    let (ours, theirs) = duplex(64 << 10);
    let server = server.clone();
    let session =
        tokio::spawn(async move { server.serve_upgraded(ours, ConnMeta::default()).await });
    (theirs, session)
}

async fn client(server: &Server, n: u8) -> TestClient {
    let (pipe, _session) = pipe(server);
    let login = login(n);
    let client = within("a login", Client::handshake_over(pipe, &login)).await;
    TestClient::admitted(client.expect("a login"), &login).await
}

/// The server does what it is there for.
async fn relays(server: &Server) {
    let (a, mut b) = (client(server, 1).await, client(server, 2).await);
    a.send(b.key, b"as before").await;
    assert_eq!(b.packet().await, (a.key, b"as before".to_vec()));
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

#[test]
fn a_server_needs_a_runtime_only_to_serve() {
    let server = server();
    // Nobody drives the stream's deadlines: a panic says so, and the server takes no harm.
    let (stream, _other_end) = duplex(1024);
    let serving = pin!(server.serve_stream(stream, ConnMeta::default()));
    let mut serving = serving;
    let poll = || {
        let mut context = Context::from_waker(Waker::noop());
        serving.as_mut().poll(&mut context).is_ready()
    };
    assert!(catch_unwind(AssertUnwindSafe(poll)).is_err());
    // One runtime after the other will do.
    for _ in 0..2 {
        runtime().block_on(relays(&server));
    }
    runtime().block_on(within("the threads", server.shutdown()));
}

#[tokio::test]
async fn a_listener_that_comes_after_the_end_is_closed_at_once() {
    let server = server();
    within("the threads", server.shutdown()).await;
    // As often as anybody likes.
    within("the threads", server.shutdown()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    within(
        "the end",
        server.serve(listener, ListenOptions::plain("late")),
    )
    .await;
    let (mut stream, session) = pipe(&server);
    let mut greeting = Vec::new();
    let _read = within("the end", stream.read_to_end(&mut greeting)).await;
    let ended = within("the end", session).await.expect("no panic");
    assert!(matches!(ended, Err(AcceptError::Stopping)), "{ended:?}");
}

#[tokio::test]
async fn two_servers_with_one_key_are_two_servers() {
    let (first, second) = (server(), server());
    assert_eq!(first.public_key(), second.public_key());
    let mut there = client(&second, 2).await;
    let here = client(&first, 1).await;
    here.send(there.key, b"to nobody").await;
    let same = client(&second, 1).await;
    same.send(there.key, b"to the other").await;
    assert_eq!(there.packet().await, (key(1), b"to the other".to_vec()));
    for server in [first, second] {
        within("the threads", server.shutdown()).await;
    }
}

#[tokio::test]
async fn a_stream_may_end_in_the_middle_of_everything() {
    let server = server();
    let mut frame = Vec::new();
    ClientFrame::SendPacket {
        dst: key(2),
        packet: &[0; 100],
    }
    .encode(&mut frame);
    // A client that leaves between frames is no error.
    let (stream, session) = pipe(&server);
    let login = login(1);
    let client = within("a login", Client::handshake_over(stream, &login)).await;
    drop(TestClient::admitted(client.expect("a login"), &login).await);
    let ended = within("the end", session).await.expect("no panic");
    assert!(ended.is_ok(), "{ended:?}");
    for len in [1, 5, frame.len() - 1] {
        let (mut stream, session) = pipe(&server);
        stream.write_all(&frame[..len]).await.expect("it is read");
        drop(stream);
        let ended = within("the end", session).await.expect("no panic");
        assert!(ended.is_err(), "{len} bytes are no login");
    }
    eventually("nobody is left", || server.clients().is_empty()).await;
    relays(&server).await;
    within("the threads", server.shutdown()).await;
}

#[tokio::test]
async fn whoever_drops_a_session_ends_it() {
    let server = server();
    let (stream, session) = pipe(&server);
    let login = login(1);
    let client = within("a login", Client::handshake_over(stream, &login)).await;
    let mut client = TestClient::admitted(client.expect("a login"), &login).await;
    session.abort();
    assert_eq!(client.closed().await, []);
    eventually("it has left", || server.clients().is_empty()).await;
    assert_eq!(server.check(), Ok(()));
    relays(&server).await;
    within("the threads", server.shutdown()).await;
}

#[tokio::test]
async fn the_last_handle_takes_the_clients_with_it() {
    let server = server();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let serving = tokio::spawn({
        let server = server.clone();
        async move { server.serve(listener, ListenOptions::plain("http")).await }
    });
    let url: derp_client::ServerUrl = url.parse().expect("a URL");
    let connector = derp_client::Connector::new();
    let login = login(1);
    let connected = within("a login", connector.connect(&url.into(), &login)).await;
    let connected = connected.expect("a login");
    let mut client = TestClient::admitted(connected, &login).await;
    serving.abort();
    drop(server);
    assert_eq!(client.closed().await, []);
}

/// A sink for numbers that does not take them.
struct Stuck {
    reached: mpsc::Sender<()>,
    release: mpsc::Receiver<()>,
}

impl MetricVisitor for Stuck {
    fn sample(&mut self, _: &Sample<'_>) {
        // Only the first: the others find nobody.
        let _told = self.reached.send(());
        let _released = self.release.recv();
    }
}

#[tokio::test]
async fn a_sink_of_numbers_that_blocks_holds_nobody_up() {
    let server = server();
    let (reached, was_reached) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let stuck = thread::spawn({
        let server = server.clone();
        move || {
            let release = released;
            server.metrics().visit(&mut Stuck { reached, release });
        }
    });
    was_reached.recv().expect("it is visited");
    relays(&server).await;
    let mut count = 0;
    server.metrics().visit(&mut Counting(&mut count));
    assert!(count > 0);
    drop(release);
    stuck.join().expect("no panic");
    within("the threads", server.shutdown()).await;
}

struct Counting<'a>(&'a mut usize);

impl MetricVisitor for Counting<'_> {
    fn sample(&mut self, _: &Sample<'_>) {
        *self.0 += 1;
    }
}

struct Panics;

impl MetricVisitor for Panics {
    fn sample(&mut self, _: &Sample<'_>) {
        panic!("a sink of an embedder's");
    }
}

#[tokio::test]
async fn a_sink_of_numbers_that_panics_costs_its_caller_alone() {
    let server = server();
    let visit = || server.metrics().visit(&mut Panics);
    assert!(catch_unwind(AssertUnwindSafe(visit)).is_err());
    relays(&server).await;
    let mut count = 0;
    server.metrics().visit(&mut Counting(&mut count));
    assert!(count > 0);
    within("the threads", server.shutdown()).await;
}

#[tokio::test]
async fn limits_of_nothing_admit_nobody_and_can_be_lifted() {
    let server = server();
    let tunables = server.tunables();
    let mut none = (*tunables).clone();
    none.max_clients = 0;
    none.lane_depth = 0;
    none.queue_budget_bytes = 0;
    none.max_client_info_len = 0;
    none.login_timeout = std::time::Duration::ZERO;
    server.set_tunables(none);
    let (stream, session) = pipe(&server);
    let login = login(1);
    let refused = within("an answer", async {
        let mut client = Client::handshake_over(stream, &login).await.ok()?;
        client.recv().await.ok()
    })
    .await;
    assert_eq!(refused, None);
    let ended = within("the end", session).await.expect("no panic");
    assert!(ended.is_err(), "{ended:?}");
    server.set_tunables((*tunables).clone());
    relays(&server).await;
    within("the threads", server.shutdown()).await;
}

#[tokio::test]
async fn a_client_that_is_used_after_its_end_says_so_each_time() {
    let server = server();
    let (stream, session) = pipe(&server);
    let login = login(1);
    let client = within("a login", Client::handshake_over(stream, &login)).await;
    let mut client = client.expect("a login");
    session.abort();
    while within("the end", client.recv()).await.is_ok() {}
    for _ in 0..3 {
        let again: Result<_, RecvError> = within("the end", client.recv()).await;
        assert!(again.is_err());
        assert!(within("the end", client.send(key(2), b"x")).await.is_err());
        assert!(within("the end", client.ping(|_| {})).await.is_err());
    }
    within("the threads", server.shutdown()).await;
}

#[tokio::test]
async fn packets_that_are_too_long_are_an_error_and_no_end() {
    let server = server();
    let (a, mut b) = (client(&server, 1).await, client(&server, 2).await);
    let too_long = vec![0; derp_proto::MAX_PACKET_LEN + 1];
    let refused = within("an answer", a.writer().send(b.key, &too_long)).await;
    assert!(refused.is_err());
    a.send(b.key, b"short").await;
    assert_eq!(b.packet().await, (a.key, b"short".to_vec()));
    within("the threads", server.shutdown()).await;
}
