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

/// What is known of a file.
#[derive(Debug, Default)]
struct Known {
    /// What it was when its change was last told.
    told: Option<Mark>,
    /// What it was at the last look.
    seen: Option<Mark>,
}

impl Known {
    /// Whether a change has to be told, for the file is `now` so.
    ///
    /// A file that is written where it lies is empty at first, and half of it a moment later; so a
    /// change counts once it has lasted from one look to the next. At the first look nothing is
    /// known that could be lost.
    fn look(&mut self, now: Option<Mark>) -> bool {
        let seen = self.seen;
        // One that is away has not changed.
        self.seen = now.or(seen);
        self.seen != self.told && (self.told.is_none() || self.seen == seen)
    }
}

/// Calls `changed` once at the beginning, and then whenever the file at `path` has become another
/// one, and has stayed so from one look to the next; for ever.
///
/// The file is looked at every `every`. One that is away, or cannot be looked at, has not changed:
/// editors and tools take it away for a moment. `changed` runs on a thread where it may block, and
/// what it makes of a file that is no good is its own affair: for a list,
/// [`reload`](crate::Allowlist::reload) keeps the old one.
pub async fn watch_file<F>(path: &Path, every: Duration, changed: F)
where
    F: Fn() + Clone + Send + 'static,
{
    let mut known = Known::default();
    let mut ticks = interval(every.max(SHORTEST));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let path = path.to_owned();
        let changed = changed.clone();
        let looked = tokio::task::spawn_blocking(move || mark(&path).ok());
        let Ok(now) = looked.await else { continue };
        if known.look(now) {
            // A callback that panics is no reason to stop looking; it is called again.
            if tokio::task::spawn_blocking(changed).await.is_ok() {
                known.told = known.seen;
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(len: u64) -> Option<Mark> {
        Some(Mark {
            device: 1,
            inode: 1,
            len,
            modified: (0, 0),
            changed: (0, 0),
        })
    }

    /// What is told of a file that is so at one look after another.
    fn told(looks: &[Option<Mark>]) -> Vec<bool> {
        let mut known = Known::default();
        let look = |now: &Option<Mark>| {
            let changed = known.look(*now);
            if changed {
                known.told = known.seen;
            }
            changed
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn a_file_that_is_being_written_is_read_when_it_is_whole() {
        let looks = [
            mark(9),
            mark(9),
            mark(0),
            mark(4),
            mark(12),
            mark(12),
            mark(12),
        ];
        assert_eq!(
            told(&looks),
            [true, false, false, false, false, true, false]
        );
    }

    #[test]
    fn a_file_that_is_away_for_a_moment_has_not_changed() {
        let looks = [None, mark(9), None, mark(9), None, mark(3), None];
        assert_eq!(
            told(&looks),
            [false, true, false, false, false, false, true]
        );
    }

    #[test]
    fn a_file_that_stays_empty_is_empty() {
        assert_eq!(told(&[mark(9), mark(0), mark(0)]), [true, false, true]);
    }
}
