//! What real tailscaleds answered, played back: a recent one, and the oldest that could be had.
//!
//! `recordings/` says what recorded them, and when. Each saw a node (`laptop`), was one itself
//! (`own`), and had another hidden from it by its control server, as by a policy.
#![cfg(feature = "tailscaled")]

#[path = "support/recordings.rs"]
mod recordings;
mod support;

use derp_verify::Tailscaled;
use tempfile::TempDir;

use self::recordings::Recording;
use self::support::{Fake, ask, word};

/// It looks up nodes by their keys.
const RECENT: &str = include_str!("recordings/tailscaled-1.102.5.json");
/// It does not, and is asked for all that it sees.
const OLD: &str = include_str!("recordings/tailscaled-1.66.4.json");

#[tokio::test]
async fn nodes_that_it_sees_come_in_and_its_own() {
    for (text, whois_alone) in [(RECENT, true), (OLD, false)] {
        let recording = Recording::read(text);
        let keys = ["laptop", "own", "hidden", "stranger"].map(|name| recording.key(name));
        let dir = TempDir::new().unwrap();
        let socket = dir.path().join("tailscaled.sock");
        let fake = Fake::unix(&socket, move |request| recording.reply(request));
        let tailscaled = Tailscaled::new(&socket);
        let mut words = Vec::new();
        for key in keys {
            words.push(word(&ask(&tailscaled, key).await));
        }
        assert_eq!(words, ["allow", "allow", "deny", "deny"]);
        let requests = fake.requests();
        let whole = |request: &&String| request.starts_with("GET /localapi/v0/status HTTP");
        assert_eq!(requests.iter().filter(whole).count() == 0, whois_alone);
    }
}

/// For such a one, no node exists at all.
#[tokio::test]
async fn one_that_knows_nobody_yet_or_any_more_gives_no_answer() {
    for (state, advice) in [
        ("starting/", "control server"),
        ("logged_out/", "tailscale up"),
    ] {
        for text in [RECENT, OLD] {
            let recording = Recording::read(text);
            let keys = ["laptop", "stranger"].map(|name| recording.key(name));
            let dir = TempDir::new().unwrap();
            let socket = dir.path().join("tailscaled.sock");
            let _fake = Fake::unix(&socket, move |request| recording.reply_in(state, request));
            let tailscaled = Tailscaled::new(&socket);
            for key in keys {
                let answer = ask(&tailscaled, key).await;
                assert_eq!(word(&answer), "unreachable", "{state}");
                let text = answer.unwrap_err().to_string();
                assert!(text.contains(advice), "{text}");
            }
        }
    }
}
