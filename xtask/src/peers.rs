//! The peers of interop tests: Go's programs, at one version, and our drivers around Go's code.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::shell;

/// The newest release that the Go toolchain of our machines builds.
pub(crate) const GO_VERSION: &str = "v1.102.5";
const PROGRAMS: [&str; 5] = ["derper", "derpprobe", "tailscale", "tailscaled", "stunc"];

/// Where programs of both kinds are.
pub(crate) struct Peers {
    /// Go's own.
    pub(crate) go: PathBuf,
    /// Our drivers.
    pub(crate) drivers: PathBuf,
}

/// Installs what is missing.
pub(crate) fn install() -> Result<Peers> {
    ensure!(
        shell::works("go", &["version"]),
        "interop needs Go 1.26.6 or later on the PATH"
    );
    let go = install_tailscale(GO_VERSION, &PROGRAMS)?;
    let drivers = shell::target_dir().join("go");
    let mut command = shell::command("go");
    command
        .current_dir(shell::root().join("xtask/testbed/go"))
        .args(["build", "-tags", "ts_debug_websockets", "-o"])
        .arg(format!("{}/", drivers.display()))
        .arg("./cmd/...");
    shell::run_command(&mut command, "go build").context("building the drivers")?;
    Ok(Peers { go, drivers })
}

/// Installs those of `programs` that are missing, of one version of Tailscale's module, and says
/// in which folder they are.
pub(crate) fn install_tailscale(version: &str, programs: &[&str]) -> Result<PathBuf> {
    let folder = shell::target_dir().join("peers").join(version);
    install_into(&folder, version, programs, "1")?;
    Ok(folder)
}

/// The same for programs that need no library of the system.
pub(crate) fn install_static(programs: &[&str]) -> Result<PathBuf> {
    let folder = shell::target_dir()
        .join("peers")
        .join(format!("{GO_VERSION}-static"));
    install_into(&folder, GO_VERSION, programs, "0")?;
    Ok(folder)
}

fn install_into(folder: &Path, version: &str, programs: &[&str], cgo: &str) -> Result<()> {
    let missing: Vec<_> = programs
        .iter()
        .filter(|program| !folder.join(program).exists())
        .collect();
    if !missing.is_empty() {
        println!("installing {missing:?} {version}; the first time takes minutes");
        let mut command = shell::command("go");
        command.arg("install").env("GOBIN", folder);
        command.env("CGO_ENABLED", cgo);
        command.args(
            missing
                .iter()
                .map(|name| format!("tailscale.com/cmd/{name}@{version}")),
        );
        shell::run_command(&mut command, "go install")?;
    }
    Ok(())
}
