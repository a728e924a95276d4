//! A client that cannot take what is sent to it: how old is what it receives?

use anyhow::{Result, ensure};

use super::TURN;
use crate::args::{Relay, SlowReader, Span};
use crate::clients::Clients;
use crate::clock::Clock;
use crate::login::Target;
use crate::report::{Report, Watch};
use crate::traffic::{Sizes, Traffic};

/// The reader's receive buffer, in bytes; the system would let it grow to seconds of the rate.
const RECEIVE_BUFFER: usize = 64 << 10;
/// How often the sender sends and the reader reads, in nanoseconds.
const TICK: u64 = 250_000;
/// How much a socket may leave unsent before its client holds packets back, in bytes.
const MAX_BACKLOG: usize = 1 << 20;

pub(crate) fn run(relay: &Relay, args: &SlowReader, clock: Clock) -> Result<Report> {
    ensure!(
        (10_000..=1_000_000_000).contains(&args.rate),
        "{} bytes a second",
        args.rate
    );
    ensure!(
        (1..=1_000_000).contains(&args.pps),
        "{} packets a second",
        args.pps
    );
    let target = relay.target()?;
    let mut clients = Clients::new()?;
    let sender = clients.add(&target)?;
    let reader = clients.add(&Target {
        receive_buffer: Some(RECEIVE_BUFFER),
        ..target
    })?;
    clients.stop_listening(reader);
    let mut traffic = Traffic::new(clock, Sizes::Fixed(args.size))?;
    let flow = traffic.add(&clients, sender, reader);
    let mut pair = Pair {
        clients,
        traffic,
        clock,
        sender,
        reader,
        flow,
        gap: 1_000_000_000 / args.pps,
        due: clock.now(),
        rate: args.rate,
        read_at: clock.now(),
        held_back: 0,
    };
    let (start, end) = Span {
        seconds: args.seconds,
        warm_up: args.warm_up,
    }
    .bounds()?;
    let begin = clock.now();
    pair.run_until(begin + start)?;
    pair.traffic.restart_counting();
    let sent = pair.traffic.sent();
    let watch = Watch::start(clock, relay.pid)?;
    pair.run_until(begin + end)?;
    let cost = watch.end()?;

    let mut report = Report::new("slow-reader")?;
    report.add("rate", args.rate);
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    report.add(
        "offered_pps",
        (pair.traffic.sent() - sent) as f64 / cost.seconds,
    );
    report.add_arrivals(&pair.traffic.arrivals, cost);
    report.add("held_back", pair.held_back);
    report.add_rss(relay.pid)?;
    Ok(report)
}

struct Pair {
    clients: Clients,
    traffic: Traffic,
    clock: Clock,
    sender: usize,
    reader: usize,
    flow: usize,
    /// Nanoseconds between two packets.
    gap: u64,
    due: u64,
    /// What the reader takes, in bytes a second.
    rate: u64,
    /// Up to when the reader has used its rate.
    read_at: u64,
    /// Packets that were not sent because the relay did not take the ones before.
    held_back: u64,
}

impl Pair {
    fn run_until(&mut self, end: u64) -> Result<()> {
        loop {
            let now = self.clock.now();
            if now >= end {
                return Ok(());
            }
            self.send(now)?;
            self.read(now)?;
            self.clients.wake_in(TICK)?;
            self.clients.turn(TURN, &mut self.traffic)?;
        }
    }

    fn send(&mut self, now: u64) -> Result<()> {
        while self.due <= now {
            self.due += self.gap;
            if self.clients.backlog(self.sender) < MAX_BACKLOG {
                self.traffic.send(&mut self.clients, self.flow)?;
            } else {
                self.held_back += 1;
            }
        }
        self.clients.flush()
    }

    fn read(&mut self, now: u64) -> Result<()> {
        // What it could have read and was not there does not count later, but for a short time.
        self.read_at = self.read_at.max(now.saturating_sub(20 * TICK));
        let limit = usize::try_from((now - self.read_at) * self.rate / 1_000_000_000)?;
        let read = self
            .clients
            .read(self.reader, limit.max(1), &mut self.traffic)?;
        self.read_at += u64::try_from(read)? * 1_000_000_000 / self.rate;
        Ok(())
    }
}
