//! Everybody's client against everybody's relay. A peer that cannot be had is a failure.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::acme;
use crate::admission;
use crate::builds;
use crate::mesh;
use crate::peers::{self, Peers};
use crate::proxies;
use crate::relay::Relay;
use crate::shell;

/// How many cases each list has. A list that shrinks unseen would pass as well.
const RELAY_CASES: usize = 64;
const CLIENT_CASES: usize = 31;
/// What two nodes of a tailnet in one process exchange, in bytes.
const TAILNET_BYTES: u64 = 20_000_000;
/// What two real tailscaled exchange, in bytes.
const E2E_BYTES: u64 = 100_000_000;

#[derive(Args)]
pub(crate) struct Options {
    /// Leaves out what needs root and network namespaces.
    #[arg(long)]
    no_namespaces: bool,
    /// A relay of one's own, by the flags of Go's: NAME=PROGRAM.
    #[arg(long)]
    against: Vec<String>,
}

/// Names of cases, and what came of each.
pub(crate) type Results = Vec<(String, Result<String>)>;

/// One relay's column of the table.
struct Column {
    name: String,
    program: PathBuf,
    /// By case: whether it passed, and what there is to say.
    cells: BTreeMap<String, (bool, String)>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let peers = peers::install()?;
    let ours = builds::release()?;
    let mut columns = vec![
        Column::new("derpkit", ours.join("derper")),
        Column::new("Go derper", peers.go.join("derper")),
    ];
    for against in &options.against {
        let (name, program) = against.split_once('=').context("--against NAME=PROGRAM")?;
        columns.push(Column::new(name, program.into()));
    }
    // What is compiled or fetched would slow down the other lane's cases.
    acme::install()?;
    admission::install()?;
    let derper = columns[0].program.clone();
    let (of_ours, beside) = std::thread::scope(|scope| {
        let beside = scope.spawn(|| alone_with_ours(&peers, &derper));
        let of_ours = in_namespaces(&mut columns, &peers, &derper, options);
        let beside = beside.join().unwrap_or_else(|panic| resume_unwind(panic));
        (of_ours, beside)
    });
    for (case, result) in of_ours?.into_iter().chain(beside?) {
        columns[0].note(&case, result);
    }
    print_table(&columns);
    let failed: usize = columns.iter().map(Column::failures).sum();
    ensure!(failed == 0, "{failed} cases failed");
    Ok(())
}

/// One lane: the columns, and what else may need network namespaces, of which there is one set.
/// What it returns is about our relay.
fn in_namespaces(
    columns: &mut [Column],
    peers: &Peers,
    derper: &Path,
    options: &Options,
) -> Result<Results> {
    for column in columns {
        println!("== {}", column.name);
        column.fill(peers, options)?;
    }
    proxies::run(peers, derper.to_owned(), options.no_namespaces)
}

/// The other lane: what only our relay can, which mostly waits for certificates and verdicts.
fn alone_with_ours(peers: &Peers, derper: &Path) -> Result<Results> {
    let mut results = acme::run(peers, derper.to_owned())?;
    results.extend(admission::run(peers, derper)?);
    results.extend(mesh::run(peers, derper)?);
    Ok(results)
}

/// Prints what came of a part that runs alone; an error where a case failed.
pub(crate) fn tell(results: &Results) -> Result<()> {
    let mut failed = 0;
    for (case, result) in results {
        match result {
            Ok(detail) => println!("{case}: ok ({detail})"),
            Err(error) => {
                failed += 1;
                println!("{case}: FAILED: {error:#}");
            }
        }
    }
    ensure!(failed == 0, "{failed} of {} failed", results.len());
    Ok(())
}

