//! Notices that a file has changed, by looking at it now and then.
//!
//! Looking works everywhere: on network mounts, in containers, and where a file is replaced by
//! exchanging a symbolic link somewhere above it, as Kubernetes does.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// By what a file's contents are taken to be the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    len: u64,
    /// In seconds and nanoseconds.
    modified: (i64, i64),
    /// The same; it changes also where a tool sets the time of modification back.
    changed: (i64, i64),
}

/// Calls `changed` once at the beginning, and then whenever the file at `path` has become another
/// one, for ever.
///
/// The file is looked at every `every`. One that is away, or cannot be looked at, has not changed:
/// editors and tools take it away for a moment. `changed` runs on a thread where it may block, and
/// what it makes of a file that is no good is its own affair: for a list,
/// [`reload`](crate::Allowlist::reload) keeps the old one.
pub async fn watch_file<F>(path: &Path, every: Duration, changed: F)
where
    F: Fn() + Clone + Send + 'static,
{
    let mut known = None;
    let mut ticks = interval(every.max(SHORTEST));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let path = path.to_owned();
        let changed = changed.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let now = mark(&path).ok().or(known);
            if now != known {
                changed();
            }
            now
        });
        // A callback that panics is no reason to stop looking; it is called again.
        known = looked.await.unwrap_or(known);
    }
}

fn mark(path: &Path) -> io::Result<Mark> {
    let found = fs::metadata(path)?;
    Ok(Mark {
        device: found.dev(),
        inode: found.ino(),
        len: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

/// Nobody needs to know sooner.
const SHORTEST: Duration = Duration::from_millis(10);
