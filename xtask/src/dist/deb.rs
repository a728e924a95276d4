//! The Debian package, by `cargo deb` from the programs that are there, and what it must hold.
//!
//! What the package says of itself stands in `derper-bin/Cargo.toml`, and its files in
//! `deploy/debian` and `deploy/systemd`. Manuals and completions are written by the programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::platform::Platform;
use crate::shell;

/// What the package holds, besides folders: a file, and how it may be used.
const FILES: [(&str, &str); 19] = [
    ("etc/default/derper", "-rw-r--r--"),
    ("etc/derper/derper.toml", "-rw-r--r--"),
    ("usr/bin/derper", "-rwxr-xr-x"),
    ("usr/bin/derpprobe", "-rwxr-xr-x"),
    ("usr/lib/systemd/system/derper.service", "-rw-r--r--"),
    ("usr/share/bash-completion/completions/derper", "-rw-r--r--"),
    ("usr/share/doc/derper/README.md", "-rw-r--r--"),
    ("usr/share/doc/derper/changelog.Debian.gz", "-rw-r--r--"),
    ("usr/share/doc/derper/changelog.gz", "-rw-r--r--"),
    ("usr/share/doc/derper/copyright", "-rw-r--r--"),
    ("usr/share/doc/derper/docs/README.md", "-rw-r--r--"),
    ("usr/share/doc/derper/docs/certificates.md", "-rw-r--r--"),
    ("usr/share/doc/derper/examples/derper.toml", "-rw-r--r--"),
    ("usr/share/doc/derper/sbom.cdx.json", "-rw-r--r--"),
    (
        "usr/share/fish/vendor_completions.d/derper.fish",
        "-rw-r--r--",
    ),
    ("usr/share/lintian/overrides/derper", "-rw-r--r--"),
    ("usr/share/man/man1/derper.1.gz", "-rw-r--r--"),
    ("usr/share/man/man1/derpprobe.1.gz", "-rw-r--r--"),
    ("usr/share/zsh/vendor-completions/_derper", "-rw-r--r--"),
];
/// Where all guides are; which there are may change.
const GUIDES: &str = "usr/share/doc/derper/docs/";
/// The files that stay as the operator has written them.
const KEPT: &str = "/etc/default/derper\n/etc/derper/derper.toml\n";

/// Makes the package in `out` from the programs in `built`, with `bill` of what is linked into
/// them, and looks into it. The package's path.
pub(super) fn make(platform: Platform, built: &Path, bill: &Value, out: &Path) -> Result<PathBuf> {
    ensure!(
        shell::works("cargo", &["deb", "--version"]),
        "the package needs cargo-deb: `cargo install --locked cargo-deb`"
    );
    // Of the same sources there is the same package.
    let time = told(shell::command("git").args(["log", "-1", "--format=%ct"]))?;
    let made = built.join("deb");
    if made.exists() {
        fs::remove_dir_all(&made)?;
    }
    fs::create_dir_all(&made)?;
    fs::write(
        made.join("sbom.cdx.json"),
        serde_json::to_string_pretty(bill)?,
    )?;
    documents(platform, built, &made)?;
    let mut deb = shell::command("cargo");
    deb.args([
        "deb",
        "--locked",
        "--no-build",
        "--no-strip",
        "-p",
        "derper-bin",
    ])
    .args(["--target", platform.target(), "--output"])
    .arg(out)
    .env("SOURCE_DATE_EPOCH", time.trim())
    .env("CARGO_TARGET_DIR", shell::target_dir());
    shell::run_command(&mut deb, "cargo deb")?;
    let suffix = format!("_{}.deb", platform.architecture());
    let package = fs::read_dir(out)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().ends_with(&suffix))
        .with_context(|| format!("cargo deb has made no package {suffix}"))?;
    let bill_of_package = format!("{}.cdx.json", package.display());
    fs::copy(made.join("sbom.cdx.json"), bill_of_package)?;
    check(platform, &package)?;
    println!(
        "dist: {} has {} bytes, and holds what it should",
        package.display(),
        fs::metadata(&package)?.len()
    );
    Ok(package)
}

/// Manuals, completions, the whole configuration and the package's history.
fn documents(platform: Platform, built: &Path, made: &Path) -> Result<()> {
    let derper = |words: &[&str]| told(platform.program(&built.join("derper")).args(words));
    let write = |name: &str, text: &str| fs::write(made.join(name), text);
    write("derper.1", &derper(&["man"])?)?;
    write("derper.bash", &derper(&["completions", "bash"])?)?;
    write("_derper", &derper(&["completions", "zsh"])?)?;
    write("derper.fish", &derper(&["completions", "fish"])?)?;
    write("derper.toml", &derper(&["config", "example"])?)?;
    let help = told(
        platform
            .program(&built.join("derpprobe"))
            .args(["--help"])
            .env("COLUMNS", "80"),
    )?;
    write("derpprobe.1", &manual(&help)?)?;
    let date = told(shell::command("git").args(["log", "-1", "--format=%aD"]))?;
    let version = env!("CARGO_PKG_VERSION");
    let history = format!(
        "derper ({version}-1) unstable; urgency=medium\n\n  \
         * What has changed is in /usr/share/doc/derper/changelog.gz.\n\n \
         -- The derpkit authors <derpkit@users.noreply.github.com>  {}\n",
        date.trim()
    );
    write("changelog.Debian", &history)?;
    fs::copy(shell::root().join("CHANGELOG.md"), made.join("changelog"))?;
    let mut gzip = Command::new("gzip");
    gzip.args(["-n", "-9"]).current_dir(made).args([
        "derper.1",
        "derpprobe.1",
        "changelog",
        "changelog.Debian",
    ]);
    shell::run_command(&mut gzip, "gzip")
}