impl Column {
    fn new(name: &str, program: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            program,
            cells: BTreeMap::new(),
        }
    }

    fn failures(&self) -> usize {
        self.cells.values().filter(|(passed, _)| !passed).count()
    }

    fn note(&mut self, case: &str, result: Result<String>) {
        let cell = match result {
            Ok(detail) => (true, detail),
            Err(error) => {
                println!("   FAILED {case}: {error:#}");
                (false, format!("{error:#}"))
            }
        };
        self.cells.insert(case.to_owned(), cell);
    }

    fn fill(&mut self, peers: &Peers, options: &Options) -> Result<()> {
        let relay = Relay::start(&self.program)?;
        let port = relay.port.to_string();
        let stun_port = relay.stun_port.to_string();
        let http_port = relay.http_port.to_string();
        let mesh = relay.mesh_key_file().display().to_string();

        let mut go_client = Command::new(peers.drivers.join("relaycases"));
        go_client.args(["-port", &port, "-insecure", "-stun-port", &stun_port]);
        go_client.args(["-http-port", &http_port, "-mesh-key-file", &mesh]);
        self.cases("Go client", &mut go_client, RELAY_CASES);

        let mut our_client = Command::new(shell::release_dir().join("testbed-client-cases"));
        our_client.args(["--port", &port, "--mesh-key-file", &mesh]);
        self.cases("our client", &mut our_client, CLIENT_CASES);

        for (case, extra) in [("tailnet", None), ("tailnet, WebSocket", Some("-ws"))] {
            let mut tailnet = Command::new(peers.drivers.join("tailnet"));
            tailnet.args(["-port", &port, "-insecure", "-stun-port", &stun_port]);
            tailnet
                .args(["-bytes", &TAILNET_BYTES.to_string()])
                .args(extra);
            let result = json_lines(&mut tailnet).and_then(|lines| {
                let last = lines.last().context("no report")?;
                Ok(format!("{} Mbit/s", number(last, "mbit_per_s")))
            });
            self.note(case, result);
        }

        let result = output(Command::new(peers.go.join("stunc")).args(["127.0.0.1", &stun_port]));
        self.note("Go stunc", result.map(|_| "answered".to_owned()));
        let result = probe(&peers.go.join("derpprobe"), &relay, true);
        self.note("Go derpprobe -once", result);
        let result = probe(&shell::release_dir().join("derpprobe"), &relay, false);
        self.note("our derpprobe -once", result);
        drop(relay);

        if !options.no_namespaces {
            let result = self.end_to_end(peers);
            self.note("two tailscaled, file of 100 MB", result);
        }
        Ok(())
    }

    /// Runs a list of cases, each of which prints a line.
    fn cases(&mut self, client: &str, command: &mut Command, expected: usize) {
        let lines = match json_lines(command) {
            Ok(lines) => lines,
            Err(error) => return self.note(client, Err(error)),
        };
        let cases: Vec<_> = lines
            .iter()
            .filter(|line| line.get("name").is_some())
            .collect();
        for case in &cases {
            let name = format!("{client}: {}", text(case, "name"));
            let detail = text(case, "detail");
            let passed = case.get("ok").and_then(Value::as_bool) == Some(true);
            self.note(
                &name,
                if passed {
                    Ok(detail)
                } else {
                    Err(anyhow::Error::msg(detail))
                },
            );
        }
        let count = if cases.len() == expected {
            Ok(expected.to_string())
        } else {
            Err(anyhow::anyhow!(
                "{} cases instead of {expected}",
                cases.len()
            ))
        };
        self.note(&format!("{client}: number of cases"), count);
    }

    fn end_to_end(&self, peers: &Peers) -> Result<String> {
        let relay = format!(
            "{} -certmode manual -hostname {{host}} -certdir {{dir}}/certs -a {{ip}}:{{port}} \
             -stun-port {{stun_port}} -http-port {{http_port}} -c {{dir}}/derper.key",
            self.program.display()
        );
        let mut command = Command::new(peers.drivers.join("e2e"));
        command
            .arg("-bin")
            .arg(&peers.go)
            .args(["-bytes", &E2E_BYTES.to_string()]);
        command.args(["-relay-cmd", &relay]);
        let lines = json_lines(&mut command)?;
        let report = lines.last().context("no report")?;
        let transfer = report
            .get("transfer")
            .context("no transfer in the report")?;
        Ok(format!(
            "{} Mbit/s, CPU {} s",
            number(transfer, "mbit_per_s"),
            number(transfer, "relay_cpu_seconds"),
        ))
    }
}

