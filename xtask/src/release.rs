//! What has to hold before a version is published, and a trial of it: every crate is packaged, and
//! a workspace of what is in the packages, and nothing else, is built with its examples.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::{Metadata, MetadataCommand, Package};
use clap::Args;

use crate::shell;

#[derive(Args)]
pub(crate) struct Options {
    /// Publishes nothing: the only way so far, for nobody is named yet who may publish.
    #[arg(long)]
    dry_run: bool,
}

/// Tries a release.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        options.dry_run,
        "publishing is done by hand, by the list in CONTRIBUTING.md; try it with --dry-run"
    );
    let metadata = MetadataCommand::new()
        .manifest_path(shell::root().join("Cargo.toml"))
        .other_options(["--locked".to_owned()])
        .exec()
        .context("cargo metadata")?;
    let packages = published(&metadata);
    let mistakes = mistakes(&packages)?;
    if !mistakes.is_empty() {
        bail!("not ready to be released:\n{}", mistakes.join("\n"));
    }
    let mut package = shell::command("cargo");
    package.args(["package", "--locked", "--no-verify", "--allow-dirty"]);
    for one in &packages {
        package.args(["-p", &one.name]);
    }
    shell::run_command(&mut package, "cargo package")?;
    outside(&packages)?;
    println!("release: {} crates are ready", packages.len());
    for one in &packages {
        println!("  {} {}", one.name, one.version);
    }
    Ok(())
}

/// What is published, those first that others need.
fn published(metadata: &Metadata) -> Vec<&Package> {
    let mut open: Vec<&Package> = metadata.workspace_packages();
    open.retain(|package| package.publish.as_ref().is_none_or(|to| !to.is_empty()));
    let mut ordered: Vec<&Package> = Vec::new();
    while !open.is_empty() {
        let waits = |package: &Package, open: &[&Package]| {
            let mut needed = package.dependencies.iter();
            needed.any(|dependency| open.iter().any(|other| *other.name == dependency.name))
        };
        let Some(next) = open.iter().position(|package| !waits(package, &open)) else {
            // A circle, by a dependency of tests: cargo says so better.
            ordered.append(&mut open);
            break;
        };
        ordered.push(open.remove(next));
    }
    ordered
}

/// What is missing for a release, as lines for whoever makes it.
fn mistakes(packages: &[&Package]) -> Result<Vec<String>> {
    let changes = fs::read_to_string(shell::root().join("CHANGELOG.md"))?;
    let mut mistakes = Vec::new();
    for package in packages {
        let name = &package.name;
        let folder = package.manifest_path.parent().context("a folder")?;
        if package.description.is_none() || package.license.is_none() {
            mistakes.push(format!("{name}: description and license are wanted"));
        }
        let is_library = package.targets.iter().any(cargo_metadata::Target::is_lib);
        let is_program = package.targets.iter().any(cargo_metadata::Target::is_bin);
        if is_library && !is_program && !folder.join("README.md").exists() {
            mistakes.push(format!("{name}: a README.md is wanted"));
        }
        if package.version != packages[0].version {
            mistakes.push(format!("{name}: all crates have one version"));
        }
    }
    if !changes.contains("## ") {
        mistakes.push("CHANGELOG.md: a section is wanted".to_owned());
    }
    Ok(mistakes)
}

/// Builds a workspace outside of this one from what is in the packages.
fn outside(packages: &[&Package]) -> Result<()> {
    let place = shell::target_dir().join("outside");
    if place.exists() {
        fs::remove_dir_all(&place)?;
    }
    fs::create_dir_all(&place)?;
    let mut patches = String::new();
    for package in packages {
        let folder = format!("{}-{}", package.name, package.version);
        let archive = shell::target_dir().join(format!("package/{folder}.crate"));
        let mut tar = shell::command("tar");
        tar.arg("-xzf").arg(&archive).arg("-C").arg(&place);
        shell::run_command(&mut tar, "tar")?;
        // Each brings a list of exact versions of its own; the workspace has one.
        let _none = fs::remove_file(place.join(&folder).join("Cargo.lock"));
        patches.push_str(&format!("{} = {{ path = \"{folder}\" }}\n", package.name));
    }
    let manifest = format!(
        "[workspace]\nmembers = [\"*-*\"]\nresolver = \"3\"\n\n[patch.crates-io]\n{patches}"
    );
    fs::write(place.join("Cargo.toml"), manifest)?;
    copy(&shell::root().join("Cargo.lock"), &place.join("Cargo.lock"))?;
    let mut check = shell::command("cargo");
    check
        .current_dir(&place)
        .args(["check", "--workspace", "--examples", "--lib", "--bins"]);
    // What is built there is of no use to anybody else.
    check.env("CARGO_TARGET_DIR", place.join("target"));
    shell::run_command(&mut check, "cargo check outside of the repository")
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}
