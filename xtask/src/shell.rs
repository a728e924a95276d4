//! Running other programs from the root of the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the repository")
}

/// A command that runs in the root of the repository.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.current_dir(root());
    command
}

/// Splits `line` at spaces and runs it.
pub(crate) fn run(line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let mut command = command(words.next().context("an empty command")?);
    command.args(words);
    run_command(&mut command, line)
}

/// Runs `command`, which errors call `name`.
pub(crate) fn run_command(command: &mut Command, name: &str) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run `{name}`"))?;
    ensure!(status.success(), "`{name}` ended with {status}");
    Ok(())
}

/// Whether `program` answers to `args`.
pub(crate) fn works(program: impl AsRef<Path>, args: &[&str]) -> bool {
    command(program)
        .args(args)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Whether this runs where everything has to be there.
pub(crate) fn in_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// Where cargo puts release builds.
pub(crate) fn release_dir() -> PathBuf {
    target_dir().join("release")
}

/// Where builds go.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
