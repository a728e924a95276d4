//! The ways to attack a relay, one file each.

mod accept_limit;
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

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::task::JoinSet;

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
        Row::SilentConnectionsPort80 => silent::run_on_port_80(cli).await,
        Row::StallStages => stalls::run(cli).await,
        Row::StallStagesPort80 => stalls::run_on_port_80(cli).await,
        Row::StallStagesProxy => stalls::run_as_proxy(cli).await,
        Row::AnnouncedLengths => announced::run(cli).await,
        Row::StalledReaders => stalled_readers::run(cli).await,
        Row::HandshakeFlood => handshakes::run(cli).await,
        Row::DescriptorExhaustion => descriptors::run(cli).await,
        Row::AcceptLimit => accept_limit::run(cli).await,
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
        Row::LogVolumeDenied => log_volume::run_denied(cli).await,
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

/// How many attackers of most rows there are at a time.
const AT_A_TIME: u64 = 64;

/// Does `work` for each of the next `count` numbers of `next`, some at a time, and returns what came
/// of each, in any order.
async fn in_parallel<T, F>(
    next: &Arc<AtomicU64>,
    count: u64,
    work: impl Fn(u64) -> F + Clone + Send + 'static,
) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = T> + Send,
{
    let end = next.load(Ordering::Relaxed) + count;
    let mut tasks = JoinSet::new();
    for _ in 0..AT_A_TIME {
        let (next, work) = (Arc::clone(next), work.clone());
        tasks.spawn(async move {
            let mut done = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return done;
                }
                done.push(work(number).await);
            }
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done?);
    }
    next.store(end, Ordering::Relaxed);
    Ok(all)
}
