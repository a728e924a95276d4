//! Streams that are almost, or not at all, what a relay expects, over real sockets.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context, Result};
use derp_proto::{ClientFrame, ClientInfo, FrameHeader, FrameType, ServerIdentity};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::args::Cli;
use crate::hello::client_hello;
use crate::link::{Link, WEBSOCKET_REQUEST, upgrade_request, websocket_frame};
use crate::random::{self, Dice};
use crate::relay::{Dial, Relay};
use crate::report::Report;
use crate::watch::Rest;

use super::AT_A_TIME;

/// How much memory may stay: allocators keep some, and counters grow.
const MOST_DRIFT: u64 = 8 << 20;
/// How long an attacker listens before it leaves.
const LISTEN: Duration = Duration::from_millis(2);

/// Requests to begin with; each is then changed somewhere.
const REQUESTS: [&str; 8] = [
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /derp HTTP/1.1\r\nHost: a\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\r\n",
    "GET /derp HTTP/1.1\r\nHost: a\r\nHost: b\r\nUpgrade: derp\r\n\r\n",
    "POST /derp HTTP/1.1\r\nHost: a\r\nUpgrade: DERP\r\nContent-Length: 5\r\n\r\nhello",
    "GET /derp HTTP/1.0\r\nUpgrade: DERP\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT controlplane.example:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /generate_204 HTTP/1.1\r\nHost: a\r\nX-Tailscale-Challenge: \x01\x02\r\n\r\n",
];

/// What proxies put in front, to relays that did not ask for it.
const PROXY_HEADERS: [&[u8]; 3] = [
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\0\x01\0\x02",
];

struct Shared {
    relay: Relay,
    hello: Vec<u8>,
    next: Arc<AtomicU64>,
}

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    // A handshake costs ten times a connection without one.
    let streams = match relay.has_tls() {
        true => cli.scale(250_000, 8_000),
        false => cli.scale(750_000, 24_000),
    };
    let over = if relay.has_tls() { "TLS" } else { "plain HTTP" };
    let shared = Arc::new(Shared {
        relay: relay.clone(),
        hello: client_hello()?,
        next: Arc::default(),
    });
    // What the relay makes once and keeps is not the attack's doing.
    let mut refused = attack(&shared, streams / 10).await?;
    let rest = Rest::of(&relay).await?;
    refused += attack(&shared, streams).await?;

    let scale = format!("{streams} streams over {over}, {AT_A_TIME} at a time");
    let mut report = Report::new(cli.times(), scale);
    report.at_most("connections refused", refused, 0);
    rest.check(&relay, &mut report, MOST_DRIFT).await?;
    Ok(report)
}

/// Sends `count` streams; returns how many the relay did not take.
async fn attack(shared: &Arc<Shared>, count: u64) -> Result<u64> {
    let attackers = Arc::clone(shared);
    let taken = super::in_parallel(&shared.next, count, move |number| {
        let shared = Arc::clone(&attackers);
        async move { stream(&shared, &mut Dice::new(number)).await.is_ok() }
    });
    Ok(taken.await?.iter().filter(|taken| !**taken).count() as u64)
}

/// One stream. What the relay answers is its own affair; only that it takes connections is asked.
async fn stream(shared: &Shared, dice: &mut Dice) -> Result<()> {
    let dial = Dial::from(dice.loopback());
    if dice.below(100) < 60 {
        let mut tcp = shared.relay.tcp(&dial).await?;
        let bytes = match dice.below(4) {
            0 => dice_fill(dice, 2048),
            1 => mutated(dice, &shared.hello),
            2 => {
                let header = *dice.pick(&PROXY_HEADERS);
                mutated(dice, header)
            }
            _ => request(dice),
        };
        let _closed = tcp.write_all(&bytes).await;
        if dice.once_in(2) {
            let _closed = tcp.shutdown().await;
            let _late = timeout(LISTEN, tcp.readable()).await;
        }
        return Ok(());
    }
    let mut link = shared.relay.connect(&dial).await.context("a handshake")?;
    // From here on the relay may close at any moment.
    let _closed = converse(&mut link, dice).await;
    if dice.once_in(2) {
        let _closed = link.finish().await;
        let _late = timeout(LISTEN, link.ended()).await;
    }
    Ok(())
}

