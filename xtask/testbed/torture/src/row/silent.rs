//! Connections on which nothing is ever sent.

use std::time::Duration;

use anyhow::Result;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::Cli;
use crate::random::Dice;
use crate::relay::Dial;
use crate::report::Report;
use crate::watch::{Rest, still_well};

/// What each may cost, in bytes.
const MOST_EACH: u64 = 2 << 10;
/// By when each is to be closed.
const MOST_TIME: Duration = Duration::from_secs(15);
/// When it is sure that none will be.
const NEVER: Duration = Duration::from_secs(60);

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let count = cli.scale(8000, 1000);
    let mut dice = Dice::new(5);
    // The first ones are what the relay makes once and keeps.
    let mut first = Vec::new();
    for _ in 0..200 {
        first.push(relay.tcp(&Dial::from(dice.loopback())).await?);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let rest = Rest::of(&relay).await?;
    let mut lives = JoinSet::new();
    for _ in 0..count {
        let mut tcp = relay.tcp(&Dial::from(dice.loopback())).await?;
        lives.spawn(async move {
            let start = Instant::now();
            let mut byte = [0];
            let ended = tokio::time::timeout(NEVER, tcp.read(&mut byte)).await;
            ended.map(|_| start.elapsed())
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let files = relay.process.files()?;
    let held = files.saturating_sub(rest.files);
    let grown = relay.process.rss()?.saturating_sub(rest.rss);

    let (mut never, mut longest) = (0, Duration::ZERO);
    while let Some(life) = lives.join_next().await {
        match life? {
            Ok(life) => longest = longest.max(life),
            Err(_) => never += 1,
        }
    }
    drop(first);
    let scale = format!("{count} connections, {held} of them held at a time");
    let mut report = Report::new(cli.quick, scale);
    // What does not grow with their number weighs more where they are few.
    let most = cli.scale(MOST_EACH, 4 * MOST_EACH);
    report.memory("each", grown / held.max(1), most);
    report.at_most("never closed", never, 0);
    report.deadline(
        "closed after",
        longest,
        MOST_TIME + Duration::from_millis(500),
    );
    still_well(&relay, &mut report).await?;
    Ok(report)
}
