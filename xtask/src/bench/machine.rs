//! What is measured on: the CPUs that may be used, and how disturbed the machine was.

use std::fs;

use anyhow::{Context, Result, ensure};

/// The CPUs that this process may use, in their order.
#[derive(Debug)]
pub(crate) struct Cpus(Vec<usize>);

impl Cpus {
    pub(crate) fn allowed() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .context("a process without CPUs")?;
        let cpus = parse_list(list.trim())?;
        ensure!(!cpus.is_empty(), "no CPU may be used");
        Ok(Self(cpus))
    }

    /// The first `count` of them, or all where there are fewer, as taskset lists them.
    pub(crate) fn first(&self, count: usize) -> String {
        let cpus: Vec<_> = self.0.iter().take(count).map(usize::to_string).collect();
        cpus.join(",")
    }
}

/// Parses a list such as `0-1,4`.
fn parse_list(list: &str) -> Result<Vec<usize>> {
    let mut cpus = Vec::new();
    for range in list.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        cpus.extend(first.parse()?..=last.parse::<usize>()?);
    }
    Ok(cpus)
}

/// How many ticks this machine wanted a CPU and its host did not give one.
pub(crate) fn stolen_ticks() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("an empty /proc/stat")?;
    Ok(line
        .split_whitespace()
        .nth(8)
        .context("a /proc/stat without steal")?
        .parse()?)
}

/// The load averages of the last minute, five and fifteen.
pub(crate) fn load_averages() -> Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let numbers: Vec<_> = text.split_whitespace().take(3).collect();
    Ok(numbers.join(" "))
}

/// The processor's name and the kernel's version, for whoever compares figures of two machines.
pub(crate) fn name() -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, name)| name);
    let processors = cpuinfo
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{processors} x {model}, Linux {}",
        kernel.trim_end()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_single_cpus_are_listed() {
        let cpus = Cpus(parse_list("1-3,7").unwrap());
        assert_eq!(
            (cpus.first(2).as_str(), cpus.first(9).as_str()),
            ("1,2", "1,2,3,7")
        );
        assert!(parse_list("one").is_err());
    }
}
