//! Kinds of machines, and how programs for them are made on this one.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::shell;

/// A kind of machine, as containers call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Platform {
    Amd64,
    Arm64,
}

impl Platform {
    /// Cargo's name.
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }

    /// Containers' name.
    pub(super) fn architecture(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Runs a program that was built for it; through an emulator, if that is another kind than
    /// this one. It takes the package qemu-user-static.
    pub(super) fn program(self, path: &Path) -> Command {
        match self {
            Self::Amd64 => Command::new(path),
            Self::Arm64 => {
                let mut command = Command::new("qemu-aarch64-static");
                command.arg(path);
                command
            }
        }
    }

    /// Builds static programs of `packages`, without what only a debugger reads.
    pub(super) fn build(self, packages: &[&str]) -> Result<()> {
        let target = self.target();
        shell::run(&format!("rustup target add {target}"))?;
        let mut command = shell::command("cargo");
        match self {
            // The cipher library is C, and must find musl's headers and not the system's.
            Self::Amd64 => command
                .arg("build")
                .env("CC_x86_64_unknown_linux_musl", "musl-gcc"),
            // Zig is a C compiler for every kind of machine, with musl.
            Self::Arm64 => {
                ensure!(
                    shell::works("cargo", &["zigbuild", "--help"]),
                    "programs for arm64 need Zig and cargo-zigbuild: `python3 -m pip install \
                     ziglang` and `cargo install --locked cargo-zigbuild`"
                );
                command.arg("zigbuild")
            }
        };
        command
            .args(["--release", "--locked", "--target", target])
            .args(packages.iter().flat_map(|package| ["-p", package]))
            .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false");
        shell::run_command(&mut command, &format!("cargo build for {target}"))
    }
}
