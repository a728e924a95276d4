//! An admission controller that answers well, badly, late and not at all.
#![cfg(feature = "admission")]

mod support;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use derp_verify::{
    Admission, Credentials, HttpConfigError, HttpOptions, RateLimit, Reading, Verdict, VerifyError,
    parse_answer,
};
use tempfile::TempDir;

use self::support::{ALICE, Fake, Reply, ask, json, key, word};

fn options(timeout: Duration) -> HttpOptions {
    let mut options = HttpOptions::default();
    options.timeout = timeout;
    options
}

fn strict(url: &str) -> Admission {
    Admission::new(url, HttpOptions::default()).expect("a good URL")
}

#[tokio::test]
async fn the_request_is_byte_for_byte_that_of_the_reference() {
    let fake = Fake::http(|_| json("200 OK", "{\"Allow\":true}\n")).await;
    let url = format!("{}/verify?x=1#y", fake.url);
    assert_eq!(word(&ask(&strict(&url), key(ALICE)).await), "allow");
    let host = fake.url.trim_start_matches("http://");
    let body = format!("{{\"NodePublic\":\"{ALICE}\",\"Source\":\"192.0.2.7\"}}");
    let expected = format!(
        "POST /verify?x=1 HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Go-http-client/1.1\r\n\
         Content-Length: {}\r\nAccept-Encoding: gzip\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(fake.requests(), [expected]);
}

#[tokio::test]
async fn a_connection_is_kept_and_one_that_was_closed_meanwhile_is_replaced() {
    let fake = Fake::http(|_| json("200 OK", "{\"Allow\":true}")).await;
    let admission = strict(&fake.url);
    for _ in 0..5 {
        assert_eq!(word(&ask(&admission, key(ALICE)).await), "allow");
    }
    assert_eq!((fake.requests().len(), fake.connections()), (5, 1));

    // Says that it keeps the connection, and closes it.
    let reply = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"Allow\":true}";
    let fake = Fake::http(move |_| Reply::Last(reply.into())).await;
    let admission = strict(&fake.url);
    for _ in 0..5 {
        assert_eq!(word(&ask(&admission, key(ALICE)).await), "allow");
    }
    assert_eq!(fake.connections(), 5);

    // Closes each connection when the second request has come.
    let asked = AtomicUsize::new(0);
    let fake = Fake::http(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        1 => Reply::Last(Vec::new()),
        _ => json("200 OK", "{\"Allow\":true}"),
    });
    let fake = fake.await;
    let admission = strict(&fake.url);
    for _ in 0..2 {
        assert_eq!(word(&ask(&admission, key(ALICE)).await), "allow");
    }
    assert_eq!((fake.requests().len(), fake.connections()), (3, 2));
}

