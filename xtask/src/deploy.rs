//! Checks what operators install besides the programs, as far as that can be without installing
//! it. That the compose files' variables exist is a test of `derper-bin`.

use std::fs;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::shell;

const UNIT: &str = "deploy/systemd/derper.service";
/// What `systemd-analyze security` may say at most, in tenths. One of them is for netlink, by which
/// the kernel tells round-trip times.
const MAX_EXPOSURE: &str = "16";

pub(crate) fn run() -> Result<()> {
    let unit = fs::read_to_string(shell::root().join(UNIT))?;
    let dir = tempfile::tempdir()?;
    let copy = dir.path().join("derper.service");
    // It is looked whether the program is there, which it is only once it is installed.
    fs::write(&copy, unit.replace("/usr/bin/derper", "/bin/true"))?;
    let verify = shell::command("systemd-analyze")
        .arg("verify")
        .arg(&copy)
        .output()
        .context("cannot run systemd-analyze")?;
    let said = String::from_utf8_lossy(&verify.stderr);
    ensure!(verify.status.success() && said.is_empty(), "{UNIT}: {said}");
    let mut security = shell::command("systemd-analyze");
    security
        .args(["security", "--offline=true"])
        .arg(format!("--threshold={MAX_EXPOSURE}"))
        .arg(&copy)
        .stdout(Stdio::null());
    shell::run_command(&mut security, "systemd-analyze security")?;
    println!("deploy: the unit is good, and its exposure at most {MAX_EXPOSURE} tenths");
    Ok(())
}
