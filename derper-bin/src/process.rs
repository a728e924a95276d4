//! What is set for the whole process before it does anything.

use std::io;

pub use derp_ops::process::raise_open_files;
use rustix::process::{
    DumpableBehavior, getpriority_process, set_dumpable_behavior, setpriority_process,
};

/// How much nicer than the threads that relay packets those are that do all else: they get a
/// third of the time where there is not enough for both.
const NICER: i32 = 5;

/// Keeps private keys out of core dumps.
///
/// # Errors
/// The system refuses.
pub fn forbid_core_dumps() -> io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Lets the calling thread stand back behind those that relay packets: a handshake takes as long
/// as a hundred packets, and many may come at once.
pub fn stand_back() {
    // Linux has a priority for each thread, and takes the calling one where none is named. There
    // is no system that refuses a lower one, and without it everything works as well.
    let _as_it_was =
        getpriority_process(None).and_then(|now| setpriority_process(None, now + NICER));
}

/// Whether the user is root, as the reference asks it.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// The user's number.
#[must_use]
pub fn user() -> u32 {
    rustix::process::getuid().as_raw()
}

/// How many files the process has open, where the system tells.
#[must_use]
pub fn open_files() -> Option<u64> {
    const FILES: &str = "/proc/self/fd";
    // Since Linux 6.2 the directory's size is their number: thousands need not be listed one by one.
    let count = std::fs::metadata(FILES).ok()?.len();
    if count > 0 {
        return Some(count);
    }
    let files = std::fs::read_dir(FILES).ok()?;
    // One of them is the directory that is being read.
    Some((files.count() as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stands_back_does_so_alone() {
        let before = getpriority_process(None).unwrap();
        let other = std::thread::spawn(|| {
            stand_back();
            getpriority_process(None).unwrap()
        });
        // Whoever runs the test may be as nice as can be.
        assert_eq!(other.join().unwrap(), (before + NICER).min(19));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }

    #[test]
    fn files_that_are_opened_are_counted() {
        let before = open_files().unwrap();
        assert!(before >= 3);
        let _open: Vec<_> = (0..100)
            .map(|_| std::fs::File::open("/dev/null").unwrap())
            .collect();
        // Other tests open and close files at the same time, but not so many.
        assert!(open_files().unwrap() >= before + 50);
    }
}
