//! The table that says whether relays are safe to leave on the internet: each row starts a relay
//! and attacks it in one way (`xtask/testbed/torture`).
//!
//! Rows that mostly wait run beside one another; those that take the machine run alone.

mod row;
mod table;

use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::builds;
use crate::derpspec;
use crate::mesh;
use crate::relay::{Launch, Relay};
use crate::shell;
use row::{Needs, ROWS, Row};
use table::{Line, Outcome, Table};

/// As many as there are.
const ALL_CPUS: &str = "0-1023";

#[derive(Args)]
pub(crate) struct Options {
    /// Smaller and shorter, in five minutes; times and CPU are told and do not decide.
    #[arg(long)]
    quick: bool,
    /// Deadlines are only told as well: for a machine that has other work, as those of CI.
    #[arg(long)]
    times_told: bool,
    /// Another relay, beside ours: NAME=COMMAND, in which {port} and {stun_port} may stand;
    /// without {port} it gets the flags of Go's.
    #[arg(long)]
    against: Vec<String>,
    /// Another command than target/release/derper for our relay, in the same form.
    #[arg(long)]
    ours: Option<String>,
    /// Only the rows whose names contain one of these.
    #[arg(long, num_args = 1..)]
    row: Vec<String>,
}

/// A relay's name and how it is started.
struct Contestant {
    name: String,
    command: Vec<String>,
    is_ours: bool,
}

/// Whether the table has a row of this name.
pub(crate) fn has_row(name: &str) -> bool {
    ROWS.iter().any(|row| row.name == name)
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = |row: &&Row| {
        options.row.is_empty()
            || options
                .row
                .iter()
                .any(|part| row.name.contains(part.as_str()))
    };
    let rows: Vec<_> = ROWS.iter().filter(wanted).collect();
    ensure!(!rows.is_empty(), "no row is called that");
    let contestants = contestants(options)?;
    let mut table = Table::new(contestants.iter().map(|one| one.name.as_str()));
    let all = || {
        rows.iter()
            .flat_map(|row| contestants.iter().map(move |one| (*row, one)))
    };
    for (row, contestant) in all().filter(|(row, _)| !row.mostly_waits) {
        table.add(line(row, contestant, options));
    }
    let patient = Mutex::new(&mut table);
    std::thread::scope(|scope| {
        for (row, contestant) in all().filter(|(row, _)| row.mostly_waits) {
            let patient = &patient;
            scope.spawn(move || {
                let line = line(row, contestant, options);
                // Whoever held it has only printed.
                patient
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .add(line);
            });
        }
    });
    let red = table.finish();
    ensure!(red == 0, "{red} rows are red");
    Ok(())
}

fn contestants(options: &Options) -> Result<Vec<Contestant>> {
    let contestant = |name: &str, command: &str, is_ours| Contestant {
        name: name.to_owned(),
        command: command.split_whitespace().map(str::to_owned).collect(),
        is_ours,
    };
    // A quick run is over before an attacker that is made for speed would be built.
    match options.quick {
        true => drop(builds::debug(&["testbed-torture"])?),
        false => shell::run("cargo build --quiet --release --locked -p testbed-torture")?,
    }
    let ours = match &options.ours {
        Some(command) => command.clone(),
        None => builds::relay(None)?.display().to_string(),
    };
    let mut contestants = vec![contestant("derpkit", &ours, true)];
    for against in &options.against {
        let (name, command) = against.split_once('=').context("--against NAME=COMMAND")?;
        contestants.push(contestant(name, command, false));
    }
    Ok(contestants)
}

/// One relay's line of one row.
fn line(row: &'static Row, contestant: &Contestant, options: &Options) -> Line {
    #[expect(clippy::disallowed_methods, reason = "a chore tells how long it took")]
    let start = Instant::now();
    let outcome = match row.needs {
        Needs::Conformance => conformance(contestant),
        Needs::Region => partition(contestant, options.quick),
        Needs::PanickyRelay if !contestant.is_ours => {
            Ok(Outcome::NotBuilt("is about our own code".to_owned()))
        }
        Needs::ProxyHeader
        | Needs::OneProxy
        | Needs::NoProxy
        | Needs::Allowlist
        | Needs::AllowlistJsonLog
            if !contestant.is_ours =>
        {
            Ok(Outcome::NotBuilt("a flag of ours".to_owned()))
        }
        _ => attack(row, contestant, options),
    };
    Line {
        row: row.name,
        relay: contestant.name.clone(),
        outcome: outcome.unwrap_or_else(|error| Outcome::Broken(format!("{error:#}"))),
        took: start.elapsed(),
    }
}

