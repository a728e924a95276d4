//! The command line.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};

use crate::login::{Security, Target};
use crate::tls::{self, KeyExchange};
use crate::traffic::Sizes;

#[derive(Debug, Parser)]
#[command(
    name = "load",
    args_override_self = true,
    about = "Loads a DERP relay and prints what it cost, as a line of JSON",
    after_help = "`load bare-relay --listen ADDR` is what --bare loads."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) relay: Relay,
    #[command(subcommand)]
    pub(crate) scenario: Scenario,
}

/// The relay under test.
#[derive(Debug, Args)]
pub(crate) struct Relay {
    /// Its process, whose CPU time and memory are told.
    #[arg(long)]
    pub(crate) pid: u32,
    /// Where it listens; loopback only.
    #[arg(long)]
    addr: SocketAddr,
    /// Speak DERP over plain HTTP.
    #[arg(long)]
    plain: bool,
    /// It is the one of `bare-relay`.
    #[arg(long, conflicts_with = "plain")]
    bare: bool,
    /// What clients offer in the TLS handshake.
    #[arg(long, value_enum, default_value = "hybrid")]
    kx: KeyExchange,
}

impl Relay {
    /// # Errors
    /// Where the relay is not on this machine: this program is no way to load another's.
    pub(crate) fn target(&self) -> Result<Target> {
        on_loopback(self.addr.ip())?;
        let security = match (self.plain, self.bare) {
            (true, _) => Security::Plain,
            (_, true) => Security::Bare,
            _ => Security::Tls(tls::config(self.kx)?),
        };
        Ok(Target {
            addr: self.addr,
            security,
            receive_buffer: None,
        })
    }
}

/// Refuses other machines.
pub(crate) fn on_loopback(ip: IpAddr) -> Result<()> {
    ensure!(ip.is_loopback(), "{ip} is another machine");
    Ok(())
}

/// What to do to the relay.
#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Pairs of clients, each with a window of packets under way.
    Pairs(Pairs),
    /// Many clients send to one.
    FanIn(Fan),
    /// One client sends to many.
    FanOut(Fan),
    /// Pairs of clients that send at a fixed rate in all, whatever arrives.
    Paced(Paced),
    /// Clients that log in and leave again, one after the other.
    Setup(Setup),
    /// Clients that do nothing.
    Idle(Idle),
    /// Clients that come and go.
    Churn(Churn),
    /// A client that reads more slowly than another sends to it.
    SlowReader(SlowReader),
    /// STUN requests, a window of them under way.
    Stun(Stun),
}

/// Not a load, but the least that a relay can be, to be loaded by another of these processes.
#[derive(Debug, Parser)]
#[command(name = "load bare-relay")]
pub(crate) struct BareRelay {
    /// Where to listen; loopback only.
    #[arg(long)]
    pub(crate) listen: SocketAddr,
}

/// For how long to measure, and before it to warm up.
#[derive(Debug, Args, Clone, Copy)]
pub(crate) struct Span {
    /// How many seconds to measure.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// How many seconds to send before that.
    #[arg(long, default_value_t = 0.5)]
    pub(crate) warm_up: f64,
}

impl Span {
    /// The times at which measuring starts and ends, in nanoseconds from now.
    pub(crate) fn bounds(&self) -> Result<(u64, u64)> {
        let nanos = |seconds: f64| -> Result<u64> {
            ensure!(
                (0.0..=600.0).contains(&seconds),
                "{seconds} s is not a time to measure"
            );
            Ok(crate::clock::nanos(std::time::Duration::from_secs_f64(
                seconds,
            )))
        };
        let start = nanos(self.warm_up)?;
        Ok((start, start + nanos(self.seconds)?))
    }
}

#[derive(Debug, Args)]
pub(crate) struct Pairs {
    #[arg(long, default_value_t = 1)]
    pub(crate) pairs: usize,
    /// How many packets of a pair are under way; more than 32 overrun a relay's queue.
    #[arg(long, default_value_t = 16)]
    pub(crate) window: u64,
    /// Length of packets in bytes.
    #[arg(long, default_value_t = 1280)]
    pub(crate) size: usize,
    #[command(flatten)]
    pub(crate) span: Span,
}

#[derive(Debug, Args)]
pub(crate) struct Fan {
    /// How many clients are on the side of the many.
    #[arg(long, default_value_t = 16)]
    pub(crate) many: usize,
    /// How many packets of each of them are under way.
    #[arg(long, default_value_t = 2)]
    pub(crate) window: u64,
    /// Length of packets in bytes.
    #[arg(long, default_value_t = 1280)]
    pub(crate) size: usize,
    #[command(flatten)]
    pub(crate) span: Span,
}

#[derive(Debug, Args)]
pub(crate) struct Paced {
    #[arg(long, default_value_t = 100)]
    pub(crate) pairs: usize,
    /// Packets a second, of all pairs together.
    #[arg(long, default_value_t = 20_000)]
    pub(crate) pps: u64,
    /// Send at random times from random pairs, not in a steady round.
    #[arg(long)]
    pub(crate) poisson: bool,
    /// Length of packets in bytes.
    #[arg(long, default_value_t = 1280)]
    pub(crate) size: usize,
    /// Lengths from 64 to 1400 bytes instead.
    #[arg(long)]
    pub(crate) mixed: bool,
    /// Send no packet of a pair that has so many under way: a stall of either program is then no
    /// burst that overruns a queue. 0: send whatever is due.
    #[arg(long, default_value_t = 0)]
    pub(crate) window: u64,
    /// How many clients are connected besides, and do nothing.
    #[arg(long, default_value_t = 0)]
    pub(crate) idle: usize,
    /// How many clients a second log in and leave again meanwhile.
    #[arg(long, default_value_t = 0)]
    pub(crate) storm: u64,
    #[command(flatten)]
    pub(crate) span: Span,
}

impl Paced {
    pub(crate) fn sizes(&self) -> Sizes {
        if self.mixed {
            Sizes::Mixed(64, 1400)
        } else {
            Sizes::Fixed(self.size)
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// How many clients.
    #[arg(long, default_value_t = 1000)]
    pub(crate) count: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Idle {
    /// How many clients.
    #[arg(long, default_value_t = 4000)]
    pub(crate) clients: usize,
    /// For how many seconds the server's CPU time is measured.
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Churn {
    /// How many clients are connected; a tenth of them is replaced every half second.
    #[arg(long, default_value_t = 1000)]
    pub(crate) clients: usize,
    /// For how many seconds.
    #[arg(long, default_value_t = 20)]
    pub(crate) seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct SlowReader {
    /// How much the reader takes, in bytes a second.
    #[arg(long, default_value_t = 5_000_000)]
    pub(crate) rate: u64,
    /// How many packets a second are sent to it.
    #[arg(long, default_value_t = 20_312)]
    pub(crate) pps: u64,
    /// Length of packets in bytes.
    #[arg(long, default_value_t = 1280)]
    pub(crate) size: usize,
    /// How many seconds to measure.
    #[arg(long, default_value_t = 4.0)]
    pub(crate) seconds: f64,
    /// How many seconds to let the queues fill before that.
    #[arg(long, default_value_t = 6.0)]
    pub(crate) warm_up: f64,
}

#[derive(Debug, Args)]
pub(crate) struct Stun {
    /// The relay's STUN port.
    #[arg(long)]
    pub(crate) stun_port: u16,
    /// How many requests are under way.
    #[arg(long, default_value_t = 32)]
    pub(crate) window: usize,
    #[command(flatten)]
    pub(crate) span: Span,
}
