//! What the library crates offer, as lists in `api/`: so that nobody changes it unawares, and that
//! who reviews a change sees it.
//!
//! The lists come from rustdoc's JSON, whose format goes with the compiler: `public-api` is pinned
//! to the version that reads what the compiler of `rust-toolchain.toml` writes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Metadata, MetadataCommand, Package};
use clap::Args;
use public_api::Builder;

use crate::shell;

#[derive(Args)]
pub(crate) struct Options {
    /// Records the lists instead of comparing them.
    #[arg(long)]
    update: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let metadata = MetadataCommand::new()
        .manifest_path(shell::root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    describe()?;
    let folder = shell::root().join("api");
    let mut changed = Vec::new();
    for package in libraries(&metadata) {
        let now = listed(package)?;
        let file = folder.join(format!("{}.txt", package.name));
        if options.update {
            fs::create_dir_all(&folder)?;
            fs::write(&file, &now)?;
            continue;
        }
        let before = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        if before != now {
            println!("api: {} has changed", package.name);
            print_difference(&before, &now);
            changed.push(package.name.to_string());
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    bail!(
        "the API of {} is not what api/ says; if that is meant, run `cargo xtask api --update`, \
         and say in CHANGELOG.md what users have to change",
        changed.join(", ")
    )
}

/// The crates that others depend on: published ones without a program.
fn libraries(metadata: &Metadata) -> impl Iterator<Item = &Package> {
    metadata.packages.iter().filter(|package| {
        let is_published = package.publish.is_none();
        is_published && !package.targets.iter().any(cargo_metadata::Target::is_bin)
    })
}

/// Describes all libraries, in one go and with the features that the workspace has: so nothing is
/// compiled again that clippy and the pages of the documentation have.
fn describe() -> Result<()> {
    let line = "cargo doc --workspace --lib --no-deps --all-features --locked --quiet";
    let mut words = line.split(' ');
    let mut command = shell::command(words.next().context("a command")?);
    command.args(words).env("RUSTDOC", rustdoc()?);
    // They are the command's and not the script's, so that these are no pages to cargo.
    command.env("RUSTDOCFLAGS", "-Zunstable-options --output-format=json");
    shell::run_command(&mut command, line)
}

/// A rustdoc that takes options which are not stable. The compiler does not see the variable that
/// makes it so: it would build everything anew.
fn rustdoc() -> Result<PathBuf> {
    let path = shell::target_dir().join("api-rustdoc");
    fs::create_dir_all(shell::target_dir())?;
    fs::write(&path, "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n")?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// A line for each public item; traits that are implemented for everything, or by the compiler,
/// are left out.
fn listed(package: &Package) -> Result<String> {
    let library = package.targets.iter().find(|target| target.is_lib());
    let library = library.context("no library")?.name.replace('-', "_");
    let api = Builder::from_rustdoc_json(
        shell::target_dir()
            .join("doc")
            .join(format!("{library}.json")),
    )
    .omit_blanket_impls(true)
    .omit_auto_trait_impls(true)
    .omit_auto_derived_impls(true)
    .build()?;
    Ok(api.to_string())
}

fn print_difference(before: &str, now: &str) {
    let lines = |text: &'static str, of: &str, other: &str| {
        let other: BTreeSet<&str> = other.lines().collect();
        for line in of.lines().filter(|line| !other.contains(line)) {
            println!("{text} {line}");
        }
    };
    lines("-", before, now);
    lines("+", now, before);
}
