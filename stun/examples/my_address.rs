//! Which address and port does a relay see this machine at? `cargo run --example my_address -- HOST`

#![expect(clippy::print_stdout, reason = "it is what the example is for")]

use std::time::Duration;

use derp_stun::{ProbeError, ProbeOptions, ProbeReport, probe};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = std::env::args()
        .nth(1)
        .ok_or("usage: my_address HOST[:PORT]")?;
    let host = if host.contains(':') {
        host
    } else {
        format!("{host}:3478")
    };
    for address in tokio::net::lookup_host(host).await? {
        match my_address(address).await {
            Ok(report) => println!("{} ({:?} away from {address})", report.mapped, report.rtt),
            Err(error) => println!("no answer from {address}: {error}"),
        }
    }
    Ok(())
}

pub(crate) async fn my_address(relay: std::net::SocketAddr) -> Result<ProbeReport, ProbeError> {
    probe(relay, ProbeOptions::within(Duration::from_secs(3))).await
}