/// A manual page of what a program says of itself: a paragraph, more of them, and its options.
fn manual(help: &str) -> Result<String> {
    let (about, options) = help.split_once("\nUsage: ").context("no usage")?;
    let (usage, options) = options.split_once("\n\n").context("no options")?;
    let (first, rest) = about.split_once("\n\n").unwrap_or((about, ""));
    // The name's line is one line.
    let first = first.trim_end_matches('.').replace('\n', " ");
    Ok(format!(
        ".TH DERPPROBE 1\n.SH NAME\nderpprobe \\- {}\n.SH SYNOPSIS\n{}\n.SH DESCRIPTION\n{}\n\
         .SH OPTIONS\n.nf\n{}\n.fi\n.SH SEE ALSO\n.BR derper (1)\n",
        roff(&first),
        roff(usage),
        roff(rest.trim()),
        roff(options.trim_start_matches("Options:\n").trim_end()),
    ))
}

/// Text in which nothing is a command of roff's.
fn roff(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    let line = |line: &str| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    };
    escaped.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// That the package holds what it should, and nothing else.
fn check(platform: Platform, package: &Path) -> Result<()> {
    let listing = told(Command::new("dpkg-deb").arg("--contents").arg(package))?;
    let (guides, mut files): (Vec<_>, Vec<_>) = files(&listing)
        .into_iter()
        .partition(|(name, _)| name.starts_with(GUIDES) && !FILES.iter().any(|(f, _)| f == name));
    ensure!(
        guides.len() > 5,
        "the package holds {} guides",
        guides.len()
    );
    files.sort_unstable();
    ensure!(
        files == FILES,
        "the package holds {files:#?}, and should hold {FILES:#?}"
    );
    for line in listing.lines() {
        ensure!(
            line.contains(" root/root ") || line.contains(" 0/0 "),
            "{line}"
        );
    }
    let control = |field: &str| {
        let field = told(
            Command::new("dpkg-deb")
                .arg("--field")
                .arg(package)
                .arg(field),
        )?;
        Ok::<_, anyhow::Error>(field.trim().to_owned())
    };
    let found = [
        control("Package")?,
        control("Architecture")?,
        control("Depends")?,
    ];
    let wanted = ["derper", platform.architecture(), "ca-certificates"];
    ensure!(
        found == wanted,
        "the package is {found:?}, and not {wanted:?}"
    );
    let part = |name: &str| {
        told(
            Command::new("dpkg-deb")
                .arg("--info")
                .arg(package)
                .arg(name),
        )
    };
    let kept = part("conffiles")?;
    ensure!(kept == KEPT, "what stays as it was edited: {kept}");
    let after = part("postinst")?;
    for step in [
        "deb-systemd-helper enable",
        "deb-systemd-invoke try-restart",
    ] {
        ensure!(
            after.contains(step),
            "postinst does not say {step}: {after}"
        );
    }
    let purge = part("postrm")?;
    ensure!(
        purge.contains("rm -rf /var/lib/private/derper")
            && purge.contains("deb-systemd-helper purge"),
        "a purge leaves things behind: {purge}"
    );
    Ok(())
}

/// The files of a listing of `dpkg-deb --contents`, with how they may be used.
fn files(listing: &str) -> Vec<(&str, &str)> {
    let file = |line| {
        let (mode, name) = (
            str::split_whitespace(line).next()?,
            line.split_once(" ./")?.1,
        );
        (!mode.starts_with('d')).then_some((name, mode))
    };
    listing.lines().filter_map(file).collect()
}

/// What a command prints.
fn told(command: &mut Command) -> Result<String> {
    let name = format!("{command:?}");
    let output = command
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_files_with_their_modes() {
        let listing = "drwxr-xr-x 0/0   0 2026-11-23 14:35 ./etc/\n\
                       -rw-r--r-- 0/0 371 2026-11-23 14:35 ./etc/default/derper\n";
        assert_eq!(files(listing), [("etc/default/derper", "-rw-r--r--")]);
    }

    #[test]
    fn a_manual_is_what_the_program_says_of_itself() {
        let help = "Checks\nrelays.\n\nFlags have one dash or two.\n\nUsage: derpprobe [OPTIONS]\n\n\
                    Options:\n      --once\n          Run \\ once\n";
        let page = manual(help).unwrap();
        for part in [
            "\nderpprobe \\- Checks relays\n",
            "\nderpprobe [OPTIONS]\n",
            "\nFlags have one dash or two.\n",
            "\n      \\-\\-once\n          Run \\e once\n.fi\n",
        ] {
            assert!(page.contains(part), "{part:?} in {page}");
        }
    }

    #[test]
    fn a_line_that_looks_like_a_command_is_text() {
        assert_eq!(roff(".so x\n'y"), "\\&.so x\n\\&'y");
    }
}
