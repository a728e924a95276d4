//! Datagrams that are no STUN requests, among some that are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use derp_stun::{BindingRequest, BindingResponse, TxId};
use tokio::time::Instant;

use crate::args::Cli;
use crate::random::Dice;
use crate::relay::Relay;
use crate::report::Report;
use crate::watch::Rest;

const ATTACKERS: u64 = 4;
/// Requests whose answers are looked at, once it is quiet again.
const REQUESTS: u64 = 500;
/// What may stay in memory, in bytes.
const MOST_DRIFT: u64 = 1 << 20;
/// How many datagrams an attacker sends before it is asked how many the relay has read.
const ROUND: u64 = 100_000;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What came back.
#[derive(Debug, Default)]
struct Answers {
    wrong: u64,
    /// The longest answer, in percent of the request.
    percent: u64,
}

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let port = cli.stun_port.context("--stun-port")?;
    let wanted: u64 = cli.scale(10_000_000, 200_000);
    let most_time = Duration::from_secs(cli.scale(480, 40));
    let before = handled(&relay).await?;
    let rest = Rest::of(&relay).await?;
    let (mut wrong, mut sent, mut read) = (0, 0, 0);
    let start = Instant::now();
    while read < wanted && start.elapsed() < most_time {
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|n| tokio::task::spawn_blocking(move || attack(port, ROUND, sent + n)))
            .collect();
        for attacker in attackers {
            wrong += attacker.await??;
        }
        sent += ATTACKERS * ROUND;
        read = match (handled(&relay).await?, before) {
            (Some(now), Some(before)) => now.saturating_sub(before),
            // A relay that does not tell has read what it was sent, as far as anybody knows.
            _ => sent,
        };
    }
    let v4 = ask(Ipv4Addr::LOCALHOST.into(), port)?;
    let v6 = ask(Ipv6Addr::LOCALHOST.into(), port)?;

    let mut report = Report::new(
        cli.times(),
        format!("{sent} datagrams, then {REQUESTS} requests over IPv4 and IPv6"),
    );
    report.speed(
        format!("{read} read"),
        format!("≥ {wanted}"),
        read >= wanted,
    );
    report.at_most("hostile ones answered", wrong, 0);
    report.at_most("wrong answers", v4.wrong + v6.wrong, 0);
    report.check(
        format!("IPv4 answer {} %", v4.percent),
        "≤ 100 %",
        v4.percent <= 100,
    );
    report.check(
        format!("IPv6 answer {} %", v6.percent),
        "≤ 110 %",
        v6.percent <= 110,
    );
    rest.check(&relay, &mut report, MOST_DRIFT).await?;
    Ok(report)
}

/// How many datagrams the relay has read, whatever they were; none where it does not tell.
async fn handled(relay: &Relay) -> Result<Option<u64>> {
    let metrics = relay.metrics().await?;
    let tells = metrics
        .count("stun_requests{disposition=\"not_stun\"}")
        .is_some();
    Ok(tells.then(|| metrics.sum("stun_requests", "")))
}

/// Sends what must not be answered; returns how often it was.
fn attack(port: u16, datagrams: u64, seed: u64) -> Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect((Ipv4Addr::LOCALHOST, port))?;
    let mut dice = Dice::new(seed);
    for _ in 0..datagrams {
        let datagram = hostile(&mut dice);
        // A full queue loses datagrams, as networks do.
        let _lost = socket.send(&datagram);
    }
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut answered = 0;
    let mut buffer = [0; 2048];
    while socket.recv(&mut buffer).is_ok() {
        answered += 1;
    }
    Ok(answered)
}

/// A datagram that is no request of a client. One changed bit of a request breaks its checksum.
fn hostile(dice: &mut Dice) -> Vec<u8> {
    let mut request = request(dice).1.to_vec();
    match dice.below(8) {
        0 => {
            let len = dice.below(1400);
            dice.fill(len)
        }
        // The header alone, as plain STUN has it: its answer would be longer than it.
        1 => {
            request.truncate(20);
            request[2..4].copy_from_slice(&[0, 0]);
            request
        }
        2 => {
            request.truncate(dice.below(40));
            request
        }
        3 => {
            let len = 1 + dice.below(100);
            request.extend(dice.fill(len));
            request
        }
        // A response, an indication, an error: answers to them would go to and fro for ever.
        4 => {
            let kind: [u8; 2] = *dice.pick(&[[1, 1], [0, 0x11], [1, 0x11]]);
            request[..2].copy_from_slice(&kind);
            let end = request.len() - 8;
            let fingerprint = derp_stun::fingerprint(&request[..end]);
            request[end + 4..].copy_from_slice(&fingerprint.to_be_bytes());
            request
        }
        _ => {
            for _ in 0..1 + 2 * dice.below(2) {
                let at = dice.below(request.len());
                let bit = 1 << dice.below(8);
                request[at] ^= bit;
            }
            if BindingRequest::parse(&request).is_ok() {
                // Bits were flipped back.
                request.clear();
            }
            request
        }
    }
}

/// A request that is to be answered.
pub(super) fn request(dice: &mut Dice) -> (TxId, [u8; 40]) {
    let mut id = [0; 12];
    id.copy_from_slice(&dice.fill(12));
    let txid = TxId::from_bytes(id);
    (txid, BindingRequest { txid }.encode())
}

/// Requests one after another, each of which is to be answered, and rightly.
fn ask(ip: IpAddr, port: u16) -> Result<Answers> {
    let socket = UdpSocket::bind((ip, 0))?;
    let relay = SocketAddr::new(ip, port);
    socket.set_read_timeout(Some(PATIENCE))?;
    let own = socket.local_addr()?;
    let mut dice = Dice::new(18);
    let mut answers = Answers::default();
    let mut buffer = [0; 2048];
    for _ in 0..REQUESTS {
        let (txid, request) = request(&mut dice);
        socket.send_to(&request, relay)?;
        let (len, from) = socket
            .recv_from(&mut buffer)
            .context("a request was not answered")?;
        ensure!(from == relay, "an answer from {from}");
        let right = BindingResponse { txid, mapped: own };
        let answer = BindingResponse::parse(&buffer[..len]);
        answers.wrong += u64::from(answer.ok() != Some(right));
        answers.percent = answers.percent.max(len as u64 * 100 / request.len() as u64);
    }
    Ok(answers)
}
