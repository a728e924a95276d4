//! PROXY headers from those who are no proxy, to a relay that reads none, or those of one proxy.
//! None may be believed, and all of the proxy's must be.
//!
//! Whether an address was believed is looked up where the relay itself keeps addresses: in its log,
//! and in what it tells its operators of its clients.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::args::Cli;
use crate::hello::client_hello;
use crate::link::Link;
use crate::random::{self, Dice};
use crate::relay::{Dial, PATIENCE, Relay};
use crate::report::Report;
use crate::watch::Rest;

use super::AT_A_TIME;

/// One stranger in so many goes on to a login, if it is let.
const LOGS_IN: u64 = 500;
/// How many connections come through the proxy.
const THROUGH_PROXY: u64 = 200;
/// How much memory may stay.
const MOST_DRIFT: u64 = 16 << 20;
/// The first byte of what a server answers a ClientHello with (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;
/// What begins a header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The networks of addresses that strangers claim (RFC 5737, RFC 3849).
const CLAIMED: Networks = Networks([198, 51, 100], 0xbad);
/// The networks of addresses that the proxy tells.
const TOLD: Networks = Networks([203, 0, 113], 0x900d);

/// The first bytes of IPv4 addresses, and the third group of IPv6 ones.
#[derive(Clone, Copy)]
struct Networks([u8; 3], u16);

struct Shared {
    relay: Relay,
    hello: Vec<u8>,
    proxy: Ipv4Addr,
    next: Arc<AtomicU64>,
    not_taken: AtomicU64,
    answered: AtomicU64,
}

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let log = cli.log.as_ref().context("--log")?;
    let admin = cli.admin_socket.as_ref().context("--admin-socket")?;
    let count = cli.scale(100_000, 5_000);
    let shared = Arc::new(Shared {
        relay: relay.clone(),
        hello: client_hello()?,
        // Where there is no proxy, nobody comes from here.
        proxy: cli.proxy.unwrap_or(Ipv4Addr::UNSPECIFIED),
        next: Arc::default(),
        not_taken: AtomicU64::new(0),
        answered: AtomicU64::new(0),
    });
    // What the relay makes once and keeps is not the attack's doing.
    attack(&shared, count / 10).await?;
    let rest = Rest::of(&relay).await?;
    let before = believed(&relay).await?;
    let admitted = attack(&shared, count).await?;
    let seen = addresses(admin).await?;
    let seen = seen.values().filter(|at| CLAIMED.contains(at)).count();
    drop(admitted);

    let scale = format!("{count} headers of strangers, {AT_A_TIME} at a time");
    let mut report = Report::new(cli.times(), scale);
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    report.at_most("connections not taken", load(&shared.not_taken), 0);
    report.at_most("answered", load(&shared.answered), 0);
    report.at_most("clients with a claimed address", seen as u64, 0);
    if let (Some(before), Some(after)) = (before, believed(&relay).await?) {
        report.at_most("counted as believed", after.saturating_sub(before), 0);
    }
    if cli.proxy.is_some() {
        let used = through_proxy(&shared, admin).await?;
        let figure = format!("the proxy's used {used} of {THROUGH_PROXY}");
        report.check(figure, "all", used == THROUGH_PROXY);
        // So it is known that the log would tell.
        let told = lines_with(log, TOLD)?;
        let figure = format!("lines with an address that the proxy told {told}");
        report.check(figure, format!("≥ {THROUGH_PROXY}"), told >= THROUGH_PROXY);
    }
    report.at_most("lines with a claimed address", lines_with(log, CLAIMED)?, 0);
    rest.check(&relay, &mut report, MOST_DRIFT).await?;
    Ok(report)
}

/// How many headers the relay says it has believed; none where it does not tell.
async fn believed(relay: &Relay) -> Result<Option<u64>> {
    let metrics = relay.metrics().await?;
    Ok(metrics.count("derper_proxy_headers{outcome=\"client\"}"))
}

