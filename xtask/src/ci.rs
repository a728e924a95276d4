//! The steps of CI, in the order in which they fail most usefully. People run the same list.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{builds, shell};

#[derive(Args)]
pub(crate) struct Options {
    /// Only the steps whose names contain this.
    #[arg(long)]
    only: Option<String>,
    /// Not the steps whose names contain this.
    #[arg(long)]
    skip: Option<String>,
}

/// A step's name, and what it runs, line by line; `xtask` is this program.
const STEPS: &[(&str, &[&str])] = &[
    ("tests", &["cargo test --workspace --locked"]),
    (
        "fmt",
        &[
            "cargo fmt --all --check",
            "cargo fmt --manifest-path fuzz/Cargo.toml --check",
        ],
    ),
    (
        "clippy",
        &[
            "cargo clippy --workspace --all-targets --locked -- -D warnings",
            "cargo clippy --manifest-path fuzz/Cargo.toml --all-targets --locked -- -D warnings",
        ],
    ),
    (
        "features",
        &[
            "cargo check --locked -p derp-verify --no-default-features",
            "cargo check --locked -p derp-verify --no-default-features --features allowlist",
            "cargo check --locked -p derp-verify --no-default-features --features watch",
            "cargo check --locked -p derp-verify --no-default-features --features tailscaled",
            "cargo check --locked -p derp-verify --no-default-features --features headscale",
            "cargo check --locked -p derp-verify --no-default-features --features admission",
            "cargo check --locked -p derp-verify --no-default-features --features cached",
            "cargo clippy --workspace --all-targets --all-features --locked -- -D warnings",
            "cargo check --locked -p derp-proto -p derp-stun --no-default-features",
        ],
    ),
    (
        "docs",
        // With all features, as the lists of the next step but one: they share what is compiled.
        &["cargo doc --workspace --no-deps --locked --all-features --document-private-items"],
    ),
    ("tidy", &["xtask tidy"]),
    ("api", &["xtask api"]),
    ("msrv", &["xtask msrv"]),
    ("deploy", &["xtask deploy"]),
    (
        "deny",
        &["cargo deny --log-level error check bans licenses sources"],
    ),
    (BUILD, &[builds::ALL, builds::RELEASE]),
    ("counts", &["xtask counts"]),
    ("fuzz replay", &["xtask coverage"]),
    (
        "chaos",
        // The tests' own build tells them in half a minute, and looks for sums that overflow.
        &["env DERPKIT_SEEDS=10000 cargo test --workspace --locked --lib chaos"],
    ),
    ("derpspec", &["xtask derpspec --go --patience 8"]),
    (
        "torture",
        // Machines of CI are busy: what they do to times is told, and does not decide.
        &["xtask torture --quick --times-told"],
    ),
    ("interop", &["xtask interop"]),
    ("fleet", &["xtask fleet"]),
    ("bench smoke", &["xtask bench --quick"]),
];

/// What later steps start is built in this one, all of it together.
const BUILD: &str = "build";

pub(crate) fn run(options: &Options) -> Result<()> {
    // A build may put another one there, and this one's path would be lost.
    let xtask = std::env::current_exe()?;
    let contains =
        |part: &Option<String>, name: &str| part.as_ref().map(|part| name.contains(part.as_str()));
    let wanted = |name: &str| {
        contains(&options.only, name).unwrap_or(true)
            && !contains(&options.skip, name).unwrap_or(false)
    };
    let mut is_built = false;
    let mut report = Vec::new();
    let mut failed = 0;
    for (name, lines) in STEPS.iter().filter(|(name, _)| wanted(name)) {
        println!("::: {name}");
        #[expect(clippy::disallowed_methods, reason = "a chore tells how long it took")]
        let start = Instant::now();
        let result = lines
            .iter()
            .try_for_each(|line| run_line(line, &xtask, is_built));
        let seconds = start.elapsed().as_secs();
        is_built |= *name == BUILD && result.is_ok();
        let word = if result.is_ok() { "passed" } else { "FAILED" };
        if let Err(error) = result {
            println!("::: {name}: {error:#}");
            failed += 1;
        }
        println!("::: {name} {word} in {seconds} s");
        report.push(format!("{name:<12} {word} {seconds:>5} s"));
    }
    println!("\n{}", report.join("\n"));
    println!("{} passed, {failed} failed", report.len() - failed);
    if failed > 0 {
        bail!("{failed} steps failed");
    }
    Ok(())
}

/// Runs a line of a step.
fn run_line(line: &str, xtask: &Path, is_built: bool) -> Result<()> {
    let mut words = line.split_whitespace();
    let mut command = match words.next() {
        Some("xtask") => shell::command(xtask),
        program => shell::command(program.context("an empty line")?),
    };
    command.args(words);
    if is_built {
        command.env(builds::BUILT, "1");
    }
    shell::run_command(&mut command, line)
}
