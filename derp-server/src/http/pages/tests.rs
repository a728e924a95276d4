use super::*;

/// Debug pages for a client called `127.0.0.1`, and a challenge.
#[derive(Debug)]
struct Operator;

impl Extra for Operator {
    fn respond(&self, request: &Request<()>, _: &ConnMeta) -> Option<Response<Bytes>> {
        let path = request.uri().path();
        let is_mine = path.starts_with("/debug/") || path.starts_with(ACME_CHALLENGE_PATH);
        is_mine.then(|| Response::new(Bytes::copy_from_slice(path.as_bytes())))
    }

    fn may_debug(&self, _: &Request<()>, conn: &ConnMeta) -> bool {
        conn.client_addr()
            .is_some_and(|addr| addr.ip().is_loopback())
    }
}

fn request(method: &str, target: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .uri(target)
        .header("Host", "foo.com")
        .body(())
        .unwrap()
}

fn conn(addr: &str) -> ConnMeta {
    let mut conn = ConnMeta::default();
    conn.socket_peer = Some(addr.parse().unwrap());
    conn
}

fn stranger() -> ConnMeta {
    conn("192.0.2.7:1234")
}

fn pages(change: impl FnOnce(&mut PagesConfig)) -> Pages {
    let mut config = PagesConfig::default();
    change(&mut config);
    Pages::new(config, Operator)
}

/// Status, headers in the order of their names, and body.
#[derive(Debug, PartialEq, Eq)]
struct Seen(u16, Vec<String>, String);

fn seen(response: Response<Bytes>) -> Seen {
    let (parts, body) = response.into_parts();
    let mut headers: Vec<_> = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    headers.sort();
    Seen(
        parts.status.as_u16(),
        headers,
        String::from_utf8(body.to_vec()).unwrap(),
    )
}

fn expected(status: u16, headers: &[&str], body: &str) -> Seen {
    let mut headers: Vec<_> = headers.iter().map(|&header| header.to_owned()).collect();
    headers.sort();
    Seen(status, headers, body.to_owned())
}

fn get(pages: &Pages, target: &str) -> Seen {
    seen(pages.respond(&request("GET", target), &stranger()))
}

const TEXT_CLOSE: [&str; 3] = [
    "connection: close",
    "content-type: text/plain; charset=utf-8",
    "x-content-type-options: nosniff",
];

const BROWSER: [&str; 4] = [
    "content-security-policy: default-src 'self'; frame-ancestors 'none'; form-action 'self'; \
     base-uri 'self'; block-all-mixed-content; object-src 'none'",
    "strict-transport-security: max-age=63072000; includeSubDomains",
    "x-content-type-options: nosniff",
    "x-frame-options: DENY",
];

fn browser_page(status: u16, content_type: &str, body: &str) -> Seen {
    let mut headers = BROWSER.to_vec();
    let content_type = format!("content-type: {content_type}");
    headers.extend(["connection: close", &content_type]);
    expected(status, &headers, body)
}

#[test]
fn derp_without_an_upgrade_is_told_what_is_missing() {
    let headers = [
        "connection: close, upgrade",
        "content-type: text/plain; charset=utf-8",
        "upgrade: DERP",
        "x-content-type-options: nosniff",
    ];
    let missing = expected(426, &headers, "DERP requires connection upgrade\n");
    assert_eq!(get(&Pages::default(), "/derp"), missing);
    assert_eq!(get(&Pages::default(), "/derp?x"), missing);

    let disabled = pages(|config| config.serves_derp = false);
    assert_eq!(
        get(&disabled, "/derp"),
        expected(404, &TEXT_CLOSE, "derp server disabled\n")
    );
}

#[test]
fn probes_are_answered_even_when_derp_is_disabled() {
    let ok = || expected(200, &["access-control-allow-origin: *"], "");
    for pages in [Pages::default(), pages(|config| config.serves_derp = false)] {
        for path in ["/derp/probe", "/derp/latency-check"] {
            assert_eq!(get(&pages, path), ok());
            assert_eq!(
                seen(pages.respond(&request("HEAD", path), &stranger())),
                ok()
            );
            let mut headers = TEXT_CLOSE.to_vec();
            headers.push("allow: GET, HEAD");
            let bogus = seen(pages.respond(&request("POST", path), &stranger()));
            assert_eq!(bogus, expected(405, &headers, "bogus probe method\n"));
        }
    }
}

