//! Where a client is said to come from, when it comes through a proxy.

use std::net::SocketAddr;
use std::sync::Arc;

use derp_proto::{PeerPresent, PeerPresentFlags, ServerFrame};
use derp_server::{ForwardedHeader, ListenOptions, ProxyProtocol, TrustedProxies};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use crate::support::stream::Stream;
use crate::support::{Kind, Raw, Relay, eventually, key, login, request, tell, tls, within};

/// The address of the trusted proxy; the whole of 127.0.0.0/8 is this machine.
const PROXY: [u8; 4] = [127, 0, 0, 9];
const CLIENT: &str = "192.0.2.7:1000";

/// A connection from `from`.
async fn tcp(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("a local address");
    within("a connection", socket.connect(to))
        .await
        .expect("a connection")
}

fn v1() -> Vec<u8> {
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1000 443\r\n".to_vec()
}

fn v2() -> Vec<u8> {
    let fixed = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f";
    let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0x03, 0xe8, 0x01, 0xbb];
    [&fixed[..], &addresses, b"\x04\0\0"].concat()
}

fn behind_proxy(mut options: ListenOptions) -> ListenOptions {
    let from = vec!["127.0.0.9/32".parse().expect("a network")];
    options.proxy_protocol = Arc::new(ProxyProtocol::From(from));
    options
}

async fn https(relay: &Relay) -> SocketAddr {
    let served = tls::server(relay.server.public_key());
    let options = ListenOptions::tls("proxied", Arc::new(served));
    relay.listen(behind_proxy(options)).await
}

/// The address of client `n` as the relay has it.
fn addr_of(relay: &Relay, n: u8) -> Option<SocketAddr> {
    let clients = relay.server.clients();
    let client = clients.iter().find(|client| client.key == key(n));
    client.expect("a client").addr
}

async fn headers_before_tls_and_before_http(relay: &Relay) {
    let https = https(relay).await;
    let http = relay
        .listen(behind_proxy(ListenOptions::plain("proxied")))
        .await;
    let mut clients = Vec::new();
    let mut n = 0;
    for header in [v1(), v2()] {
        // In one segment with what follows, and byte by byte.
        for in_parts in [false, true] {
            for is_tls in [true, false] {
                n += 1;
                let mut tcp = tcp(PROXY, if is_tls { https } else { http }).await;
                tcp.set_nodelay(true).expect("a socket");
                for part in header.chunks(if in_parts { 1 } else { 1000 }) {
                    tcp.write_all(part).await.expect("the relay reads");
                }
                let stream = match is_tls {
                    true => {
                        let version = &rustls::version::TLS13;
                        Stream::new(tls::connect(tcp, version).await.expect("TLS"), None)
                    }
                    false => Stream::new(tcp, None),
                };
                clients.push(logged_in(stream, n).await);
                assert_eq!(addr_of(relay, n), CLIENT.parse().ok(), "client {n}");
            }
        }
    }
    let outcomes = relay.server.metrics().proxy_headers();
    assert_eq!(outcomes.get("client"), u64::from(n));

    // Another relay of the region is told the same.
    let mut watcher = relay.raw_login(&crate::support::mesh_login(99)).await;
    watcher
        .send_frames(&[derp_proto::ClientFrame::WatchConns])
        .await;
    let mut seen = 0;
    while seen < n {
        let frame = watcher.recv().await;
        if let Ok(ServerFrame::PeerPresent(PeerPresent { addr, flags, .. })) = frame.as_server()
            && !flags.contains(PeerPresentFlags::MESH_PEER)
        {
            assert_eq!(addr, CLIENT.parse().ok());
            seen += 1;
        }
    }
}

async fn logged_in(mut stream: Stream, n: u8) -> Raw {
    let upgrade = request::derp("");
    within("the upgrade", request::upgrade(&mut stream.io, &upgrade))
        .await
        .expect("an upgrade");
    let mut raw = Raw::new(stream, false);
    raw.log_in(&login(n)).await;
    raw
}

