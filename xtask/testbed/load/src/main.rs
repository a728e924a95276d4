//! Loads a DERP relay on this machine, checks every packet, and prints what it cost.
//!
//! ```text
//! load --pid PID --addr 127.0.0.1:PORT [--plain] [--kx hybrid|x25519] SCENARIO [OPTIONS]
//!
//!   pairs        --pairs 1 --window 16 --size 1280        as fast as it goes, window under way
//!   fan-in       --many 16 --window 2                      16 clients to one
//!   fan-out      --many 16 --window 4                      one client to 16
//!   paced        --pairs 100 --pps 20000 [--poisson] [--mixed] [--idle 6000] [--storm 200]
//!   setup        --count 1000                              log in, leave
//!   idle         --clients 4000 --seconds 5                memory and CPU of silent clients
//!   churn        --clients 1000 --seconds 20               memory when clients come and go
//!   slow-reader  --rate 5000000                            how old is what a slow client gets?
//!   stun         --stun-port PORT --window 32
//! load bare-relay --listen 127.0.0.1:PORT                  what `--bare` loads: see `bare.rs`
//! ```
//!
//! PID is the relay's: its CPU time is read from `/proc` before and after. For figures that can
//! be compared, pin both programs to one CPU (`taskset -c 0`): on two, each wake-up costs a
//! virtual machine more than the packet does. To look into a relay by hand:
//!
//! ```text
//! taskset -c 0 target/release/derper -certmode manual -hostname 127.0.0.1 \
//!     -certdir /tmp/certs -c /tmp/derper.key -a 127.0.0.1:4000 -http-port -1 &
//! taskset -c 0 target/release/load --pid $! --addr 127.0.0.1:4000 pairs --seconds 10
//! ```
//!
//! Clients behave as tailscaled does: one DERP frame per TLS record, frames that are ready at the
//! same time in one write; TLS 1.3 with AES-128-GCM. A packet that is lost is counted; one that
//! is changed, doubled, overtaken, or comes from or to somebody else ends the run with an error.
//!
//! `server_us_per_packet` is the figure to look at. Where `generator_cpus` is near 1, it is this
//! program that limits `pps`.
//!
//! What is not here: comparisons. `cargo xtask bench` starts relays, runs this against each of
//! them in turn, and draws the table.

#![expect(
    clippy::print_stdout,
    reason = "the line of JSON is this program's result"
)]

mod args;
mod bare;
mod clients;
mod clock;
mod conn;
mod histogram;
mod login;
mod packet;
mod process;
mod records;
mod report;
mod scenario;
mod tls;
mod traffic;

use anyhow::Result;
use clap::Parser;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("bare-relay") {
        let listen = args::BareRelay::parse_from(std::env::args().skip(1)).listen;
        match bare::serve(listen)? {}
    }
    println!("{}", scenario::run(&args::Cli::parse())?);
    Ok(())
}
