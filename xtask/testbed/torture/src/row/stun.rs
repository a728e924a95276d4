//! Datagrams that are no STUN requests, among some that are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use derp_stun::{BindingRequest, BindingResponse, TxId};

use crate::args::Cli;
use crate::random::Dice;
use crate::report::Report;
use crate::watch::Rest;

const ATTACKERS: u64 = 4;
/// Requests whose answers are looked at, once it is quiet again.
const REQUESTS: u64 = 500;
/// What may stay in memory, in bytes.
const MOST_DRIFT: u64 = 1 << 20;
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
    let datagrams: u64 = cli.scale(10_000_000, 400_000);
    let rest = Rest::of(&relay).await?;
    let attackers: Vec<_> = (0..ATTACKERS)
        .map(|seed| tokio::task::spawn_blocking(move || attack(port, datagrams / ATTACKERS, seed)))
        .collect();
    let mut wrong = 0;
    for attacker in attackers {
        wrong += attacker.await??;
    }
    let v4 = ask(Ipv4Addr::LOCALHOST.into(), port)?;
    let v6 = ask(Ipv6Addr::LOCALHOST.into(), port)?;

    let mut report = Report::new(
        cli.quick,
        format!("{datagrams} datagrams, then {REQUESTS} requests over IPv4 and IPv6"),
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

fn request(dice: &mut Dice) -> (TxId, [u8; 40]) {
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