#[test]
fn a_proxys_header_tells_where_a_client_comes_from() {
    tell(Kind::Tls13, headers_before_tls_and_before_http);
}

async fn strangers_headers(relay: &Relay) {
    let https = https(relay).await;
    let http = relay
        .listen(behind_proxy(ListenOptions::plain("proxied")))
        .await;
    for n in 0..300u32 {
        let header = if n % 2 == 0 { v1() } else { v2() };
        let mut tcp = tcp([127, 0, 0, 1], if n % 3 == 0 { http } else { https }).await;
        let request = [&header[..], request::derp("").as_bytes()].concat();
        let _sent = tcp.write_all(&request).await;
        let answer = within("an end", request::read_all(&mut tcp)).await;
        assert!(!answer.starts_with(b"HTTP/1.1 101"), "{n}");
    }
    let outcomes = relay.server.metrics().proxy_headers();
    assert_eq!(outcomes.get("client"), 0, "none was read");
    assert!(relay.server.clients().is_empty());
    // Without a header they are welcome, as who they are.
    let tcp = tcp([127, 0, 0, 1], http).await;
    let own = tcp.local_addr().ok();
    let _client = logged_in(Stream::new(tcp, None), 1).await;
    assert_eq!(addr_of(relay, 1), own);
}

#[test]
fn a_strangers_header_is_never_read() {
    tell(Kind::Plain, strangers_headers);
}

async fn proxies_without_a_header(relay: &Relay) {
    let https = https(relay).await;
    let version = &rustls::version::TLS13;
    assert!(
        tls::connect(tcp(PROXY, https).await, version)
            .await
            .is_err()
    );
    let outcomes = relay.server.metrics().proxy_headers();
    eventually("it is counted", || outcomes.get("missing") == 1).await;
}

#[test]
fn a_proxy_that_sends_no_header_is_refused() {
    tell(Kind::Tls13, proxies_without_a_header);
}

async fn http_headers(relay: &Relay) {
    let mut trusted = TrustedProxies::default();
    trusted.networks = vec!["127.0.0.9/32".parse().expect("a network")];
    trusted.header = ForwardedHeader::XForwardedFor;
    let mut options = ListenOptions::plain("behind HTTP");
    options.trusted_proxies = Arc::new(trusted);
    let http = relay.listen(options).await;
    let claim = "X-Forwarded-For: 127.0.0.1, 192.0.2.7\r\n";
    let cases = [
        (1, PROXY, ["", claim], "192.0.2.7:0"),
        // A connection that carried another client's request before.
        (
            2,
            PROXY,
            ["X-Forwarded-For: 203.0.113.1\r\n", claim],
            "192.0.2.7:0",
        ),
        (3, [127, 0, 0, 1], [claim, claim], ""),
    ];
    for (n, from, [before, headers], expected) in cases {
        let mut stream = Stream::new(tcp(from, http).await, None);
        let own = stream.addr;
        if !before.is_empty() {
            let probe = format!("GET /derp/probe HTTP/1.1\r\nHost: relay\r\n{before}\r\n");
            stream.io.write_all(probe.as_bytes()).await.expect("sent");
            let head = within("an answer", request::read_head(&mut stream.io)).await;
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        }
        let upgrade = request::derp(headers);
        within("the upgrade", request::upgrade(&mut stream.io, &upgrade))
            .await
            .expect("an upgrade");
        let mut raw = Raw::new(stream, false);
        raw.log_in(&login(n)).await;
        let addr = addr_of(relay, n).expect("an address");
        match expected {
            "" => assert_eq!(addr.ip(), std::net::IpAddr::from(from), "{own:?}"),
            expected => assert_eq!(addr.to_string(), expected),
        }
    }
}

#[test]
fn a_trusted_proxys_http_header_tells_where_a_client_comes_from() {
    tell(Kind::Plain, http_headers);
}
