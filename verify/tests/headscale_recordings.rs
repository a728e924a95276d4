//! What real Headscale servers answered, played back.
//!
//! `recordings/` says which versions they were, when it was and what recorded them. Each server had
//! a node that is like any other (`laptop`), one whose key had expired (`phone`), an ephemeral one
//! (`runner`), one that joined with a tag (`gateway`), one that was tagged afterwards, and one that
//! was deleted.
#![cfg(feature = "headscale")]

#[path = "support/recordings.rs"]
mod recordings;
mod support;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use derp_verify::{Headscale, HeadscaleOptions, HeadscaleVerify, HttpOptions, NodeRules, Verifier};
use tempfile::TempDir;

use self::recordings::{Recording, essence};
use self::support::{Fake, Reply, ask, word};

/// Servers that list a node's tags in three lists, and leave a tagged node to its user.
const THREE_LISTS: &str = include_str!("recordings/headscale-0.26.1.json");
/// Servers that list them in one, and say that a tagged node belongs to `tagged-devices`.
const ONE_LIST: [&str; 2] = [
    include_str!("recordings/headscale-0.29.2.json"),
    include_str!("recordings/headscale-0.30-dev.json"),
];

/// All of a server's nodes, one that was, and one that never was.
const NODES: [&str; 7] = [
    "laptop",
    "phone",
    "runner",
    "gateway",
    "tagged-later",
    "deleted",
    "stranger",
];

fn recordings() -> Vec<Recording> {
    [THREE_LISTS, ONE_LIST[0], ONE_LIST[1]]
        .map(Recording::read)
        .into()
}

/// Who comes in, of [`NODES`].
async fn admitted(recording: &Recording, verifier: &dyn Verifier) -> Vec<&'static str> {
    let mut admitted = Vec::new();
    for node in NODES {
        match word(&ask(verifier, recording.key(node)).await) {
            "allow" => admitted.push(node),
            "deny" => {}
            other => panic!("{}, {node}: {other}", recording.server),
        }
    }
    admitted
}

fn headscale(url: &str, options: HeadscaleOptions) -> (TempDir, Headscale) {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("api.key");
    fs::write(&path, "secret.of.ours\n").expect("a file");
    let headscale = Headscale::new(url, path, options).expect("good options");
    (dir, headscale)
}

fn rules(change: impl FnOnce(&mut NodeRules)) -> HeadscaleOptions {
    let mut options = HeadscaleOptions::default();
    change(&mut options.rules);
    options
}

fn names(names: &[&str]) -> std::collections::HashSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn verify_is_asked_as_the_servers_were_and_knows_every_node_it_has() {
    for recording in recordings() {
        let recording = Arc::new(recording);
        let served = Arc::clone(&recording);
        let fake = Fake::http(move |request| served.reply(request)).await;
        let verify = HeadscaleVerify::new(&fake.url, HttpOptions::default()).unwrap();
        let expected = ["laptop", "phone", "runner", "gateway", "tagged-later"];
        let admitted = admitted(&recording, &verify).await;
        assert_eq!(admitted, expected, "{}", recording.server);
        assert_eq!(fake.connections(), 1, "the connection is kept");
    }
}

