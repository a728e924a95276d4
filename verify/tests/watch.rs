//! Lists whose files change.
#![cfg(feature = "watch")]

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use derp_verify::{Allowlist, watch_file};
use tempfile::TempDir;
use tokio::sync::mpsc;

const ALICE: &str = "nodekey:7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13";
const BOB: &str = "nodekey:0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20";

#[tokio::test]
async fn a_list_follows_its_file_and_survives_a_bad_one() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    // As Kubernetes mounts a ConfigMap: the file is below a link that is exchanged.
    fs::create_dir(at("v1")).unwrap();
    fs::write(at("v1/keys"), ALICE).unwrap();
    symlink("v1", at("data")).unwrap();
    let list = Arc::new(Allowlist::from_file(at("data/keys")).unwrap());
    let (told, mut changes) = mpsc::channel(9);
    let reloaded = Arc::clone(&list);
    let path = at("data/keys");
    let watching = tokio::spawn(async move {
        watch_file(&path, Duration::from_millis(10), move || {
            let result = reloaded
                .reload()
                .map(|change| (change.added, change.removed));
            told.blocking_send(result.ok()).expect("somebody listens");
        })
        .await;
    });
    assert_eq!(
        changes.recv().await,
        Some(Some((0, 0))),
        "what changed before the first look"
    );

    fs::create_dir(at("v2")).unwrap();
    fs::write(at("v2/keys"), format!("{ALICE}\n{BOB}")).unwrap();
    symlink("v2", at("new")).unwrap();
    fs::rename(at("new"), at("data")).unwrap();
    assert_eq!(changes.recv().await, Some(Some((1, 0))));

    fs::write(at("bad"), "nodekey:oops").unwrap();
    fs::rename(at("bad"), at("v2/keys")).unwrap();
    assert_eq!(changes.recv().await, Some(None));
    assert_eq!(list.len(), 2, "the old list stays");

    fs::remove_file(at("v2/keys")).unwrap();
    fs::write(at("good"), BOB).unwrap();
    fs::rename(at("good"), at("v2/keys")).unwrap();
    assert_eq!(changes.recv().await, Some(Some((0, 1))));
    watching.abort();
}
