use proptest::prelude::*;

use http::Request;

use super::*;

const WS_KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const WS_ACCEPT: &[u8] = b"dGhlIHNhbXBsZSBub25jZQ==";

/// What a row of the table expects.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Slow,
    Fast,
    SlowNotIdeal,
    FastNotIdeal,
    WebSocket,
    Other,
    More,
    Refused(HeadError),
}

use HeadError as E;
use Verdict::{Fast, FastNotIdeal, More, Other, Refused, Slow, SlowNotIdeal, WebSocket};

fn judge(head: &[u8]) -> Verdict {
    let head = match read_head(head) {
        Ok(Some(head)) => head,
        Ok(None) => return More,
        Err(error) => return Refused(error),
    };
    match head.route {
        Route::Other => Other,
        Route::Upgrade(Upgrade::WebSocket { accept }) => {
            assert_eq!(accept, AcceptKey::of(WS_ACCEPT).unwrap());
            WebSocket
        }
        Route::Upgrade(Upgrade::Derp(derp)) => match (derp.fast_start, derp.ideal_node) {
            (false, false) => Slow,
            (true, false) => Fast,
            (false, true) => SlowNotIdeal,
            (true, true) => FastNotIdeal,
        },
    }
}

/// A GET of `/derp` with a host and these headers.
fn derp(headers: &str) -> String {
    format!("GET /derp HTTP/1.1\r\nHost: derp.example.com\r\n{headers}\r\n")
}

fn websocket(headers: &str) -> String {
    derp(&format!(
        "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n{headers}"
    ))
}

/// A GET of `/` with these lines.
fn plain(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\n{lines}\r\n")
}

