//! What is given to people who do not compile: static programs, their bills of materials and
//! checksums, and a container image. No container program is needed to make it.
//!
//! Everything is written below `target/dist`, anew each time.

mod image;
mod rootfs;
mod sbom;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use sha2::{Digest, Sha256};

use crate::shell;

/// What the image may weigh, in bytes, as it is downloaded.
const MAX_IMAGE: u64 = 15_000_000;

/// Cargo's name for the kind of machine that programs are made for.
const TARGET: &str = "x86_64-unknown-linux-musl";
/// The same, as containers say it.
const ARCHITECTURE: &str = "amd64";
/// The cipher library is C, and must find musl's headers and not the system's.
const COMPILER: (&str, &str) = ("CC_x86_64_unknown_linux_musl", "musl-gcc");

/// The programs, and the packages they are made from.
const PROGRAMS: [(&str, &str); 2] = [("derper", "derper-bin"), ("derpprobe", "derpprobe-bin")];

#[derive(Args)]
pub(crate) struct Options {
    /// Takes the programs as they were built last.
    #[arg(long)]
    no_build: bool,
    /// Does not run the image. Running it needs root.
    #[arg(long)]
    no_trial: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let out = shell::target_dir().join("dist");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir_all(&out)?;
    if !options.no_build {
        build()?;
    }
    let built = shell::target_dir().join(TARGET).join("release");
    for (program, package) in PROGRAMS {
        let name = format!("{program}-{TARGET}");
        copy(&built.join(program), &out.join(&name))?;
        let bill = serde_json::to_string_pretty(&sbom::of(package, TARGET)?)?;
        fs::write(out.join(format!("{name}.cdx.json")), bill)?;
    }
    let context = out.join("context").join(ARCHITECTURE);
    rootfs::fill(&context, &out.join(format!("derper-{TARGET}")))?;
    let layout = out.join(format!("derper-image-{ARCHITECTURE}"));
    let image = image::write(&context, &layout, ARCHITECTURE)?;
    let bytes = fs::metadata(&image)?.len();
    println!("dist: {} has {bytes} bytes", image.display());
    ensure!(bytes <= MAX_IMAGE, "the image may have {MAX_IMAGE} bytes");
    if !options.no_trial {
        trial::run(&context)?;
    }
    checksums(&out)
}

fn build() -> Result<()> {
    shell::run(&format!("rustup target add {TARGET}"))?;
    let mut command = shell::command("cargo");
    command
        .args(["build", "--release", "--locked", "--target", TARGET])
        .args(PROGRAMS.iter().flat_map(|(_, package)| ["-p", package]))
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env(COMPILER.0, COMPILER.1);
    shell::run_command(&mut command, &format!("cargo build for {TARGET}"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// A line of `SHA256SUMS` for each file, as `sha256sum -c` reads them.
fn checksums(out: &Path) -> Result<()> {
    let mut files: Vec<PathBuf> = fs::read_dir(out)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.is_file());
    files.sort();
    let mut sums = String::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        sums.push_str(&format!("{}  {name}\n", sha256(&fs::read(&file)?)));
    }
    print!("{sums}");
    fs::write(out.join("SHA256SUMS"), sums)?;
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
