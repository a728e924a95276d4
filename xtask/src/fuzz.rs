//! Runs fuzz targets, by the toolchain and the program that this takes. `fuzz/README.md` says what
//! each target reads, and what to do when it finds something.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::shell;

#[derive(Args)]
pub(crate) struct Options {
    /// The targets' names; they take turns. `all` for all of them, which needs --minutes.
    #[arg(required = true)]
    targets: Vec<String>,
    /// For how long each; without it, until something is found.
    #[arg(long)]
    minutes: Option<u64>,
    /// Without AddressSanitizer: several times as many inputs, and no crate of ours has unsafe code.
    #[arg(long)]
    bare: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = wanted(&options.targets)?;
    ensure!(
        wanted.len() == 1 || options.minutes.is_some(),
        "several targets take turns: say by --minutes when the next one's is"
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

    for target in wanted {
        let mut fuzz = shell::command("cargo");
        fuzz.current_dir(shell::root().join("fuzz"));
        fuzz.args(["+nightly", "fuzz", "run", &target]);
        if options.bare {
            fuzz.arg("--sanitizer=none");
        }
        fuzz.args(["--", "-print_final_stats=1"]);
        if let Some(minutes) = options.minutes {
            fuzz.arg(format!("-max_total_time={}", minutes * 60));
        }
        shell::run_command(&mut fuzz, &format!("cargo fuzz run {target}"))?;
    }
    Ok(())
}

/// The targets of these names.
fn wanted(names: &[String]) -> Result<Vec<String>> {
    let targets = targets()?;
    if names == ["all"] {
        return Ok(targets.into_iter().collect());
    }
    for name in names {
        ensure!(
            targets.contains(name),
            "no target is called {name}; there are {}",
            targets.into_iter().collect::<Vec<_>>().join(", ")
        );
    }
    Ok(names.to_vec())
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
    fn targets_are_meant_by_name_or_all_together() {
        let meant =
            |names: &[&str]| wanted(&names.iter().map(|&name| name.into()).collect::<Vec<_>>());
        let two = meant(&["relay", "client_frames"]).expect("both are there");
        assert_eq!(two, ["relay", "client_frames"]);
        let all = meant(&["all"]).expect("there are some");
        assert!(two.iter().all(|name| all.contains(name)));
        let error = meant(&["relay", "nothing"]).expect_err("one is not there");
        let text = error.to_string();
        assert!(text.contains("client_frames, client_info"), "{text}");
    }
}
