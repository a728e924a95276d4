//! A tailscaled of any version, and none.
#![cfg(feature = "tailscaled")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use derp_verify::{AnyOf, Tailscaled, Verifier};
use tempfile::TempDir;

use self::support::{ALICE, BOB, Fake, Reply, ask, key, word};

fn socket() -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("tailscaled.sock");
    (dir, path)
}

/// An answer as tailscaled gives it: in chunks, where it is long.
fn reply(status: &str, body: &str) -> Reply {
    let chunk = match body.len() {
        0 => String::new(),
        len => format!("{len:x}\r\n{body}\r\n"),
    };
    let text = format!(
        "HTTP/1.1 {status}\r\nTailscale-Cap: 145\r\nTailscale-Version: 1.102.5-t1\r\n\
         Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"
    );
    Reply::Bytes(text.into_bytes())
}

fn is_whois_of(request: &str, key: &str) -> bool {
    request.contains(&format!("whois?addr={}", key.replace(':', "%3A")))
}

/// A tailscaled that knows Alice, and is Bob, whom its `whois` does not find.
fn recent(request: &str) -> Reply {
    if is_whois_of(request, ALICE) {
        let body = format!(
            "{{\n\t\"Node\": {{\"ID\": 1, \"Key\": \"{ALICE}\"}},\n\t\"UserProfile\": {{}}\n}}"
        );
        return reply("200 OK", &body);
    }
    if request.contains("whois") {
        return reply("404 Not Found", "no match for IP:port\n");
    }
    reply(
        "200 OK",
        &format!("{{\"Self\": {{\"PublicKey\": \"{BOB}\"}}, \"Peer\": null}}"),
    )
}

#[tokio::test]
async fn the_request_is_byte_for_byte_that_of_the_reference() {
    let (_dir, path) = socket();
    let fake = Fake::unix(&path, recent);
    assert_eq!(
        word(&ask(&Tailscaled::new(&path), key(ALICE)).await),
        "allow"
    );
    let digits = ALICE.trim_start_matches("nodekey:");
    let expected = format!(
        "GET /localapi/v0/whois?addr=nodekey%3A{digits} HTTP/1.1\r\nHost: local-tailscaled.sock\r\n\
         User-Agent: Go-http-client/1.1\r\nTailscale-Cap: 145\r\nAccept-Encoding: gzip\r\n\r\n"
    );
    assert_eq!(fake.requests(), [expected]);
}

#[tokio::test]
async fn members_and_tailscaleds_own_node_come_in_and_strangers_do_not() {
    let (_dir, path) = socket();
    let _fake = Fake::unix(&path, recent);
    let tailscaled = Tailscaled::new(&path);
    let stranger = support::nth_key(1);
    for (key, expected) in [
        (key(ALICE), "allow"),
        (key(BOB), "allow"),
        (stranger, "deny"),
    ] {
        assert_eq!(word(&ask(&tailscaled, key).await), expected);
    }
}

#[tokio::test]
async fn a_tailscaled_that_looks_up_no_keys_is_asked_for_its_status() {
    for refusal in ["invalid 'addr' parameter\n", "invalid 'addr' parameter"] {
        let (_dir, path) = socket();
        let _fake = Fake::unix(&path, move |request| match request.contains("whois") {
            true => reply("400 Bad Request", refusal),
            false => {
                let peers =
                    format!("{{\"{ALICE}\": {{\"PublicKey\": \"{ALICE}\", \"ID\": \"x\"}}}}");
                let own = format!("{{\"PublicKey\": \"{BOB}\"}}");
                reply(
                    "200 OK",
                    &format!("{{\"Self\": {own}, \"Peer\": {peers}, \"Version\": \"1.30\"}}"),
                )
            }
        });
        let tailscaled = Tailscaled::new(&path);
        let stranger = support::nth_key(1);
        for (key, expected) in [
            (key(ALICE), "allow"),
            (key(BOB), "allow"),
            (stranger, "deny"),
        ] {
            assert_eq!(word(&ask(&tailscaled, key).await), expected);
        }
    }
}

#[tokio::test]
async fn odd_answers_admit_nobody() {
    let about_bob = format!("{{\"Node\": {{\"Key\": \"{BOB}\"}}}}");
    let table = [
        ("refused", "403 Forbidden", "whois access denied\n"),
        ("refused", "500 Internal Server Error", "no backend\n"),
        (
            "refused",
            "400 Bad Request",
            "invalid nodekey in 'addr' parameter\n",
        ),
        ("bad answer", "200 OK", ""),
        ("bad answer", "200 OK", "<html>"),
        ("bad answer", "200 OK", "{}"),
        ("bad answer", "200 OK", "{\"Node\": null}"),
        ("bad answer", "200 OK", about_bob.as_str()),
    ];
    for (expected, status, body) in table {
        let (_dir, path) = socket();
        let (status, body) = (status.to_owned(), body.to_owned());
        let shown = format!("{status} {body}");
        let _fake = Fake::unix(&path, move |_| reply(&status, &body));
        let answer = ask(&Tailscaled::new(&path), key(ALICE)).await;
        assert_eq!(word(&answer), expected, "{shown}: {answer:?}");
        let text = answer.unwrap_err().to_string();
        let uid = rustix::process::geteuid().as_raw();
        let named = [
            path.display().to_string(),
            format!("user {uid}"),
            "1.102.5-t1".to_owned(),
        ];
        assert!(named.iter().all(|part| text.contains(part)), "{text}");
    }
}

