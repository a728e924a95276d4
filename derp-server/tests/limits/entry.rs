//! How many may come in.

use derp_server::{AcceptLimit, ListenOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Kind, Relay, eventually, login, over_every_kind, request, tell, within};

over_every_kind! {
    a_full_relay_lets_nobody_in_until_somebody_leaves,
    so_many_may_be_on_their_way_and_no_more,
}

const REJECTED: &str = "tls_listener_rejected_connections";

async fn a_full_relay_lets_nobody_in_until_somebody_leaves(relay: &Relay) {
    relay.tune(|tunables| tunables.max_clients = 2);
    let [mut a, b] = [relay.client(1).await, relay.client(2).await];
    assert!(!relay.admits(&login(3)).await);
    assert!(
        !relay.admits(&login(1)).await,
        "it is a connection like any other"
    );
    relay.counts(REJECTED, 2).await;
    drop(b);
    relay.has_connections(1).await;
    let mut c = relay.client(3).await;
    a.send(c.key, b"hello").await;
    assert_eq!(c.packet().await, (a.key, b"hello".to_vec()));
    // A lower limit closes nobody, and lets nobody in.
    relay.tune(|tunables| tunables.max_clients = 1);
    assert!(!relay.admits(&login(4)).await);
    assert_eq!((a.received().await, c.received().await), (vec![], vec![]));
    relay.counts(REJECTED, 3).await;
    let gauges = relay.server.metrics().gauges();
    assert_eq!(
        (gauges.bad_requests.get(), gauges.login_failures.get()),
        (0, 0)
    );
}

async fn so_many_may_be_on_their_way_and_no_more(relay: &Relay) {
    let mut good = relay.client(1).await;
    relay.tune(|tunables| tunables.max_logins_pending = 2);
    let mut pending = [relay.raw().await, relay.raw().await];
    for raw in &mut pending {
        raw.greeting().await;
    }
    assert!(!relay.admits(&login(2)).await);
    relay.counts(REJECTED, 1).await;
    assert_eq!(good.received().await, []);
    // One of them has a client, the other leaves: both make room.
    let [mut first, second] = pending;
    drop(second);
    let server = derp_proto::ServerIdentity::known(relay.server.public_key());
    let login_of_first = login(3);
    let mut hello = Vec::new();
    let wait = server.hello(
        &login_of_first.key,
        &login_of_first.info,
        [9; 24],
        &mut hello,
    );
    first.send(&hello).await;
    first.admitted(&wait.expect("a key")).await;
    // That one has left is seen a little later.
    while !relay.admits(&login(2)).await {
        tokio::task::yield_now().await;
    }
}

/// Whether the listener at `addr` answers a connection, or closes it.
async fn is_answered(addr: std::net::SocketAddr) -> bool {
    let mut tcp = TcpStream::connect(addr).await.expect("a connection");
    let probe = b"GET /derp/probe HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n";
    // It may be closed already.
    let _sent = tcp.write_all(probe).await;
    let response = within("an answer", request::read_all(&mut tcp)).await;
    assert!(response.is_empty() || response.starts_with(b"HTTP/1.1 200 OK\r\n"));
    !response.is_empty()
}

async fn connections_per_second(relay: &Relay) {
    let limited = |per_second, burst| {
        let mut options = ListenOptions::plain("limited");
        options.accept_limit = Some(AcceptLimit { per_second, burst });
        options
    };
    let addr = relay.listen(limited(0.001, 3.0)).await;
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(is_answered(addr).await);
    }
    assert_eq!(answers, [true, true, true, false, false, false]);
    let gauges = relay.server.metrics().gauges();
    assert_eq!(
        (
            gauges.accepted_connections.get(),
            gauges.rejected_connections.get()
        ),
        (3, 3)
    );

    // The listener goes on, and answers when the next second has its share.
    let addr = relay.listen(limited(20.0, 1.0)).await;
    while is_answered(addr).await {}
    while !is_answered(addr).await {}
    // Other listeners know nothing of it.
    assert!(is_answered(relay.tcp).await);
    eventually("all have gone", || {
        gauges.accepts.get() == gauges.accepted_connections.get()
    })
    .await;
}

#[test]
fn a_listener_accepts_so_many_a_second() {
    tell(Kind::Plain, connections_per_second);
}