#[tokio::test]
async fn the_list_admits_by_user_tag_and_expiry_whatever_its_form() {
    let by_rule = |ann: &'static [&'static str]| {
        [
            (
                rules(|_| {}),
                &["laptop", "phone", "runner", "gateway", "tagged-later"][..],
            ),
            (
                rules(|rules| rules.refuse_expired = true),
                &["laptop", "runner", "gateway", "tagged-later"],
            ),
            (rules(|rules| rules.users = names(&["ann"])), ann),
            (
                rules(|rules| rules.tags = names(&["tag:relay"])),
                &["gateway"],
            ),
            (
                rules(|rules| rules.tags = names(&["tag:server", "tag:relay"])),
                &["gateway", "tagged-later"],
            ),
            (rules(|rules| rules.tags = names(&["tag:other"])), &[]),
        ]
    };
    for (n, recording) in recordings().into_iter().enumerate() {
        let ann: &[_] = match n {
            0 => &["laptop", "runner", "gateway"],
            _ => &["laptop", "runner"],
        };
        let answer = recording.answer("nodes");
        let fake = Fake::http(move |_| Reply::Bytes(answer.clone())).await;
        for (options, expected) in by_rule(ann) {
            let shown = format!("{}: {:?}", recording.server, options.rules);
            let (_dir, headscale) = headscale(&fake.url, options);
            assert_eq!(admitted(&recording, &headscale).await, expected, "{shown}");
        }
        let asked = recording.exchange("nodes").request.clone();
        for request in fake.requests() {
            assert_eq!(essence(&request), essence(&asked));
            assert!(request.contains("\r\nAuthorization: Bearer secret.of.ours\r\n"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_deleted_is_out_when_the_list_is_read_again() {
    for recording in recordings() {
        let [before, after] = ["nodes_before_delete", "nodes"].map(|name| recording.answer(name));
        let is_deleted = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_deleted);
        let fake = Fake::http(move |_| {
            Reply::Bytes(match asked.load(Ordering::SeqCst) {
                false => before.clone(),
                true => after.clone(),
            })
        })
        .await;
        let mut options = HeadscaleOptions::default();
        // Simulated time runs ahead while sockets are waited for.
        options.http.timeout = Duration::from_secs(3600);
        let (_dir, headscale) = headscale(&fake.url, options);
        let deleted = recording.key("deleted");
        assert_eq!(word(&ask(&headscale, deleted).await), "allow");
        is_deleted.store(true, Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(2)).await;
        headscale.refresh().await.unwrap();
        assert_eq!(word(&ask(&headscale, deleted).await), "deny");
        assert_eq!(
            word(&ask(&headscale, recording.key("laptop")).await),
            "allow"
        );
    }
}

#[tokio::test]
async fn a_server_without_nodes_admits_nobody() {
    for recording in recordings() {
        let answer = recording.answer("nodes_none");
        let fake = Fake::http(move |_| Reply::Bytes(answer.clone())).await;
        let (_dir, headscale) = headscale(&fake.url, HeadscaleOptions::default());
        assert_eq!(
            admitted(&recording, &headscale).await,
            Vec::<&str>::new(),
            "{}",
            recording.server
        );
    }
}

#[tokio::test]
async fn refusals_are_no_answers_and_name_their_status() {
    // A wrong API key was an internal error once.
    let statuses = [
        ["500", "401", "500", "404"],
        ["401", "401", "400", "405"],
        ["401", "401", "400", "405"],
    ];
    for (recording, statuses) in recordings().into_iter().zip(statuses) {
        let refusals = [
            "nodes_wrong_key",
            "nodes_without_key",
            "verify_not_json",
            "verify_by_get",
        ];
        for (name, status) in refusals.into_iter().zip(statuses) {
            let answer = recording.answer(name);
            let fake = Fake::http(move |_| Reply::Bytes(answer.clone())).await;
            let (_dir, list) = headscale(&fake.url, HeadscaleOptions::default());
            let verify = HeadscaleVerify::new(&fake.url, HttpOptions::default()).unwrap();
            for verifier in [&list as &dyn Verifier, &verify] {
                let answer = ask(verifier, recording.key("laptop")).await;
                assert_eq!(word(&answer), "refused", "{}, {name}", recording.server);
                let text = answer.unwrap_err().to_string();
                assert!(text.contains(status), "{name}: {text}");
                assert!(!text.contains("secret"), "{text}");
            }
        }
    }
}

/// However much of it came before the server died: a list is whole or it is none.
#[tokio::test]
async fn an_answer_that_breaks_off_admits_nobody() {
    for recording in recordings() {
        for name in ["nodes", "verify_laptop"] {
            let whole = recording.answer(name);
            let step = (whole.len() / 40).max(1);
            for len in (0..whole.len()).step_by(step) {
                let part = whole[..len].to_vec();
                let fake = Fake::http(move |_| Reply::Last(part.clone())).await;
                let (_dir, list) = headscale(&fake.url, HeadscaleOptions::default());
                let verify = HeadscaleVerify::new(&fake.url, HttpOptions::default()).unwrap();
                let verifier: &dyn Verifier = if name == "nodes" { &list } else { &verify };
                let answer = ask(verifier, recording.key("laptop")).await;
                assert!(answer.is_err(), "{name}, {len} bytes: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_is_killed_or_hangs_is_an_outage_and_comes_back() {
    for recording in recordings() {
        let path = Path::new("/verify");
        let dir = TempDir::new().unwrap();
        let socket = dir.path().join("headscale.sock");
        let url = format!("unix://{}:{}", socket.display(), path.display());
        let mut options = HttpOptions::default();
        let verify = HeadscaleVerify::new(&url, options.clone()).unwrap();
        options.timeout = Duration::from_millis(100);
        let impatient = HeadscaleVerify::new(&url, options).unwrap();
        let laptop = recording.key("laptop");
        let mut words = Vec::new();
        let answers = [
            Reply::Bytes(recording.answer("verify_laptop")),
            Reply::Hang,
            Reply::Bytes(recording.answer("verify_laptop")),
        ];
        for answer in answers {
            let hangs = matches!(answer, Reply::Hang);
            let fake = Fake::unix(&socket, move |_| answer.clone());
            let asked = if hangs { &impatient } else { &verify };
            words.push(word(&ask(asked, laptop).await));
            fake.kill().await;
            words.push(word(&ask(&verify, laptop).await));
            fs::remove_file(&socket).unwrap();
        }
        let expected = [
            "allow",
            "unreachable",
            "timed out",
            "unreachable",
            "allow",
            "unreachable",
        ];
        assert_eq!(words, expected, "{}", recording.server);
    }
}
