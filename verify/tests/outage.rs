//! Outages over real sockets: a controller that was killed, and one that swallows everything.
//! And what is asked about clients that are connected already.
#![cfg(all(feature = "admission", feature = "cached"))]

mod support;

use std::sync::Arc;
use std::time::Duration;

use derp_verify::{
    Admission, Allowlist, CacheOptions, Cached, Candidate, ConnMeta, Counted, FailMode,
    HttpOptions, Verifier, VerifyCounters,
};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::support::{ALICE, BOB, Fake, Reply, ask, json, key, nth_key, word};

fn cached(url: &str, options: CacheOptions) -> Arc<Cached<Admission>> {
    let admission = Admission::new(url, HttpOptions::default()).expect("a good URL");
    Arc::new(Cached::new("url", admission, options))
}

fn failing(fail_mode: FailMode) -> CacheOptions {
    let mut options = CacheOptions::default();
    options.fail_mode = fail_mode;
    options
}

/// Asks about a client that is connected.
async fn ask_again(verifier: &dyn Verifier, client: &str) -> &'static str {
    let conn = ConnMeta::default();
    let mut candidate = Candidate::new(key(client), &conn);
    candidate.is_recheck = true;
    word(&verifier.verify(&candidate).await)
}

#[tokio::test]
async fn a_killed_controller_admits_nobody_and_that_is_decided_at_once() {
    for (fail_mode, expected) in [(FailMode::Closed, 0), (FailMode::Open, 100)] {
        let fake = Fake::http(|_| json("200 OK", "{\"Allow\":true}")).await;
        let cached = cached(&fake.url, failing(fail_mode));
        assert_eq!(word(&ask(&cached, nth_key(0)).await), "allow");
        fake.kill().await;
        let (mut admitted, mut times) = (0, Vec::new());
        for n in 1..=100 {
            let start = Instant::now();
            let answer = ask(&cached, nth_key(n)).await;
            times.push(start.elapsed());
            admitted += u32::from(word(&answer) == "allow");
        }
        assert_eq!(admitted, expected, "{fail_mode:?}");
        // The machine may be busy with something else for a while, but not half of the time.
        times.sort_unstable();
        assert!(times[50] <= Duration::from_millis(50), "{:?}", times[50]);
        // The one that was admitted before stays welcome.
        assert_eq!(word(&ask(&cached, nth_key(0)).await), "allow");
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_logins_before_a_black_hole_hold_64_connections() {
    let hole = Fake::http(|_| Reply::Hang).await;
    let cached = cached(&hole.url, CacheOptions::default());
    let start = Instant::now();
    let mut asking = JoinSet::new();
    for n in 0..10_000 {
        let cached = Arc::clone(&cached);
        asking.spawn(async move { word(&ask(&cached, nth_key(n)).await) });
    }
    let answers = asking.join_all().await;
    let took = start.elapsed();
    assert!(took <= Duration::from_secs(15), "{took:?}");
    assert_eq!(answers.iter().filter(|word| **word == "allow").count(), 0);
    assert!(
        hole.connections() <= 64,
        "{} connections",
        hole.connections()
    );
    assert_eq!(cached.in_flight(), 0);
}

#[tokio::test]
async fn whoever_is_connected_is_asked_about_anew() {
    let removed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_removed = Arc::clone(&removed);
    let fake = Fake::http(move |_| {
        let allow = !is_removed.load(std::sync::atomic::Ordering::SeqCst);
        json("200 OK", &format!("{{\"Allow\":{allow}}}"))
    })
    .await;
    let cached = cached(&fake.url, CacheOptions::default());
    assert_eq!(word(&ask(&cached, key(ALICE)).await), "allow");
    assert_eq!(ask_again(&cached, ALICE).await, "allow");
    assert_eq!(fake.requests().len(), 2);
    removed.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(
        word(&ask(&cached, key(ALICE)).await),
        "allow",
        "by the cache"
    );
    assert_eq!(ask_again(&cached, ALICE).await, "deny");
    // That is known from now on, for those who come again as well.
    assert_eq!(word(&ask(&cached, key(ALICE)).await), "deny");
    assert_eq!(fake.requests().len(), 3);
}

#[tokio::test]
async fn an_outage_says_nothing_about_whoever_is_connected() {
    let fake = Fake::http(|_| json("200 OK", "{\"Allow\":true}")).await;
    let cached = cached(&fake.url, CacheOptions::default());
    assert_eq!(word(&ask(&cached, key(ALICE)).await), "allow");
    fake.kill().await;
    assert_eq!(ask_again(&cached, ALICE).await, "allow");
    assert_eq!(ask_again(&cached, BOB).await, "unreachable");
}

#[tokio::test]
async fn a_lists_answers_are_counted_and_its_changes_count_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes");
    std::fs::write(&path, ALICE).unwrap();
    let list = Arc::new(Allowlist::from_file(&path).unwrap());
    let counters = Arc::new(VerifyCounters::new("allowlist"));
    let counted = Counted::new(Arc::clone(&counters), Arc::clone(&list));
    assert_eq!(word(&ask(&counted, key(ALICE)).await), "allow");
    std::fs::write(&path, "[]").unwrap();
    list.reload().unwrap();
    assert_eq!(word(&ask(&counted, key(ALICE)).await), "deny");
    let counts: Vec<u64> = counters.iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [1, 1, 0, 0, 0, 0]);
}
