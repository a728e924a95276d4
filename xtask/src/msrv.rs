//! Whether everything builds with the oldest compiler that `Cargo.toml` promises.

use anyhow::{Context, Result, ensure};
use cargo_metadata::MetadataCommand;

use crate::shell;

pub(crate) fn run() -> Result<()> {
    let metadata = MetadataCommand::new()
        .manifest_path(shell::root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    let version = metadata
        .packages
        .iter()
        .find_map(|package| package.rust_version.clone())
        .context("no crate has a rust-version")?;
    let toolchain = format!("+{version}");
    if !shell::works("cargo", &[&toolchain, "--version"]) {
        let missing = format!("rustup toolchain install {version} --profile minimal");
        ensure!(!shell::in_ci(), "this compiler is missing: {missing}");
        println!("msrv: NOT CHECKED, for this compiler is missing: {missing}");
        return Ok(());
    }
    // What is published, and not what only developers run.
    let mut line = format!("cargo {toolchain} check --locked --quiet");
    for package in &metadata.packages {
        if package.publish.is_none() {
            line.push_str(&format!(" -p {}", package.name));
        }
    }
    shell::run(&line)
}
