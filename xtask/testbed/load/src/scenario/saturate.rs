//! As many packets as the relay takes: each flow has a window of packets under way, so that
//! nothing has to be dropped, and sends the next one when one arrives.

use anyhow::{Result, ensure};

use super::{Run, TURN};
use crate::args::{Fan, Pairs, Relay, Span};
use crate::clock::Clock;
use crate::report::{Report, Watch};
use crate::traffic::Sizes;

/// After how many turns without an arrival a run is given up: whole windows were lost.
const PATIENCE: u32 = 100;

pub(crate) fn pairs(relay: &Relay, args: &Pairs, clock: Clock) -> Result<Report> {
    let flows: Vec<_> = (0..args.pairs)
        .map(|pair| (2 * pair, 2 * pair + 1))
        .collect();
    let mut run = Run::connect(relay, clock, &flows, Sizes::Fixed(args.size))?;
    measure(&mut run, "pairs", args.window, args.span)
}

pub(crate) fn fan_in(relay: &Relay, args: &Fan, clock: Clock) -> Result<Report> {
    let flows: Vec<_> = (1..=args.many).map(|from| (from, 0)).collect();
    let mut run = Run::connect(relay, clock, &flows, Sizes::Fixed(args.size))?;
    measure(&mut run, "fan-in", args.window, args.span)
}

pub(crate) fn fan_out(relay: &Relay, args: &Fan, clock: Clock) -> Result<Report> {
    let flows: Vec<_> = (1..=args.many).map(|to| (0, to)).collect();
    let mut run = Run::connect(relay, clock, &flows, Sizes::Fixed(args.size))?;
    measure(&mut run, "fan-out", args.window, args.span)
}

fn measure(run: &mut Run, name: &str, window: u64, span: Span) -> Result<Report> {
    let (start, end) = span.bounds()?;
    let begin = run.clock.now();
    send_until(run, begin + start, window)?;
    run.traffic.restart_counting();
    let watch = Watch::start(run.clock, run.server_pid)?;
    send_until(run, begin + end, window)?;
    let cost = watch.end()?;

    let mut report = Report::new(name)?;
    report.add("window", window);
    run.report(&mut report, cost)?;
    Ok(report)
}

fn send_until(run: &mut Run, end: u64, window: u64) -> Result<()> {
    let mut quiet = 0;
    while run.clock.now() < end {
        run.traffic.refill(&mut run.clients, window)?;
        run.clients.flush()?;
        let before = run.traffic.arrivals.packets;
        run.clients.turn(TURN, &mut run.traffic)?;
        quiet = if run.traffic.arrivals.packets == before {
            quiet + 1
        } else {
            0
        };
        ensure!(
            quiet < PATIENCE,
            "nothing arrives: {} packets were lost",
            run.traffic.lost()
        );
    }
    Ok(())
}
