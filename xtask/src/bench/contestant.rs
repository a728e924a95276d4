//! A relay that takes part, and one run of a scenario against it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::driver;
use super::machine::Cpus;
use super::scenario::{Generator, Load, Scenario, Security};
use crate::peers::Peers;
use crate::relay::{Launch, Relay};
use crate::shell;

/// A relay's name and how it is started.
#[derive(Debug)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    /// Program and arguments; see [`Launch::command`].
    command: Vec<String>,
    kind: Kind,
}

/// What a relay can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is ours, and has our configuration file.
    Ours,
    /// It is somebody's, and may have flags of its own.
    Others,
    /// It is the load generator's bare relay.
    Bare,
}

/// What every run is made with.
pub(crate) struct Surroundings {
    pub(crate) peers: Peers,
    pub(crate) cpus: Cpus,
    /// Whether it is only to be seen that everything runs.
    pub(crate) quick: bool,
}

impl Contestant {
    pub(crate) fn new(name: &str, command: &str, kind: Kind) -> Self {
        let command = command.split_whitespace().map(str::to_owned).collect();
        Self {
            name: name.to_owned(),
            command,
            kind,
        }
    }

    pub(crate) fn of_program(name: &str, program: &Path, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            command: vec![program.display().to_string()],
            kind,
        }
    }

    /// The least that a relay can be: a share of what any costs is the kernel's and the cipher's.
    pub(crate) fn bare() -> Self {
        let load = shell::release_dir().join("load").display().to_string();
        let args = ["bare-relay", "--listen", "127.0.0.1:{port}"].map(str::to_owned);
        Self {
            name: "bare forwarder".to_owned(),
            command: [load].into_iter().chain(args).collect(),
            kind: Kind::Bare,
        }
    }

    /// Whether it can be started as the scenario needs it.
    pub(crate) fn can(&self, scenario: &Scenario, quick: bool) -> bool {
        if scenario.config.is_some() && self.kind != Kind::Ours {
            return false;
        }
        let has = |mark| self.command.iter().any(|word| word.contains(mark));
        let takes_flags = !has("{port}");
        match &scenario.load {
            Load::Generator(generator) if self.kind == Kind::Bare => generator.only_packets,
            Load::Generator(generator) => {
                let asks_stun = generator.args.contains("{stun_port}");
                (takes_flags || generator.security != Security::Plain)
                    && (takes_flags || has("{stun_port}") || !asks_stun)
            }
            Load::Tailnet(..) => takes_flags,
            Load::EndToEnd(_) => takes_flags && !quick,
        }
    }

    /// Starts the relay, runs the scenario once, and returns what was found.
    pub(crate) fn measure(&self, scenario: &Scenario, with: &Surroundings) -> Result<Value> {
        let cpus = with.cpus.first(scenario.cpus);
        let launch = |plain| {
            Relay::launch(&Launch {
                command: &self.command,
                cpus: &cpus,
                plain,
                config: scenario.config,
            })
        };
        let result = match &scenario.load {
            Load::Generator(generator) => launch(generator.security == Security::Plain)
                .and_then(|relay| self.load(generator, &relay, &cpus, with.quick)),
            Load::Tailnet(args, quick) => launch(false).and_then(|relay| {
                driver::tailnet(&with.peers, &relay, if with.quick { quick } else { args })
            }),
            Load::EndToEnd(args) => driver::end_to_end(&with.peers, &self.command.join(" "), args),
        };
        result.with_context(|| format!("{}, {}", self.name, scenario.name))
    }

    fn load(&self, what: &Generator, relay: &Relay, cpus: &str, quick: bool) -> Result<Value> {
        let mut load = Command::new("taskset");
        load.args(["-c", cpus])
            .arg(shell::release_dir().join("load"));
        load.args(["--pid", &relay.pid().to_string()]);
        load.args(["--addr", &format!("127.0.0.1:{}", relay.port)]);
        match (self.kind, what.security) {
            (Kind::Bare, _) => load.arg("--bare"),
            (_, Security::Tls(exchange)) => load.args(["--kx", exchange]),
            (_, Security::Plain) => load.arg("--plain"),
        };
        let args = what
            .args
            .replace("{stun_port}", &relay.stun_port.to_string());
        load.args(args.split_whitespace());
        if quick {
            load.args(what.quick.split_whitespace());
        }
        // What went wrong is in the error; where in the generator it was noticed does not help.
        load.env("RUST_LIB_BACKTRACE", "0");
        let output = load
            .stdin(Stdio::null())
            .output()
            .context("cannot run the load generator")?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{errors}\n{}", relay.log());
        }
        let report: Value = serde_json::from_slice(&output.stdout).context("no JSON")?;
        let lost = report
            .get("lost_in_all")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        let must_arrive = what.lossless || (quick && what.quick.contains("--window"));
        ensure!(lost == 0 || !must_arrive, "{lost} packets lost");
        Ok(report)
    }
}