/// The suite of cases for any relay is a chore of its own.
fn conformance(contestant: &Contestant) -> Result<Outcome> {
    let xtask = std::env::current_exe()?;
    let relay = Relay::launch_with(
        &Launch {
            command: &contestant.command,
            cpus: ALL_CPUS,
            plain: false,
            config: None,
        },
        &["-a=[::]:{port}".to_owned()],
    )?;
    let url = format!("https://127.0.0.1:{}", relay.port);
    let mut suite = Command::new(xtask);
    suite.args(["derpspec", &url, "--patience", "8"]);
    suite.args(derpspec::what_cases_need(&relay));
    if contestant.is_ours {
        suite.args(["--as", "derpkit"]);
    }
    let output = suite.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // What a relay of ours does not run is nothing that it was not given.
    let left_out: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("- ") && line.contains("[needs "))
        .filter(|line| !SLOW_OR_NAMED.iter().any(|end| line.ends_with(end)))
        .map(|line| format!("not run: {line}"))
        .collect();
    let last = text.lines().last().unwrap_or("no case ran");
    let named = SLOW_OR_NAMED.join(" or ");
    Ok(Outcome::Ran {
        passed: output.status.success() && (left_out.is_empty() || !contestant.is_ours),
        figure: last.to_owned(),
        target: format!("all, but for {named}"),
        scale: "all cases".to_owned(),
        missed: left_out,
    })
}

/// Why cases are left out of the row: they take many seconds each, or ask about a relay's name.
const SLOW_OR_NAMED: [&str; 2] = ["[needs --slow]", "[needs a name as the host]"];

/// A region of three relays, one of which is killed, another cut off: `xtask/testbed/mesh`.
fn partition(contestant: &Contestant, quick: bool) -> Result<Outcome> {
    let [program] = contestant.command.as_slice() else {
        return Ok(Outcome::NotBuilt("takes none of Go's flags".to_owned()));
    };
    let testbed = builds::release()?.join("testbed-mesh");
    let (clients, seconds) = if quick { (150, 20) } else { (1_000, 60) };
    let mut region = Command::new(testbed);
    for name in ["one", "two", "three"] {
        region.args(["--relay", &format!("{name}={program}")]);
    }
    region.args(["--clients", &clients.to_string()]);
    region.args(["--partition", &seconds.to_string()]);
    let steps = mesh::steps(&mut region)?;
    let missed = |(name, outcome): &(String, Result<String>)| {
        let error = outcome.as_ref().err()?;
        Some(format!("{name}: {error:#}"))
    };
    let missed: Vec<_> = steps.iter().filter_map(missed).collect();
    let figure = |(name, outcome): &(String, Result<String>)| {
        let figure = outcome.as_ref().ok().filter(|figure| !figure.is_empty())?;
        Some(format!("{name}: {figure}"))
    };
    Ok(Outcome::Ran {
        passed: missed.is_empty(),
        figure: steps
            .iter()
            .filter_map(figure)
            .collect::<Vec<_>>()
            .join(", "),
        target: "converged ≤ 10 s, no stale route after 20 s, each packet once".to_owned(),
        scale: format!("3 relays, {clients} clients, a partition of {seconds} s"),
        missed,
    })
}

fn attack(row: &Row, contestant: &Contestant, options: &Options) -> Result<Outcome> {
    let quick = options.quick;
    let place = tempfile::TempDir::new()?;
    let prepared = row.prepare(place.path(), quick && contestant.is_ours)?;
    let attackers = match quick {
        true => shell::target_dir().join("debug"),
        false => shell::release_dir(),
    };
    let panicky = attackers.join("panicky-relay").display().to_string();
    let panicky = [panicky, "{port}".to_owned()];
    let command = match row.needs {
        Needs::PanickyRelay => prepared.wrap(&panicky),
        _ => prepared.wrap(&contestant.command),
    };
    let takes_flags = !contestant
        .command
        .iter()
        .any(|word| word.contains("{port}"));
    if !takes_flags && !prepared.flags.is_empty() {
        return Ok(Outcome::NotBuilt("takes none of Go's flags".to_owned()));
    }
    // Only ours reads such a file.
    let config = prepared.config.filter(|_| contestant.is_ours);
    let relay = Relay::launch_with(
        &Launch {
            command: &command,
            cpus: ALL_CPUS,
            plain: row.is_plain(),
            config,
        },
        &prepared.flags,
    )?;
    let mut torture = Command::new(attackers.join("torture"));
    torture.args(["--pid", &relay.pid().to_string()]);
    torture.args(["--addr", &format!("127.0.0.1:{}", relay.port)]);
    torture.args(["--http-port", &relay.http_port.to_string()]);
    torture.args(["--stun-port", &relay.stun_port.to_string()]);
    torture.arg("--log").arg(relay.dir().join("log"));
    torture.arg("--cert-dir").arg(relay.dir().join("certs"));
    torture.args(&prepared.args);
    if row.is_plain() {
        torture.arg("--plain");
    }
    if quick {
        torture.arg("--quick");
    }
    if options.times_told {
        torture.arg("--times-told");
    }
    let output = torture
        .arg(row.attack)
        .stdin(Stdio::null())
        .output()
        .context("cannot run the attacker")?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Ok(Outcome::Broken(errors.trim().to_owned()));
    }
    let report: Value = serde_json::from_slice(&output.stdout).context("no JSON")?;
    Ok(Outcome::of(&report))
}
