//! All floods at once, in a control group with little memory.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use derp_proto::{ClientFrame, FrameHeader, FrameType};
use tokio::io::AsyncWriteExt;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::args::Cli;
use crate::hello::client_hello;
use crate::link::{Link, upgrade_request, websocket_frame};
use crate::logins::Logins;
use crate::pairs::Pairs;
use crate::random::{self, Dice};
use crate::relay::{Dial, Relay};
use crate::report::{Report, size};
use crate::watch::{Peak, still_well};

/// The memory that there is, in bytes.
const CEILING: u64 = 256 << 20;
/// How many of a hundred good clients stay.
const MOST_STAY: u64 = 95;
/// What a good login may take meanwhile.
const MOST_LOGIN: Duration = Duration::from_secs(5);
/// Datagrams that are sent at once.
const DATAGRAMS: usize = 1000;
/// Attackers of each kind.
const EACH: u64 = 16;

/// What all attackers share.
struct Flood {
    relay: Relay,
    stun_port: u16,
    hello: Vec<u8>,
    stop: AtomicBool,
}

/// A kind of attack.
#[derive(Debug, Clone, Copy)]
enum Attack {
    Silent,
    Handshakes,
    Announced,
    StalledReaders,
    LongRequests,
    HalfFrames,
    HalfMessages,
    KeptPages,
    Datagrams,
}

const ATTACKS: [Attack; 9] = [
    Attack::Silent,
    Attack::Handshakes,
    Attack::Announced,
    Attack::StalledReaders,
    Attack::LongRequests,
    Attack::HalfFrames,
    Attack::HalfMessages,
    Attack::KeptPages,
    Attack::Datagrams,
];

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let pairs = cli.scale(500, 50);
    let span = Duration::from_secs(cli.scale(300, 15));
    let good = Pairs::start(&relay, pairs, Duration::from_secs(1), 1200).await?;
    let flood = Arc::new(Flood {
        relay: relay.clone(),
        stun_port: cli.stun_port.context("--stun-port")?,
        hello: client_hello()?,
        stop: AtomicBool::new(false),
    });
    let peak = Peak::watch(relay.process);
    let logins = Logins::start(&relay);
    let mut attackers = JoinSet::new();
    for (n, attack) in ATTACKS.iter().enumerate() {
        for m in 0..EACH {
            let dice = Dice::new(n as u64 * EACH + m);
            attackers.spawn(repeat(*attack, Arc::clone(&flood), dice));
        }
    }
    let start = tokio::time::Instant::now();
    while start.elapsed() < span && relay.process.is_alive() {
        sleep(Duration::from_millis(100)).await;
    }
    flood.stop.store(true, Ordering::Relaxed);
    relay.ensure_alive()?;
    let closed = good.closed();
    let logins = logins.stop().await?;
    attackers.abort_all();
    while attackers.join_next().await.is_some() {}
    let outcome = good.stop().await?;

    let clients = 2 * pairs as u64;
    let stay = (clients - closed.min(clients)) * 100 / clients;
    let most = match &cli.control_group {
        Some(group) => most_used(group).unwrap_or_else(|| peak.most()),
        None => peak.most(),
    };
    let ceiling = match &cli.control_group {
        Some(_) => "a control group of 256 MiB",
        None => "no control group here",
    };
    let attacks = ATTACKS.len();
    let scale = format!(
        "{attacks} floods for {} s, {clients} good clients",
        span.as_secs()
    );
    let mut report = Report::new(cli.times(), scale);
    report.check(ceiling, "one", cli.control_group.is_some());
    report.check(
        format!("alive, {} used", size(most)),
        format!("≤ {}", size(CEILING)),
        most <= CEILING,
    );
    report.check(
        format!("{stay} % of good clients stay"),
        format!("≥ {MOST_STAY} %"),
        stay >= MOST_STAY,
    );
    logins.tell(&mut report, MOST_LOGIN);
    report.at_most("wrong packets", outcome.wrong, 0);
    still_well(&relay, &mut report).await?;
    Ok(report)
}

