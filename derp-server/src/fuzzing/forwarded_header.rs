//! The header by which a proxy that ends TLS tells its client's address.

use std::net::IpAddr;

use derp_verify::ConnMeta;

use crate::forwarded::{ForwardedHeader, TrustedProxies};
use crate::network::contains;

/// The value of a trusted proxy's header.
///
/// The first byte chooses the header. What a client wrote to the left of its own address changes
/// nothing, nor do further trusted proxies to the right of it; and where the address cannot be
/// known, the proxy's does not stand for it.
pub fn forwarded_header(data: &[u8]) {
    let Some((&kind, value)) = data.split_first() else {
        return;
    };
    let (header, name, hop) = match kind % 3 {
        0 => (
            ForwardedHeader::XForwardedFor,
            "X-Forwarded-For",
            "10.0.0.1",
        ),
        1 => (ForwardedHeader::Forwarded, "Forwarded", "for=10.0.0.1"),
        _ => (ForwardedHeader::XRealIp, "X-Real-IP", "10.0.0.1"),
    };
    let trusted = TrustedProxies {
        networks: vec!["10.0.0.0/8".parse().expect("a network")],
        header,
        ..TrustedProxies::default()
    };
    // A value is one line.
    let value: Vec<u8> = value
        .iter()
        .map(|&byte| {
            if byte < b' ' || byte == 0x7f {
                b' '
            } else {
                byte
            }
        })
        .collect();
    let seen = seen(&trusted, name, &value);
    if header == ForwardedHeader::XRealIp {
        return;
    }
    let Seen::Client(ip) = seen else { return };
    let in_front = [b"192.0.2.1, nonsense,", &value[..]].concat();
    if !contains(&trusted.networks, ip) {
        assert_eq!(
            self::seen(&trusted, name, &in_front),
            seen,
            "its own claim counts"
        );
    }
    let behind = [&value[..], b", ", hop.as_bytes()].concat();
    assert_eq!(
        self::seen(&trusted, name, &behind),
        seen,
        "a proxy's hop counts"
    );
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Proxy,
    Client(IpAddr),
    Nobody,
}

fn seen(trusted: &TrustedProxies, name: &str, value: &[u8]) -> Seen {
    let mut conn = ConnMeta::default();
    conn.socket_peer = "10.0.0.9:1".parse().ok();
    let head = [
        b"GET /derp HTTP/1.1\r\n",
        name.as_bytes(),
        b": ",
        value,
        b"\r\n\r\n",
    ];
    trusted.note_head(&head.concat(), &mut conn);
    match (conn.header_peer, conn.socket_peer) {
        (Some(ip), Some(_)) => {
            assert_eq!(ip, ip.to_canonical(), "IPv4 in IPv6 form");
            Seen::Client(ip)
        }
        (None, Some(_)) => Seen::Proxy,
        (None, None) => Seen::Nobody,
        (Some(ip), None) => panic!("{ip}, and from nowhere"),
    }
}
