//! Runs of real clients: nodes of a tailnet, which Go's own code moves data between.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::peers::Peers;
use crate::relay::Relay;

/// Two nodes in one process, which talk through `relay`; `args` say what they do.
pub(crate) fn tailnet(peers: &Peers, relay: &Relay, args: &str) -> Result<Value> {
    let mut command = Command::new(peers.drivers.join("tailnet"));
    command.args(["-port", &relay.port.to_string(), "-insecure"]);
    command.args(["-stun-port", &relay.stun_port.to_string()]);
    command.args(args.split_whitespace());
    Ok(Value::Object(last_line(&mut command)?))
}

/// Two tailscaled in namespaces of their own, with the relay that `program` is in a third.
pub(crate) fn end_to_end(peers: &Peers, program: &str, args: &str) -> Result<Value> {
    let relay = format!(
        "{program} -certmode manual -hostname {{host}} -certdir {{dir}}/certs -a {{ip}}:{{port}} \
         -stun-port {{stun_port}} -http-port {{http_port}} -c {{dir}}/derper.key"
    );
    let mut command = Command::new(peers.drivers.join("e2e"));
    command
        .arg("-bin")
        .arg(&peers.go)
        .args(["-relay-cmd", &relay]);
    command.args(args.split_whitespace());
    let mut report = last_line(&mut command)?;
    report
        .remove("transfer")
        .context("no transfer in the report")
}

/// The JSON document on the last line that a driver prints.
fn last_line(command: &mut Command) -> Result<Map<String, Value>> {
    let name = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let report = text.lines().last().map(serde_json::from_str);
    match report {
        Some(Ok(Value::Object(report))) if output.status.success() => Ok(report),
        _ => {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{name} ended with {}: {text}{errors}", output.status)
        }
    }
}