/// One that is denied would be cut off, and one that is unknown may be nobody's fault but
/// tailscaled's.
#[tokio::test]
async fn nobody_is_denied_by_a_tailscaled_that_does_not_know_its_tailnet() {
    let zero = format!("nodekey:{}", "0".repeat(64));
    for (state, own, expected) in [
        ("Running", BOB, "deny"),
        // It has heard from its control server, and has no relay yet.
        ("Starting", BOB, "deny"),
        ("Starting", zero.as_str(), "unreachable"),
        ("NoState", zero.as_str(), "unreachable"),
        ("NeedsLogin", zero.as_str(), "unreachable"),
        ("NeedsLogin", BOB, "unreachable"),
        ("NeedsMachineAuth", BOB, "unreachable"),
        ("Stopped", BOB, "unreachable"),
    ] {
        for (status, refusal) in [
            ("404 Not Found", "no match for IP:port\n"),
            ("400 Bad Request", "invalid 'addr' parameter\n"),
        ] {
            let (_dir, path) = socket();
            let body = format!(
                "{{\"BackendState\": \"{state}\", \"Self\": {{\"PublicKey\": \"{own}\"}}}}"
            );
            let _fake = Fake::unix(&path, move |request| match request.contains("whois") {
                true => reply(status, refusal),
                false => reply("200 OK", &body),
            });
            let tailscaled = Tailscaled::new(&path);
            let answer = ask(&tailscaled, key(ALICE)).await;
            assert_eq!(word(&answer), expected, "{state}, {own}, {status}");
            // Its own node may use the relay in any case.
            if own == BOB {
                assert_eq!(word(&ask(&tailscaled, key(BOB)).await), "allow");
            }
        }
    }
}

#[tokio::test]
async fn a_tailscaled_that_learns_of_its_tailnet_between_two_answers_is_asked_once_more() {
    let (_dir, path) = socket();
    let asked_before = AtomicBool::new(false);
    let _fake = Fake::unix(&path, move |request| {
        match is_whois_of(request, ALICE) && !asked_before.swap(true, Ordering::SeqCst) {
            true => reply("404 Not Found", "no match for IP:port\n"),
            false => recent(request),
        }
    });
    let answer = ask(&Tailscaled::new(&path), key(ALICE)).await;
    assert_eq!(word(&answer), "allow");
}

#[tokio::test]
async fn one_that_is_away_hangs_or_comes_back_is_noticed_at_each_request() {
    let (_dir, path) = socket();
    let tailscaled = Tailscaled::new(&path);
    let answer = ask(&tailscaled, key(ALICE)).await;
    assert_eq!(word(&answer), "unreachable");
    assert!(
        answer
            .unwrap_err()
            .to_string()
            .contains(&path.display().to_string())
    );

    let fake = Fake::unix(&path, recent);
    assert_eq!(word(&ask(&tailscaled, key(ALICE)).await), "allow");
    fake.kill().await;
    assert_eq!(word(&ask(&tailscaled, key(ALICE)).await), "unreachable");

    std::fs::remove_file(&path).unwrap();
    let hanging = Fake::unix(&path, |_| Reply::Hang);
    let impatient = Tailscaled::new(&path).with_timeout(Duration::from_millis(100));
    assert_eq!(word(&ask(&impatient, key(ALICE)).await), "timed out");
    hanging.kill().await;

    std::fs::remove_file(&path).unwrap();
    let _again = Fake::unix(&path, recent);
    assert_eq!(word(&ask(&tailscaled, key(ALICE)).await), "allow");
}

#[tokio::test]
async fn several_sockets_are_several_tailnets() {
    let ((_dir, first), (_dir2, second)) = (socket(), socket());
    let _fake = Fake::unix(&second, recent);
    let sockets: [Arc<dyn Verifier>; 2] = [
        Arc::new(Tailscaled::new(first)),
        Arc::new(Tailscaled::new(second)),
    ];
    let any = AnyOf::new(sockets.into());
    assert_eq!(word(&ask(&any, key(ALICE)).await), "allow");
    // Who knows what the first one would have said?
    assert_eq!(word(&ask(&any, support::nth_key(1)).await), "unreachable");
}
