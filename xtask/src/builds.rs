//! Our own programs, as chores start them.
//!
//! Packages that are built together share what they ask of their dependencies, so that another
//! selection of packages compiles half of these anew. So all chores name the same ones; and CI,
//! which has built everything before the first of them, says so by a variable.

use std::path::PathBuf;

use anyhow::Result;

use crate::shell;

/// What CI sets for its later steps: everything is built, and nothing else is to be.
pub(crate) const BUILT: &str = "DERPKIT_BUILT";
/// Builds everything for debugging: what tests have built, and the programs beside it.
pub(crate) const ALL: &str = "cargo build --workspace --all-targets --locked";
/// Builds what any chore starts of what is built for speed.
pub(crate) const RELEASE: &str = "cargo build --release --locked -p derper-bin \
     -p derpprobe-bin -p testbed-client-cases -p testbed-load -p testbed-mesh";

/// Builds the programs that are built for speed; the folder in which they are.
pub(crate) fn release() -> Result<PathBuf> {
    build(RELEASE)?;
    Ok(shell::release_dir())
}

/// Builds the programs of some packages for debugging; the folder in which they are.
pub(crate) fn debug(packages: &[&str]) -> Result<PathBuf> {
    let mut line = "cargo build --quiet --locked".to_owned();
    for package in packages {
        line.push_str(" -p ");
        line.push_str(package);
    }
    build(&line)?;
    Ok(shell::target_dir().join("debug"))
}

/// Our relay: as it was built elsewhere, or else for speed.
pub(crate) fn relay(elsewhere: Option<&PathBuf>) -> Result<PathBuf> {
    match elsewhere {
        Some(program) => Ok(program.clone()),
        None => Ok(release()?.join("derper")),
    }
}

fn build(line: &str) -> Result<()> {
    if std::env::var_os(BUILT).is_some() {
        return Ok(());
    }
    shell::run(line)
}