#[test]
fn only_a_plain_challenge_is_repeated() {
    let long = "x".repeat(65);
    let table: [(Option<&[u8]>, Option<&str>); 8] = [
        (None, None),
        (Some(b""), None),
        (Some(b"input"), Some("response input")),
        (
            Some(b"ts_derp99b.tailscale.com"),
            Some("response ts_derp99b.tailscale.com"),
        ),
        (Some(b"foo\xffbar"), None),
        (Some(b"foo bar"), None),
        (Some(long.as_bytes()), None),
        (
            Some(&long.as_bytes()[1..]),
            Some(&format!("response {}", &long[1..])),
        ),
    ];
    for (challenge, response) in table {
        for method in ["GET", "HEAD", "POST"] {
            let mut request = request(method, "/generate_204?t=1700000000");
            if let Some(challenge) = challenge {
                let challenge = HeaderValue::from_bytes(challenge).unwrap();
                request.headers_mut().insert(CHALLENGE_HEADER, challenge);
            }
            let mut headers = vec![
                "cache-control: no-cache, no-store, must-revalidate, no-transform, max-age=0"
                    .to_owned(),
            ];
            headers.extend(response.map(|response| format!("x-tailscale-response: {response}")));
            let answer = Seen(204, headers, String::new());
            let pages = Pages::default();
            assert_eq!(
                seen(pages.respond(&request, &stranger())),
                answer,
                "{challenge:?}"
            );
            assert_eq!(
                seen(pages.respond_on_port_80(&request, &stranger())),
                answer
            );
        }
    }
}

#[test]
fn robots_are_told_to_stay_away() {
    let page = browser_page(
        200,
        "text/plain; charset=utf-8",
        "User-agent: *\nDisallow: /\n",
    );
    assert_eq!(get(&Pages::default(), "/robots.txt"), page);
}

#[test]
fn the_bootstrap_document_can_be_replaced_at_any_time() {
    let pages = Pages::default();
    let page = |body: &str| browser_page(200, "application/json", body);
    assert_eq!(get(&pages, "/bootstrap-dns"), page(""));
    pages.set_bootstrap_dns(Bytes::from_static(b"{\n\t\"a\": [\"192.0.2.1\"]\n}"));
    assert_eq!(
        get(&pages, "/bootstrap-dns?q=a"),
        page("{\n\t\"a\": [\"192.0.2.1\"]\n}")
    );
}

#[test]
fn the_home_page_shows_what_holds() {
    let pages = pages(|config| {
        config.hostname = "derp1.tailscale.com".to_owned();
        config.serves_derp = false;
    });
    let for_operator = seen(pages.respond(&request("GET", "/"), &conn("127.0.0.1:1"))).2;
    let for_stranger = get(&pages, "/").2;
    for part in [
        "security@tailscale.com",
        "tailscale-aup",
        "Status: disabled",
    ] {
        assert!(
            for_operator.contains(part) && for_stranger.contains(part),
            "{part}"
        );
    }
    assert!(for_operator.contains("href=\"/debug/\""));
    assert!(!for_stranger.contains("debug"));

    let plain = get(&Pages::default(), "/");
    assert_eq!(
        plain,
        browser_page(200, "text/html; charset=utf-8", &plain.2)
    );
    assert!(plain.2.contains("DERP server") && !plain.2.contains("disabled"));
}

#[test]
fn the_home_page_can_be_blank_or_elsewhere() {
    let blank = pages(|config| config.home = Home::Blank);
    assert_eq!(
        get(&blank, "/"),
        browser_page(200, "text/html; charset=utf-8", "")
    );

    let elsewhere = pages(|config| config.home = "https://example.com/x".parse().unwrap());
    let mut headers = BROWSER.to_vec();
    headers.extend([
        "connection: close",
        "content-type: text/plain; charset=utf-8",
        "location: https://example.com/x",
    ]);
    assert_eq!(
        get(&elsewhere, "/nonexist"),
        expected(302, &headers, "Found\n")
    );
}

#[test]
fn unknown_paths_are_home_unless_the_operator_says_otherwise() {
    let go = Pages::default();
    let home = get(&go, "/");
    for path in [
        "/nonexist",
        "/derp/",
        "/derp/sdf",
        "//derp",
        "/generate_204/",
        "/debug",
    ] {
        assert_eq!(get(&go, path), home, "{path}");
    }
    let strict = pages(|config| config.unknown_paths = UnknownPaths::NotFound);
    assert_eq!(get(&strict, "/").0, 200);
    let not_found = browser_page(404, "text/plain; charset=utf-8", "not found\n");
    assert_eq!(get(&strict, "/nonexist"), not_found);
}

