//! A region of our relays and the reference's: `xtask/testbed/mesh`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::interop::{Results, json_lines};
use crate::peers::Peers;
use crate::shell;

/// How many steps there are. A list that shrinks unseen would pass as well.
const STEPS: usize = 10;
const CLIENTS: usize = 300;

/// Runs all steps with two relays of ours and one of the reference's.
pub(crate) fn run(peers: &Peers, derper: &Path) -> Result<Results> {
    let reference = peers.go.join("derper");
    let mut region = Command::new(shell::release_dir().join("testbed-mesh"));
    for (name, program) in [("one", derper), ("two", derper), ("Go's", &reference)] {
        region.arg("--relay");
        region.arg(format!("{name}={}", program.display()));
    }
    region.args(["--clients", &CLIENTS.to_string()]);
    let named = |(name, outcome)| (format!("region: {name}"), outcome);
    Ok(steps(&mut region)?.into_iter().map(named).collect())
}

/// Runs `region`, and returns each step's name and what came of it.
pub(crate) fn steps(region: &mut Command) -> Result<Results> {
    let lines = json_lines(region)?;
    ensure!(lines.len() == STEPS, "{} steps, not {STEPS}", lines.len());
    lines.iter().map(outcome).collect()
}

fn outcome(line: &Value) -> Result<(String, Result<String>)> {
    let text = |field| line.get(field).and_then(Value::as_str);
    let name = text("name").context("a step has a name")?.to_owned();
    let detail = text("detail").unwrap_or_default().to_owned();
    if line.get("ok").and_then(Value::as_bool) == Some(true) {
        return Ok((name, Ok(detail)));
    }
    Ok((name, Err(anyhow::anyhow!(detail))))
}
