//! What the process uses of the machine, and since when: the numbers that Prometheus's own clients
//! show of every program, read anew each time.

use std::fs;

use derp_ops::exposition::{Exposition, Kind};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::process::open_files;

/// Adds what the system tells.
pub(crate) fn expose(metrics: &mut Exposition) {
    let booted = fs::read_to_string("/proc/stat").ok();
    let booted = booted.as_deref().and_then(boot_time);
    if let Some(booted) = booted {
        metrics.untyped("node_boot_time_seconds", booted);
    }
    let stat = fs::read_to_string("/proc/self/stat").ok();
    if let Some(used) = stat.as_deref().and_then(parse) {
        let cpu_seconds = seconds(used.cpu_ticks);
        metrics.sample("process_cpu_seconds_total", Kind::Counter, &[], cpu_seconds);
        metrics.gauge("process_virtual_memory_bytes", used.virtual_bytes);
        let resident_bytes = used.resident_pages.saturating_mul(page_size() as u64);
        metrics.gauge("process_resident_memory_bytes", resident_bytes);
        if let Some(booted) = booted {
            // To a hundredth of a second, and no more has the kernel to tell.
            let whole = booted.saturating_mul(clock_ticks_per_second());
            let started = seconds(whole.saturating_add(used.started_ticks));
            metrics.gauge("process_start_time_seconds", started);
        }
    }
    if let Some(files) = open_files() {
        metrics.gauge("process_open_fds", files);
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        metrics.gauge("process_max_fds", most);
    }
}

/// What is of interest of `/proc/self/stat` (proc_pid_stat(5)).
#[derive(Debug, PartialEq, Eq)]
struct Used {
    /// In the program and in the kernel for it.
    cpu_ticks: u64,
    /// Since the machine was started.
    started_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

fn parse(stat: &str) -> Option<Used> {
    // The program's name is the second field, in parentheses, and may have anything in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Used {
        cpu_ticks: field(14)?.saturating_add(field(15)?),
        started_ticks: field(22)?,
        virtual_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

/// When the machine was started, by `/proc/stat`: seconds since 1970.
fn boot_time(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "hundredths of seconds since 1970 are far below 2^53"
)]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_behind_any_name() {
        let stat = "7 (a) b)) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 17 18 9000 4096 3 99\n";
        let used = Used {
            cpu_ticks: 300,
            started_ticks: 9000,
            virtual_bytes: 4096,
            resident_pages: 3,
        };
        assert_eq!(parse(stat), Some(used));
        assert_eq!(parse("7 (a) S 1 2"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn the_machine_says_when_it_was_started() {
        assert_eq!(
            boot_time("cpu 1 2\nbtime 1795305600\nprocesses 3\n"),
            Some(1_795_305_600)
        );
        assert_eq!(boot_time("cpu 1 2\n"), None);
    }
}
