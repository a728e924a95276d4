//! Runs a fuzz target, by the toolchain and the program that this takes. `fuzz/README.md` says what
//! each target reads, and what to do when it finds something.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::shell;

#[derive(Args)]
pub(crate) struct Options {
    /// The target's name.
    target: String,
    /// For how long; without it, until something is found.
    #[arg(long)]
    minutes: Option<u64>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let targets = targets()?;
    ensure!(
        targets.contains(&options.target),
        "no target is called {}; there are {}",
        options.target,
        targets.into_iter().collect::<Vec<_>>().join(", ")
    );
    let needed = [
        (
            shell::works("cargo", &["+nightly", "--version"]),
            "a nightly toolchain: rustup toolchain install nightly --profile minimal",
        ),
        (
            shell::works("cargo", &["fuzz", "--version"]),
            "cargo-fuzz: cargo install cargo-fuzz --locked",
        ),
        (
            shell::works("c++", &["--version"]),
            "a C++ compiler: apt-get install g++",
        ),
    ];
    let missing: Vec<_> = needed.iter().filter(|(is_there, _)| !is_there).collect();
    let missing: Vec<_> = missing.iter().map(|(_, what)| *what).collect();
    ensure!(missing.is_empty(), "missing: {}", missing.join("; "));

    let mut fuzz = shell::command("cargo");
    fuzz.current_dir(shell::root().join("fuzz"));
    fuzz.args(["+nightly", "fuzz", "run", &options.target]);
    if let Some(minutes) = options.minutes {
        fuzz.args(["--", &format!("-max_total_time={}", minutes * 60)]);
    }
    shell::run_command(&mut fuzz, "cargo fuzz")
}

/// All targets. That the other lists of them say the same is a test of `fuzz`.
fn targets() -> Result<BTreeSet<String>> {
    let folder = fs::read_dir(shell::root().join("fuzz/corpus")).context("fuzz/corpus")?;
    folder
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_not_there_is_answered_by_those_that_are() {
        let options = Options {
            target: "nothing".to_owned(),
            minutes: None,
        };
        let error = run(&options).expect_err("it is not there").to_string();
        assert!(error.contains("client_frames, client_info"), "{error}");
    }
}
