//! Packets at a fixed rate, whatever arrives: what waking up for single packets costs.

use anyhow::{Result, ensure};

use super::{Run, TURN, storm::Storm};
use crate::args::{Paced, Relay};
use crate::clock::Clock;
use crate::histogram::Histogram;
use crate::packet::next_random;
use crate::report::{Report, Watch};

/// How much a socket may leave unsent before its client holds packets back, in bytes.
const MAX_BACKLOG: usize = 1 << 20;

pub(crate) fn run(relay: &Relay, args: &Paced, clock: Clock) -> Result<Report> {
    ensure!(
        (1..=1_000_000).contains(&args.pps),
        "{} packets a second",
        args.pps
    );
    ensure!(args.pairs > 0, "somebody has to send");
    let flows: Vec<_> = (0..args.pairs)
        .map(|pair| (2 * pair, 2 * pair + 1))
        .collect();
    let mut run = Run::connect(relay, clock, &flows, args.sizes())?;
    for _ in 0..args.idle {
        run.clients.add(&relay.target()?)?;
    }
    let storm = Storm::start(relay.target()?, args.storm)?;
    let mut schedule = Schedule::new(args, clock.now());
    let (start, end) = args.span.bounds()?;
    let begin = clock.now();
    send_until(&mut run, &mut schedule, begin + start)?;
    run.traffic.restart_counting();
    schedule.late = Histogram::new();
    schedule.held_back = 0;
    let logins = storm.done();
    let watch = Watch::start(clock, relay.pid)?;
    send_until(&mut run, &mut schedule, begin + end)?;
    let cost = watch.end()?;
    let logins = storm.done() - logins;

    let mut report = Report::new("paced")?;
    run.report(&mut report, cost)?;
    storm.stop()?;
    report.add("flows", args.pairs);
    report.add("idle_clients", args.idle);
    report.add("keep_alives", run.clients.keep_alives);
    report.add("held_back", schedule.held_back);
    report.add("late_p99_us", schedule.late.quantile(0.99));
    #[expect(clippy::cast_precision_loss, reason = "few logins fit into a run")]
    report.add("logins_per_s", logins as f64 / cost.seconds);
    Ok(report)
}

/// When the next packet is due, and of which flow.
struct Schedule {
    due: u64,
    flow: usize,
    flows: usize,
    /// Nanoseconds between two packets, on average.
    gap: u64,
    poisson: bool,
    random: u64,
    /// By how much packets were sent later than they were due.
    late: Histogram,
    /// Packets that were not sent because too many before them were under way.
    held_back: u64,
    /// How many that is; 0 for any number.
    window: u64,
}

impl Schedule {
    fn new(args: &Paced, now: u64) -> Self {
        Self {
            due: now,
            flow: 0,
            flows: args.pairs,
            gap: 1_000_000_000 / args.pps,
            poisson: args.poisson,
            random: 0xca11,
            late: Histogram::new(),
            held_back: 0,
            window: args.window,
        }
    }

    fn may_send(&self, run: &Run) -> bool {
        let within = self.window == 0 || run.traffic.outstanding_of(self.flow) < self.window;
        within && run.clients.backlog(2 * self.flow) < MAX_BACKLOG
    }

    fn advance(&mut self) {
        if !self.poisson {
            self.due += self.gap;
            self.flow = (self.flow + 1) % self.flows;
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "53 random bits are enough")]
        let share = ((next_random(&mut self.random) >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
        #[expect(clippy::cast_precision_loss, reason = "a gap is below a second")]
        let gap = -share.ln() * self.gap as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most 37 average gaps, and not negative"
        )]
        let gap = gap as u64;
        self.due += gap;
        let flows = u64::try_from(self.flows).expect("there are few flows");
        self.flow = usize::try_from(next_random(&mut self.random) % flows).expect("below flows");
    }
}

fn send_until(run: &mut Run, schedule: &mut Schedule, end: u64) -> Result<()> {
    let mut armed = None;
    loop {
        let now = run.clock.now();
        if now >= end {
            return Ok(());
        }
        while schedule.due <= now {
            schedule.late.add(now - schedule.due);
            if schedule.may_send(run) {
                run.traffic.send(&mut run.clients, schedule.flow)?;
            } else {
                schedule.held_back += 1;
            }
            schedule.advance();
        }
        run.clients.flush()?;
        if armed != Some(schedule.due) {
            armed = Some(schedule.due);
            run.clients
                .wake_in(schedule.due.saturating_sub(run.clock.now()))?;
        }
        run.clients.turn(TURN, &mut run.traffic)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(poisson: bool) -> Schedule {
        Schedule {
            due: 0,
            flow: 0,
            flows: 10,
            gap: 1000,
            poisson,
            random: 0xca11,
            late: Histogram::new(),
            held_back: 0,
            window: 0,
        }
    }

    #[test]
    fn both_ways_of_pacing_keep_the_rate_and_use_every_flow() {
        for poisson in [false, true] {
            let mut schedule = schedule(poisson);
            let mut uses = [0; 10];
            for _ in 0..100_000 {
                uses[schedule.flow] += 1;
                schedule.advance();
            }
            assert!(
                schedule.due.abs_diff(100_000_000) < 1_000_000,
                "{}",
                schedule.due
            );
            assert!(
                uses.iter().all(|&count: &u64| count.abs_diff(10_000) < 500),
                "{uses:?}"
            );
        }
    }
}
