//! What relays cost, measured side by side: the same load in the same minutes on the same CPU.
//!
//! The figure is the server's CPU time for each delivered packet, not the time that passes:
//! the load generator shares the machine. Both programs run on one CPU, because on two each
//! wake-up of the other costs a virtual machine more than the packet; some scenarios are repeated
//! on two. Relays take turns within each round, so that whatever disturbs the machine disturbs
//! all of them, and the figures are medians of the rounds.

mod chart;
mod contestant;
mod outcome;
mod row;
mod scenario;

use std::fs;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;

use crate::{peers, shell};
use contestant::Contestant;
use outcome::{Line, Reports, rounded};
use scenario::{SCENARIOS, Scenario};

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
    let contestants = contestants(options)?;
    let rounds = if options.quick { 1 } else { options.rounds };
    let steal = stolen_ticks()?;
    let mut reports = Reports::default();
    let mut failures = 0;
    for round in 0..rounds {
        for scenario in &scenarios {
            failures += run_once(scenario, &contestants, round, options.quick, &mut reports);
        }
    }
    let relays: Vec<_> = contestants
        .iter()
        .map(|contestant| contestant.name.as_str())
        .collect();
    let lines = reports.lines(&relays);
    if !options.quick {
        print_table(&lines, &relays);
        let load = fs::read_to_string("/proc/loadavg")?;
        let (load, stolen) = (load.trim_end(), stolen_ticks()? - steal);
        println!("\n{rounds} rounds; load average {load}; {stolen} ticks stolen by the host");
        write(&reports, &lines, &relays)?;
    }
    ensure!(failures == 0, "{failures} runs failed");
    Ok(())
}

fn contestants(options: &Options) -> Result<Vec<Contestant>> {
    let mut contestants = match &options.ours {
        Some(command) => {
            shell::run("cargo build --release --locked -p testbed-load")?;
            vec![Contestant::new("derpkit", command)]
        }
        None => {
            shell::run("cargo build --release --locked -p derper-bin -p testbed-load")?;
            vec![Contestant::of_program(
                "derpkit",
                &shell::release_dir().join("derper"),
            )]
        }
    };
    contestants.push(Contestant::of_program(
        "Go derper",
        &peers::install()?.go.join("derper"),
    ));
    for against in &options.against {
        let (name, command) = against.split_once('=').context("--against NAME=COMMAND")?;
        contestants.push(Contestant::new(name, command));
    }
    Ok(contestants)
}

/// Lets each relay run the scenario, another one first in each round; returns how many failed.
fn run_once(
    scenario: &'static Scenario,
    contestants: &[Contestant],
    round: usize,
    quick: bool,
    reports: &mut Reports,
) -> usize {
    let mut failures = 0;
    for turn in 0..contestants.len() {
        let contestant = &contestants[(round + turn) % contestants.len()];
        if !contestant.can(scenario) {
            continue;
        }
        match contestant.measure(scenario, quick) {
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

fn print_table(lines: &[Line], relays: &[&str]) {
    let header: Vec<_> = relays.iter().map(|relay| format!("{relay:>26}")).collect();
    println!(
        "\n{:<40}{}{:>10}  {:<24} met?",
        "",
        header.join(""),
        "ratio",
        "target"
    );
    for line in lines {
        let cells: Vec<_> = line
            .figures
            .iter()
            .map(|figure| {
                let text = figure.map_or_else(
                    || "-".to_owned(),
                    |it| {
                        let (median, least, most) =
                            (rounded(it.median), rounded(it.least), rounded(it.most));
                        format!("{median} [{least}, {most}]")
                    },
                );
                format!("{text:>26}")
            })
            .collect();
        let title = format!("{}, {}", line.row.title, line.row.unit);
        let ratio = line.ratio.map_or_else(|| "-".to_owned(), rounded);
        let met = match line.met {
            None => "",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        println!(
            "{title:<40}{}{ratio:>10}  {:<24} {met}",
            cells.join(""),
            line.row.target.to_string()
        );
    }
}

fn write(reports: &Reports, lines: &[Line], relays: &[&str]) -> Result<()> {
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
    fs::write(dir.join("chart.svg"), chart::draw(lines, relays))?;
    println!("written to {}", dir.display());
    Ok(())
}

/// How many ticks this machine wanted a CPU and its host did not give one.
fn stolen_ticks() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("an empty /proc/stat")?;
    Ok(line
        .split_whitespace()
        .nth(8)
        .context("a /proc/stat without steal")?
        .parse()?)
}
