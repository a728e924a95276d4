//! A Headscale server of each form that its API has had.
#![cfg(feature = "headscale")]

mod support;

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use derp_verify::{
    Headscale, HeadscaleOptions, HeadscaleVerify, HttpOptions, NodeListError, NodeRules,
    parse_nodes,
};
use tempfile::TempDir;

use self::support::{ALICE, BOB, Fake, ask, json, key, nth_key, word};

/// A node as 0.26 and 0.27 list it.
fn old_node(id: u32, key: &str, user: &str, expiry: &str, tags: [&str; 3]) -> String {
    let [forced, valid, invalid] = tags;
    format!(
        r#"{{"id":"{id}","machineKey":"mkey:00","nodeKey":"{key}","discoKey":"discokey:00",
        "ipAddresses":["100.64.0.{id}"],"name":"n{id}","user":{{"id":"1","name":"{user}",
        "createdAt":"2025-06-01T08:00:00.123456Z","displayName":"","email":""}},
        "lastSeen":"2025-06-02T08:00:00Z","expiry":{expiry},"preAuthKey":null,
        "createdAt":"2025-06-01T08:00:00Z","registerMethod":"REGISTER_METHOD_CLI",
        "forcedTags":[{forced}],"invalidTags":[{invalid}],"validTags":[{valid}],
        "givenName":"n{id}","online":true,"approvedRoutes":[],"availableRoutes":[],
        "subnetRoutes":[]}}"#
    )
}

/// A node as 0.28 and later list it.
fn new_node(id: u32, key: &str, user: &str, expiry: &str, tags: &str) -> String {
    format!(
        r#"{{"id":"{id}","machineKey":"mkey:00","nodeKey":"{key}","discoKey":"discokey:00",
        "ipAddresses":["100.64.0.{id}"],"name":"n{id}","user":{user},"lastSeen":null,
        "expiry":{expiry},"preAuthKey":null,"createdAt":"2026-06-01T08:00:00Z",
        "registerMethod":"REGISTER_METHOD_AUTH_KEY","givenName":"n{id}","online":false,
        "approvedRoutes":[],"availableRoutes":[],"subnetRoutes":[],"tags":[{tags}]}}"#
    )
}

fn list(nodes: &[String]) -> String {
    format!("{{\"nodes\":[{}]}}", nodes.join(","))
}

fn rules(users: &[&str], tags: &[&str], refuse_expired: bool) -> NodeRules {
    let mut rules = NodeRules::default();
    rules.users = users.iter().map(|user| (*user).to_owned()).collect();
    rules.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    rules.refuse_expired = refuse_expired;
    rules
}

#[test]
fn nodes_are_chosen_by_user_and_tag_in_both_forms() {
    let (carol, dave) = (nth_key(3).to_string(), nth_key(4).to_string());
    let old = list(&[
        old_node(1, ALICE, "ann", "null", ["\"tag:a\"", "", ""]),
        old_node(
            2,
            BOB,
            "ben",
            "\"0001-01-01T00:00:00Z\"",
            ["", "\"tag:a\"", ""],
        ),
        old_node(
            3,
            &carol,
            "ann",
            "\"2099-01-01T00:00:00Z\"",
            ["", "", "\"tag:a\""],
        ),
        old_node(4, &dave, "ann", "null", ["", "", ""]),
    ]);
    let user = |name: &str| format!("{{\"id\":\"1\",\"name\":\"{name}\"}}");
    let new = list(&[
        new_node(1, ALICE, &user("ann"), "null", "\"tag:a\""),
        new_node(2, BOB, &user("ben"), "\"\"", "\"tag:b\",\"tag:a\""),
        new_node(3, &carol, &user("ann"), "null", ""),
        new_node(4, &dave, &user("ann"), "null", "\"tag:b\""),
        // A node that never logged in, and one that belongs to tags only.
        new_node(5, "", "null", "null", ""),
        new_node(6, &nth_key(6).to_string(), "null", "null", "\"tag:c\""),
    ]);
    let all = [key(ALICE), key(BOB), nth_key(3), nth_key(4)];
    for (rules, expected) in [
        (rules(&[], &[], true), [true, true, true, true]),
        (rules(&["ann"], &[], false), [true, false, true, true]),
        (rules(&[], &["tag:a"], false), [true, true, false, false]),
        (
            rules(&["ann"], &["tag:a", "tag:x"], false),
            [true, false, false, false],
        ),
        (rules(&["nobody"], &[], false), [false; 4]),
    ] {
        for form in [&old, &new] {
            let found = parse_nodes(form.as_bytes(), &rules).unwrap();
            assert_eq!(
                all.map(|key| found.contains_key(&key)),
                expected,
                "{rules:?}"
            );
        }
    }
    assert_eq!(
        parse_nodes(new.as_bytes(), &NodeRules::default())
            .unwrap()
            .len(),
        5
    );
}

