//! What is given to people who do not compile: static programs, their bills of materials and
//! checksums, a container image and a Debian package. No container program is needed to make it.
//!
//! Everything is written below `target/dist`. What is there for another kind of machine stays.

mod deb;
mod image;
mod platform;
mod rootfs;
mod sbom;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use sha2::{Digest, Sha256};

use crate::{peers, shell};
use platform::Platform;

/// What the image may weigh, in bytes, as it is downloaded.
const MAX_IMAGE: u64 = 15_000_000;

/// The programs, and the packages they are made from.
const PROGRAMS: [(&str, &str); 2] = [("derper", "derper-bin"), ("derpprobe", "derpprobe-bin")];

/// A program of the container with tailscaled alone.
const INIT: &str = "derper-init";

#[derive(Args)]
pub(crate) struct Options {
    /// For which kind of machine; arm64 needs Zig and cargo-zigbuild to be made, and
    /// qemu-aarch64-static to be tried.
    #[arg(long, value_enum, default_value_t = Platform::Amd64)]
    platform: Platform,
    /// Makes the image with tailscaled in it besides. Needs Go.
    #[arg(long)]
    tailscaled: bool,
    /// Makes the Debian package besides. Needs cargo-deb.
    #[arg(long)]
    deb: bool,
    /// Takes the programs as they were built last.
    #[arg(long)]
    no_build: bool,
    /// Does not run the image. Running it needs root.
    #[arg(long)]
    no_trial: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let out = shell::target_dir().join("dist");
    fs::create_dir_all(&out)?;
    let platform = options.platform;
    clear(platform, &out)?;
    let (target, architecture) = (platform.target(), platform.architecture());
    if !options.no_build {
        platform.build(&PROGRAMS.map(|(_, package)| package))?;
    }
    let built = shell::target_dir().join(target).join("release");
    for (program, package) in PROGRAMS {
        let name = format!("{program}-{target}");
        copy(&built.join(program), &out.join(&name))?;
        let bill = serde_json::to_string_pretty(&sbom::of(&[package], target)?)?;
        fs::write(out.join(format!("{name}.cdx.json")), bill)?;
    }
    let derper = out.join(format!("derper-{target}"));
    let context = out.join("context").join(architecture);
    rootfs::fill(&context, &[("derper", &derper)])?;
    let layout = out.join(format!("derper-image-{architecture}"));
    let image = image::write(&image::ALONE, &context, &layout, architecture)?;
    let bytes = fs::metadata(&image)?.len();
    println!("dist: {} has {bytes} bytes", image.display());
    ensure!(bytes <= MAX_IMAGE, "the image may have {MAX_IMAGE} bytes");
    if !options.no_trial {
        match platform {
            Platform::Amd64 => trial::run(&context)?,
            Platform::Arm64 => trial::emulated(&built)?,
        }
    }
    if options.deb {
        let bill = sbom::of(&PROGRAMS.map(|(_, package)| package), target)?;
        let package = deb::make(platform, &built, &bill, &out)?;
        if !options.no_trial && platform == Platform::Amd64 {
            trial::package(&package)?;
        }
    }
    if options.tailscaled {
        ensure!(
            platform == Platform::Amd64,
            "the image with tailscaled is made for amd64 alone"
        );
        with_tailscaled(options, &out, &derper, &built.join(INIT))?;
    }
    checksums(&out)
}

/// The image with tailscaled, the relay and what starts both.
fn with_tailscaled(options: &Options, out: &Path, derper: &Path, init: &Path) -> Result<()> {
    let architecture = options.platform.architecture();
    // A container has no libraries: without C, Go needs none.
    let go = peers::install_static(&["tailscale", "tailscaled"])?;
    let context = out.join("context-tailscaled").join(architecture);
    let programs = [
        ("derper", derper),
        (INIT, init),
        ("tailscale", &go.join("tailscale")),
        ("tailscaled", &go.join("tailscaled")),
    ];
    rootfs::fill(&context, &programs)?;
    let layout = out.join(format!("derper-tailscaled-image-{architecture}"));
    let image = image::write(&image::WITH_TAILSCALED, &context, &layout, architecture)?;
    println!(
        "dist: {} has {} bytes",
        image.display(),
        fs::metadata(&image)?.len()
    );
    if !options.no_trial {
        trial::with_tailscaled(&context)?;
    }
    Ok(())
}

/// Removes what was made for `platform` before.
fn clear(platform: Platform, out: &Path) -> Result<()> {
    for folder in ["", "context", "context-tailscaled"] {
        let Ok(entries) = fs::read_dir(out.join(folder)) else {
            continue;
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.contains(platform.target()) && !name.contains(platform.architecture()) {
                continue;
            }
            if path.is_dir() {
                fs::remove_dir_all(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
        }
    }
    Ok(())
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
    let sums_file = out.join("SHA256SUMS");
    files.retain(|path| path.is_file() && *path != sums_file);
    files.sort();
    let mut sums = String::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        sums.push_str(&format!("{}  {name}\n", sha256(&fs::read(&file)?)));
    }
    print!("{sums}");
    fs::write(sums_file, sums)?;
    Ok(())
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_for_another_kind_of_machine_stays() {
        let out = tempfile::tempdir().unwrap();
        let of_one = [
            "derper-x86_64-unknown-linux-musl",
            "derper-x86_64-unknown-linux-musl.cdx.json",
            "derper-image-amd64.tar",
            "context/amd64/rootfs",
            "derper_0.0.9-1_amd64.deb",
        ];
        let of_both = [
            "derper-aarch64-unknown-linux-musl",
            "derper-image-arm64.tar",
            "context/arm64/rootfs",
        ];
        for file in of_one.iter().chain(&of_both) {
            let file = out.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        clear(Platform::Amd64, out.path()).unwrap();
        for file in of_one {
            assert!(!out.path().join(file).exists(), "{file}");
        }
        for file in of_both {
            assert!(out.path().join(file).exists(), "{file}");
        }
        checksums(out.path()).unwrap();
        checksums(out.path()).unwrap();
        let sums = fs::read_to_string(out.path().join("SHA256SUMS")).unwrap();
        let names: Vec<&str> = sums
            .lines()
            .filter_map(|line| line.split("  ").nth(1))
            .collect();
        assert_eq!(
            names,
            [
                "derper-aarch64-unknown-linux-musl",
                "derper-image-arm64.tar"
            ]
        );
    }
}
