//! What can be done to a relay, one file each.

mod churn;
mod idle;
mod paced;
mod saturate;
mod setup;
mod slow_reader;
mod storm;
mod stun;

use std::time::Duration;

use anyhow::Result;

use crate::args::{Cli, Relay, Scenario};
use crate::clients::Clients;
use crate::clock::{Clock, nanos};
use crate::report::{Cost, Report};
use crate::traffic::{Sizes, Traffic};

/// How long a turn waits where nothing else limits it.
const TURN: Duration = Duration::from_millis(100);
/// How long nothing arrives before packets that are under way at the end count as lost.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs the scenario and returns its line of JSON.
pub(crate) fn run(cli: &Cli) -> Result<String> {
    let clock = Clock::start();
    let report = match &cli.scenario {
        Scenario::Pairs(args) => saturate::pairs(&cli.relay, args, clock),
        Scenario::FanIn(args) => saturate::fan_in(&cli.relay, args, clock),
        Scenario::FanOut(args) => saturate::fan_out(&cli.relay, args, clock),
        Scenario::Paced(args) => paced::run(&cli.relay, args, clock),
        Scenario::Setup(args) => setup::run(&cli.relay, args, clock),
        Scenario::Idle(args) => idle::run(&cli.relay, args, clock),
        Scenario::Churn(args) => churn::run(&cli.relay, args, clock),
        Scenario::SlowReader(args) => slow_reader::run(&cli.relay, args, clock),
        Scenario::Stun(args) => stun::run(&cli.relay, args, clock),
    };
    Ok(report?.into_line())
}

/// Clients and the packets between them.
struct Run {
    clients: Clients,
    traffic: Traffic,
    clock: Clock,
    server_pid: u32,
}

impl Run {
    /// Logs in as many clients as the flows name by number.
    fn connect(
        relay: &Relay,
        clock: Clock,
        flows: &[(usize, usize)],
        sizes: Sizes,
    ) -> Result<Self> {
        let target = relay.target()?;
        let mut clients = Clients::new()?;
        let mut traffic = Traffic::new(clock, sizes)?;
        let last = flows.iter().map(|&(from, to)| from.max(to)).max();
        for _ in 0..last.map_or(0, |last| last + 1) {
            clients.add(&target)?;
        }
        for &(from, to) in flows {
            traffic.add(&clients, from, to);
        }
        Ok(Self {
            clients,
            traffic,
            clock,
            server_pid: relay.pid,
        })
    }

    /// Tells what was measured, then lets the rest arrive and tells what was lost.
    fn report(&mut self, report: &mut Report, cost: Cost) -> Result<()> {
        report.add_arrivals(&self.traffic.arrivals, cost);
        report.add_rss(self.server_pid)?;
        self.let_arrive()?;
        report.add_losses(&self.traffic);
        Ok(())
    }

    /// Waits for what is under way, as long as some of it still arrives.
    fn let_arrive(&mut self) -> Result<()> {
        let mut end = self.clock.now() + nanos(DRAIN);
        let mut left = self.traffic.outstanding();
        while left > 0 && self.clock.now() < end {
            self.clients.turn(TURN, &mut self.traffic)?;
            if self.traffic.outstanding() < left {
                left = self.traffic.outstanding();
                end = self.clock.now() + nanos(DRAIN);
            }
        }
        Ok(())
    }
}
