//! What is remembered, how much is asked, and what happens in an outage; in simulated time.
#![cfg(feature = "cached")]

mod support;

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use derp_proto::NodePublic;
use derp_verify::{
    CacheOptions, Cached, Candidate, FailMode, Verdict, Verifier, VerifyError, VerifyResult,
    async_trait,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep};

use self::support::{ask, nth_key, word};

/// What the verifier behind does.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Allow,
    Deny,
    Refuse(u16),
    Babble,
    Unreachable,
    Hang,
}

#[derive(Debug)]
struct Script {
    mood: Mutex<Mood>,
    takes: Duration,
    asked: AtomicUsize,
    now_in_flight: Mutex<HashSet<NodePublic>>,
    most_in_flight: AtomicUsize,
}

impl Script {
    fn new(mood: Mood, takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            mood: Mutex::new(mood),
            takes,
            asked: AtomicUsize::new(0),
            now_in_flight: Mutex::default(),
            most_in_flight: AtomicUsize::new(0),
        })
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().expect("no test panicked here") = mood;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

struct Flying<'a>(&'a Script, NodePublic);

impl Drop for Flying<'_> {
    fn drop(&mut self) {
        self.0
            .now_in_flight
            .lock()
            .expect("no test panicked here")
            .remove(&self.1);
    }
}

#[async_trait]
impl Verifier for Script {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let _flying = {
            let mut flying = self.now_in_flight.lock().expect("no test panicked here");
            assert!(flying.insert(client.key), "two requests about one key");
            self.most_in_flight
                .fetch_max(flying.len(), Ordering::SeqCst);
            Flying(self, client.key)
        };
        sleep(self.takes).await;
        let mood = *self.mood.lock().expect("no test panicked here");
        match mood {
            Mood::Allow => Ok(Verdict::allow()),
            Mood::Deny => Ok(Verdict::deny("no")),
            Mood::Refuse(status) => Err(VerifyError::Refused {
                what: "it".into(),
                status,
                is_denial: status < 500,
            }),
            Mood::Babble => Err(VerifyError::BadAnswer("eh?".into())),
            Mood::Unreachable => Err(VerifyError::Unreachable {
                what: "it".into(),
                source: io::ErrorKind::ConnectionRefused.into(),
            }),
            Mood::Hang => std::future::pending().await,
        }
    }
}