fn table() -> Vec<(String, Verdict)> {
    let go = "User-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\n";
    let up = "Upgrade: DERP\r\n";
    let ws = format!("Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: derp\r\n{WS_KEY}");
    let own = |text: &str| text.to_owned();
    vec![
        // What clients send.
        (derp(&format!("{go}{up}")), Slow),
        (derp(&format!("{go}Derp-Fast-Start: 1\r\n{up}")), Fast),
        (derp(&format!("{go}Ideal-Node: 1f\r\n{up}")), SlowNotIdeal),
        (
            derp(&format!("{go}Derp-Fast-Start: 1\r\nIdeal-Node: 1f\r\n{up}")),
            FastNotIdeal,
        ),
        (websocket(&ws), WebSocket),
        (
            websocket(&format!("{ws}Origin: https://example.com\r\n")),
            WebSocket,
        ),
        (
            websocket(&format!(
                "{ws}Sec-WebSocket-Extensions: permessage-deflate\r\n"
            )),
            WebSocket,
        ),
        (own("GET /derp/probe HTTP/1.1\r\nHost: a\r\n\r\n"), Other),
        (
            own("HEAD /derp/latency-check HTTP/1.1\r\nHost: a\r\n\r\n"),
            Other,
        ),
        (
            own("GET /generate_204?t=1 HTTP/1.1\r\nHost: 192.0.2.7\r\n\r\n"),
            Other,
        ),
        // Spelling.
        (derp(&format!("{go}upgrade: derp\r\n")), Slow),
        (derp(&format!("{go}UPGRADE:DeRp\r\n")), Slow),
        (derp(&format!("{go}Upgrade: \t derp \t\r\n")), Slow),
        (derp(&format!("{go}{up}derp-fast-start: 1\r\n")), Fast),
        (derp(&format!("{go}{up}Derp-Fast-Start: 2\r\n")), Slow),
        (derp(&format!("{go}{up}Derp-Fast-Start: 01\r\n")), Slow),
        (derp(&format!("{go}{up}Derp-Fast-Start: true\r\n")), Slow),
        (derp(&format!("{go}{up}Derp-Fast-Start:\r\n")), Slow),
        (derp(&format!("{go}{up}Ideal-Node:\r\n")), Slow),
        (
            derp(&format!("{go}{up}Ideal-Node: \r\nIdeal-Node: x\r\n")),
            SlowNotIdeal,
        ),
        // No upgrade.
        (derp(""), Other),
        (derp(go), Other),
        (derp(&format!("{go}Upgrade: h2c\r\n")), Other),
        (derp(&format!("{go}Upgrade: derp2\r\n")), Other),
        (derp(&format!("{go}Upgrade: derp, websocket\r\n")), Other),
        (derp(&format!("{go}Upgrade:\r\n")), Other),
        (
            own("GET /derp HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: derp\r\n\r\n"),
            Other,
        ),
        // The `Connection` header: a proxy may have dropped it, but not put another in its place.
        (derp(up), Slow),
        (derp(&format!("Connection: upgrade\r\n{up}")), Slow),
        (
            derp(&format!("Connection: keep-alive, UPGRADE\r\n{up}")),
            Slow,
        ),
        (
            derp(&format!(
                "Connection: keep-alive\r\nConnection: upgrade\r\n{up}"
            )),
            Slow,
        ),
        (
            derp(&format!(
                "Connection: upgrade\r\nConnection: keep-alive\r\n{up}"
            )),
            Slow,
        ),
        (derp(&format!("Connection: keep-alive\r\n{up}")), Other),
        (derp(&format!("Connection: close\r\n{up}")), Other),
        (derp(&format!("Connection: upgraded\r\n{up}")), Other),
        // Paths.
        (
            own("GET /derp?x=/derp HTTP/1.1\r\nHost: a\r\nUpgrade: derp\r\n\r\n"),
            Slow,
        ),
        (
            own("GET http://a/derp HTTP/1.1\r\nHost: a\r\nUpgrade: derp\r\n\r\n"),
            Slow,
        ),
        (
            own("GET HTTPS://a:1/derp?q HTTP/1.1\r\nHost: a\r\nUpgrade: derp\r\n\r\n"),
            Slow,
        ),
        (
            own("GET http://a HTTP/1.1\r\nHost: a\r\nUpgrade: derp\r\n\r\n"),
            Other,
        ),
        (
            own("GET /derp/ HTTP/1.1\r\nHost: a\r\nUpgrade: derp\r\n\r\n"),
            Other,
        ),
        (
            own("GET //derp HTTP/1.1\r\nHost: a\r\nUpgrade: derp\r\n\r\n"),
            Other,
        ),
        (
            own("GET /Derp HTTP/1.1\r\nHost: a\r\nUpgrade: derp\r\n\r\n"),
            Other,
        ),
        (
            own("GET /derp/probe HTTP/1.1\r\nHost: a\r\nUpgrade: derp\r\n\r\n"),
            Other,
        ),
        (own("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), Other),
        (own("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"), Other),
        // Methods and bodies of upgrades.
        (
            derp(&format!("{go}{up}")).replace("GET", "POST"),
            Refused(E::UpgradeMethod),
        ),
        (
            derp(&format!("{go}{up}")).replace("GET", "HEAD"),
            Refused(E::UpgradeMethod),
        ),
        (
            derp(&format!("{go}{up}")).replace("GET", "get"),
            Refused(E::UpgradeMethod),
        ),
        (derp(&format!("{go}{up}Content-Length: 0\r\n")), Slow),
        (
            derp(&format!("{go}{up}Content-Length: 5\r\n")),
            Refused(E::UpgradeBody),
        ),
        (
            derp(&format!("{go}{up}Transfer-Encoding: chunked\r\n")),
            Refused(E::UpgradeBody),
        ),
        (
            own("POST /derp HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"),
            Other,
        ),
        (
            own("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Other,
        ),
        // WebSocket.
        (websocket(&ws.replace("derp", "chat, derp")), WebSocket),
        (websocket(&ws.replace("derp", "derp,chat")), WebSocket),
        (websocket(&ws.replace("derp", "derper")), Slow),
        (websocket(&ws.replace("derp", "DERP")), Slow),
        (websocket(WS_KEY), Slow),
        (websocket(""), Slow),
        (derp(&format!("{go}{up}{ws}")), Slow),
        (
            websocket(&format!("{ws}Derp-Fast-Start: 1\r\nIdeal-Node: 1\r\n")),
            WebSocket,
        ),
        (
            websocket(&ws.replace("13", "8")),
            Refused(E::WebSocketVersion),
        ),
        (
            websocket(&ws.replace("Sec-WebSocket-Version", "X")),
            Refused(E::WebSocketVersion),
        ),
        (websocket(&ws.replace("dGhl", "")), Refused(E::WebSocketKey)),
        (websocket(&ws.replace(WS_KEY, "")), Refused(E::WebSocketKey)),
        // Headers that decide something, twice.
        (derp(&format!("{go}{up}{up}")), Refused(E::Duplicate)),
        (
            derp(&format!("{go}{up}Upgrade: websocket\r\n")),
            Refused(E::Duplicate),
        ),
        (
            derp(&format!(
                "{go}{up}Derp-Fast-Start: 1\r\nDerp-Fast-Start: 1\r\n"
            )),
            Refused(E::Duplicate),
        ),
        (websocket(&format!("{ws}{WS_KEY}")), Refused(E::Duplicate)),
        (
            websocket(&format!("{ws}Sec-WebSocket-Version: 13\r\n")),
            Refused(E::Duplicate),
        ),
        (
            websocket(&format!("{ws}Sec-WebSocket-Protocol: derp\r\n")),
            Refused(E::Duplicate),
        ),
        // Hosts.
        (plain("Host: a\r\n"), Other),
        (plain("Host: [2001:db8::1]:443\r\n"), Other),
        (plain("Host:\r\n"), Other),
        (plain(""), Refused(E::Host)),
        (plain("Host: a\r\nHost: a\r\n"), Refused(E::Host)),
        (plain("Host: a\r\nHost: b\r\n"), Refused(E::Host)),
        (plain("Host: a b\r\n"), Refused(E::Host)),
        (plain("Host: a/b\r\n"), Refused(E::Host)),
        (plain("Host: a@b\r\n"), Refused(E::Host)),
        (own("GET / HTTP/1.0\r\n\r\n"), Other),
        (own("GET / HTTP/1.0\r\nHost: a\r\n\r\n"), Other),
        (
            own("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"),
            Refused(E::Host),
        ),
        // Lengths of bodies.
        (
            plain("Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n"),
            Refused(E::BodyLength),
        ),
        (
            plain("Host: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n"),
            Refused(E::BodyLength),
        ),
        (
            plain("Host: a\r\nContent-Length: +1\r\n"),
            Refused(E::BodyLength),
        ),
        (
            plain("Host: a\r\nContent-Length: 1, 1\r\n"),
            Refused(E::BodyLength),
        ),
        (
            plain("Host: a\r\nContent-Length:\r\n"),
            Refused(E::BodyLength),
        ),
        (
            plain("Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
            Refused(E::BodyLength),
        ),
        (
            plain("Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
            Refused(E::BodyLength),
        ),
        // Lines.
        (own("GET / HTTP/1.1\nHost: a\n\n"), Refused(E::BareLineFeed)),
        (
            own("GET / HTTP/1.1\r\nHost: a\n\r\n"),
            Refused(E::BareLineFeed),
        ),
        (
            own("GET / HTTP/1.1\r\nHost: a\r\n\n"),
            Refused(E::BareLineFeed),
        ),
        (
            own("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"),
            Refused(E::Malformed),
        ),
        (
            own("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
            Refused(E::Malformed),
        ),
        (
            own("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n"),
            Refused(E::Malformed),
        ),
        (
            own("GET / HTTP/1.1\r\nHost: a\r\nX: a\x1bb\r\n\r\n"),
            Refused(E::Malformed),
        ),
        (
            own("GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
            Refused(E::Malformed),
        ),
        (
            own("GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
            Refused(E::Malformed),
        ),
        (
            own("GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n"),
            Refused(E::Malformed),
        ),
        (
            own("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n"),
            Refused(E::Malformed),
        ),
        (
            own("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            Refused(E::Malformed),
        ),
        (
            own("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            Refused(E::Malformed),
        ),
        (
            own("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
            Refused(E::Malformed),
        ),
        (
            own("GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
            Refused(E::Malformed),
        ),
        (
            own("G@T / HTTP/1.1\r\nHost: a\r\n\r\n"),
            Refused(E::Malformed),
        ),
        // Not HTTP, or none that is spoken here.
        (own("GET /\r\n"), Refused(E::Malformed)),
        (own("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Refused(E::Version)),
        (
            own("GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
            Refused(E::Version),
        ),
        (own("\x16\x03\x01\x02\x00\x01"), Refused(E::Malformed)),
        (own("SSH-2.0-OpenSSH_9.9\r\n"), Refused(E::Malformed)),
        // Not all there yet.
        (own(""), More),
        (own("GET"), More),
        (
            own("GET /derp HTTP/1.1\r\nHost: a\r\nUpgrade: derp\r\n"),
            More,
        ),
        (
            own("GET /derp HTTP/1.1\r\nHost: a\r\nUpgrade: derp\r\n\r"),
            More,
        ),
        // Sizes.
        (
            plain(&format!("Host: a\r\n{}", "X: y\r\n".repeat(63))),
            Other,
        ),
        (
            plain(&format!("Host: a\r\n{}", "X: y\r\n".repeat(64))),
            Refused(E::TooManyHeaders),
        ),
        (padded_to(MAX_HEAD_LEN), Other),
        (padded_to(MAX_HEAD_LEN + 1), Refused(E::TooLong)),
        (
            padded_to(MAX_HEAD_LEN + 1)[..MAX_HEAD_LEN].to_owned(),
            Refused(E::TooLong),
        ),
        (padded_to(MAX_HEAD_LEN)[..MAX_HEAD_LEN - 1].to_owned(), More),
        ("x".repeat(MAX_HEAD_LEN), Refused(E::TooLong)),
    ]
}

/// A head of `len` bytes.
fn padded_to(len: usize) -> String {
    let short = plain("Host: a\r\nX: \r\n").len();
    plain(&format!("Host: a\r\nX: {}\r\n", "y".repeat(len - short)))
}

#[test]
fn every_head_in_the_table_is_judged_as_it_says() {
    let table = table();
    assert!(table.len() >= 60, "{} rows", table.len());
    for (head, expected) in table {
        assert_eq!(
            judge(head.as_bytes()),
            expected,
            "{:?}",
            &head[..head.len().min(300)]
        );
    }
}

#[test]
fn what_follows_the_head_belongs_to_derp() {
    let text = derp("Upgrade: DERP\r\nDerp-Fast-Start: 1\r\n");
    let mut wire = text.clone().into_bytes();
    wire.extend_from_slice(b"\x02\0\0\0\x68GET / HTTP/1.1\n\n");
    let head = read_head(&wire).unwrap().unwrap();
    assert_eq!(head.len, text.len());
}

#[test]
fn a_head_and_what_follows_may_be_longer_together_than_a_head() {
    let mut wire = padded_to(MAX_HEAD_LEN - 10).into_bytes();
    wire.extend_from_slice(&[0; 100]);
    assert_eq!(judge(&wire), Other);
}

/// A request that hyper read is judged like a head that was read here.
#[test]
fn both_ways_of_reading_a_request_agree() {
    for (head, expected) in table() {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        let Ok(httparse::Status::Complete(_)) = parsed.parse(head.as_bytes()) else {
            continue;
        };
        let mut request = Request::builder().method(parsed.method.unwrap());
        request = request
            .uri(parsed.path.unwrap())
            .version(match parsed.version.unwrap() {
                0 => http::Version::HTTP_10,
                _ => http::Version::HTTP_11,
            });
        for header in parsed.headers.iter() {
            request = request.header(header.name, header.value);
        }
        let Ok(request) = request.body(()) else {
            continue;
        };
        // hyper is as strict about some things itself, and lenient about others.
        if !matches!(
            expected,
            Refused(E::BareLineFeed | E::Malformed | E::TooLong)
        ) {
            let here = read_head(head.as_bytes()).map(|head| head.unwrap().route);
            assert_eq!(route(&request), here, "{head:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _verdict = judge(&bytes);
    }

    /// However the bytes arrive, nothing is decided early, and nothing differently.
    #[test]
    fn a_head_is_decided_by_its_last_byte(row in 0..table().len()) {
        let (head, expected) = table().swap_remove(row);
        let head = head.as_bytes();
        let decided = (0..=head.len()).find(|&len| judge(&head[..len]) != More);
        let Some(decided) = decided else { return Ok(()) };
        match judge(&head[..decided]) {
            // A fault may show before the end, and may be named by its beginning then.
            Refused(_) => prop_assert!(matches!(expected, Refused(_))),
            verdict => prop_assert_eq!(verdict, expected),
        }
    }
}

#[test]
fn a_head_that_comes_byte_by_byte_is_read_once_for_each_line() {
    let head = derp(&format!(
        "X-Filler: {}\r\nUpgrade: DERP\r\n",
        "x".repeat(7000)
    ));
    let mut reader = HeadReader::default();
    let (mut reads, mut read) = (0, None);
    for len in 0..=head.len() {
        let bytes = &head.as_bytes()[..len];
        assert_eq!(read, None, "it is read when it is complete");
        let is_read = HeadReader { seen: reader.seen }.is_worth_it(bytes);
        reads += usize::from(is_read);
        read = reader.read(bytes).unwrap();
    }
    assert_eq!(read, read_head(head.as_bytes()).unwrap());
    // Nothing and the first byte are read as well.
    assert_eq!(reads, 2 + head.lines().count());

    let mut reader = HeadReader::default();
    assert_eq!(
        reader.read(b"\x16"),
        Err(E::Malformed),
        "as early as before"
    );
    assert_eq!(
        HeadReader::default().read(&[b'x'; MAX_HEAD_LEN]),
        Err(E::TooLong)
    );
}
