//! What a process costs, from /proc: CPU time in nanoseconds, and memory.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The CPU time that a process has used since this was made.
///
/// The scheduler's own figures (`schedstat`), because those of `stat` count in steps of 4 ms.
/// A thread that ended keeps the time it had when it was last seen.
#[derive(Debug)]
pub(crate) struct Cpu {
    pid: u32,
    /// Nanoseconds of each thread at the start and when last seen.
    threads: HashMap<u32, (u64, u64)>,
}

impl Cpu {
    pub(crate) fn start(pid: u32) -> Result<Self> {
        let threads = read_threads(pid)?
            .into_iter()
            .map(|(id, at)| (id, (at, at)))
            .collect();
        Ok(Self { pid, threads })
    }

    /// Looks again; returns the nanoseconds that were used since [`Self::start`].
    pub(crate) fn used(&mut self) -> Result<u64> {
        for (id, now) in read_threads(self.pid)? {
            // A thread that is new began with nothing.
            self.threads.entry(id).or_insert((0, 0)).1 = now;
        }
        Ok(self
            .threads
            .values()
            .map(|(start, last)| last - start)
            .sum())
    }
}

fn read_threads(pid: u32) -> Result<Vec<(u32, u64)>> {
    let mut threads = Vec::new();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("the server's threads")?;
    for entry in tasks {
        let entry = entry?;
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // It may have ended since the folder was read.
        let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else {
            continue;
        };
        let first = text
            .split_whitespace()
            .next()
            .context("an empty schedstat")?;
        threads.push((id, first.parse()?));
    }
    Ok(threads)
}

/// The memory of a process that is in RAM, in bytes (`VmRSS`).
pub(crate) fn rss(pid: u32) -> Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("the server's status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("a process without VmRSS")?
        .parse()?;
    Ok(kib * 1024)
}

/// How busy the machine was in the last minute.
pub(crate) fn load_average() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text
        .split_whitespace()
        .next()
        .context("an empty loadavg")?
        .parse()?)
}

/// Lets the threads of a process settle: waits until it has used less than a hundredth of the
/// last tenth of a second, `limit` at most.
pub(crate) fn settle(pid: u32, limit: Duration) -> Result<()> {
    let step = Duration::from_millis(100);
    let mut cpu = Cpu::start(pid)?;
    let mut before = 0;
    for _ in 0..limit.as_millis() / step.as_millis() {
        std::thread::sleep(step);
        let used = cpu.used()?;
        if used - before < 1_000_000 {
            return Ok(());
        }
        before = used;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::packet::next_random;

    #[test]
    fn threads_count_that_are_new_and_that_have_ended() {
        let mut cpu = Cpu::start(std::process::id()).unwrap();
        let (done, is_done) = mpsc::channel();
        let (go, may_end) = mpsc::channel::<()>();
        let worker = thread::spawn(move || {
            let mut state = 1;
            let sum = (0..5_000_000).fold(0, |sum, _| sum ^ next_random(&mut state));
            done.send(sum).unwrap();
            may_end.recv().unwrap();
        });
        assert_ne!(is_done.recv().unwrap(), 0);
        let alive = cpu.used().unwrap();
        assert!(alive > 1_000_000, "{alive} ns for five million steps");
        go.send(()).unwrap();
        worker.join().unwrap();
        assert!(cpu.used().unwrap() >= alive);
    }

    #[test]
    fn memory_is_told_in_bytes() {
        let before = rss(std::process::id()).unwrap();
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        let grown = rss(std::process::id()).unwrap().saturating_sub(before);
        let held = u64::try_from(held.len()).unwrap();
        // Tests beside this one take memory and give it back.
        assert!(grown.abs_diff(held) < held / 2, "{grown} for {held} bytes");
    }
}