/// Runs a derpprobe once over a map of this relay alone.
fn probe(program: &Path, relay: &Relay, bandwidth: bool) -> Result<String> {
    let map = relay.dir().join("map.json");
    let node = serde_json::json!({
        "Name": "900a", "RegionID": 900, "HostName": "127.0.0.1", "IPv4": "127.0.0.1",
        "STUNPort": relay.stun_port, "DERPPort": relay.port, "InsecureForTests": true,
    });
    let region = serde_json::json!({
        "RegionID": 900, "RegionCode": "test", "RegionName": "Test", "Nodes": [node],
    });
    std::fs::write(
        &map,
        serde_json::json!({ "Regions": { "900": region } }).to_string(),
    )?;
    let mut command = Command::new(program);
    command.args(["-once", "-derp-map", &format!("file://{}", map.display())]);
    command
        .args(["-mesh-psk-file"])
        .arg(relay.mesh_key_file())
        .args(["-spread=false"]);
    // An address in place of a name fails Go's TLS and mesh probes whatever the relay is.
    let go_only = ["-tls-interval=0", "-mesh-interval=0", "-bw-interval=10s"];
    if bandwidth {
        command.args(go_only);
    }
    let text = output(&mut command)?;
    // Go's writes the time in front.
    let good = text.lines().filter(|line| line.contains("good: ")).count();
    ensure!(good > 0 && !text.contains("bad: "), "{text}");
    Ok(format!("{good} good"))
}

/// Runs a command and returns what it prints on both streams; an error where it fails.
fn output(command: &mut Command) -> Result<String> {
    let name = format!("{:?}", command.get_program());
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    if !output.status.success() {
        bail!("{name} ended with {}: {text}", output.status);
    }
    Ok(text)
}

/// Runs a command that prints a JSON document on each line. Its status is not of interest as long
/// as it prints some: what failed stands in them.
pub(crate) fn json_lines(command: &mut Command) -> Result<Vec<Value>> {
    let name = format!("{:?}", command.get_program());
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let listed = lines.iter().any(|line| line.get("name").is_some());
    if lines.is_empty() || (!output.status.success() && !listed) {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{name} ended with {}: {text}{errors}", output.status);
    }
    Ok(lines)
}

fn text(value: &Value, field: &str) -> String {
    value
        .get(field)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn number(value: &Value, field: &str) -> String {
    value
        .get(field)
        .and_then(Value::as_f64)
        .map_or_else(|| "?".to_owned(), |n| format!("{n:.2}"))
}

fn print_table(columns: &[Column]) {
    let cases: std::collections::BTreeSet<_> = columns
        .iter()
        .flat_map(|column| column.cells.keys())
        .collect();
    let header: Vec<_> = columns
        .iter()
        .map(|column| format!("{:<28}", column.name))
        .collect();
    println!("\n{:<52} {}", "case", header.join(" "));
    for case in cases {
        let cells: Vec<_> = columns
            .iter()
            .map(|column| {
                let (mark, detail) = match column.cells.get(case) {
                    Some((true, detail)) => ("ok", detail.as_str()),
                    Some((false, _)) => ("FAILED", ""),
                    None => ("-", ""),
                };
                format!("{:<28.28}", format!("{mark} {detail}"))
            })
            .collect();
        println!("{case:<52.52} {}", cells.join(" "));
    }
    for column in columns {
        println!(
            "{}: {} of {} failed",
            column.name,
            column.failures(),
            column.cells.len()
        );
    }
}
