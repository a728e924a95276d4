//! What relays cost, measured side by side: the same load in the same minutes on the same CPU.
//!
//! The figure is the server's CPU time for each delivered packet, not the time that passes:
//! the load generator shares the machine. Both programs run on one CPU, because on two each
//! wake-up of the other costs a virtual machine more than the packet; some scenarios are repeated
//! on two. A forwarder that does the least that a relay has to (`bare.rs` of the generator) runs
//! the same loads: what is left to gain is what lies above it. Relays take turns within each round, so that whatever disturbs the machine disturbs
//! all of them, and the figures are medians of the rounds.

mod chart;
mod contestant;
mod driver;
mod machine;
mod outcome;
mod row;
mod scenario;
mod table;

use std::fs;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;

use crate::builds;
use crate::peers::{self, Peers};
use crate::shell;
use contestant::{Contestant, Kind, Surroundings};
use machine::Cpus;
use outcome::{Line, Reports};
use scenario::{SCENARIOS, Scenario};

const MUSL: &str = "x86_64-unknown-linux-musl";

#[derive(Args)]
pub(crate) struct Options {
    /// Only checks that every scenario runs and that every packet arrives: small and short.
    #[arg(long)]
    quick: bool,
    /// Another relay: NAME=COMMAND, in which {port} and {stun_port} may stand; without {port} it
    /// gets the flags of Go's.
    #[arg(long)]
    against: Vec<String>,
    /// Another command than target/release/derper for our relay, in the same form.
    #[arg(long)]
    ours: Option<String>,
    /// Our relay linked statically with musl besides. Needs that target and a C compiler for it.
    #[arg(long)]
    musl: bool,
    /// Only the scenarios whose names contain one of these.
    #[arg(long, num_args = 1..)]
    scenario: Vec<String>,
    /// How often each relay runs each scenario.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let wanted = |name: &str| {
        options.scenario.is_empty()
            || options
                .scenario
                .iter()
                .any(|part| name.contains(part.as_str()))
    };
    let scenarios: Vec<_> = SCENARIOS
        .iter()
        .filter(|scenario| wanted(scenario.name))
        .collect();
    ensure!(!scenarios.is_empty(), "no scenario is called that");
    let with = Surroundings {
        peers: peers::install()?,
        cpus: Cpus::allowed()?,
        quick: options.quick,
    };
    let contestants = contestants(options, &with.peers)?;
    let rounds = if options.quick { 1 } else { options.rounds };
    let (steal, load) = (machine::stolen_ticks()?, machine::load_averages()?);
    let mut reports = Reports::default();
    let mut failures = 0;
    for round in 0..rounds {
        for scenario in &scenarios {
            failures += run_once(scenario, &contestants, round, &with, &mut reports);
        }
    }
    let relays: Vec<_> = contestants
        .iter()
        .map(|contestant| contestant.name.as_str())
        .collect();
    let lines = reports.lines(&relays);
    if !options.quick {
        print!("\n{}", table::text(&lines, &relays));
        let footer = format!(
            "{rounds} rounds on {}; load averages {load} before and {} after; {} ticks stolen by the host",
            machine::name()?,
            machine::load_averages()?,
            machine::stolen_ticks()? - steal,
        );
        println!("\n{footer}");
        write(&reports, &lines, &relays, &footer)?;
    }
    ensure!(failures == 0, "{failures} runs failed");
    Ok(())
}

fn contestants(options: &Options, peers: &Peers) -> Result<Vec<Contestant>> {
    let release = builds::release()?;
    let ours = match &options.ours {
        Some(command) => Contestant::new("derpkit", command, Kind::Ours),
        None => Contestant::of_program("derpkit", &release.join("derper"), Kind::Ours),
    };
    let go = Contestant::of_program("Go derper", &peers.go.join("derper"), Kind::Others);
    let mut contestants = vec![ours, go, Contestant::bare()];
    if options.musl {
        shell::run(&format!(
            "cargo build --release --locked --target {MUSL} -p derper-bin"
        ))?;
        let program = shell::target_dir().join(MUSL).join("release/derper");
        contestants.push(Contestant::of_program(
            "derpkit, musl",
            &program,
            Kind::Ours,
        ));
    }
    for against in &options.against {
        let (name, command) = against.split_once('=').context("--against NAME=COMMAND")?;
        contestants.push(Contestant::new(name, command, Kind::Others));
    }
    Ok(contestants)
}

/// Lets each relay run the scenario, another one first in each round; returns how many failed.
fn run_once(
    scenario: &'static Scenario,
    contestants: &[Contestant],
    round: usize,
    with: &Surroundings,
    reports: &mut Reports,
) -> usize {
    let mut failures = 0;
    for turn in 0..contestants.len() {
        let contestant = &contestants[(round + turn) % contestants.len()];
        if !contestant.can(scenario, with.quick) {
            continue;
        }
        match contestant.measure(scenario, with) {
            Ok(report) => {
                let figures = outcome::figures_of(scenario.name, &report);
                let (round, relay, scenario_name) = (round + 1, &contestant.name, scenario.name);
                println!("round {round}  {scenario_name:<18} {relay:<12} {figures}");
                reports.add(scenario.name, &contestant.name, report);
            }
            Err(error) => {
                println!("FAILED: {error:#}");
                failures += 1;
            }
        }
    }
    failures
}

fn write(reports: &Reports, lines: &[Line], relays: &[&str], footer: &str) -> Result<()> {
    let dir = shell::target_dir().join("bench");
    fs::create_dir_all(&dir)?;
    for (scenario, document) in reports.documents() {
        fs::write(
            dir.join(format!("{scenario}.json")),
            format!("{document:#}\n"),
        )?;
    }
    let table: Vec<_> = lines.iter().map(|line| line.to_json(relays)).collect();
    fs::write(dir.join("table.json"), format!("{:#}\n", json!(table)))?;
    fs::write(dir.join("table.md"), table::markdown(lines, relays, footer))?;
    fs::write(dir.join("chart.svg"), chart::draw(lines, relays))?;
    println!("written to {}", dir.display());
    Ok(())
}
