//! Connections that stop, or go on a byte at a time, at each step of a client's life.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use derp_proto::{ClientInfo, FrameHeader, FrameType, ServerIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::args::Cli;
use crate::hello::client_hello;
use crate::link::{Link, upgrade_request};
use crate::logins::Logins;
use crate::random::{self, Dice};
use crate::relay::{Dial, Relay, proxy_header};
use crate::report::Report;
use crate::watch::Rest;

/// The longest that a connection may live without a login.
const MOST_BEFORE_LOGIN: Duration = Duration::from_secs(16);
/// The longest that a connection may be kept after a page.
const MOST_KEPT: Duration = Duration::from_secs(31);
/// The longest that a frame of 64 KiB may stay unfinished.
const MOST_FRAME: Duration = Duration::from_secs(45);
/// When it is sure that nothing will be closed.
const NEVER: Duration = Duration::from_secs(100);
/// What may stay in memory, in bytes: allocators keep what a wave of connections took.
const MOST_DRIFT: u64 = 64 << 20;
/// How fast drips come.
const DRIP: Duration = Duration::from_millis(400);
/// What a good login may take meanwhile.
const MOST_LOGIN: Duration = Duration::from_secs(2);
/// A page after which the connection stays.
const KEPT: &[u8] = b"GET /generate_204 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

/// Where a connection stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Silent,
    PartOfProxyHeader,
    DrippingProxyHeader,
    PartOfHello,
    DrippingHello,
    NoRequest,
    PartOfRequest,
    DrippingRequest,
    /// After a page.
    NoMoreRequests,
    DrippingNextRequest,
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

const STAGES: &[(Stage, &str)] = &[
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
const STAGES_OF_PORT_80: &[(Stage, &str)] = &[
    (Stage::Silent, "silent"),
    (Stage::PartOfRequest, "part of a request"),
    (Stage::DrippingRequest, "dripping request"),
    (Stage::NoMoreRequests, "silent after a page"),
    (Stage::DrippingNextRequest, "dripping request after a page"),
];
const STAGES_OF_PROXIES: &[(Stage, &str)] = &[
    (Stage::Silent, "silent"),
    (Stage::PartOfProxyHeader, "part of a PROXY header"),
    (Stage::DrippingProxyHeader, "dripping PROXY header"),
    (Stage::NoRequest, "no request"),
];

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    stall(cli, &cli.relay()?, STAGES).await
}

pub(super) async fn run_on_port_80(cli: &Cli) -> Result<Report> {
    stall(cli, &cli.port_80()?, STAGES_OF_PORT_80).await
}

pub(super) async fn run_as_proxy(cli: &Cli) -> Result<Report> {
    stall(cli, &cli.relay()?, STAGES_OF_PROXIES).await
}

/// Connections to `stalled`, which is the relay or its port for plain HTTP.
async fn stall(cli: &Cli, stalled: &Relay, stages: &'static [(Stage, &str)]) -> Result<Report> {
    let relay = cli.relay()?;
    // All of a wave that are not logged in wait at a time, and a relay may refuse to let more
    // wait.
    let (waves, each) = cli.scale((2, 500), (1, 40));
    let rest = Rest::of(&relay).await?;
    let logins = Logins::start(&relay);
    let mut longest = vec![Duration::ZERO; stages.len()];
    let mut dice = Dice::new(6);
    for _ in 0..waves {
        wave(stalled, each, stages, &mut longest, &mut dice).await?;
    }
    let logins = logins.stop().await?;
    let scale = format!("{} stages, {waves} waves of {each} each", stages.len());
    let mut report = Report::new(cli.times(), scale);
    let never = longest.iter().filter(|&&life| life >= NEVER).count();
    report.at_most("stages that are never closed", never as u64, 0);
    for (&(stage, name), life) in stages.iter().zip(longest) {
        let most = match stage {
            Stage::PartOfFrame | Stage::DrippingFrame => MOST_FRAME,
            Stage::NoMoreRequests | Stage::DrippingNextRequest => MOST_KEPT,
            _ => MOST_BEFORE_LOGIN,
        };
        report.deadline(name, life, most);
    }
    logins.tell(&mut report, MOST_LOGIN);
    rest.check(&relay, &mut report, MOST_DRIFT).await?;
    Ok(report)
}

/// `each` connections of each stage at a time, until all are closed.
async fn wave(
    relay: &Relay,
    each: usize,
    stages: &'static [(Stage, &str)],
    longest: &mut [Duration],
    dice: &mut Dice,
) -> Result<()> {
    let hello = client_hello()?;
    let mut lives = JoinSet::new();
    for n in 0..each * stages.len() {
        let at = n % stages.len();
        let (relay, hello, dial) = (relay.clone(), hello.clone(), Dial::from(dice.loopback()));
        lives.spawn(async move { (at, live(&relay, stages[at].0, &hello, &dial).await) });
        if n % 32 == 31 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let mut failed = None;
    while let Some(ended) = lives.join_next().await {
        let (at, life) = ended?;
        match life {
            Ok(life) => longest[at] = longest[at].max(life),
            Err(error) => failed = Some(error.context(stages[at].1)),
        }
    }
    failed.map_or(Ok(()), Err)
}

/// How long the relay lets a connection live that stops there.
async fn live(relay: &Relay, stage: Stage, hello: &[u8], dial: &Dial) -> Result<Duration> {
    let start = Instant::now();
    match stage {
        Stage::Silent
        | Stage::PartOfProxyHeader
        | Stage::DrippingProxyHeader
        | Stage::PartOfHello
        | Stage::DrippingHello => {
            let mut tcp = relay.tcp(dial).await?;
            let (mut read, mut write) = tcp.split();
            let header = proxy_header(Ipv4Addr::LOCALHOST);
            let first = match stage {
                Stage::PartOfProxyHeader | Stage::DrippingProxyHeader => header.as_bytes(),
                _ => hello,
            };
            let send = async {
                match stage {
                    Stage::PartOfHello | Stage::PartOfProxyHeader => {
                        write.write_all(&first[..first.len() / 2]).await?;
                    }
                    Stage::DrippingHello | Stage::DrippingProxyHeader => {
                        for byte in first {
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
        Stage::PartOfRequest => link.send_bytes(&KEPT[..KEPT.len() / 2]).await?,
        Stage::NoMoreRequests => link.send_bytes(KEPT).await?,
        Stage::DrippingNextRequest => {
            link.send_bytes(KEPT).await?;
            return Ok(upgrade_request().into_bytes());
        }
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