#[tokio::test]
async fn odd_answers_admit_nobody_and_none_of_them_counts_as_unreachable() {
    let ok = |more: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{more}\r\n{body}");
    let yes = "{\"Allow\":true}";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let big = format!("{yes}{}", " ".repeat(4096));
    let table = [
        ("allow", ok("", yes)),
        ("allow", ok("Content-Length: 14\r\n", yes)),
        (
            "allow",
            ok(
                chunked,
                "7\r\n{\"Allow\r\n7;x=y\r\n\":true}\r\n0\r\nTrailer: x\r\n\r\n",
            ),
        ),
        (
            "allow",
            format!("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n{}", ok("", yes)),
        ),
        ("deny", ok("", "{\"Allow\":false}")),
        (
            "refused",
            "HTTP/1.1 201 Created\r\nContent-Length: 14\r\n\r\n{\"Allow\":true}".into(),
        ),
        ("refused", "HTTP/1.1 204 No Content\r\n\r\n".into()),
        ("refused", format!("HTTP/1.1 403 Forbidden\r\n\r\n{yes}")),
        (
            "refused",
            format!("HTTP/1.1 500 Oops\r\nContent-Length: 99999\r\n\r\n{yes}"),
        ),
        ("refused", format!("HTTP/1.1 502 Bad Gateway\r\n\r\n{yes}")),
        ("refused", "HTTP/1.1 101 Switching Protocols\r\n\r\n".into()),
        ("bad answer", ok("", "")),
        ("bad answer", ok("", "<html>yes</html>")),
        ("bad answer", ok("", &big)),
        ("bad answer", ok("Content-Length: 5000\r\n", &big)),
        ("bad answer", ok(chunked, "fffffffff\r\n")),
        ("bad answer", ok(chunked, "xyz\r\n")),
        ("bad answer", ok(chunked, "e\r\n{\"Allow\":true}")),
        (
            "bad answer",
            ok(chunked, "e\r\n{\"Allow\":true}xx0\r\n\r\n"),
        ),
        ("bad answer", ok("Content-Length: 15\r\n", yes)),
        ("bad answer", ok("Content-Length: 13\r\n", yes)),
        (
            "bad answer",
            ok("Content-Length: 14\r\n", &format!("{yes}x")),
        ),
        (
            "bad answer",
            ok("Content-Length: 14\r\nContent-Length: 14\r\n", yes),
        ),
        ("bad answer", ok("Content-Length: +14\r\n", yes)),
        (
            "bad answer",
            ok("Transfer-Encoding: gzip, chunked\r\n", yes),
        ),
        (
            "bad answer",
            ok("Transfer-Encoding: chunked\r\nContent-Length: 14\r\n", yes),
        ),
        ("bad answer", ok("Content-Encoding: br\r\n", yes)),
        ("bad answer", ok("Content-Encoding: gzip\r\n", yes)),
        ("bad answer", "SSH-2.0-OpenSSH_9.9\r\n".into()),
        (
            "bad answer",
            format!(
                "HTTP/1.1 200 OK\r\nX: {}\r\n\r\n{yes}",
                "x".repeat(16 << 10)
            ),
        ),
        ("bad answer", ok(&"X: y\r\n".repeat(65), yes)),
        ("unreachable", "HTTP/1.1 200 OK\r\nContent-Le".into()),
        ("unreachable", String::new()),
    ];
    for (expected, reply) in table {
        let bytes = reply.clone().into_bytes();
        let fake = Fake::http(move |_| Reply::Last(bytes.clone())).await;
        let answer = ask(&strict(&fake.url), key(ALICE)).await;
        let shown = reply.get(..reply.len().min(120));
        assert_eq!(word(&answer), expected, "{shown:?}: {answer:?}");
        let fails_open = answer.err().is_some_and(|err| err.is_unreachable());
        assert_eq!(fails_open, expected == "unreachable", "{shown:?}");
    }
}

#[tokio::test]
async fn a_packed_answer_is_unpacked_within_its_limit() {
    // gzip of {"Allow":true}, and of 1 MiB of spaces before it.
    let pack = |text: &str| {
        let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
        // One stored block: nothing is gained, and everything is there that gzip has.
        let len = u16::try_from(text.len()).expect("a short text");
        packed.push(1);
        packed.extend(len.to_le_bytes());
        packed.extend((!len).to_le_bytes());
        packed.extend(text.as_bytes());
        packed.extend(crc32(text.as_bytes()).to_le_bytes());
        packed.extend(u32::from(len).to_le_bytes());
        packed
    };
    let long = format!("{{\"Allow\":true}}{}", " ".repeat(4090));
    for (expected, text) in [("allow", "{\"Allow\":true}"), ("bad answer", &long)] {
        let mut reply = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n".to_vec();
        reply.extend(pack(text));
        let fake = Fake::http(move |_| Reply::Last(reply.clone())).await;
        assert_eq!(word(&ask(&strict(&fake.url), key(ALICE)).await), expected);
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}

#[tokio::test]
async fn a_redirect_is_a_refusal_and_nobody_else_is_asked() {
    let elsewhere = Fake::http(|_| json("200 OK", "{\"Allow\":true}")).await;
    for status in [301, 302, 303, 307, 308] {
        let reply = format!(
            "HTTP/1.1 {status} Elsewhere\r\nLocation: {}/\r\nContent-Length: 0\r\n\r\n",
            elsewhere.url
        );
        let fake = Fake::http(move |_| Reply::Bytes(reply.clone().into_bytes())).await;
        let answer = ask(&strict(&fake.url), key(ALICE)).await;
        let found = match &answer {
            Err(VerifyError::Refused { status, .. }) => *status,
            other => panic!("{other:?}"),
        };
        assert_eq!(found, status);
        assert_eq!((fake.requests().len(), elsewhere.connections()), (1, 0));
    }
}

#[tokio::test]
async fn a_server_that_is_away_is_noticed_at_once_and_one_that_hangs_in_time() {
    let fake = Fake::http(|_| json("200 OK", "{\"Allow\":true}")).await;
    let admission = strict(&fake.url);
    assert_eq!(word(&ask(&admission, key(ALICE)).await), "allow");
    fake.kill().await;
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a refusal takes is the point"
    )]
    let start = Instant::now();
    assert_eq!(word(&ask(&admission, key(ALICE)).await), "unreachable");
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );

    let limit = Duration::from_millis(100);
    let hanging = Fake::http(|_| Reply::Hang).await;
    let admission = Admission::new(&hanging.url, options(limit)).unwrap();
    assert_eq!(word(&ask(&admission, key(ALICE)).await), "timed out");

    // It was reached, and began to answer.
    let half =
        Fake::http(|_| Reply::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".into()));
    let half = half.await;
    let admission = Admission::new(&half.url, options(limit)).unwrap();
    assert_eq!(word(&ask(&admission, key(ALICE)).await), "bad answer");
}

