//! A relay that takes part, and one run of the load generator against it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::scenario::Scenario;
use crate::relay::{Launch, Relay};
use crate::shell;

/// A relay's name and how it is started.
#[derive(Debug)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    /// Program and arguments; see [`Launch::command`].
    command: Vec<String>,
}

impl Contestant {
    pub(crate) fn new(name: &str, command: &str) -> Self {
        let command = command.split_whitespace().map(str::to_owned).collect();
        Self {
            name: name.to_owned(),
            command,
        }
    }

    pub(crate) fn of_program(name: &str, program: &Path) -> Self {
        Self {
            name: name.to_owned(),
            command: vec![program.display().to_string()],
        }
    }

    /// Whether it can be started without TLS, or tells a STUN port, where the scenario needs that.
    pub(crate) fn can(&self, scenario: &Scenario) -> bool {
        let has = |mark| self.command.iter().any(|word| word.contains(mark));
        let takes_flags = !has("{port}");
        (takes_flags || scenario.key_exchange.is_some())
            && (takes_flags || has("{stun_port}") || !scenario.args.contains("{stun_port}"))
    }

    /// Starts the relay, runs the scenario once, and returns the load generator's report.
    pub(crate) fn measure(&self, scenario: &Scenario, quick: bool) -> Result<Value> {
        let plain = scenario.key_exchange.is_none();
        let launch = Launch {
            command: &self.command,
            cpus: scenario.cpus,
            plain,
        };
        let relay = Relay::launch(&launch)?;
        let mut load = Command::new("taskset");
        load.args(["-c", scenario.cpus])
            .arg(shell::release_dir().join("load"));
        load.args(["--pid", &relay.pid().to_string()]);
        load.args(["--addr", &format!("127.0.0.1:{}", relay.port)]);
        match scenario.key_exchange {
            Some(exchange) => load.args(["--kx", exchange]),
            None => load.arg("--plain"),
        };
        let args = scenario
            .args
            .replace("{stun_port}", &relay.stun_port.to_string());
        load.args(args.split_whitespace());
        if quick {
            load.args(scenario.quick.split_whitespace());
        }
        let output = load
            .stdin(Stdio::null())
            .output()
            .context("cannot run the load generator")?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{} {}: {errors}\n{}", self.name, scenario.name, relay.log());
        }
        let report: Value = serde_json::from_slice(&output.stdout).context("no JSON")?;
        let lost = report
            .get("lost_in_all")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        let may_lose = !scenario.lossless && (!quick || scenario.name.starts_with("slow"));
        ensure!(
            lost == 0 || may_lose,
            "{} {}: {lost} lost",
            self.name,
            scenario.name
        );
        Ok(report)
    }
}
