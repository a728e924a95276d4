use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::*;

const HEADER_TIMEOUT: Duration = Duration::from_secs(3);

fn from(peer: &str) -> ConnMeta {
    let mut conn = ConnMeta::default();
    conn.socket_peer = peer.parse().ok();
    conn.is_unix = conn.socket_peer.is_none();
    conn
}

#[test]
fn the_other_ends_address_decides_and_nothing_else() {
    let some = ProxyProtocol::From(vec!["127.0.0.9/32".parse().unwrap()]);
    let cases = [
        (&ProxyProtocol::Off, "127.0.0.9:1", false),
        (&ProxyProtocol::Off, "unix", false),
        (&ProxyProtocol::FromAll, "192.0.2.1:1", true),
        (&ProxyProtocol::FromAll, "unix", true),
        (&some, "127.0.0.9:1", true),
        (&some, "[::ffff:127.0.0.9]:1", true),
        (&some, "127.0.0.1:1", false),
        (&some, "[::1]:1", false),
        (&some, "unix", true),
    ];
    for (policy, peer, expected) in cases {
        assert_eq!(
            policy.is_due(from(peer).socket_peer),
            expected,
            "{policy:?} {peer}"
        );
    }
}

#[test]
fn of_a_hundred_thousand_strangers_none_is_asked_for_a_header() {
    let policy = ProxyProtocol::From(vec![
        "10.0.0.0/8".parse().unwrap(),
        "fd00::/8".parse().unwrap(),
    ]);
    for n in 0..100_000u32 {
        let ip = match n % 2 {
            0 => IpAddr::from((0x0b00_0000 + n).to_be_bytes()),
            _ => IpAddr::from(((0x2001_0db8_u128 << 96) + u128::from(n)).to_be_bytes()),
        };
        let peer = Some(SocketAddr::new(ip, 1));
        assert!(!policy.is_due(peer), "{ip}");
    }
}

/// What a connection comes to that sends `bytes` and then nothing, and what is left in it.
async fn after(bytes: &[u8], ends: bool) -> (Result<(), ProxyHeaderError>, ConnMeta, Vec<u8>) {
    let (mut client, mut socket) = tokio::io::duplex(1024);
    client.write_all(bytes).await.unwrap();
    let client = (!ends).then_some(client);
    let mut conn = from("10.0.0.1:1");
    let counts = ProxyCounts::default();
    let result = receive(&mut socket, &mut conn, HEADER_TIMEOUT, &counts).await;
    let total: u64 = OUTCOMES.iter().map(|outcome| counts.get(outcome)).sum();
    assert_eq!(total, 1, "each connection is counted once");
    drop(client);
    let mut rest = Vec::new();
    socket.read_to_end(&mut rest).await.unwrap();
    (result, conn, rest)
}

#[tokio::test(start_paused = true)]
async fn a_header_is_taken_and_the_byte_behind_it_is_not() {
    let mut wire = b"PROXY TCP4 192.0.2.7 198.51.100.1 1000 443\r\n".to_vec();
    wire.extend_from_slice(b"\r\n\r\nPROXY UNKNOWN\r\n");
    let (result, conn, rest) = after(&wire, false).await;
    assert_eq!(result, Ok(()));
    assert_eq!(conn.client_addr(), "192.0.2.7:1000".parse().ok());
    assert_eq!(rest, b"\r\n\r\nPROXY UNKNOWN\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_client_without_an_address_does_not_get_the_proxys() {
    let (result, conn, _) = after(b"PROXY UNKNOWN\r\n", false).await;
    assert_eq!((result, conn.client_addr()), (Ok(()), None));
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    let (result, conn, _) = after(local, false).await;
    assert_eq!(result, Ok(()));
    assert_eq!(conn.client_addr(), "10.0.0.1:1".parse().ok());
}

#[tokio::test(start_paused = true)]
async fn who_sends_no_header_is_given_three_seconds() {
    for bytes in [&b""[..], b"PROXY", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"] {
        let just_less = HEADER_TIMEOUT.saturating_sub(Duration::from_millis(1));
        assert!(timeout(just_less, after(bytes, false)).await.is_err());
        let (result, conn, _) = timeout(HEADER_TIMEOUT, after(bytes, false)).await.unwrap();
        assert_eq!(result, Err(ProxyHeaderError::TooSlow));
        assert_eq!(conn, from("10.0.0.1:1"));
        assert_eq!(after(bytes, true).await.0, Err(ProxyHeaderError::Ended));
    }
    let (result, _, _) = after(b"GET / HTTP/1.1\r\n\r\n", false).await;
    assert_eq!(result, Err(ProxyHeaderError::Missing));
}