#[test]
fn what_is_an_answer() {
    // The answer, strictly read, and as the reference reads it: `Some(allow)` or none.
    let (yes, no, bad) = (Some(true), Some(false), None);
    let table: &[(&[u8], Option<bool>, Option<bool>)] = &[
        (br#"{"Allow":true}"#, yes, yes),
        (b"{\"Allow\":true}\n", yes, yes),
        (b" \t\r\n{ \"Allow\" : true }  ", yes, yes),
        (br#"{"Allow":false}"#, no, no),
        (br#"{"Allow":true,"Other":[1,{"x":null}]}"#, yes, yes),
        (br#"{"\u0041llow":true}"#, yes, yes),
        (br#"{"allow":true}"#, bad, yes),
        (br#"{"ALLOW":true}"#, bad, yes),
        (br#"{"Allow":false,"allow":true}"#, no, yes),
        (br#"{"Allow":true,"allow":false}"#, yes, no),
        (br#"{"Allow":true,"Allow":true}"#, bad, yes),
        (br#"{"Allow":false,"Allow":true}"#, bad, yes),
        (br#"{"Allow":true,"Allow":null}"#, bad, yes),
        (br#"{}"#, bad, no),
        (br#"null"#, bad, no),
        (br#"{"Allow":null}"#, bad, no),
        (br#"{"Allowed":true}"#, bad, no),
        (br#"{"Allow ":true}"#, bad, no),
        (br#"{"Allow":"true"}"#, bad, bad),
        (br#"{"Allow":1}"#, bad, bad),
        (br#"{"Allow":[true]}"#, bad, bad),
        (br#"{"Allow":{}}"#, bad, bad),
        (br#"{"Allow":True}"#, bad, bad),
        (br#"{"Allow":true"#, bad, bad),
        (br#"{"Allow":tru"#, bad, bad),
        (br#"{"Allow":true,}"#, bad, bad),
        (br#"{'Allow':true}"#, bad, bad),
        (br#"{Allow:true}"#, bad, bad),
        (br#"{"Allow"true}"#, bad, bad),
        (br#"[true]"#, bad, bad),
        (br#"[{"Allow":true}]"#, bad, bad),
        (br#""{\"Allow\":true}""#, bad, bad),
        (br#"true"#, bad, bad),
        (b"", bad, bad),
        (b"   ", bad, bad),
        (b"\0", bad, bad),
        (b"\xef\xbb\xbf{\"Allow\":true}", bad, bad),
        (b"\xff\xfe{\0", bad, bad),
        (br#"{"Allow":true}{"Allow":false}"#, bad, yes),
        (br#"{"Allow":true}x"#, bad, yes),
        (b"{\"Allow\":true}\0", bad, yes),
        (b"{\"Allow\":true,\"x\":\"\xff\"}", bad, yes),
        (b"{\"Allow\":true,\"\xff\":1}", bad, yes),
        (b"{\"Allow\":true/* yes */}", bad, bad),
        (b"HTTP/1.1 200 OK\r\n\r\n{\"Allow\":true}", bad, bad),
    ];
    for (body, strict, lenient) in table {
        let allows = |how| parse_answer(body, how).ok().map(|verdict| verdict.allow);
        let found = [Reading::Strict, Reading::Lenient].map(allows);
        assert_eq!(
            found,
            [*strict, *lenient],
            "{}",
            String::from_utf8_lossy(body)
        );
    }
    let deep = format!(
        "{{\"Allow\":true,\"x\":{}1{}}}",
        "[".repeat(1000),
        "]".repeat(1000)
    );
    assert!(
        parse_answer(deep.as_bytes(), Reading::Strict).is_ok(),
        "what is skipped is not kept"
    );
}

#[test]
fn a_strict_answer_may_say_more_than_yes_or_no() {
    let rate = |bytes_per_second, burst_bytes| {
        Some(RateLimit {
            bytes_per_second,
            burst_bytes,
        })
    };
    let more = |group: Option<&str>, rate, seconds: Option<u64>| {
        let mut verdict = Verdict::allow();
        verdict.group = group.map(str::to_owned);
        verdict.rate = rate;
        verdict.time_to_live = seconds.map(Duration::from_secs);
        Some(verdict)
    };
    let table = [
        (r#""Other":1"#, more(None, None, None)),
        (
            r#""RateLimitBytesPerSec":1000"#,
            more(None, rate(1000, 1000), None),
        ),
        (
            r#""BurstBytes":5000,"RateLimitBytesPerSec":1000"#,
            more(None, rate(1000, 5000), None),
        ),
        (r#""BurstBytes":5000"#, more(None, None, None)),
        (
            r#""Group":"friends","TTLSeconds":30"#,
            more(Some("friends"), None, Some(30)),
        ),
        (
            r#""Group":null,"TTLSeconds":null,"RateLimitBytesPerSec":null"#,
            more(None, None, None),
        ),
        (r#""Group":"""#, more(None, None, None)),
        (r#""TTLSeconds":-1"#, None),
        (r#""TTLSeconds":1.5"#, None),
        (r#""TTLSeconds":"30""#, None),
        (r#""TTLSeconds":1,"TTLSeconds":2"#, None),
        (r#""Group":["a"]"#, None),
        (r#""RateLimitBytesPerSec":18446744073709551616"#, None),
    ];
    for (fields, expected) in table {
        let body = format!("{{\"Allow\":true,{fields}}}");
        let strict = parse_answer(body.as_bytes(), Reading::Strict).ok();
        assert_eq!(strict, expected, "{body}");
        // The reference knows nothing of these.
        let lenient = parse_answer(body.as_bytes(), Reading::Lenient).ok();
        assert_eq!(lenient, Some(Verdict::allow()), "{body}");
    }
}

#[tokio::test]
async fn a_secret_is_sent_read_anew_each_time_and_never_printed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("token");
    let fake = Fake::http(|_| json("200 OK", "{\"Allow\":true}")).await;
    let mut options = HttpOptions::default();
    options.credentials = Some(Credentials::BearerFile(path.clone()));
    let missing = Admission::new(&fake.url, options.clone());
    assert!(matches!(missing, Err(HttpConfigError::Credentials(_))));

    fs::write(&path, "hunter2\n").unwrap();
    let admission = Admission::new(&fake.url, options).unwrap();
    assert_eq!(word(&ask(&admission, key(ALICE)).await), "allow");
    fs::write(&path, "hunter3\n").unwrap();
    assert_eq!(word(&ask(&admission, key(ALICE)).await), "allow");
    for bad in ["", "two\nlines", "ümlaut", "a\u{7f}b"] {
        fs::write(&path, bad).unwrap();
        let answer = ask(&admission, key(ALICE)).await;
        assert_eq!(word(&answer), "bad answer", "{bad:?}");
        assert!(!answer.unwrap_err().to_string().contains("ümlaut"));
    }
    let sent: Vec<String> = fake
        .requests()
        .iter()
        .flat_map(|request| request.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.starts_with("Authorization"))
        .collect();
    assert_eq!(
        sent,
        [
            "Authorization: Bearer hunter2",
            "Authorization: Bearer hunter3"
        ]
    );
    assert!(!format!("{admission:?}").contains("hunter"));
}

#[tokio::test]
async fn a_proxy_is_used_only_where_it_is_named() {
    let fake = Fake::http(|_| json("200 OK", "{\"Allow\":true}")).await;
    let proxy = Fake::http(|request| match request.starts_with("CONNECT ") {
        true => Reply::Bytes(b"HTTP/1.1 200 Connected\r\n\r\n".into()),
        false => json("200 OK", "{\"Allow\":false}"),
    })
    .await;
    let mut options = HttpOptions::default();
    options.proxy = Some(proxy.url.clone());
    let admission = Admission::new("http://controller.invalid:81/", options).unwrap();
    // This proxy plays the controller as well.
    assert_eq!(word(&ask(&admission, key(ALICE)).await), "deny");
    assert_eq!(
        proxy.requests()[0],
        "CONNECT controller.invalid:81 HTTP/1.1\r\nHost: controller.invalid:81\r\n\
         User-Agent: Go-http-client/1.1\r\nAccept-Encoding: gzip\r\n\r\n"
    );
    assert_eq!(fake.connections(), 0);
}

#[tokio::test]
async fn a_controller_may_listen_at_a_unix_socket() {
    let dir = TempDir::new().unwrap();
    let fake = Fake::unix(&dir.path().join("v.sock"), |_| {
        json("200 OK", "{\"Allow\":true}")
    });
    let admission = strict(&format!("{}:/verify", fake.url));
    assert_eq!(word(&ask(&admission, key(ALICE)).await), "allow");
    assert!(fake.requests()[0].starts_with("POST /verify HTTP/1.1\r\nHost: localhost\r\n"));
}
