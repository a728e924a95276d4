//! Lists as operators write them, well and badly.
#![cfg(feature = "allowlist")]

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use derp_proto::NodePublic;
use derp_verify::{
    Allowlist, AllowlistChange, AllowlistError, Candidate, ConnMeta, Verdict, Verifier,
};
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode};
use tempfile::TempDir;

const ALICE: &str = "nodekey:7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13";
const BOB: &str = "nodekey:0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20";
const CAROL: &str = "nodekey:50d20b455ecf12bc453f83c2cfdb2a24925d06cf2598dcaa54e91af82ce9f765";

#[test]
fn a_list_has_a_key_a_line_and_comments() {
    let upper = BOB.to_uppercase().replace("NODEKEY:", "nodekey:");
    let text = format!("# ours\n\n  {ALICE}  # alice's laptop\r\n\t{upper}\n{ALICE}\n#{CAROL}");
    let list = Allowlist::parse(&text).unwrap();
    assert_eq!(admitted(&list), [ALICE, BOB]);
    assert_eq!(list.len(), 2, "a key that stands there twice is one key");
}

#[test]
fn an_empty_list_admits_nobody() {
    for text in [
        "",
        "\n\n",
        "# nobody yet\n",
        "[]",
        r#"{"Self":null,"Peer":null}"#,
    ] {
        let list = Allowlist::parse(text).unwrap();
        assert!(list.is_empty() && admitted(&list).is_empty(), "{text:?}");
    }
}

#[test]
fn all_bad_lines_are_reported_at_once() {
    let (_dir, path) = list_file("");
    let text = format!(
        "{ALICE}\n\
         nodekey:7b4e909b # cut short\n\
         {ALICE}0\n\
         7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13\n\
         {ALICE} {BOB}\n\
         mkey:{digits}\n\
         privkey:{digits}\n\
         nodekey:{zero}\n\
         nodekey:01{low_order}\n\
         nodekey:{not_canonical}\n\
         nodekey:\u{1b}[31m{{}}\n\
         {BOB}\n",
        digits = "ab".repeat(32),
        zero = "0".repeat(64),
        low_order = "0".repeat(62),
        not_canonical = "f".repeat(64),
    );
    fs::write(&path, text).unwrap();
    let report = format!(
        r#"{}: 10 bad entries; allowed is nodekey:<64 hexadecimal digits>
  line 2: found "nodekey:7b4e909b": key must be exactly 64 hexadecimal digits
  line 3: found "nodekey:7b4e909bbe7ffe44… (73 characters)": key must be exactly 64 hexadecimal digits
  line 4: found "7b4e909bbe7ffe44c465a220… (64 characters)": key text must begin with "nodekey:"
  line 5: found "nodekey:7b4e909bbe7ffe44… (145 characters)": key must be exactly 64 hexadecimal digits
  line 6: found "mkey:abababababababababa… (69 characters)": key text must begin with "nodekey:"
  line 7: found "privkey:… (72 characters)": key text must begin with "nodekey:"
  line 8: found "nodekey:0000000000000000… (72 characters)": key is all zero
  line 9: found "nodekey:0100000000000000… (72 characters)": key is a point of low order
  line 10: found "nodekey:ffffffffffffffff… (72 characters)": key is not canonically encoded
  line 11: found "nodekey:\u{{1b}}[31m{{}}": key must be exactly 64 hexadecimal digits"#,
        path.display()
    );
    assert_eq!(refusal(Allowlist::from_file(&path)), report);
}

#[test]
fn a_file_of_another_kind_is_reported_briefly() {
    let text = "127.0.0.1 localhost\n".repeat(100_000);
    let report = refusal(Allowlist::parse(&text));
    let lines: Vec<_> = report.lines().collect();
    assert_eq!(lines.len(), 22);
    assert_eq!(
        lines[0],
        "the list of allowed keys: 100000 bad entries; allowed is nodekey:<64 hexadecimal digits>"
    );
    assert_eq!(lines[21], "  and 99980 more");
    assert!(report.len() < 4096);
}