#[test]
fn nobody_is_connected_to_anybody() {
    let request = request("CONNECT", "derp.example.com:443");
    let answer = seen(Pages::default().respond(&request, &stranger()));
    assert_eq!(answer, expected(403, &TEXT_CLOSE, "CONNECT not enabled\n"));
}

#[test]
fn extra_pages_come_before_all_but_those_of_clients() {
    #[derive(Debug)]
    struct Greedy;
    impl Extra for Greedy {
        fn respond(&self, _: &Request<()>, _: &ConnMeta) -> Option<Response<Bytes>> {
            Some(Response::new(Bytes::from_static(b"mine")))
        }
        fn may_debug(&self, _: &Request<()>, _: &ConnMeta) -> bool {
            false
        }
    }
    let pages = Pages::new(PagesConfig::default(), Greedy);
    for path in [
        "/",
        "/bootstrap-dns?q=x",
        "/robots.txt",
        "/debug/varz",
        "/nonexist",
    ] {
        assert_eq!(get(&pages, path), expected(200, &[], "mine"), "{path}");
    }
    for path in [
        "/derp",
        "/derp/probe",
        "/derp/latency-check",
        "/generate_204",
    ] {
        assert_ne!(get(&pages, path).2, "mine", "{path}");
    }
}

fn location(pages: &Pages, request: &Request<()>, conn: &ConnMeta) -> (u16, Option<String>) {
    let response = pages.respond_on_port_80(request, conn);
    let location = response
        .headers()
        .get(LOCATION)
        .map(|url| url.to_str().unwrap().to_owned());
    (response.status().as_u16(), location)
}

#[test]
fn port_80_sends_browsers_to_tls() {
    let anyhow = Pages::default();
    let named = pages(|config| config.hostname = "bar.com".to_owned());
    for (target, path) in [("/", "/"), ("/a/b?c=d&e", "/a/b?c=d&e"), ("/derp", "/derp")] {
        for method in ["GET", "HEAD"] {
            let request = request(method, target);
            let to = |host: &str| (302, Some(format!("https://{host}{path}")));
            assert_eq!(location(&anyhow, &request, &stranger()), to("foo.com"));
            assert_eq!(location(&named, &request, &stranger()), to("bar.com"));
        }
    }
    let post = anyhow.respond_on_port_80(&request("POST", "/"), &stranger());
    assert_eq!(seen(post), expected(400, &TEXT_CLOSE, "Use HTTPS\n"));
}

#[test]
fn port_80_redirects_to_no_host_that_could_be_something_else() {
    let mut request = request("GET", "//evil.example/");
    assert_eq!(
        location(&Pages::default(), &request, &stranger()),
        (302, Some("https://foo.com//evil.example/".to_owned())),
    );
    for host in [
        "",
        "foo.com/",
        "user@foo.com",
        "foo.com?",
        "foo.com#",
        "a\\b",
        "a%2fb",
    ] {
        request
            .headers_mut()
            .insert(HOST, HeaderValue::from_str(host).unwrap());
        assert_eq!(
            location(&Pages::default(), &request, &stranger()),
            (400, None),
            "{host}"
        );
    }
    request.headers_mut().remove(HOST);
    assert_eq!(
        location(&Pages::default(), &request, &stranger()),
        (400, None)
    );
}

#[test]
fn port_80_serves_operators_and_certificate_authorities() {
    let pages = pages(|config| config.hostname = "bar.com".to_owned());
    for path in ["/debug/varz", "/.well-known/acme-challenge/token"] {
        let answer = seen(pages.respond_on_port_80(&request("GET", path), &stranger()));
        assert_eq!(answer, expected(200, &[], path));
    }
    let operator = conn("127.0.0.1:1");
    let to = |path: &str| (302, Some(format!("https://bar.com{path}")));
    assert_eq!(
        location(&pages, &request("GET", "/"), &operator),
        to("/debug/")
    );
    assert_eq!(location(&pages, &request("GET", "/x"), &operator), to("/x"));
    assert_eq!(location(&pages, &request("GET", "/"), &stranger()), to("/"));
}