/// Sends `count` headers. The clients that were admitted behind one.
async fn attack(shared: &Arc<Shared>, count: u64) -> Result<Vec<Link>> {
    let attackers = Arc::clone(shared);
    let ended = super::in_parallel(&shared.next, count, move |number| {
        let shared = Arc::clone(&attackers);
        async move { stranger(&shared, number).await }
    });
    let mut admitted = Vec::new();
    for one in ended.await? {
        match one {
            Ok(link) => admitted.extend(link),
            Err(_) => {
                shared.not_taken.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(admitted)
}

/// One connection with a header that nobody should believe; a client, if it became one.
///
/// # Errors
/// The relay did not even take the connection.
async fn stranger(shared: &Shared, number: u64) -> Result<Option<Link>> {
    let mut dice = Dice::new(number);
    let mut source = dice.loopback();
    while source == shared.proxy {
        source = dice.loopback();
    }
    let mut tcp = shared.relay.tcp(&Dial::from(source)).await?;
    let claimed = CLAIMED.address(number, dice.once_in(2));
    let header = header(&mut dice, claimed, true);
    if number.is_multiple_of(LOGS_IN) {
        let client = client(&shared.relay, tcp, &header).await.ok();
        let admitted = u64::from(client.is_some());
        shared.answered.fetch_add(admitted, Ordering::Relaxed);
        return Ok(client);
    }
    let mut first = [0];
    let bytes = [header.as_slice(), &shared.hello].concat();
    // It may be closed before all is sent, and that is an answer as well.
    let _closed = tcp.write_all(&bytes).await;
    let read = timeout(PATIENCE, tcp.read(&mut first)).await;
    let answered = matches!(read, Ok(Ok(1))) && first == [HANDSHAKE];
    shared
        .answered
        .fetch_add(answered.into(), Ordering::Relaxed);
    Ok(None)
}

/// Clients that come through the proxy, each with an address of its own: how many of them the
/// relay knows by the address that the proxy told.
async fn through_proxy(shared: &Shared, admin: &Path) -> Result<u64> {
    let mut links = Vec::new();
    let mut told = Vec::new();
    for number in 0..THROUGH_PROXY {
        let mut dice = Dice::new(number);
        let tcp = shared.relay.tcp(&Dial::from(shared.proxy)).await?;
        let address = TOLD.address(number, dice.once_in(2));
        let header = header(&mut dice, address, false);
        let key = random::key();
        let link = shared.relay.connect_through(tcp, &header).await;
        let Ok(mut link) = link else { continue };
        if link.upgrade().await.is_ok() && log_in(&mut link, &key).await.is_ok() {
            links.push(link);
            told.push((key.public().to_string(), address.to_string()));
        }
    }
    let seen = addresses(admin).await?;
    let is_used = |(key, address): &&(String, String)| seen.get(key) == Some(address);
    Ok(told.iter().filter(is_used).count() as u64)
}

/// A client whose connection begins with `header`.
async fn client(relay: &Relay, tcp: TcpStream, header: &[u8]) -> Result<Link> {
    let mut link = relay.connect_through(tcp, header).await?;
    link.upgrade().await?;
    log_in(&mut link, &random::key()).await?;
    Ok(link)
}

async fn log_in(link: &mut Link, key: &derp_proto::NodePrivate) -> Result<()> {
    timeout(PATIENCE, link.log_in(key)).await.context("login")?
}

/// What the relay tells its operators: the clients' keys, and where each comes from.
async fn addresses(admin: &Path) -> Result<BTreeMap<String, String>> {
    let mut link = Link::new(Box::new(UnixStream::connect(admin).await?));
    let status = timeout(Duration::from_secs(10), link.get("/status")).await??;
    let status: Value = serde_json::from_str(&status).context("/status")?;
    let clients = status["clients"].as_array().context("no clients")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(clients
        .iter()
        .map(|client| (text(&client["key"]), text(&client["address"])))
        .collect())
}

/// How many lines of the log name an address of these networks.
fn lines_with(log: &Path, networks: Networks) -> Result<u64> {
    let mut count = 0;
    for line in BufReader::new(File::open(log)?).split(b'\n') {
        count += u64::from(networks.contains(&String::from_utf8_lossy(&line?)));
    }
    Ok(count)
}

impl Networks {
    /// One of the addresses, with a port.
    fn address(self, number: u64, is_six: bool) -> SocketAddr {
        let Self([a, b, c], group) = self;
        let [.., high, low] = number.to_be_bytes();
        let port = 1024 + u16::from_be_bytes([high, low]) % 60_000;
        if is_six {
            // A network of its own for each: relays count connections by networks.
            let ip = [
                0x2001,
                0xdb8,
                group,
                u16::from_be_bytes([high, low]),
                0,
                0,
                0,
                1,
            ];
            SocketAddrV6::new(ip.into(), port, 0, 0).into()
        } else {
            (Ipv4Addr::new(a, b, c, low.max(1)), port).into()
        }
    }

    /// Whether a text names one of the addresses.
    fn contains(self, text: &str) -> bool {
        let Self([a, b, c], group) = self;
        text.contains(&format!("{a}.{b}.{c}.")) || text.contains(&format!("2001:db8:{group:x}:"))
    }
}

/// A good header of either version that says `address`, perhaps with more in it. A stranger's
/// may also say that there is no address.
fn header(dice: &mut Dice, address: SocketAddr, may_hide: bool) -> Vec<u8> {
    match dice.below(if may_hide { 8 } else { 6 }) {
        0..3 => line(address),
        3 => binary(0x21, address, &[]),
        4 => binary(0x21, address, b"\x02\0\x0bexample.com"),
        5 => {
            let len = u16::try_from(dice.below(200)).unwrap_or_default();
            let mut tlv = vec![0xe0];
            tlv.extend_from_slice(&len.to_be_bytes());
            tlv.extend(dice.fill(len.into()));
            binary(0x21, address, &tlv)
        }
        6 => binary(0x20, address, &[]),
        _ => b"PROXY UNKNOWN\r\n".to_vec(),
    }
}

/// Version 1.
fn line(address: SocketAddr) -> Vec<u8> {
    let (ip, port) = (address.ip(), address.port());
    let text = if address.is_ipv4() {
        format!("PROXY TCP4 {ip} 192.0.2.2 {port} 443\r\n")
    } else {
        format!("PROXY TCP6 {ip} 2001:db8::2 {port} 443\r\n")
    };
    text.into_bytes()
}

/// Version 2; `command` is 0x21 for a client's connection and 0x20 for the proxy's own.
fn binary(command: u8, address: SocketAddr, tlvs: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    let family = match address {
        SocketAddr::V4(from) => {
            body.extend_from_slice(&from.ip().octets());
            body.extend_from_slice(&[192, 0, 2, 2]);
            0x11
        }
        SocketAddr::V6(from) => {
            body.extend_from_slice(&from.ip().octets());
            body.extend_from_slice(&from.ip().octets());
            0x21
        }
    };
    body.extend_from_slice(&address.port().to_be_bytes());
    body.extend_from_slice(&443_u16.to_be_bytes());
    body.extend_from_slice(tlvs);
    let mut header = SIGNATURE.to_vec();
    header.extend_from_slice(&[command, family]);
    header.extend_from_slice(&u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    header.extend(body);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_claimed_is_found_in_a_log_and_what_the_proxy_tells_is_not() {
        for is_six in [false, true] {
            let line = format!("client logged in addr=Some({})", CLAIMED.address(7, is_six));
            assert!(CLAIMED.contains(&line), "{line}");
            assert!(!TOLD.contains(&line), "{line}");
        }
    }

    #[test]
    fn headers_say_their_address_in_both_versions() {
        let address = "203.0.113.9:1033".parse().unwrap();
        assert_eq!(
            line(address),
            b"PROXY TCP4 203.0.113.9 192.0.2.2 1033 443\r\n"
        );
        let wanted = [
            SIGNATURE.as_slice(),
            &[
                0x21, 0x11, 0, 15, 203, 0, 113, 9, 192, 0, 2, 2, 4, 9, 1, 0xbb,
            ],
            &[4, 0, 0],
        ];
        assert_eq!(binary(0x21, address, &[4, 0, 0]), wanted.concat());
    }
}