#[test]
fn files_of_other_systems_editors_are_read() {
    let (_dir, path) = list_file("");
    let latin1 = [ALICE.as_bytes(), b" # J\xfcrgen\r\n"].concat();
    let with_mark = format!("\u{feff}{ALICE}\r\n").into_bytes();
    for bytes in [latin1, with_mark] {
        fs::write(&path, &bytes).unwrap();
        assert_eq!(admitted(&Allowlist::from_file(&path).unwrap()), [ALICE]);
    }
    let utf16: Vec<u8> = format!("\u{feff}{ALICE}\r\n")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    fs::write(&path, utf16).unwrap();
    let report = format!("{} is UTF-16; save it as UTF-8", path.display());
    assert_eq!(refusal(Allowlist::from_file(&path)), report);
}

#[test]
fn a_json_list_is_a_list() {
    let list = Allowlist::parse(&format!("\n [\"{ALICE}\",\n\"{BOB}\"] \n")).unwrap();
    assert_eq!(admitted(&list), [ALICE, BOB]);
}

#[test]
fn the_status_of_a_node_lists_it_and_its_peers() {
    let status = format!(
        r#"{{
  "Version": "1.102.5", "TUN": false, "BackendState": "Running", "AuthURL": "",
  "TailscaleIPs": ["100.64.0.1", "fd7a:115c:a1e0::1"],
  "Self": {{"ID": "n1", "PublicKey": "{ALICE}", "HostName": "relay", "Relay": "home",
            "PeerAPIURL": ["http://100.64.0.1:1"], "Capabilities": null, "Expired": false}},
  "Health": [], "MagicDNSSuffix": "example.ts.net", "CertDomains": null,
  "Peer": {{
    "{BOB}": {{"ID": "n2", "PublicKey": "{BOB}", "Addrs": [], "RxBytes": 0}},
    "{CAROL}": {{"ID": "n3", "PublicKey": "{CAROL}", "Created": "2026-01-01T00:00:00Z"}}
  }},
  "User": {{"1": {{"ID": 1, "LoginName": "alice@example.com"}}}}, "ClientVersion": null
}}"#
    );
    let list = Allowlist::parse(&status).unwrap();
    assert_eq!(admitted(&list), [ALICE, BOB, CAROL]);

    let alone = format!(r#"{{"Self":{{"PublicKey":"{ALICE}"}},"Peer":null}}"#);
    assert_eq!(admitted(&Allowlist::parse(&alone).unwrap()), [ALICE]);
}

