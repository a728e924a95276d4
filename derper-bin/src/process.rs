//! What is set for the whole process before it does anything.

use std::io;

pub use derp_ops::process::raise_open_files;
use rustix::process::{
    DumpableBehavior, Resource, getpriority_process, getrlimit, set_dumpable_behavior,
    setpriority_process,
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

/// How many files the process may have open once the limit is raised, if that is limited.
#[must_use]
pub fn max_open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).maximum
}

/// How many files the process has open, where the system tells.
#[must_use]
pub fn open_files() -> Option<u64> {
    open_files_in("/proc/self/fd")
}

fn open_files_in(folder: &str) -> Option<u64> {
    // Since Linux 6.2 the directory's size is their number: thousands need not be listed one by one.
    let count = std::fs::metadata(folder).ok()?.len();
    if count > 0 {
        return Some(count);
    }
    let files = std::fs::read_dir(folder).ok()?;
    // One of them is the directory that is being read.
    Some((files.count() as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};

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

    /// In another process, for in this one other tests open and close files at the same time.
    #[test]
    fn files_that_are_opened_are_counted() {
        let opens = "echo; read go; exec 3</dev/null 4</dev/null 5</dev/null; echo; read end";
        let mut command = Command::new("sh");
        command.args(["-c", opens]).stdin(Stdio::piped());
        let mut shell = command.stdout(Stdio::piped()).spawn().unwrap();
        let folder = format!("/proc/{}/fd", shell.id());
        let mut go_on = shell.stdin.take().unwrap();
        let mut told = BufReader::new(shell.stdout.take().unwrap()).lines();
        told.next().unwrap().unwrap();
        let before = open_files_in(&folder).unwrap();
        go_on.write_all(b"\n").unwrap();
        told.next().unwrap().unwrap();
        assert_eq!(open_files_in(&folder), Some(before + 3));
        go_on.write_all(b"\n").unwrap();
        assert!(shell.wait().unwrap().success());
        assert!(open_files().unwrap() >= 3);
    }
}
