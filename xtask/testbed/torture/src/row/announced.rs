//! Many logins of a size that is announced and never comes.

use std::time::Duration;

use anyhow::Result;
use derp_proto::{FrameHeader, FrameType, MAX_CLIENT_INFO_LEN};
use tokio::task::JoinSet;

use crate::args::Cli;
use crate::link::{Link, upgrade_request};
use crate::random::Dice;
use crate::relay::{Dial, Relay};
use crate::report::Report;
use crate::watch::{Peak, Rest};

/// What announcing may cost in all, in bytes, in a full run. A quick one has a fifth of the
/// connections, and would not notice that each takes what it announces.
const MOST_GROWN: u64 = 20 << 20;
/// What may be asked for, in bytes, the stacks of threads that are started meanwhile among it: less
/// than what a wave announces.
const MOST_RESERVED: u64 = 20 << 20;
/// What may stay, in bytes: a little more than one wave of connections.
const MOST_DRIFT: u64 = 20 << 20;
/// The longest that relays take: ours, and the reference.
const LENGTHS: [usize; 2] = [MAX_CLIENT_INFO_LEN, 256 << 10];

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let (waves, each) = (3, cli.scale(3000, 600));
    let mut dice = Dice::new(7);
    // The same connections that announce nothing: what is told is what announcing costs.
    let silent = wave(&relay, each, &[], &mut dice).await?;
    let rest = Rest::of(&relay).await?;
    let (mut grown, mut reserved, mut most) = (0, 0, silent.most);
    let connections = silent.most.saturating_sub(silent.before);
    for n in 0..waves {
        let ty = FrameType::CLIENT_INFO;
        let len = u32::try_from(LENGTHS[n % LENGTHS.len()])?;
        let mut claim = FrameHeader { ty, len }.to_bytes().to_vec();
        claim.extend_from_slice(&[7; 32]);
        let wave = wave(&relay, each, &claim, &mut dice).await?;
        most = most.max(wave.most);
        grown = grown.max(wave.most.saturating_sub(silent.most));
        reserved = reserved.max(wave.reserved.saturating_sub(silent.reserved));
    }
    let scale = format!(
        "{waves} waves of {each}; without an announcement a wave takes {}",
        crate::report::size(connections)
    );
    let mut report = Report::new(cli.times(), scale);
    let total = crate::report::size(most.saturating_sub(silent.before));
    report.tell(format!("connections and all {total}"));
    let most = cli.scale(MOST_GROWN, MOST_GROWN / 5);
    report.memory("announcing takes", grown, most);
    // What is not touched is not in RAM, and is promised all the same.
    let most = cli.scale(MOST_RESERVED, MOST_RESERVED * 2 / 5);
    report.memory("reserves", reserved, most);
    rest.check(&relay, &mut report, MOST_DRIFT).await?;
    Ok(report)
}

struct Wave {
    before: u64,
    most: u64,
    reserved: u64,
}

/// `count` connections that ask for an upgrade and send `claim`, and no more.
async fn wave(relay: &Relay, count: usize, claim: &[u8], dice: &mut Dice) -> Result<Wave> {
    let before = relay.process.rss()?;
    let peak = Peak::watch(relay.process);
    let mut links: Vec<Link> = Vec::with_capacity(count);
    let mut tasks = JoinSet::new();
    let mut bytes = upgrade_request().into_bytes();
    bytes.extend_from_slice(claim);
    for _ in 0..count {
        let (relay, bytes, dial) = (relay.clone(), bytes.clone(), Dial::from(dice.loopback()));
        tasks.spawn(async move {
            let mut link = relay.connect(&dial).await?;
            link.send_bytes(&bytes).await?;
            anyhow::Ok(link)
        });
        if tasks.len() >= 64
            && let Some(link) = tasks.join_next().await
        {
            links.push(link??);
        }
    }
    while let Some(link) = tasks.join_next().await {
        links.push(link??);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let most = peak.most();
    let reserved = relay.process.reserved()?;
    let held = relay.process.files()?;
    drop(links);
    relay
        .settle(
            held.saturating_sub(count as u64 / 2),
            Duration::from_secs(20),
        )
        .await?;
    Ok(Wave {
        before,
        most,
        reserved,
    })
}
