use tokio::io::DuplexStream;
use tokio::time::Instant;

use super::*;
use crate::http::PagesConfig;
use crate::http::head::DerpUpgrade;

const PROBE: &str = "GET /derp/probe HTTP/1.1\r\nHost: a\r\n\r\n";
const HOME: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const UPGRADE: &str = "GET /derp HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\
     Derp-Fast-Start: 1\r\nIdeal-Node: x\r\n\r\n";

/// The client's end, and what becomes of the server's.
fn start(
    already_read: &str,
    pages: Pages,
) -> (
    DuplexStream,
    tokio::task::JoinHandle<Option<Asked<DuplexStream>>>,
) {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let already_read = Bytes::copy_from_slice(already_read.as_bytes());
    let serving = served(server, already_read, Arc::new(pages), ConnMeta::default());
    (client, tokio::spawn(serving))
}

/// Behind no proxy, and keeping all connections.
async fn served(
    server: DuplexStream,
    already_read: Bytes,
    pages: Arc<Pages>,
    conn: ConnMeta,
) -> Option<Asked<DuplexStream>> {
    let (nobody, versions) = (TrustedProxies::default(), TlsVersions::default());
    serve_pages(
        server,
        already_read,
        pages,
        conn,
        &nobody,
        &versions,
        || true,
    )
    .await
}

async fn send(client: &mut DuplexStream, text: &str) {
    client.write_all(text.as_bytes()).await.unwrap();
}

/// Everything until the server closes.
async fn read_all(client: &mut DuplexStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    text
}