/// The most memory that a control group had, of either version.
fn most_used(group: &std::path::Path) -> Option<u64> {
    ["memory.peak", "memory.max_usage_in_bytes"]
        .iter()
        .find_map(|file| {
            fs::read_to_string(group.join(file))
                .ok()?
                .trim()
                .parse()
                .ok()
        })
}

async fn repeat(attack: Attack, flood: Arc<Flood>, mut dice: Dice) {
    let mut held: Vec<Link> = Vec::new();
    while !flood.stop.load(Ordering::Relaxed) {
        // The relay may turn any of them away.
        let once = timeout(Duration::from_secs(10), once(attack, &flood, &mut dice)).await;
        match once {
            Ok(Ok(Some(link))) => held.push(link),
            Ok(Ok(None)) => {}
            _ => sleep(Duration::from_millis(20)).await,
        }
        if held.len() > 200 {
            held.clear();
        }
    }
}

/// One attack; what it returns is held open.
async fn once(attack: Attack, flood: &Flood, dice: &mut Dice) -> Result<Option<Link>> {
    let relay = &flood.relay;
    let dial = Dial::from(dice.loopback());
    match attack {
        Attack::Silent => {
            sleep(Duration::from_millis(2)).await;
            Ok(Some(Link::new(Box::new(relay.tcp(&dial).await?))))
        }
        Attack::Handshakes => {
            let mut tcp = relay.tcp(&dial).await?;
            tcp.write_all(&flood.hello).await?;
            tcp.readable().await?;
            Ok(None)
        }
        Attack::Announced => {
            let mut link = relay.connect(&dial).await?;
            let mut bytes = upgrade_request().into_bytes();
            let (ty, len) = (FrameType::CLIENT_INFO, 16 << 10);
            bytes.extend_from_slice(&FrameHeader { ty, len }.to_bytes());
            bytes.extend_from_slice(&dice.fill(8000));
            link.send_bytes(&bytes).await?;
            Ok(Some(link))
        }
        Attack::StalledReaders => {
            let key = random::key();
            let small = Dial {
                receive_buffer: Some(4096),
                ..dial
            };
            let stalled = relay.client(&key, &small).await?;
            let mut sender = relay.client(&random::key(), &Dial::default()).await?;
            let packet = vec![0x5a; 60 << 10];
            let dst = key.public();
            for _ in 0..40 {
                let packet = &packet;
                sender
                    .send(&ClientFrame::SendPacket { dst, packet })
                    .await?;
            }
            Ok(Some(stalled))
        }
        Attack::LongRequests => {
            let mut link = relay.connect(&dial).await?;
            let query = "q".repeat(1 << 20);
            let request = format!("GET /bootstrap-dns?q={query} HTTP/1.1\r\n\r\n");
            link.send_bytes(request.as_bytes()).await?;
            Ok(None)
        }
        Attack::HalfFrames => {
            let mut link = relay.client(&random::key(), &dial).await?;
            let (ty, len) = (FrameType::SEND_PACKET, 64 << 10);
            let mut bytes = FrameHeader { ty, len }.to_bytes().to_vec();
            bytes.resize(60 << 10, 7);
            link.send_frames(&bytes).await?;
            Ok(Some(link))
        }
        Attack::HalfMessages => {
            let mut link = relay.connect(&dial).await?;
            link.upgrade_to_websocket().await?;
            link.log_in(&random::key()).await?;
            let message = websocket_frame(&[7; 60 << 10]);
            link.send_bytes(&message[..message.len() - 1]).await?;
            Ok(Some(link))
        }
        Attack::KeptPages => {
            let mut link = relay.connect(&dial).await?;
            link.get_and_keep("/derp/probe").await?;
            Ok(Some(link))
        }
        Attack::Datagrams => {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            socket
                .connect((Ipv4Addr::LOCALHOST, flood.stun_port))
                .await?;
            for _ in 0..DATAGRAMS {
                let (_, request) = super::stun::request(dice);
                // A full queue loses datagrams, as networks do.
                let _lost = socket.send(&request).await;
            }
            Ok(None)
        }
    }
}
