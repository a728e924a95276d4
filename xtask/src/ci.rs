//! The steps of CI, in the order in which they fail most usefully. People run the same list.

use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::shell;

#[derive(Args)]
pub(crate) struct Options {
    /// Only the steps whose names contain this.
    #[arg(long)]
    only: Option<String>,
    /// Not the steps whose names contain this.
    #[arg(long)]
    skip: Option<String>,
}

/// A step's name, and what it runs, line by line.
const STEPS: &[(&str, &[&str])] = &[
    ("tests", &["cargo test --workspace --locked"]),
    ("fmt", &["cargo fmt --all --check"]),
    (
        "clippy",
        &["cargo clippy --workspace --all-targets --locked -- -D warnings"],
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
            "cargo test --locked -p derp-verify --all-features",
            "cargo check --locked -p derp-proto -p derp-stun --no-default-features",
        ],
    ),
    (
        "docs",
        &["cargo doc --workspace --no-deps --locked --document-private-items"],
    ),
    ("tidy", &["cargo run --quiet --locked -p xtask -- tidy"]),
    ("api", &["cargo run --quiet --locked -p xtask -- api"]),
    ("msrv", &["cargo run --quiet --locked -p xtask -- msrv"]),
    ("deploy", &["cargo run --quiet --locked -p xtask -- deploy"]),
    (
        "deny",
        &["cargo deny --log-level error check bans licenses sources"],
    ),
    ("counts", &["cargo run --quiet --locked -p xtask -- counts"]),
    (
        "fuzz replay",
        &["cargo run --quiet --locked -p xtask -- coverage"],
    ),
    (
        "chaos",
        &["env DERPKIT_SEEDS=10000 cargo test --release --locked -p derp-server --lib chaos"],
    ),
    (
        "derpspec",
        &["cargo run --quiet --locked -p xtask -- derpspec --go --patience 8"],
    ),
    (
        "torture",
        // The rows that do not depend on how busy the machine is; people run all of them.
        &[
            "cargo run --quiet --locked -p xtask -- torture --quick --row malformed idle-memory \
           announced duplicate page-memory certificate-rotation log-volume stun-hostile verifier \
           hung proxy-spoofed",
        ],
    ),
    (
        "interop",
        &["cargo run --quiet --locked -p xtask -- interop"],
    ),
    ("fleet", &["cargo run --quiet --locked -p xtask -- fleet"]),
    (
        "bench smoke",
        &["cargo run --quiet --locked -p xtask -- bench --quick"],
    ),
];

pub(crate) fn run(options: &Options) -> Result<()> {
    let contains =
        |part: &Option<String>, name: &str| part.as_ref().map(|part| name.contains(part.as_str()));
    let wanted = |name: &str| {
        contains(&options.only, name).unwrap_or(true)
            && !contains(&options.skip, name).unwrap_or(false)
    };
    let mut report = Vec::new();
    let mut failed = 0;
    for (name, lines) in STEPS.iter().filter(|(name, _)| wanted(name)) {
        println!("::: {name}");
        #[expect(clippy::disallowed_methods, reason = "a chore tells how long it took")]
        let start = Instant::now();
        let result = lines.iter().try_for_each(|line| shell::run(line));
        let seconds = start.elapsed().as_secs();
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
