//! Chores that are more than one cargo command: `cargo xtask --help`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "chores report to whoever runs them"
)]

mod acme;
mod admission;
mod api;
mod bench;
mod builds;
mod ci;
mod counts;
mod coverage;
mod deploy;
mod derpspec;
mod dist;
mod fleet;
mod fuzz;
mod go_client;
mod interop;
mod mesh;
mod msrv;
mod peers;
mod proxies;
mod relay;
mod release;
mod shell;
mod tidy;
mod torture;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the derpkit repository")]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Everything that has to pass before a change lands, each step with its time.
    Ci(ci::Options),
    /// Checks what the compiler does not: who may depend on whom, and what each file must have.
    Tidy,
    /// Compares what the library crates offer with the lists in `api/`.
    Api(api::Options),
    /// Builds with the oldest compiler that `Cargo.toml` promises.
    Msrv,
    /// Measures what relays cost, ours, Go's and others', in the same minutes. Needs Go.
    Bench(bench::Options),
    /// Counts the instructions that a packet costs, and compares them with what is recorded.
    Counts(counts::Options),
    /// Replays the fuzz targets' inputs, and tells how much of the codec they reach.
    Coverage,
    /// Runs a fuzz target. Needs a nightly toolchain and cargo-fuzz.
    Fuzz(fuzz::Options),
    /// Runs Go's clients and ours against Go's relay and ours. Needs Go; installs the rest.
    Interop(interop::Options),
    /// The part of interop about certificates alone: our relay against Pebble, a real authority.
    Acme(acme::Options),
    /// The part of interop about sharing a port alone: our relay behind nginx and HAProxy.
    Proxies(proxies::Options),
    /// The part of interop about admission alone: our relay and tailnets of real nodes.
    Admission(admission::Options),
    /// Checks a server, or ours and Go's, against the numbered cases of `xtask/testbed/derpspec`.
    Derpspec(derpspec::Options),
    /// Starts a fleet of relays with faults, and checks that our probe finds each. Needs Go.
    Fleet(fleet::Options),
    /// Makes what people install: static programs, bills of materials, checksums, an image.
    Dist(dist::Options),
    /// Tries a release: packages every crate, and builds a workspace of the packages alone.
    Release(release::Options),
    /// Checks the systemd unit. What needs no other program is among the tests.
    Deploy,
    /// Attacks our relay, and others beside it, and tells whether they stood.
    Torture(torture::Options),
}

fn main() -> ExitCode {
    let result = match Args::parse().chore {
        Chore::Ci(options) => ci::run(&options),
        Chore::Tidy => tidy::run(),
        Chore::Api(options) => api::run(&options),
        Chore::Msrv => msrv::run(),
        Chore::Bench(options) => bench::run(&options),
        Chore::Counts(options) => counts::run(&options),
        Chore::Coverage => coverage::run(),
        Chore::Fuzz(options) => fuzz::run(&options),
        Chore::Interop(options) => interop::run(&options),
        Chore::Acme(options) => acme::run_alone(&options),
        Chore::Proxies(options) => proxies::run_alone(&options),
        Chore::Admission(options) => admission::run_alone(&options),
        Chore::Derpspec(options) => derpspec::run(&options),
        Chore::Fleet(options) => fleet::run(&options),
        Chore::Dist(options) => dist::run(&options),
        Chore::Release(options) => release::run(&options),
        Chore::Deploy => deploy::run(),
        Chore::Torture(options) => torture::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
