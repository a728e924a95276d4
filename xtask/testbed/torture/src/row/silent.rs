//! Connections on which nothing is ever sent.

use std::time::Duration;

use anyhow::Result;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::Cli;
use crate::logins::Logins;
use crate::random::{self, Dice};
use crate::relay::{Dial, Relay};
use crate::report::Report;
use crate::watch::{Rest, still_well};

/// What each may cost, in bytes.
const MOST_EACH: u64 = 2 << 10;
/// By when each is to be closed.
const MOST_TIME: Duration = Duration::from_secs(15);
/// When it is sure that none will be.
const NEVER: Duration = Duration::from_secs(60);
/// What a good login may take meanwhile.
const MOST_LOGIN: Duration = Duration::from_secs(2);

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    silence(cli, &cli.relay()?).await
}

pub(super) async fn run_on_port_80(cli: &Cli) -> Result<Report> {
    silence(cli, &cli.port_80()?).await
}

/// Connections to `silent`, which is the relay or its port for plain HTTP.
async fn silence(cli: &Cli, silent: &Relay) -> Result<Report> {
    let relay = cli.relay()?;
    let count = cli.scale(8000, 2000);
    let mut dice = Dice::new(5);
    // The first ones are what the relay makes once and keeps.
    let mut first = Vec::new();
    for _ in 0..200 {
        first.push(silent.tcp(&Dial::from(dice.loopback())).await?);
    }
    // So is what good logins need, which go on beside the silent ones.
    for _ in 0..10 {
        drop(relay.client(&random::key(), &Dial::default()).await?);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let rest = Rest::of(&relay).await?;
    let logins = Logins::start(&relay);
    let mut lives = JoinSet::new();
    for _ in 0..count {
        let mut tcp = silent.tcp(&Dial::from(dice.loopback())).await?;
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
    let logins = logins.stop().await?;
    let scale = format!("{count} connections, {held} of them held at a time");
    let mut report = Report::new(cli.times(), scale);
    // What does not grow with their number weighs more where they are few.
    let most = cli.scale(MOST_EACH, 4 * MOST_EACH);
    report.memory("each", grown / held.max(1), most);
    report.at_most("never closed", never, 0);
    report.deadline(
        "closed after",
        longest,
        MOST_TIME + Duration::from_millis(500),
    );
    logins.tell(&mut report, MOST_LOGIN);
    still_well(&relay, &mut report).await?;
    Ok(report)
}
