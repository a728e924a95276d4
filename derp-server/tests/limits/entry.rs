//! How many may come in.

use derp_server::{AcceptLimit, ListenOptions, Outcome, ProxyProtocol};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{
    Kind, Relay, eventually, login, mesh_login, over_every_kind, request, tell, within,
};

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

async fn logins_per_second(relay: &Relay) {
    let rate = |burst| {
        let mut rate = relay.server.tunables().key_login_rate.expect("a limit");
        (rate.per_second, rate.burst) = (0.001, burst);
        Some(rate)
    };
    relay.tune(|tunables| tunables.key_login_rate = rate(3.0));
    let mut admitted = Vec::new();
    for _ in 0..5 {
        admitted.push(relay.admits(&login(1)).await);
    }
    assert_eq!(admitted, [true, true, true, false, false]);
    assert!(
        relay.admits(&login(2)).await,
        "another key has its own share"
    );
    for _ in 0..5 {
        assert!(relay.admits(&mesh_login(3)).await, "relays are not limited");
    }
    let outcomes = relay.server.metrics().outcomes();
    assert_eq!(outcomes.get(Outcome::KeyRate), 2);
}

#[test]
fn a_key_logs_in_so_many_times_a_second() {
    tell(Kind::Tls13, logins_per_second);
}

/// A connection that a proxy says comes from `client`, and whether it is answered.
async fn is_answered_to(addr: std::net::SocketAddr, client: &str) -> bool {
    let mut tcp = TcpStream::connect(addr).await.expect("a connection");
    let probe = format!(
        "PROXY TCP4 {client} 192.0.2.1 1 443\r\nGET /derp/probe HTTP/1.1\r\nHost: relay\r\n\
         Connection: close\r\n\r\n"
    );
    let _sent = tcp.write_all(probe.as_bytes()).await;
    !within("an answer", request::read_all(&mut tcp))
        .await
        .is_empty()
}

async fn connections_of_a_network(relay: &Relay) {
    let mut rate = relay.server.tunables().network_login_rate.expect("a limit");
    (rate.per_second, rate.burst) = (0.001, 2.0);
    relay.tune(|tunables| tunables.network_login_rate = Some(rate));
    let mut options = ListenOptions::plain("proxied");
    options.proxy_protocol = std::sync::Arc::new(ProxyProtocol::FromAll);
    let proxied = relay.listen(options).await;
    let mut answers = Vec::new();
    for client in [
        "198.51.100.1",
        "198.51.100.1",
        "198.51.100.1",
        "198.51.100.2",
    ] {
        answers.push(is_answered_to(proxied, client).await);
    }
    assert_eq!(answers, [true, true, false, true]);
    // On this machine there may be many, or a proxy without a header.
    for _ in 0..5 {
        assert!(is_answered(relay.tcp).await);
    }
    let outcomes = relay.server.metrics().outcomes();
    assert_eq!(outcomes.get(Outcome::NetworkRate), 1);
}

#[test]
fn a_network_connects_so_many_times_a_second() {
    tell(Kind::Plain, connections_of_a_network);
}

async fn bytes_before_a_login(relay: &Relay) {
    relay.tune(|tunables| tunables.max_pending_bytes = 6000);
    let filler = |len| format!("X-Filler: {}\r\n", "x".repeat(len));
    let upgraded = async |len| relay.upgraded(Kind::Plain, &filler(len)).await;
    let mut oldest = upgraded(2500).await.expect("an upgrade");
    let second = upgraded(2500).await.expect("an upgrade");
    // The oldest has not proven a key yet, and goes for the next.
    let third = upgraded(2500).await.expect("an upgrade");
    let greeting = within("its end", request::read_all(&mut oldest.io)).await;
    assert_eq!(greeting.len(), 45);
    let outcomes = relay.server.metrics().outcomes();
    eventually("it is counted", || outcomes.get(Outcome::GaveWay) == 1).await;
    // Who wants too much alone takes others along and goes.
    assert!(upgraded(6000).await.is_err());
    eventually("it is counted", || outcomes.get(Outcome::FullOfBytes) == 1).await;
    eventually("they have gone", || outcomes.get(Outcome::GaveWay) == 3).await;
    drop((second, third));
    assert!(relay.admits(&login(1)).await, "there is room again");
}

