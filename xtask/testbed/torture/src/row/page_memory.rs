//! Requests for pages, with long queries and many names. Nothing of them is to stay.

use std::sync::Arc;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{Duration, timeout};

use crate::args::Cli;
use crate::random::Dice;
use crate::relay::{Dial, Relay};
use crate::report::Report;
use crate::watch::Rest;

/// What may stay in memory, in bytes.
const MOST_GROWN: u64 = 4 << 20;
const AT_A_TIME: usize = 16;
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
    let scale = format!("{long} requests of 1 MiB, {short} of 7 kB, all different");
    let mut report = Report::new(cli.quick, scale);
    rest.check(&relay, &mut report, MOST_GROWN).await?;
    Ok(report)
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