#[test]
fn a_name_that_two_users_have_is_refused_and_their_numbers_tell_them_apart() {
    let user = |id: u32, name: &str| format!("{{\"id\":\"{id}\",\"name\":\"{name}\"}}");
    let nodes = list(&[
        new_node(1, ALICE, &user(1, "ann"), "null", ""),
        new_node(2, BOB, &user(7, "ann"), "null", ""),
        new_node(3, &nth_key(3).to_string(), &user(3, "ben"), "null", ""),
    ]);
    let found = |users: &[&str]| {
        let keys = parse_nodes(nodes.as_bytes(), &rules(users, &[], false))?;
        Ok::<_, NodeListError>(keys.into_keys().collect::<HashSet<_>>())
    };
    let refused = found(&["ann"]).unwrap_err().to_string();
    let report = "the users 1 and 7 are both called \"ann\"; choose nodes by id:N";
    assert_eq!(refused, report);
    let expected = HashSet::from([key(BOB), nth_key(3)]);
    assert_eq!(found(&["id:7", "ben"]).unwrap(), expected);
}

#[test]
fn a_list_that_is_not_understood_is_not_taken() {
    let strange = list(&[old_node(1, ALICE, "ann", "\"soon\"", ["", "", ""])]);
    for body in [
        "",
        "null",
        "[]",
        "{}",
        "{\"nodes\":null}",
        "{\"nodes\":[{}]}",
        "{\"nodes\":[",
        &strange,
    ] {
        assert!(
            parse_nodes(body.as_bytes(), &rules(&[], &[], true)).is_err(),
            "{body}"
        );
    }
    assert!(
        parse_nodes(b"{\"nodes\":[]}", &NodeRules::default())
            .unwrap()
            .is_empty()
    );
}

fn key_file() -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("a folder");
    let path = dir.path().join("api.key");
    fs::write(&path, "abc.def\n").expect("a file");
    (dir, path)
}