fn cached(
    script: &Arc<Script>,
    change: impl FnOnce(&mut CacheOptions),
) -> Arc<Cached<Arc<Script>>> {
    let mut options = CacheOptions::default();
    change(&mut options);
    Arc::new(Cached::new("script", Arc::clone(script), options))
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_admission_is_remembered_a_minute_and_a_denial_a_second() {
    let script = Script::new(Mood::Allow, Duration::ZERO);
    let cached = cached(&script, |_| {});
    for (mood, holds, expected) in [(Mood::Allow, 60, "allow"), (Mood::Deny, 1, "deny")] {
        script.set(mood);
        let before = script.asked();
        cached.forget(&nth_key(1));
        assert_eq!(word(&ask(&cached, nth_key(1)).await), expected);
        advance(holds * SECOND - Duration::from_millis(10)).await;
        assert_eq!(word(&ask(&cached, nth_key(1)).await), expected);
        assert_eq!(script.asked() - before, 1);
        advance(Duration::from_millis(10)).await;
        assert_eq!(word(&ask(&cached, nth_key(1)).await), expected);
        assert_eq!(script.asked() - before, 2);
    }
    let counts: Vec<u64> = cached.counters().iter().map(|(_, n)| n).collect();
    assert_eq!(counts, [2, 2, 0, 0, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_bridged_for_those_who_were_admitted_and_for_ten_minutes() {
    let script = Script::new(Mood::Allow, Duration::ZERO);
    let cached = cached(&script, |options| options.failures = u32::MAX);
    assert_eq!(word(&ask(&cached, nth_key(1)).await), "allow");
    advance(61 * SECOND).await;
    for (mood, known, unknown) in [
        (Mood::Unreachable, "allow", "unreachable"),
        (Mood::Refuse(502), "allow", "refused"),
        (Mood::Hang, "allow", "timed out"),
        // This may be meant as a denial.
        (Mood::Refuse(403), "refused", "refused"),
    ] {
        script.set(mood);
        let answers = (
            ask(&cached, nth_key(1)).await,
            ask(&cached, nth_key(2)).await,
        );
        assert_eq!(
            (word(&answers.0), word(&answers.1)),
            (known, unknown),
            "{mood:?}"
        );
    }
    assert_eq!(cached.counters().get(VerifyResult::Stale), 3);
    script.set(Mood::Unreachable);
    advance(540 * SECOND).await;
    assert_eq!(word(&ask(&cached, nth_key(1)).await), "unreachable");
    // A denial ends it for good.
    script.set(Mood::Allow);
    assert_eq!(word(&ask(&cached, nth_key(1)).await), "allow");
    advance(61 * SECOND).await;
    script.set(Mood::Deny);
    assert_eq!(word(&ask(&cached, nth_key(1)).await), "deny");
    script.set(Mood::Unreachable);
    advance(2 * SECOND).await;
    assert_eq!(word(&ask(&cached, nth_key(1)).await), "unreachable");
}

#[tokio::test(start_paused = true)]
async fn failing_open_is_for_verifiers_that_cannot_be_reached_and_for_no_others() {
    for (mood, expected) in [
        (Mood::Unreachable, "allow"),
        (Mood::Hang, "allow"),
        (Mood::Refuse(500), "refused"),
        (Mood::Refuse(403), "refused"),
        (Mood::Deny, "deny"),
    ] {
        let script = Script::new(mood, Duration::ZERO);
        let cached = Cached::new("open", script, {
            let mut options = CacheOptions::uncached();
            options.fail_mode = FailMode::Open;
            options
        });
        assert_eq!(word(&ask(&cached, nth_key(1)).await), expected, "{mood:?}");
        let opened = cached.counters().get(VerifyResult::FailOpen);
        assert_eq!(opened, u64::from(expected == "allow"));
        assert_eq!(cached.remembered(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn who_answers_nonsense_again_and_again_was_reached_and_opens_nothing() {
    for (mood, last) in [
        (Mood::Refuse(500), "suspended"),
        (Mood::Babble, "suspended"),
        (Mood::Unreachable, "allow"),
    ] {
        let script = Script::new(mood, Duration::ZERO);
        let cached = cached(&script, |options| {
            *options = CacheOptions::uncached();
            options.fail_mode = FailMode::Open;
        });
        let mut words = Vec::new();
        for n in 0..10 {
            words.push(word(&ask(&cached, nth_key(n)).await));
        }
        let admitted = words.iter().filter(|word| **word == "allow").count();
        assert_eq!(admitted, if last == "allow" { 10 } else { 0 }, "{mood:?}");
        assert_eq!((words[9], script.asked()), (last, 5), "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_given_up_is_left_to_the_next_who_asks() {
    let script = Script::new(Mood::Unreachable, SECOND / 10);
    let cached = cached(&script, |_| {});
    for n in 0..5 {
        assert_eq!(word(&ask(&cached, nth_key(n)).await), "unreachable");
    }
    script.set(Mood::Allow);
    advance(SECOND).await;
    // Another verifier is quicker with its admission.
    let quick = tokio::time::timeout(SECOND / 20, ask(&cached, nth_key(6))).await;
    assert!(quick.is_err(), "it was asked, and did not answer in time");
    assert_eq!(word(&ask(&cached, nth_key(7)).await), "allow");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_takes_too_long_is_left_in_time_for_what_is_known() {
    let script = Script::new(Mood::Allow, Duration::ZERO);
    let cached = cached(&script, |options| {
        options.max_in_flight = 1;
        options.timeout = 60 * SECOND;
    });
    assert_eq!(word(&ask(&cached, nth_key(1)).await), "allow");
    advance(61 * SECOND).await;
    script.set(Mood::Hang);
    let ahead = Arc::clone(&cached);
    let ahead = tokio::spawn(async move { word(&ask(&ahead, nth_key(0)).await) });
    while cached.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    let (known, stranger) = tokio::join!(ask(&cached, nth_key(1)), ask(&cached, nth_key(2)));
    assert_eq!((word(&known), word(&stranger)), ("allow", "overloaded"));
    assert_eq!(start.elapsed().as_secs(), 6);
    ahead.abort();
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_about_one_key_make_one_request() {
    let script = Script::new(Mood::Allow, SECOND);
    let cached = cached(&script, |_| {});
    let mut asking = JoinSet::new();
    for _ in 0..100 {
        let cached = Arc::clone(&cached);
        asking.spawn(async move { word(&ask(&cached, nth_key(1)).await) });
    }
    let answers = asking.join_all().await;
    assert_eq!(answers, ["allow"; 100]);
    assert_eq!(script.asked(), 1);
    assert_eq!(cached.counters().get(VerifyResult::Allow), 100);
}

#[tokio::test(start_paused = true)]
async fn when_the_client_that_asked_hangs_up_another_one_asks() {
    let script = Script::new(Mood::Allow, SECOND);
    let cached = cached(&script, |_| {});
    let mut asking = Vec::new();
    for _ in 0..2 {
        let cached = Arc::clone(&cached);
        asking.push(tokio::spawn(async move {
            word(&ask(&cached, nth_key(1)).await)
        }));
        sleep(SECOND / 4).await;
    }
    asking[0].abort();
    assert_eq!(asking.pop().unwrap().await.unwrap(), "allow");
    assert_eq!((script.asked(), cached.in_flight()), (2, 0));
    // When all have hung up, so has the request.
    let alone = Arc::clone(&cached);
    let alone = tokio::spawn(async move { word(&ask(&alone, nth_key(2)).await) });
    sleep(SECOND / 4).await;
    assert_eq!(cached.in_flight(), 1);
    alone.abort();
    assert!(alone.await.unwrap_err().is_cancelled());
    assert_eq!(cached.in_flight(), 0);
}

/// Asks about 10 000 keys at once; how many gave which answer, and after what time at most.
async fn crowd(cached: &Arc<Cached<Arc<Script>>>) -> (Vec<(&'static str, usize)>, Duration) {
    let start = Instant::now();
    let mut asking = JoinSet::new();
    for n in 0..10_000 {
        let cached = Arc::clone(cached);
        asking.spawn(async move { word(&ask(&cached, nth_key(n)).await) });
    }
    let answers = asking.join_all().await;
    let mut words: Vec<_> = answers.clone();
    words.sort_unstable();
    words.dedup();
    let count = |word: &'static str| (word, answers.iter().filter(|one| **one == word).count());
    (words.into_iter().map(count).collect(), start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_crowd_is_answered_by_64_requests_at_once() {
    let script = Script::new(Mood::Allow, Duration::from_millis(10));
    let cached = cached(&script, |options| options.max_waiting = 10_000);
    let (answers, took) = crowd(&cached).await;
    assert_eq!(answers, [("allow", 10_000)]);
    assert_eq!(script.most_in_flight.load(Ordering::SeqCst), 64);
    assert_eq!(script.asked(), 10_000);
    assert!(took <= 3 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn of_a_crowd_beyond_the_queue_those_come_in_who_were_known() {
    let script = Script::new(Mood::Allow, Duration::from_millis(10));
    let cached = cached(&script, |_| {});
    let (answers, _) = crowd(&cached).await;
    let strangers = 10_000 - 64 - 1024;
    assert_eq!(answers, [("allow", 64 + 1024), ("overloaded", strangers)]);
    for n in 0..10_000 {
        assert_eq!(word(&ask(&cached, nth_key(n)).await), "allow");
    }
    advance(200 * SECOND).await;
    let (answers, took) = crowd(&cached).await;
    assert_eq!(answers, [("allow", 10_000)]);
    assert_eq!(cached.counters().get(VerifyResult::Stale), strangers as u64);
    assert!(took <= SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_before_a_black_hole_is_turned_away_in_time() {
    let script = Script::new(Mood::Hang, Duration::ZERO);
    let cached = cached(&script, |_| {});
    let (answers, took) = crowd(&cached).await;
    assert_eq!(
        answers,
        [
            ("overloaded", 10_000 - 64 - 1024),
            ("suspended", 1024),
            ("timed out", 64)
        ]
    );
    assert_eq!(script.most_in_flight.load(Ordering::SeqCst), 64);
    assert!(took <= 6 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_verifier_that_fails_is_probed_each_second_until_it_answers() {
    let script = Script::new(Mood::Unreachable, Duration::ZERO);
    let cached = cached(&script, |_| {});
    let mut words = Vec::new();
    for n in 0..6 {
        words.push(word(&ask(&cached, nth_key(n)).await));
    }
    assert_eq!(words[4..], ["unreachable", "suspended"]);
    advance(SECOND).await;
    let probe = (
        ask(&cached, nth_key(7)).await,
        ask(&cached, nth_key(8)).await,
    );
    assert_eq!(
        (word(&probe.0), word(&probe.1)),
        ("unreachable", "suspended")
    );
    assert_eq!(script.asked(), 6);
    advance(SECOND).await;
    script.set(Mood::Deny);
    let probe = (
        ask(&cached, nth_key(7)).await,
        ask(&cached, nth_key(8)).await,
    );
    assert_eq!((word(&probe.0), word(&probe.1)), ("deny", "deny"));
}
