//! Whom our relay admits: tailnets of real nodes, each way of telling it who they are, and the
//! pages of `docs/` about it, followed. The stories are the driver `admission`'s.
//!
//! Headscale servers are played back as they were recorded: no Go module installs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use crate::builds;
use crate::interop::{Results, json_lines, tell};
use crate::peers::Peers;
use crate::shell;

/// How many stories there are. A list that shrinks unseen would pass as well.
const STORIES: usize = 75;
/// How many of them are about a tailscaled alone, and are told of an old one as well.
const OLD_STORIES: usize = 10;
/// The oldest release that can still be built. It does not look up nodes by their keys.
const OLD_VERSION: &str = "v1.66.4";

#[derive(Args)]
pub(crate) struct Options {
    /// Our relay as it was built elsewhere, instead of a release build.
    #[arg(long)]
    derper: Option<PathBuf>,
}

/// Builds what is needed and runs all stories.
pub(crate) fn run_alone(options: &Options) -> Result<()> {
    let peers = crate::peers::install()?;
    let derper = builds::relay(options.derper.as_ref())?;
    tell(&run(&peers, &derper)?)
}

/// Installs the old programs where they are missing; their folder.
pub(crate) fn install() -> Result<PathBuf> {
    crate::peers::install_tailscale(OLD_VERSION, &["tailscale", "tailscaled"])
}

/// Runs all stories with `derper`, which is ours; names and results.
pub(crate) fn run(peers: &Peers, derper: &Path) -> Result<Results> {
    let old = install()?;
    let driver = || {
        let mut command = shell::command(peers.drivers.join("admission"));
        command.arg("-relay").arg(derper);
        command
    };
    let mut all = driver();
    all.arg("-bin").arg(&peers.go);
    let mut by_old = driver();
    by_old.arg("-bin").arg(old).args(["-only", "tailscaled: "]);
    let mut results = stories("admission", &mut all, STORIES)?;
    let name = format!("admission, {OLD_VERSION}");
    results.extend(stories(&name, &mut by_old, OLD_STORIES)?);
    Ok(results)
}

fn stories(title: &str, driver: &mut Command, expected: usize) -> Result<Results> {
    let mut results = Vec::new();
    for line in json_lines(driver)? {
        let text = |field| line.get(field).and_then(Value::as_str);
        let Some(name) = text("name") else { continue };
        let detail = text("detail").unwrap_or_default().to_owned();
        let result = match line.get("ok").and_then(Value::as_bool) {
            Some(true) => Ok(detail),
            _ => Err(anyhow::Error::msg(detail)),
        };
        results.push((format!("{title}: {name}"), result));
    }
    let count = results.len();
    let counted = match count == expected {
        true => Ok(expected.to_string()),
        false => Err(anyhow::anyhow!("{count} stories instead of {expected}")),
    };
    results.push((format!("{title}: number of stories"), counted));
    Ok(results)
}
