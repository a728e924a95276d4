//! Invariants of the architecture that the compiler does not keep. ARCHITECTURE.md lists them.

mod links;
mod sources;
mod threats;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use crate::shell;

/// Who must not depend on whom, tests excepted, and why.
const BANNED: &[(&str, &[&str], &str)] = &[
    (
        "derp-proto",
        &[
            "tokio",
            "tracing",
            "mio",
            "rustls",
            "getrandom",
            "derp-server",
            "derp-client",
        ],
        "the codec does no I/O, reads no clock and needs no cipher provider",
    ),
    (
        "derp-stun",
        &["derp-proto", "derp-server", "derp-client"],
        "STUN knows nothing of DERP",
    ),
    (
        "derp-verify",
        &["derp-server", "derp-client"],
        "a verifier sees a candidate, not the relay",
    ),
    (
        "derp-server",
        &[
            "clap",
            "anyhow",
            "toml",
            "derp-client",
            "derp-mesh",
            "derp-stun",
            "derp-ops",
        ],
        "the core is embedded by other programs, and knows no flag and no file",
    ),
    (
        "derp-client",
        &["derp-server", "clap", "anyhow"],
        "a client needs no relay",
    ),
    (
        "derp-mesh",
        &["derp-ops", "derp-verify", "clap", "anyhow"],
        "embedders mesh relays as well; derp-server knows verifiers",
    ),
    (
        "derp-certs",
        &["derp-server", "derp-client", "derp-ops", "clap", "anyhow"],
        "ordering certificates is of use to other servers too",
    ),
    (
        "derp-ops",
        &["derp-server", "derp-client"],
        "what both programs share knows neither's job",
    ),
];

pub(crate) fn run() -> Result<()> {
    let metadata = MetadataCommand::new()
        .manifest_path(shell::root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    let mut faults = Vec::new();
    dependencies_point_one_way(&metadata, &mut faults);
    lints_are_inherited(&metadata, &mut faults)?;
    let files = rust_files(shell::root())?;
    for file in &files {
        check_file(file, &mut faults)?;
    }
    sources::use_dependencies(&metadata, &mut faults)?;
    sources::read_no_clock(&files, &mut faults)?;
    sources::are_on_the_map(&mut faults)?;
    threats::tests_exist(&files, &mut faults)?;
    links::lead_somewhere(shell::root(), &mut faults)?;
    for fault in &faults {
        println!("tidy: {fault}");
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!("{} faults", faults.len())
}

fn dependencies_point_one_way(metadata: &Metadata, faults: &mut Vec<String>) {
    for (name, banned, why) in BANNED {
        let Some(package) = metadata
            .packages
            .iter()
            .find(|package| *package.name == *name)
        else {
            faults.push(format!("no crate is called {name}: has tidy grown stale?"));
            continue;
        };
        for dependency in &package.dependencies {
            if dependency.kind != DependencyKind::Development
                && banned.contains(&dependency.name.as_str())
            {
                faults.push(format!("{name} depends on {}, but {why}", dependency.name));
            }
        }
    }
}

fn lints_are_inherited(metadata: &Metadata, faults: &mut Vec<String>) -> Result<()> {
    for package in &metadata.packages {
        let manifest = fs::read_to_string(&package.manifest_path)?;
        if !manifest.contains("[lints]\nworkspace = true") {
            faults.push(format!(
                "{} does not inherit the workspace's lints",
                package.name
            ));
        }
    }
    Ok(())
}

fn check_file(file: &Path, faults: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let name = file
        .strip_prefix(shell::root())
        .unwrap_or(file)
        .display()
        .to_string();
    let stem = file
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let mut fault = |what: &str| faults.push(format!("{name}: {what}"));
    let first = text.lines().find(|line| !line.starts_with("#!["));
    // A file of unit tests is for the file that it is named after.
    if stem != "tests" && !first.is_some_and(|line| line.starts_with("//!")) {
        fault("says nothing of what it is for (//!)");
    }
    if matches!(
        stem,
        "utils" | "util" | "common" | "helpers" | "types" | "misc"
    ) {
        fault("has a name that says nothing");
    }
    for (n, line) in text.lines().enumerate() {
        let n = n + 1;
        // What is looked for is spelled in two parts, so that it is not found here.
        for mark in [
            concat!("TO", "DO"),
            concat!("FIX", "ME"),
            concat!("#[ign", "ore"),
        ] {
            if line.contains(mark) {
                fault(&format!("line {n} is marked as unfinished ({mark})"));
            }
        }
    }
    Ok(())
}

/// All Rust files of the repository.
fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
