//! What the relay answers to requests that are not DERP's.

use derp_server::{ListenOptions, NoExtra, Pages, PagesConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::send;
use crate::support::{Kind, Relay, over_every_kind_with_a_request, request, tell, within};

over_every_kind_with_a_request! {
    derp_without_an_upgrade_is_told_what_is_missing,
    probes_are_answered_and_may_be_repeated,
    captive_portals_cannot_answer_a_challenge,
    what_else_there_is,
}

/// Sends a request after which the connection ends, and returns the whole response.
async fn ask(relay: &Relay, request: &str) -> String {
    let mut stream = send(relay, relay.kind, request).await;
    let response = within("the response", request::read_all(&mut stream.io)).await;
    String::from_utf8(response).expect("text")
}

/// The request for `path` as the last one of a connection.
fn last(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n{headers}\r\n")
}

fn status(response: &str) -> &str {
    response.lines().next().unwrap_or_default()
}

/// The value of a header, or none.
fn header<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = response.split_once("\r\n\r\n").expect("a whole head");
    let mut lines = head
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "));
    lines
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").expect("a whole head").1
}

async fn derp_without_an_upgrade_is_told_what_is_missing(relay: &Relay) {
    let others = [
        "GET /derp HTTP/1.1\r\nHost: relay\r\n\r\n".to_owned(),
        request::derp("").replace("Upgrade: DERP", "Upgrade: h2c"),
        // HTTP/1.0 knows no upgrade.
        request::derp("").replace("HTTP/1.1", "HTTP/1.0"),
    ];
    for request in others {
        let response = ask(relay, &request).await;
        let status = status(&response);
        assert!(
            status.ends_with(" 426 Upgrade Required"),
            "{request}: {response}"
        );
        assert_eq!(body(&response), "DERP requires connection upgrade\n");
    }
}

async fn probes_are_answered_and_may_be_repeated(relay: &Relay) {
    let mut stream = send(relay, relay.kind, "").await;
    for path in ["/derp/probe", "/derp/latency-check"] {
        for method in ["HEAD", "GET", "HEAD"] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: relay\r\n\r\n");
            stream
                .io
                .write_all(request.as_bytes())
                .await
                .expect("the relay reads");
            let head = request::read_head(&mut stream.io).await;
            assert_eq!(status(&head), "HTTP/1.1 200 OK");
            assert_eq!(header(&head, "Access-Control-Allow-Origin"), Some("*"));
        }
        let response = ask(relay, &last("POST", path, "")).await;
        assert_eq!(status(&response), "HTTP/1.1 405 Method Not Allowed");
        assert_eq!(body(&response), "bogus probe method\n");
        assert_eq!(header(&response, "Access-Control-Allow-Origin"), None);
    }
}

async fn captive_portals_cannot_answer_a_challenge(relay: &Relay) {
    let longest = "x".repeat(64);
    let too_long = "x".repeat(65);
    let challenges = [
        ("input", true),
        ("ts_derp99b.tailscale.com", true),
        (&longest, true),
        ("foo bar", false),
        (&too_long, false),
        ("", false),
    ];
    for (challenge, is_answered) in challenges {
        let challenge_header = format!("X-Tailscale-Challenge: {challenge}\r\n");
        let response = ask(relay, &last("GET", "/generate_204?t=1", &challenge_header)).await;
        assert_eq!(status(&response), "HTTP/1.1 204 No Content");
        let expected = is_answered.then(|| format!("response {challenge}"));
        assert_eq!(
            header(&response, "X-Tailscale-Response"),
            expected.as_deref()
        );
        let cache = "no-cache, no-store, must-revalidate, no-transform, max-age=0";
        assert_eq!(header(&response, "Cache-Control"), Some(cache));
        assert_eq!(body(&response), "");
    }
    let response = ask(relay, &last("GET", "/generate_204", "")).await;
    assert_eq!(status(&response), "HTTP/1.1 204 No Content");
    assert_eq!(header(&response, "X-Tailscale-Response"), None);
}

async fn what_else_there_is(relay: &Relay) {
    let response = ask(relay, &last("GET", "/robots.txt", "")).await;
    assert_eq!(
        (status(&response), body(&response)),
        ("HTTP/1.1 200 OK", "User-agent: *\nDisallow: /\n")
    );
    for path in ["/", "/no/such/page"] {
        let response = ask(relay, &last("GET", path, "")).await;
        assert_eq!(status(&response), "HTTP/1.1 200 OK");
        assert!(
            header(&response, "Content-Type").is_some_and(|kind| kind.starts_with("text/html"))
        );
    }
    relay
        .server
        .pages()
        .set_bootstrap_dns("{\"a.test\":[\"192.0.2.1\"]}".into());
    let response = ask(relay, &last("GET", "/bootstrap-dns", "")).await;
    assert_eq!(body(&response), "{\"a.test\":[\"192.0.2.1\"]}");
    // A proxy without permission is none.
    let response = ask(relay, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(status(&response), "HTTP/1.1 403 Forbidden");
}

async fn port_80(relay: &Relay) {
    let mut options = ListenOptions::plain("port 80");
    options.only_redirects = true;
    let addr = relay.listen(options).await;
    let ask = async |request: String| {
        let mut tcp = TcpStream::connect(addr).await.expect("a connection");
        tcp.write_all(request.as_bytes())
            .await
            .expect("the relay reads");
        let response = within("the response", request::read_all(&mut tcp)).await;
        String::from_utf8(response).expect("text")
    };
    let response = ask(last("GET", "/a?b=c", "")).await;
    assert_eq!(status(&response), "HTTP/1.1 302 Found");
    assert_eq!(header(&response, "Location"), Some("https://relay/a?b=c"));
    let response = ask(last("GET", "/generate_204", "X-Tailscale-Challenge: a\r\n")).await;
    assert_eq!(
        header(&response, "X-Tailscale-Response"),
        Some("response a")
    );
    // Nobody speaks DERP where anybody can listen.
    let response = ask(request::derp("")).await;
    assert_eq!(status(&response), "HTTP/1.1 302 Found");
}

#[test]
fn port_80_leads_to_tls() {
    tell(Kind::Plain, port_80);
}

#[tokio::test]
async fn a_relay_may_serve_pages_alone() {
    let mut config = PagesConfig::default();
    config.serves_derp = false;
    let pages = Pages::new(config, NoExtra);
    let relay = Relay::start_with(Kind::Tls13, |builder| builder.pages(pages)).await;
    for request in [
        request::derp(""),
        request::derp("Derp-Fast-Start: 1\r\n"),
        request::websocket(""),
    ] {
        let response = ask(&relay, &request).await;
        assert_eq!(status(&response), "HTTP/1.1 404 Not Found");
        assert_eq!(body(&response), "derp server disabled\n");
    }
    relay.end().await;
}
