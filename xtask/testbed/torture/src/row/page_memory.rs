//! Requests for pages, with long queries and many names, of which nothing is to stay; and
//! connections that are kept after one, of which there may be many.

use std::sync::Arc;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout};

use crate::args::Cli;
use crate::link::Link;
use crate::logins::Logins;
use crate::random::Dice;
use crate::relay::{Dial, Relay};
use crate::report::Report;
use crate::watch::{Peak, Rest};

/// What may stay in memory, in bytes.
const MOST_GROWN: u64 = 4 << 20;
const AT_A_TIME: usize = 16;
/// How many connections are kept after a page (`limits.page_connections`), and some that the row has.
const MOST_KEPT: u64 = 1024 + 16;
/// When all others are closed.
const MOST_TIME: Duration = Duration::from_secs(5);
/// What connections may take in bytes, all together, and an allocator keep of it: those that are kept
/// and those on the way to a login are 5,120 at most, with 24 KiB each.
const MOST_HELD: u64 = 120 << 20;
/// What a good login may take meanwhile.
const MOST_LOGIN: Duration = Duration::from_secs(2);
const PATHS: [&str; 5] = [
    "/bootstrap-dns?q=",
    "/?",
    "/derp/probe?",
    "/debug/varz?",
    "/",
];

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let (long, short) = (cli.scale(500, 100), cli.scale(20_000, 4_000));
    // What pages need once is not counted.
    ask(&relay, 400, 1000).await?;
    ask(&relay, 20, 1 << 20).await?;
    let rest = Rest::of(&relay).await?;
    ask(&relay, long, 1 << 20).await?;
    ask(&relay, short, 7000).await?;
    let kept = cli.scale(6000, 2000);
    let scale = format!(
        "{long} requests of 1 MiB, {short} of 7 kB, all different; then {kept} connections kept"
    );
    let mut report = Report::new(cli.times(), scale);
    rest.check(&relay, &mut report, MOST_GROWN).await?;
    keep(&relay, kept, &mut report).await?;
    Ok(report)
}

/// `count` connections that ask for a probe's page and stay, for as long as the relay lets them.
async fn keep(relay: &Relay, count: usize, report: &mut Report) -> Result<()> {
    let rest = Rest::of(relay).await?;
    let peak = Peak::watch(relay.process);
    let logins = Logins::start(relay);
    let (mut links, mut tasks) = (Vec::new(), JoinSet::new());
    for n in 0..count {
        let relay = relay.clone();
        tasks.spawn(async move {
            let dial = Dial::from(Dice::new(n as u64).loopback());
            let mut link = relay.connect(&dial).await?;
            link.get_and_keep("/derp/probe").await?;
            anyhow::Ok(link)
        });
        if tasks.len() >= AT_A_TIME
            && let Some(kept) = tasks.join_next().await
        {
            // The relay may turn any of them away.
            links.extend(kept?.ok());
        }
    }
    let last: Vec<Result<Link>> = tasks.join_all().await;
    links.extend(last.into_iter().flatten());
    ensure!(!links.is_empty(), "no page was answered");
    let files = relay.settle(rest.files + MOST_KEPT, MOST_TIME).await?;
    let kept = files.saturating_sub(rest.files);
    let grown = peak.most().saturating_sub(rest.rss);
    drop(links);
    report.at_most("kept", kept, MOST_KEPT);
    report.memory("they take", grown, MOST_HELD);
    logins.stop().await?.tell(report, MOST_LOGIN);
    rest.check(relay, report, MOST_HELD).await
}

/// `count` requests with different queries of `len` bytes. The relay may refuse them.
async fn ask(relay: &Relay, count: usize, len: usize) -> Result<()> {
    let filler = Arc::new("x".repeat(len));
    let mut tasks = JoinSet::new();
    for n in 0..count {
        let (relay, filler) = (relay.clone(), Arc::clone(&filler));
        tasks.spawn(async move {
            let path = PATHS[n % PATHS.len()];
            let request = format!(
                "GET {path}{n}-{filler} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            );
            let dial = Dial::from(Dice::new(n as u64).loopback());
            let mut link = relay.connect(&dial).await?;
            let exchange = async {
                // It may be refused before it is whole.
                let _refused = link.send_bytes(request.as_bytes()).await;
                link.ended().await;
            };
            let _late = timeout(Duration::from_secs(10), exchange).await;
            anyhow::Ok(())
        });
        if tasks.len() >= AT_A_TIME
            && let Some(asked) = tasks.join_next().await
        {
            asked??;
        }
    }
    while let Some(asked) = tasks.join_next().await {
        asked??;
    }
    Ok(())
}
