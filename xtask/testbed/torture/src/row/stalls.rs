//! Connections that stop, or go on a byte at a time, at each step of a client's life.

use std::time::Duration;

use anyhow::{Context, Result};
use derp_proto::{ClientInfo, FrameHeader, FrameType, ServerIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::args::Cli;
use crate::hello::client_hello;
use crate::link::{Link, upgrade_request};
use crate::random::{self, Dice};
use crate::relay::{Dial, Relay};
use crate::report::Report;
use crate::watch::Rest;

/// The longest that a connection may live without a login.
const MOST_BEFORE_LOGIN: Duration = Duration::from_secs(16);
/// The longest that a frame of 64 KiB may stay unfinished.
const MOST_FRAME: Duration = Duration::from_secs(45);
/// When it is sure that nothing will be closed.
const NEVER: Duration = Duration::from_secs(100);
/// What may stay in memory, in bytes: allocators keep what a wave of connections took.
const MOST_DRIFT: u64 = 64 << 20;
/// How fast drips come.
const DRIP: Duration = Duration::from_millis(400);

/// Where a connection stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Silent,
    PartOfHello,
    DrippingHello,
    NoRequest,
    DrippingRequest,
    NoLogin,
    DrippingLogin,
    /// After the login.
    PartOfFrame,
    DrippingFrame,
}

impl Stage {
    /// Whether the login is over by then.
    fn is_frame(self) -> bool {
        matches!(self, Self::PartOfFrame | Self::DrippingFrame)
    }
}

const STAGES: [(Stage, &str); 9] = [
    (Stage::Silent, "silent"),
    (Stage::PartOfHello, "part of a hello"),
    (Stage::DrippingHello, "dripping hello"),
    (Stage::NoRequest, "no request"),
    (Stage::DrippingRequest, "dripping request"),
    (Stage::NoLogin, "no login"),
    (Stage::DrippingLogin, "dripping login"),
    (Stage::PartOfFrame, "part of a frame"),
    (Stage::DrippingFrame, "dripping frame"),
];

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    // All that are not logged in wait at a time, and a relay may refuse to let more wait.
    let each = cli.scale(500, 40);
    let hello = client_hello()?;
    let rest = Rest::of(&relay).await?;
    let mut lives = JoinSet::new();
    let mut dice = Dice::new(6);
    for n in 0..each * STAGES.len() {
        let (stage, _) = STAGES[n % STAGES.len()];
        let (relay, hello, dial) = (relay.clone(), hello.clone(), Dial::from(dice.loopback()));
        lives.spawn(async move { (stage, live(&relay, stage, &hello, &dial).await) });
        if n % 32 == 31 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let mut longest = [Duration::ZERO; STAGES.len()];
    let mut failed = None;
    while let Some(ended) = lives.join_next().await {
        let (stage, life) = ended?;
        let at = STAGES.iter().position(|&(one, _)| one == stage);
        let at = at.context("each stage is in the table")?;
        match life {
            Ok(life) => longest[at] = longest[at].max(life),
            Err(error) => failed = Some(error.context(STAGES[at].1)),
        }
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let mut report = Report::new(cli.quick, format!("{} stages, {each} each", STAGES.len()));
    for (&(stage, name), life) in STAGES.iter().zip(longest) {
        let most = if stage.is_frame() {
            MOST_FRAME
        } else {
            MOST_BEFORE_LOGIN
        };
        report.deadline(name, life, most);
    }
    rest.check(&relay, &mut report, MOST_DRIFT).await?;
    Ok(report)
}

/// How long the relay lets a connection live that stops there.
async fn live(relay: &Relay, stage: Stage, hello: &[u8], dial: &Dial) -> Result<Duration> {
    let start = Instant::now();
    match stage {
        Stage::Silent | Stage::PartOfHello | Stage::DrippingHello => {
            let mut tcp = relay.tcp(dial).await?;
            let (mut read, mut write) = tcp.split();
            let send = async {
                match stage {
                    Stage::PartOfHello => write.write_all(&hello[..hello.len() / 2]).await?,
                    Stage::DrippingHello => {
                        for byte in hello {
                            write.write_all(&[*byte]).await?;
                            tokio::time::sleep(DRIP).await;
                        }
                    }
                    _ => {}
                }
                std::future::pending::<std::io::Result<()>>().await
            };
            let mut byte = [0; 64];
            tokio::select! {
                _closed = timeout(NEVER, read.read(&mut byte)) => {}
                _closed = send => {}
            }
            Ok(start.elapsed())
        }
        _ => {
            let mut link = relay.connect(dial).await?;
            let drip = prepare(&mut link, stage).await?;
            // A step's own deadline begins when the step does.
            let start = if stage.is_frame() {
                Instant::now()
            } else {
                start
            };
            let rest = drip_until_closed(&mut link, &drip);
            let _never = timeout(NEVER, rest).await;
            Ok(start.elapsed())
        }
    }
}

/// Goes as far as the stage says, and returns what is to drip then.
async fn prepare(link: &mut Link, stage: Stage) -> Result<Vec<u8>> {
    match stage {
        Stage::DrippingRequest => return Ok(upgrade_request().into_bytes()),
        Stage::NoLogin | Stage::DrippingLogin => {
            link.upgrade().await?;
            link.skip_greeting().await?;
        }
        Stage::PartOfFrame | Stage::DrippingFrame => {
            link.upgrade().await?;
            link.log_in(&random::key()).await?;
            let ty = FrameType::SEND_PACKET;
            let len = 64 << 10;
            let mut bytes = FrameHeader { ty, len }.to_bytes().to_vec();
            bytes.extend_from_slice(&[7; 40]);
            link.send_frames(&bytes).await?;
        }
        _ => {}
    }
    if stage == Stage::DrippingFrame {
        // More of them than there is time for.
        return Ok(vec![7; 1000]);
    }
    let mut drip = Vec::new();
    if stage == Stage::DrippingLogin {
        let server = ServerIdentity::known(random::key().public());
        server.hello(
            &random::key(),
            &ClientInfo::plain(),
            random::bytes(),
            &mut drip,
        )?;
    }
    Ok(drip)
}

async fn drip_until_closed(link: &mut Link, drip: &[u8]) {
    for byte in drip {
        // Reading and writing cannot go on at a time here, and the relay's end shows in either.
        if timeout(DRIP, link.ended()).await.is_ok() || link.send_bytes(&[*byte]).await.is_err() {
            return;
        }
    }
    link.ended().await;
}
