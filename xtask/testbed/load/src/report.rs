//! What a run found, as one line of JSON.

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::clock::Clock;
use crate::histogram::micros;
use crate::process::{self, Cpu};
use crate::traffic::{Arrivals, Traffic};

/// A stretch of time during which the server is watched.
#[derive(Debug)]
pub(crate) struct Watch {
    clock: Clock,
    start: u64,
    server: Cpu,
    own: Cpu,
}

/// What a stretch of time has cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    /// Microseconds of the server's CPU time.
    pub(crate) server_us: f64,
    /// Microseconds of the generator's CPU time.
    pub(crate) own_us: f64,
}

impl Watch {
    pub(crate) fn start(clock: Clock, server_pid: u32) -> Result<Self> {
        let own = Cpu::start(std::process::id())?;
        let server = Cpu::start(server_pid)?;
        Ok(Self {
            clock,
            start: clock.now(),
            server,
            own,
        })
    }

    /// Sees threads that may end before the stretch does.
    pub(crate) fn look(&mut self) -> Result<()> {
        self.server.used().map(|_| ())
    }

    pub(crate) fn end(mut self) -> Result<Cost> {
        let seconds = micros(self.clock.now() - self.start) / 1e6;
        let server_us = micros(self.server.used()?);
        Ok(Cost {
            seconds,
            server_us,
            own_us: micros(self.own.used()?),
        })
    }
}

/// The fields of a line.
#[derive(Debug, Default)]
pub(crate) struct Report(Map<String, Value>);

impl Report {
    pub(crate) fn new(scenario: &str) -> Result<Self> {
        let mut report = Self::default();
        report.add("scenario", scenario);
        report.add("load_average", process::load_average()?);
        Ok(report)
    }

    /// Adds a field; numbers are rounded to thousandths.
    pub(crate) fn add(&mut self, name: &str, value: impl Into<Value>) {
        let value = match value.into() {
            Value::Number(number) if number.is_f64() => {
                json!(
                    number
                        .as_f64()
                        .map(|value| (value * 1000.0).round() / 1000.0)
                )
            }
            other => other,
        };
        self.0.insert(name.to_owned(), value);
    }

    /// Adds what relayed packets cost and how old they were.
    pub(crate) fn add_arrivals(&mut self, arrivals: &Arrivals, cost: Cost) {
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
        let (packets, bytes) = (arrivals.packets as f64, arrivals.bytes as f64);
        self.add("seconds", cost.seconds);
        self.add("packets", arrivals.packets);
        self.add("pps", packets / cost.seconds);
        self.add("goodput_mb_per_s", bytes / 1e6 / cost.seconds);
        self.add("server_us_per_packet", cost.server_us / packets.max(1.0));
        self.add("generator_us_per_packet", cost.own_us / packets.max(1.0));
        self.add("generator_cpus", cost.own_us / 1e6 / cost.seconds);
        self.add("p50_us", arrivals.ages.quantile(0.5));
        self.add("p99_us", arrivals.ages.quantile(0.99));
        self.add("p999_us", arrivals.ages.quantile(0.999));
    }

    /// Adds what became of all packets of the run, those of the warm-up included.
    pub(crate) fn add_losses(&mut self, traffic: &Traffic) {
        self.add("sent_in_all", traffic.sent());
        self.add("lost_in_all", traffic.lost());
    }

    /// Adds the memory that the server has in RAM.
    pub(crate) fn add_rss(&mut self, server_pid: u32) -> Result<()> {
        #[expect(clippy::cast_precision_loss, reason = "no process has 2^53 bytes")]
        let rss = process::rss(server_pid)? as f64;
        self.add("rss_mb", rss / 1e6);
        Ok(())
    }

    /// The line.
    pub(crate) fn into_line(self) -> String {
        Value::Object(self.0).to_string()
    }
}