/// One response head.
async fn read_response(client: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test(start_paused = true)]
async fn bytes_that_were_read_before_are_part_of_the_request() {
    let (front, back) = HOME.split_at(7);
    let (mut client, serving) = start(front, Pages::default());
    send(&mut client, back).await;
    let response = read_all(&mut client).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.contains("\r\nConnection: close\r\n"), "{response}");
    assert!(
        response.contains("\r\nX-Frame-Options: DENY\r\n"),
        "{response}"
    );
    assert!(
        !response.to_lowercase().contains("\r\nserver:"),
        "{response}"
    );
    assert!(response.ends_with("</html>\n"), "{response}");
    assert!(serving.await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn probes_keep_the_connection_for_a_hundred_requests() {
    let (mut client, serving) = start("", Pages::default());
    for number in 1..=MAX_REQUESTS {
        send(&mut client, PROBE).await;
        let response = read_response(&mut client).await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(
            response.contains("\r\nAccess-Control-Allow-Origin: *\r\n"),
            "{response}"
        );
        assert_eq!(
            response.contains("Connection: close"),
            number == MAX_REQUESTS,
            "{number}"
        );
    }
    assert_eq!(read_all(&mut client).await, "");
    assert!(serving.await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_after_half_a_minute() {
    let (mut client, serving) = start("", Pages::default());
    send(&mut client, PROBE).await;
    read_response(&mut client).await;
    let since = Instant::now();
    read_all(&mut client).await;
    let idle = since.elapsed();
    assert!(
        idle >= HEAD_TIMEOUT && idle < HEAD_TIMEOUT + Duration::from_secs(1),
        "{idle:?}"
    );
    assert!(serving.await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_not_awaited() {
    let (mut client, serving) = start("GET / HTTP/1.1\r\n", Pages::default());
    let since = Instant::now();
    read_all(&mut client).await;
    assert!(since.elapsed() < HEAD_TIMEOUT + Duration::from_secs(1));
    assert!(serving.await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_response_is_given_up() {
    let (client, server) = tokio::io::duplex(100);
    let requests = Bytes::from(HOME);
    let since = Instant::now();
    served(server, requests, Arc::default(), ConnMeta::default()).await;
    assert!(
        since.elapsed() < Duration::from_secs(32),
        "{:?}",
        since.elapsed()
    );
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_pooled_connection_can_still_become_a_clients() {
    let (mut client, serving) = start(PROBE, Pages::default());
    read_response(&mut client).await;
    send(&mut client, &format!("{UPGRADE}\x02frames")).await;
    let mut asked = serving.await.unwrap().expect("an upgrade");
    let derp = DerpUpgrade {
        fast_start: true,
        ideal_node: true,
    };
    assert_eq!(asked.wanted, Wanted::Upgrade(Upgrade::Derp(derp)));
    let mut received = asked.received.to_vec();
    send(&mut client, "more").await;
    client.shutdown().await.unwrap();
    asked.stream.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"\x02framesmore");
    // Nothing was answered, for the client expects nothing.
    drop(asked);
    assert_eq!(read_all(&mut client).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_pipelined_upgrade_comes_after_the_response_before_it() {
    let (mut client, serving) = start(&format!("{PROBE}{UPGRADE}\x02frames"), Pages::default());
    let asked = serving.await.unwrap().expect("an upgrade");
    assert_eq!(asked.received.as_ref(), b"\x02frames");
    let response = read_response(&mut client).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    drop(asked);
    assert_eq!(read_all(&mut client).await, "");
}

#[tokio::test(start_paused = true)]
async fn more_bytes_than_hyper_reads_at_once_are_still_there_behind_an_upgrade() {
    let frames = "x".repeat(3 * MAX_HEAD_LEN);
    let (_client, serving) = start(&format!("{PROBE}{UPGRADE}{frames}"), Pages::default());
    let asked = serving.await.unwrap().expect("an upgrade");
    assert!(
        asked.received == frames.as_bytes(),
        "{} bytes",
        asked.received.len()
    );
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_a_little_for_a_client_that_still_sends() {
    let (mut client, serving) = start(HOME, Pages::default());
    let since = Instant::now();
    read_all(&mut client).await;
    for _ in 0..4 {
        send(&mut client, "more").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!serving.is_finished());
    }
    assert!(serving.await.unwrap().is_none());
    assert_eq!(since.elapsed().as_millis(), LINGER.as_millis());

    // It does not wait where the client is done.
    let (mut client, serving) = start(HOME, Pages::default());
    read_all(&mut client).await;
    let since = Instant::now();
    drop(client);
    serving.await.unwrap();
    assert_eq!(since.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_waits_until_the_response_before_it_is_sent() {
    let (mut client, server) = tokio::io::duplex(16);
    let requests = Bytes::from(format!("{PROBE}{UPGRADE}"));
    let serving = served(server, requests, Arc::default(), ConnMeta::default());
    let serving = tokio::spawn(serving);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(!serving.is_finished());
    let response = read_response(&mut client).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(serving.await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_upgraded_where_derp_is_disabled() {
    let config = PagesConfig {
        serves_derp: false,
        ..PagesConfig::default()
    };
    let pages = Pages::new(config, crate::http::NoExtra);
    let (mut client, serving) = start(UPGRADE, pages);
    let response = read_all(&mut client).await;
    assert!(
        response.starts_with("HTTP/1.1 404 Not Found\r\n"),
        "{response}"
    );
    assert!(
        response.ends_with("\r\n\r\nderp server disabled\n"),
        "{response}"
    );
    assert!(serving.await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn later_requests_are_judged_like_the_first() {
    for (request, status) in [
        (UPGRADE.replace("GET", "POST"), "405 Method Not Allowed"),
        (PROBE.replace("\r\nHost", "\nHost"), "400 Bad Request"),
        (PROBE.replace("a\r\n\r\n", "a\n\n"), "400 Bad Request"),
        (format!("\r\n{PROBE}"), "400 Bad Request"),
    ] {
        let (mut client, serving) = start(PROBE, Pages::default());
        read_response(&mut client).await;
        // What comes behind it is not answered.
        send(&mut client, &format!("{request}{PROBE}")).await;
        let response = read_all(&mut client).await;
        let status = format!("HTTP/1.1 {status}\r\n");
        assert!(response.starts_with(&status), "{request:?} {response}");
        assert_eq!(response.matches("HTTP/1.1").count(), 1, "{response}");
        assert_eq!(
            response.contains("\r\nAllow: GET\r\n"),
            request.starts_with("POST"),
            "{response}"
        );
        assert!(serving.await.unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_behind_a_body_is_answered() {
    let lengths = "Content-Length: 5\r\nContent-Length: 5\r\n";
    for body in [
        "Content-Length: 0\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "Content-Length: 5\r\n\r\nhe\nlo".to_owned(),
        format!("{lengths}\r\nhello"),
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
    ] {
        let (mut client, serving) = start(PROBE, Pages::default());
        read_response(&mut client).await;
        let request = PROBE.replace("\r\n\r\n", &format!("\r\n{body}"));
        send(&mut client, &format!("{request}{PROBE}")).await;
        let response = read_all(&mut client).await;
        assert_eq!(response.matches("HTTP/1.1").count(), 1, "{response}");
        assert!(response.contains("\r\nConnection: close\r\n"), "{response}");
        assert!(serving.await.unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_not_read_and_not_taken_for_a_request() {
    let body = "x".repeat(1_000_000) + PROBE;
    let head = format!(
        "POST /derp/probe HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (mut client, serving) = start(&head, Pages::default());
    let (mut reader, mut writer) = tokio::io::split(&mut client);
    let sending = async {
        // Breaks off when the server closes.
        let _broken = writer.write_all(body.as_bytes()).await;
    };
    let mut text = String::new();
    let (_, read) = tokio::join!(sending, reader.read_to_string(&mut text));
    read.unwrap();
    assert!(
        text.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
        "{text}"
    );
    assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
    assert!(serving.await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn heads_of_later_requests_are_bounded_too() {
    for padding in [
        "X: y\r\n".repeat(65),
        format!("X: {}\r\n", "y".repeat(MAX_HEAD_LEN)),
    ] {
        let (mut client, serving) = start(PROBE, Pages::default());
        read_response(&mut client).await;
        send(
            &mut client,
            &format!("GET / HTTP/1.1\r\nHost: a\r\n{padding}\r\n"),
        )
        .await;
        let response = read_all(&mut client).await;
        assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
        assert!(serving.await.unwrap().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn port_80_never_upgrades() {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let serving = tokio::spawn(async move {
        let nobody = TrustedProxies::default();
        let (conn, pages) = (ConnMeta::default(), Arc::default());
        serve_port_80(server, Bytes::new(), pages, conn, &nobody, || true).await;
    });
    send(&mut client, UPGRADE).await;
    let response = read_all(&mut client).await;
    assert!(response.starts_with("HTTP/1.1 302 Found\r\n"), "{response}");
    assert!(
        response.contains("\r\nLocation: https://a/derp\r\n"),
        "{response}"
    );
    serving.await.unwrap();
}

/// Leads everybody who asks to this host and port.
#[derive(Debug)]
struct Leads(Connect);

impl crate::Extra for Leads {
    fn respond(&self, _: &Request<()>, _: &ConnMeta) -> Option<Response<Bytes>> {
        None
    }

    fn may_debug(&self, _: &Request<()>, _: &ConnMeta) -> bool {
        false
    }

    fn connect(&self, _: &Request<()>, _: &ConnMeta) -> Connect {
        self.0.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn connect_leads_elsewhere_over_tls_alone_and_where_somebody_says_so() {
    const CONNECT: &str = "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\nearly";
    let to = Connect::To("b.example:443".to_owned());
    let tls = Some(derp_verify::TlsVersion::V1_3);
    for (connect, tls, expected) in [
        (to.clone(), tls, None),
        (to, None, Some("CONNECT not enabled\n")),
        (Connect::Off, tls, Some("CONNECT not enabled\n")),
        (Connect::Refused, tls, Some("Invalid CONNECT target\n")),
    ] {
        let pages = Arc::new(Pages::new(PagesConfig::default(), Leads(connect)));
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let mut conn = ConnMeta::default();
        conn.tls = tls;
        let serving = tokio::spawn(served(server, Bytes::new(), pages, conn));
        send(&mut client, CONNECT).await;
        if let Some(body) = expected {
            let response = read_all(&mut client).await;
            assert!(
                response.starts_with("HTTP/1.1 403 Forbidden\r\n"),
                "{response}"
            );
            assert!(response.ends_with(body), "{response}");
            assert!(serving.await.unwrap().is_none());
            continue;
        }
        let asked = serving.await.unwrap().unwrap();
        assert_eq!(asked.received, "early");
        assert_eq!(asked.wanted, Wanted::Tunnel("b.example:443".to_owned()));
    }
}