async fn converse(link: &mut Link, dice: &mut Dice) -> Result<()> {
    match dice.below(8) {
        0 => {
            let request = request(dice);
            Ok(link.send_bytes(&request).await?)
        }
        1 => {
            link.send_bytes(WEBSOCKET_REQUEST.as_bytes()).await?;
            let frame = websocket_frame(&dice_fill(dice, 400));
            Ok(link.send_bytes(&mutated(dice, &frame)).await?)
        }
        2 => {
            link.upgrade().await?;
            let bytes = dice_fill(dice, 2000);
            Ok(link.send_bytes(&bytes).await?)
        }
        3 => {
            // A request and a login in one piece, cut anywhere.
            let mut bytes = upgrade_request().into_bytes();
            bytes.extend_from_slice(&claim(dice)?);
            let cut = dice.below(bytes.len());
            Ok(link.send_bytes(&bytes[..cut]).await?)
        }
        4 | 5 => {
            link.upgrade().await?;
            let claim = claim(dice)?;
            Ok(link.send_bytes(&mutated(dice, &claim)).await?)
        }
        _ => {
            link.upgrade().await?;
            let key = random::key();
            timeout(Duration::from_secs(5), link.log_in(&key)).await??;
            for _ in 0..dice.below(6) {
                let frame = frame(dice);
                link.send_frames(&mutated(dice, &frame)).await?;
            }
            Ok(())
        }
    }
}

fn request(dice: &mut Dice) -> Vec<u8> {
    let request = *dice.pick(&REQUESTS);
    mutated(dice, request.as_bytes())
}

/// A login for a relay that nobody knows, or by a key that nobody has.
fn claim(dice: &mut Dice) -> Result<Vec<u8>> {
    let mut claim = Vec::new();
    let server = ServerIdentity::known(random::key().public());
    server.hello(
        &random::key(),
        &ClientInfo::plain(),
        random::bytes(),
        &mut claim,
    )?;
    let key = &mut claim[5..37];
    match dice.below(6) {
        0 => key.fill(0),
        // A point of low order.
        1 => {
            key.fill(0);
            key[0] = 1;
        }
        2 => key.fill(0xff),
        _ => {}
    }
    Ok(claim)
}

/// A frame of a client, by the rules or not.
fn frame(dice: &mut Dice) -> Vec<u8> {
    let mut out = Vec::new();
    let packet = dice_fill(dice, 300);
    let key = random::key().public();
    match dice.below(7) {
        0 => ClientFrame::Ping([dice.byte(); 8]).encode(&mut out),
        1 => ClientFrame::NotePreferred(true).encode(&mut out),
        2 => ClientFrame::WatchConns.encode(&mut out),
        3 => ClientFrame::ClosePeer(key).encode(&mut out),
        4 => ClientFrame::ForwardPacket {
            src: key,
            dst: key,
            packet: &packet,
        }
        .encode(&mut out),
        5 => ClientFrame::SendPacket {
            dst: key,
            packet: &packet,
        }
        .encode(&mut out),
        _ => {
            let len = *dice.pick(&[0, 1, 7, 31, 33, 1 << 16, 1 << 20, u32::MAX]);
            let ty = FrameType(dice.byte());
            out.extend_from_slice(&FrameHeader { ty, len }.to_bytes());
            out.extend_from_slice(&packet);
        }
    }
    out
}

/// Bits flipped, bytes doubled, pieces cut out; sometimes nothing.
fn mutated(dice: &mut Dice, bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..dice.below(4) {
        if out.is_empty() {
            break;
        }
        let at = dice.below(out.len());
        match dice.below(4) {
            0 => out[at] ^= 1 << dice.below(8),
            1 => out[at] = *dice.pick(&[0, 0xff, b'\r', b'\n', b' ', 0x80]),
            2 => out.truncate(at),
            _ => {
                let piece = out[at..].to_vec();
                out.extend_from_slice(&piece);
            }
        }
    }
    out
}

fn dice_fill(dice: &mut Dice, most: usize) -> Vec<u8> {
    let len = dice.below(most);
    dice.fill(len)
}