#[test]
fn bad_entries_of_json_are_reported_at_once_too() {
    let list = format!(r#"["{ALICE}", "alice", 7, null, {{"PublicKey": "{ALICE}"}}]"#);
    let report = r#"the list of allowed keys: 4 bad entries; allowed is nodekey:<64 hexadecimal digits>
  item 2 of the list: found "alice": key text must begin with "nodekey:"
  item 3 of the list: found "7": key text must begin with "nodekey:"
  item 4 of the list: found "null": key text must begin with "nodekey:"
  item 5 of the list: found "{\"PublicKey\":\"nodekey:7b… (88 characters)": key text must begin with "nodekey:""#;
    assert_eq!(refusal(Allowlist::parse(&list)), report);

    // A node that is logged out has the zero key.
    let zero = "0".repeat(64);
    let status =
        format!(r#"{{"Self":{{"PublicKey":"nodekey:{zero}"}},"Peer":{{"x":{{"ID":"n2"}}}}}}"#);
    let report = r#"the list of allowed keys: 2 bad entries; allowed is nodekey:<64 hexadecimal digits>
  Self.PublicKey: found "nodekey:0000000000000000… (72 characters)": key is all zero
  PublicKey of peer 1: found "null": key text must begin with "nodekey:""#;
    assert_eq!(refusal(Allowlist::parse(&status)), report);
}

#[test]
fn json_that_is_no_list_says_where_and_what_is_allowed() {
    const ALLOWED: &str =
        r#"allowed are a list ["nodekey:…", …] and the output of `tailscale status --json`"#;
    let table = [
        (
            "[\"a\",\n\"b\"",
            "line 2, column 3: the JSON ends too early; ",
        ),
        ("[] []", "line 1, column 4: not JSON; "),
        ("[\n,]", "line 2, column 1: not JSON; "),
        (
            r#"{"Peer":[7]}"#,
            "line 1, column 9: a value of another type than expected; ",
        ),
    ];
    for (text, problem) in table {
        let report = format!("the list of allowed keys, {problem}{ALLOWED}");
        assert_eq!(refusal(Allowlist::parse(text)), report, "{text:?}");
    }
    let report = format!(
        "the list of allowed keys is a JSON object with neither `Self` nor `Peer`; {ALLOWED}"
    );
    assert_eq!(refusal(Allowlist::parse(r#"{"nodes":[]}"#)), report);
    let deep = "[".repeat(1 << 20);
    assert!(matches!(
        Allowlist::parse(&deep),
        Err(AllowlistError::Json { .. })
    ));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let (dir, path) = list_file("");
    let missing = dir.path().join("missing");
    for unreadable in [missing.as_path(), dir.path()] {
        let error = Allowlist::from_file(unreadable).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot read {}", unreadable.display())
        );
        assert!(std::error::Error::source(&error).is_some());
    }
    fs::File::create(&path)
        .unwrap()
        .set_len((64 << 20) + 1)
        .unwrap();
    let report = format!(
        "{} is longer than the 67108864 bytes allowed for a list of keys",
        path.display()
    );
    assert_eq!(refusal(Allowlist::from_file(&path)), report);
}

#[test]
fn a_reload_exchanges_the_list_and_says_what_changed() {
    let (_dir, path) = list_file(&format!("{ALICE}\n{BOB}\n"));
    let list = Allowlist::from_file(&path).unwrap();
    assert_eq!(list.path(), Some(path.as_path()));

    fs::write(&path, format!("{BOB}\n{CAROL}\n")).unwrap();
    assert_eq!(
        admitted(&list),
        [ALICE, BOB],
        "nothing changes before the reload"
    );
    assert_eq!(
        list.reload().unwrap(),
        AllowlistChange {
            added: 1,
            removed: 1
        }
    );
    assert_eq!(admitted(&list), [BOB, CAROL]);

    fs::write(&path, "# nobody\n").unwrap();
    assert_eq!(
        list.reload().unwrap(),
        AllowlistChange {
            added: 0,
            removed: 2
        }
    );
    assert!(list.is_empty(), "the last key can be revoked");
}

#[test]
fn a_file_with_nothing_in_it_is_one_that_is_being_written() {
    let (_dir, path) = list_file(ALICE);
    let list = Allowlist::from_file(&path).unwrap();
    for nothing in ["", "\u{feff}\r\n", " \n\n"] {
        fs::write(&path, nothing).unwrap();
        let report = format!(
            "{} is empty; where nobody is meant, write [] or a line that begins with #",
            path.display()
        );
        assert_eq!(list.reload().unwrap_err().to_string(), report);
        assert_eq!(refusal(Allowlist::from_file(&path)), report);
        assert_eq!(admitted(&list), [ALICE], "{nothing:?}");
    }
}

#[test]
fn a_reload_that_fails_keeps_the_old_list() {
    let (_dir, path) = list_file(ALICE);
    let list = Allowlist::from_file(&path).unwrap();

    fs::write(&path, format!("{BOB}\nnodekey:oops\n")).unwrap();
    assert!(matches!(
        list.reload(),
        Err(AllowlistError::BadEntries { .. })
    ));
    assert_eq!(admitted(&list), [ALICE]);

    fs::remove_file(&path).unwrap();
    assert!(matches!(list.reload(), Err(AllowlistError::Read { .. })));
    assert_eq!(admitted(&list), [ALICE]);

    fs::write(&path, BOB).unwrap();
    assert_eq!(
        list.reload().unwrap(),
        AllowlistChange {
            added: 1,
            removed: 1
        }
    );
}

#[test]
fn a_list_without_a_file_cannot_be_reloaded() {
    let list = Allowlist::parse(ALICE).unwrap();
    assert!(matches!(list.reload(), Err(AllowlistError::NoFile)));
    assert_eq!(admitted(&list), [ALICE]);
}

#[test]
fn clients_are_admitted_while_a_reload_waits_for_its_file() {
    let (_dir, path) = list_file(ALICE);
    let list = Arc::new(Allowlist::from_file(&path).unwrap());
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();

    let reload = thread::spawn({
        let list = Arc::clone(&list);
        move || list.reload()
    });
    // Opening a pipe waits for its other end: the reload is under way from here on, and cannot
    // finish before this end is closed.
    let mut pipe = fs::File::options().write(true).open(&path).unwrap();
    assert_eq!(admitted(&list), [ALICE]);
    pipe.write_all(BOB.as_bytes()).unwrap();
    assert_eq!(admitted(&list), [ALICE]);
    drop(pipe);
    let change = reload.join().expect("the reload does not panic").unwrap();
    assert_eq!(
        change,
        AllowlistChange {
            added: 1,
            removed: 1
        }
    );
    assert_eq!(admitted(&list), [BOB]);
}

#[tokio::test]
async fn the_verdict_gives_its_reason() {
    let verifier: Arc<dyn Verifier> = Arc::new(Allowlist::parse(ALICE).unwrap());
    let conn = ConnMeta::default();
    let verdict = |key| {
        let verifier = Arc::clone(&verifier);
        let candidate = Candidate::new(key, &conn);
        async move {
            verifier
                .verify(&candidate)
                .await
                .expect("a list always has an answer")
        }
    };
    assert_eq!(verdict(key(ALICE)).await, Verdict::allow());
    assert_eq!(
        verdict(key(BOB)).await,
        Verdict::deny("not on the list of allowed keys")
    );
    // Nobody can prove that it holds this key, and the list does not count on it.
    assert!(!verdict(NodePublic::from_bytes([0; 32])).await.allow);
}

#[test]
fn a_list_is_not_printed_key_by_key() {
    let list = Allowlist::parse(&format!("{ALICE}\n{BOB}")).unwrap();
    assert_eq!(format!("{list:?}"), "Allowlist { path: None, len: 2, .. }");
}

proptest! {
    #[test]
    fn any_text_is_a_list_or_is_refused(text in list_like_text()) {
        if let Ok(list) = Allowlist::parse(&text) {
            let keys: Vec<_> = [ALICE, BOB, CAROL].into_iter().filter(|key| list.contains(&self::key(key))).collect();
            prop_assert_eq!(list.len(), keys.len(), "only keys of the text are on the list");
            prop_assert!(keys.iter().all(|key| text.contains(*key)));
        }
    }
}

/// Pieces that lists are made of, put together at random.
fn list_like_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![ALICE, BOB, CAROL]).prop_map(str::to_owned),
        prop::sample::select(vec![
            "\n",
            "\r\n",
            " ",
            "#",
            "\"",
            ",",
            "[",
            "]",
            "{",
            "}",
            ":",
            "null",
            "7",
            "\u{feff}",
            "\"Self\":",
            "\"Peer\":",
            "\"PublicKey\":",
            "nodekey:",
            "privkey:",
            "é",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,4}",
    ];
    prop_oneof![
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat()),
        prop::sample::subsequence(vec![ALICE, BOB, CAROL], 0..=3).prop_map(|keys| format!(
            "[{}]",
            keys.iter()
                .map(|k| format!("\"{k}\""))
                .collect::<Vec<_>>()
                .join(",")
        )),
    ]
}

fn key(text: &str) -> NodePublic {
    text.parse().expect("the keys of these tests are keys")
}

fn admitted(list: &Allowlist) -> Vec<&'static str> {
    [ALICE, BOB, CAROL]
        .into_iter()
        .filter(|text| list.contains(&key(text)))
        .collect()
}

fn refusal(result: Result<Allowlist, AllowlistError>) -> String {
    result.expect_err("the list is refused").to_string()
}

fn list_file(text: &str) -> (TempDir, PathBuf) {
    let dir = TempDir::new().expect("a temporary directory can be made");
    let path = dir.path().join("allowed.keys");
    fs::write(&path, text).expect("a file can be written");
    (dir, path)
}
