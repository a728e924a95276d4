//! What a process costs and may cost, from `/proc` and by `prlimit`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit, setrlimit};

/// The most files that this program opens.
const MOST_FILES: u64 = 20_000;

/// Another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process(pub(crate) u32);

impl Process {
    /// The memory that is in RAM, in bytes.
    pub(crate) fn rss(self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The memory that it has asked for, used or not, in bytes.
    pub(crate) fn reserved(self) -> Result<u64> {
        self.memory("VmData:")
    }

    fn memory(self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib: u64 = line
            .and_then(|line| line.split_whitespace().next())
            .context("the relay has ended")?
            .parse()?;
        Ok(kib * 1024)
    }

    /// How many files are open.
    pub(crate) fn files(self) -> Result<u64> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.0)).context("the relay's files")?;
        Ok(entries.count() as u64)
    }

    /// The CPU time used so far.
    pub(crate) fn cpu(self) -> Result<Duration> {
        let mut nanos: u64 = 0;
        for entry in
            fs::read_dir(format!("/proc/{}/task", self.0)).context("the relay's threads")?
        {
            // A thread may have ended since the folder was read.
            let Ok(text) = fs::read_to_string(entry?.path().join("schedstat")) else {
                continue;
            };
            let first = text
                .split_whitespace()
                .next()
                .context("an empty schedstat")?;
            nanos += first.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Whether it runs. One that has ended and that nobody has asked after is a zombie.
    pub(crate) fn is_alive(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap_or_default();
        // The name before it may hold anything, but its end is the last parenthesis.
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        matches!(state, Some(state) if state != 'Z' && state != 'X')
    }

    /// Sends a signal.
    pub(crate) fn signal(self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    /// Sets how many files it may open; none for as many as this program may.
    pub(crate) fn limit_files(self, files: Option<u64>) -> Result<()> {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit {
            current: files.or(maximum),
            maximum,
        };
        prlimit(Some(self.pid()?), Resource::Nofile, limit)
            .context("limiting the relay's files")?;
        Ok(())
    }

    fn pid(self) -> Result<Pid> {
        Pid::from_raw(i32::try_from(self.0)?).context("a process has a number")
    }
}

/// The memory that the kernel uses for TCP, of all programs together, in bytes.
pub(crate) fn tcp_memory() -> Result<u64> {
    const PAGE: u64 = 4096;
    let text = fs::read_to_string("/proc/net/sockstat")?;
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"));
    let pages = line.and_then(|line| line.rsplit_once("mem "));
    let (_, pages) = pages.context("no memory of TCP in sockstat")?;
    Ok(pages.trim().parse::<u64>()? * PAGE)
}

/// Lets this program open as many files as it may, and no more than is reasonable.
pub(crate) fn raise_file_limit() {
    let hard = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: Some(hard.map_or(MOST_FILES, |hard| hard.min(MOST_FILES))),
        maximum: hard,
    };
    // With fewer files, rows that need more say so.
    let _as_it_was = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_its_own_memory_files_and_life() {
        let own = Process(std::process::id());
        let before = (own.rss().unwrap(), own.files().unwrap());
        let held = vec![1_u8; 64 << 20];
        let file = fs::File::open("/proc/self/stat").unwrap();
        let grown = own.rss().unwrap() - before.0;
        assert!(grown.abs_diff(held.len() as u64) < 8 << 20, "{grown}");
        assert!(own.files().unwrap() > before.1);
        assert!(own.is_alive());
        assert!(own.cpu().unwrap() > Duration::ZERO);
        drop(file);
    }

    #[test]
    fn a_process_that_has_ended_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let ended = Process(child.id());
        child.wait().unwrap();
        assert!(!ended.is_alive());
        assert!(ended.rss().is_err());
    }
}