#[test]
fn all_logins_together_hold_so_many_bytes() {
    tell(Kind::Plain, bytes_before_a_login);
}

/// Has a probe answered, and says whether the connection may be used for another.
async fn is_kept(tcp: &mut TcpStream) -> bool {
    let probe = b"GET /derp/probe HTTP/1.1\r\nHost: relay\r\n\r\n";
    tcp.write_all(probe).await.expect("it is read");
    let head = within("an answer", request::read_head(tcp)).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    !head.contains("\r\nConnection: close\r\n")
}

async fn connections_for_pages(relay: &Relay) {
    relay.tune(|tunables| tunables.max_page_connections = 4);
    let connect = async || TcpStream::connect(relay.tcp).await.expect("a connection");
    let mut kept = [connect().await, connect().await];
    for tcp in &mut kept {
        assert!(is_kept(tcp).await);
    }
    relay.tune(|tunables| tunables.max_page_connections = 2);
    let mut third = connect().await;
    assert!(!is_kept(&mut third).await);
    assert_eq!(within("its end", request::read_all(&mut third)).await, b"");
    let outcomes = relay.server.metrics().outcomes();
    eventually("it is counted", || outcomes.get(Outcome::FullOfPages) == 1).await;
    // Clients have their own places.
    assert!(relay.admits(&login(1)).await);
    for tcp in &mut kept {
        assert!(is_kept(tcp).await);
    }
    // With more than half of the places taken, connections are used for one answer.
    relay.tune(|tunables| tunables.max_page_connections = 4);
    assert!(!is_kept(&mut connect().await).await);
    drop(kept);
    eventually("all have gone", || outcomes.get(Outcome::Pages) == 3).await;
    assert!(is_kept(&mut connect().await).await);
}

#[test]
fn so_many_connections_are_kept_for_pages() {
    tell(Kind::Plain, connections_for_pages);
}

/// Each connection comes to one thing, whatever is done with it.
async fn everything_that_can_happen(relay: &Relay) {
    let _client = relay.client(1).await;
    let tls = relay.upgraded(Kind::Tls13, "").await;
    drop(tls.expect("an upgrade"));
    assert!(is_answered(relay.tcp).await);
    let garbage: [(std::net::SocketAddr, &[u8]); 3] = [
        (relay.tcp, b"nonsense\r\n\r\n"),
        (relay.tls, b"GET / HTTP/1.1\r\n\r\n"),
        (relay.tcp, b"GET /"),
    ];
    for (addr, bytes) in garbage {
        let mut tcp = TcpStream::connect(addr).await.expect("a connection");
        tcp.write_all(bytes).await.expect("it is read");
    }
    let mut raw = relay.raw().await;
    raw.greeting().await;
    raw.send(&[2, 0, 0, 0, 4, 1, 2, 3, 4]).await;
    let mut options = ListenOptions::plain("proxied");
    options.proxy_protocol = std::sync::Arc::new(ProxyProtocol::FromAll);
    let proxied = relay.listen(options).await;
    assert!(!is_answered(proxied).await);
    relay.tune(|tunables| tunables.max_clients = 1);
    assert!(!relay.admits(&login(2)).await);

    let metrics = relay.server.metrics();
    let outcomes = metrics.outcomes();
    eventually("the counts add up", || {
        metrics.gauges().accepts.get() == outcomes.total()
    })
    .await;
    let seen: Vec<_> = Outcome::ALL
        .into_iter()
        .filter(|outcome| outcomes.get(*outcome) > 0)
        .collect();
    let expected = [
        Outcome::Client,
        Outcome::Pages,
        Outcome::FullOfClients,
        Outcome::ProxyHeader,
        Outcome::Tls,
        Outcome::Request,
        Outcome::Login,
        Outcome::Broken,
    ];
    assert_eq!(seen, expected);
    assert_eq!(outcomes.total(), 9);
}

#[test]
fn what_became_of_connections_adds_up() {
    tell(Kind::Plain, everything_that_can_happen);
}
