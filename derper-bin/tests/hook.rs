//! The command that gets certificates, as the relay runs it.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use derper::host::Host;
use derper::tls::CertFiles;
use derper::tls::hook::{Hook, HookError};

const MINUTE: Duration = Duration::from_secs(60);

fn shell(script: &str, timeout: Duration) -> Hook {
    Hook {
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        timeout,
        every: MINUTE,
    }
}

async fn run(hook: &Hook, dir: &Path) -> Result<(), HookError> {
    let host: Host = "derp.example.com".parse().expect("a host");
    let files = CertFiles {
        cert: dir.join("a.crt"),
        key: dir.join("a.key"),
    };
    let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    hook.run(&host, &files, Some(not_after)).await
}

#[tokio::test]
async fn the_command_is_told_what_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo $DERP_HOSTNAME $DERP_CERT_NOT_AFTER > $DERP_CERT_FILE; \
                  echo to the log; echo and this >&2; : > $DERP_KEY_FILE";
    run(&shell(script, MINUTE), dir.path()).await.unwrap();
    let text = fs::read_to_string(dir.path().join("a.crt")).unwrap();
    assert_eq!(text, "derp.example.com 1800000000\n");
    assert!(dir.path().join("a.key").exists());
}

#[tokio::test]
async fn a_command_that_fails_says_how() {
    let dir = tempfile::tempdir().unwrap();
    let err = run(&shell("exit 3", MINUTE), dir.path()).await.unwrap_err();
    assert_eq!(err.to_string(), "/bin/sh ended with exit status: 3");
    let mut none = shell("", MINUTE);
    none.command = vec!["/nonexistent/lego".to_owned()];
    let err = run(&none, dir.path()).await.unwrap_err();
    assert_eq!(err.to_string(), "cannot run /nonexistent/lego");
}

/// Its children too: they would hold the files, and the log.
#[tokio::test]
async fn a_command_that_does_not_end_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let script = format!(
        "sleep 600 & echo $! > {0}; echo $$ >> {0}; wait",
        pids.display()
    );
    let err = run(&shell(&script, Duration::from_secs(2)), dir.path())
        .await
        .unwrap_err();
    assert_eq!(
        err.to_string(),
        "/bin/sh was not done after 2s, and was killed"
    );
    let pids = fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 2);
    for pid in pids.lines() {
        while is_alive(pid) {
            tokio::task::yield_now().await;
        }
    }
}

/// Whether a process runs. A dead one may wait for somebody to ask how it ended.
fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}

#[tokio::test]
async fn a_command_that_talks_without_end_is_not_waited_for_nor_logged() {
    let dir = tempfile::tempdir().unwrap();
    let script = "head -c 3000000 /dev/zero; yes | head -n 100000";
    run(&shell(script, MINUTE), dir.path()).await.unwrap();
}
