//! The ways to attack a relay, one file each.

mod announced;
mod certificates;
mod churn;
mod controller;
mod dead_peer;
mod descriptors;
mod drain;
mod duplicates;
mod handshakes;
mod idle;
mod log_volume;
mod malformed;
mod memory_ceiling;
mod page_memory;
mod panics;
mod proxy_header;
mod proxy_spoofed;
mod silent;
mod stalled_readers;
mod stalls;
mod stun;
mod tailscaled;
mod verifier;

use anyhow::Result;

use crate::args::{Cli, Row};
use crate::report::Report;

/// Runs the row; none where it was no attack.
pub(crate) async fn run(cli: &Cli) -> Result<Option<Report>> {
    let report = match cli.row {
        Row::MalformedStreams => malformed::run(cli).await,
        Row::IdleMemoryTls13 => idle::run(cli, idle::Kind::Tls13).await,
        Row::IdleMemoryTls12 => idle::run(cli, idle::Kind::Tls12).await,
        Row::IdleMemoryWebsocket => idle::run(cli, idle::Kind::WebSocket).await,
        Row::SilentConnections => silent::run(cli).await,
        Row::StallStages => stalls::run(cli).await,
        Row::AnnouncedLengths => announced::run(cli).await,
        Row::StalledReaders => stalled_readers::run(cli).await,
        Row::HandshakeFlood => handshakes::run(cli).await,
        Row::DescriptorExhaustion => descriptors::run(cli).await,
        Row::VerifierFaults => verifier::run(cli).await,
        Row::HungTailscaled => tailscaled::run(cli).await,
        Row::Drain => drain::run(cli).await,
        Row::CertificateRotation => certificates::run(cli).await,
        Row::Churn => churn::run(cli).await,
        Row::DuplicateKeys => duplicates::run(cli).await,
        Row::StunHostile => stun::run(cli).await,
        Row::PanicIsolation => panics::run(cli).await,
        Row::MemoryCeiling => memory_ceiling::run(cli).await,
        Row::LogVolume => log_volume::run(cli).await,
        Row::PageMemory => page_memory::run(cli).await,
        Row::ProxyHeader => proxy_header::run(cli).await,
        Row::ProxySpoofed => proxy_spoofed::run(cli).await,
        Row::DeadPeer => dead_peer::run(cli).await,
        Row::HoldTwo => {
            dead_peer::hold(cli).await?;
            return Ok(None);
        }
    };
    report.map(Some)
}