#[tokio::test]
async fn the_list_is_read_with_the_api_key_and_once_for_many() {
    let (_dir, path) = key_file();
    let nodes = list(&[old_node(1, ALICE, "ann", "null", ["", "", ""])]);
    let fake = Fake::http(move |_| json("200 OK", &nodes)).await;
    let url = format!("{}/hs/", fake.url);
    let headscale = Headscale::new(&url, path, HeadscaleOptions::default()).unwrap();
    for (key, expected) in [
        (key(ALICE), "allow"),
        (key(ALICE), "allow"),
        (key(BOB), "deny"),
    ] {
        assert_eq!(word(&ask(&headscale, key).await), expected);
    }
    let requests = fake.requests();
    assert_eq!(
        requests.len(),
        1,
        "a miss within a second reads nothing again"
    );
    let lines: Vec<&str> = requests[0].lines().collect();
    assert_eq!(lines[0], "GET /hs/api/v1/node HTTP/1.1");
    assert!(
        lines.contains(&"Authorization: Bearer abc.def"),
        "{lines:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_that_joins_comes_in_within_a_second_and_one_that_left_within_a_minute() {
    let (_dir, path) = key_file();
    let step = Arc::new(AtomicU16::new(1));
    let served = Arc::clone(&step);
    let fake = Fake::http(move |_| {
        let node = |key: &str| new_node(1, key, "null", "null", "");
        match served.load(Ordering::SeqCst) {
            1 => json("200 OK", &list(&[node(ALICE)])),
            2 => json("200 OK", &list(&[node(ALICE), node(BOB)])),
            3 => json("200 OK", &list(&[node(BOB)])),
            _ => json("401 Unauthorized", "Unauthorized"),
        }
    })
    .await;
    let mut options = HeadscaleOptions::default();
    // Simulated time runs ahead while sockets are waited for.
    options.http.timeout = Duration::from_secs(3600);
    let headscale = Headscale::new(&fake.url, path, options).unwrap();
    let mut words = Vec::new();
    for (at, pause) in [(1, 0), (2, 2), (3, 61), (4, 61)] {
        step.store(at, Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(pause)).await;
        for key in [key(BOB), key(ALICE)] {
            words.push(word(&ask(&headscale, key).await));
        }
    }
    assert_eq!(
        words,
        [
            "deny", "allow", "allow", "allow", "allow", "deny", "refused", "refused"
        ]
    );
}

#[cfg(feature = "cached")]
#[tokio::test(start_paused = true)]
async fn a_status_of_whoever_stands_in_front_locks_no_member_out() {
    use derp_verify::{CacheOptions, Cached, Verifier, VerifyResult};

    let (_dir, path) = key_file();
    let is_up = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let served = Arc::clone(&is_up);
    let fake = Fake::http(move |request| {
        if !served.load(Ordering::SeqCst) {
            return json("404 Not Found", "no such route\n");
        }
        if request.starts_with("POST") {
            return json("200 OK", "{\"Allow\":true}");
        }
        json("200 OK", &list(&[new_node(1, ALICE, "null", "null", "")]))
    })
    .await;
    let http = || {
        let mut http = HttpOptions::default();
        // Simulated time runs ahead while sockets are waited for.
        http.timeout = Duration::from_secs(3600);
        http
    };
    let mut options = HeadscaleOptions::default();
    options.http = http();
    let nodes: Arc<dyn Verifier> = Arc::new(Headscale::new(&fake.url, path, options).unwrap());
    let verify: Arc<dyn Verifier> = Arc::new(HeadscaleVerify::new(&fake.url, http()).unwrap());
    for one in [nodes, verify] {
        is_up.store(true, Ordering::SeqCst);
        let mut options = CacheOptions::default();
        options.timeout = Duration::from_secs(3600);
        options.failures = u32::MAX;
        let cached = Cached::new("headscale", one, options);
        assert_eq!(word(&ask(&cached, key(ALICE)).await), "allow");
        is_up.store(false, Ordering::SeqCst);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(word(&ask(&cached, key(ALICE)).await), "allow");
        assert_eq!(cached.counters().get(VerifyResult::Stale), 1);
        assert_eq!(word(&ask(&cached, key(BOB)).await), "refused");
    }
}

#[tokio::test]
async fn an_expired_node_is_refused_where_that_is_wanted() {
    let (_dir, path) = key_file();
    let nodes = list(&[
        new_node(1, ALICE, "null", "\"2020-01-01T00:00:00Z\"", ""),
        new_node(2, BOB, "null", "\"2999-01-01T00:00:00+02:00\"", ""),
    ]);
    let fake = Fake::http(move |_| json("200 OK", &nodes)).await;
    for (refuse_expired, expected) in [(false, "allow"), (true, "deny")] {
        let mut options = HeadscaleOptions::default();
        options.rules.refuse_expired = refuse_expired;
        let headscale = Headscale::new(&fake.url, path.clone(), options).unwrap();
        assert_eq!(word(&ask(&headscale, key(ALICE)).await), expected);
        assert_eq!(word(&ask(&headscale, key(BOB)).await), "allow");
    }
}

#[tokio::test]
async fn its_verify_endpoint_is_asked_below_its_url() {
    let fake = Fake::http(|_| json("200 OK", "{\"Allow\":true}\n")).await;
    for url in [
        fake.url.clone(),
        format!("{}/", fake.url),
        format!("{}/verify", fake.url),
    ] {
        let verify = HeadscaleVerify::new(&url, HttpOptions::default()).unwrap();
        assert_eq!(word(&ask(&verify, key(ALICE)).await), "allow");
    }
    for request in fake.requests() {
        assert!(
            request.starts_with("POST /verify HTTP/1.1\r\n"),
            "{request}"
        );
    }
}
