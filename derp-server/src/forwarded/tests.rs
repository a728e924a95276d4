use super::*;

fn trusted(header: ForwardedHeader) -> TrustedProxies {
    TrustedProxies {
        networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
        on_unix_sockets: false,
        header,
    }
}

fn from(peer: &str) -> ConnMeta {
    let mut conn = ConnMeta::default();
    conn.socket_peer = peer.parse().ok();
    conn
}

/// Where a request with this head comes from that the other end `peer` sends: as the first of
/// its connection, and as a later one.
fn client(trusted: &TrustedProxies, peer: &str, headers: &str) -> Option<IpAddr> {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
    let mut first = from(peer);
    trusted.note_head(head.as_bytes(), &mut first);
    let mut request = http::Request::new(());
    for line in headers.lines() {
        let (name, value) = line.split_once(':').unwrap();
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        let value = http::HeaderValue::from_str(value.trim()).unwrap();
        request.headers_mut().append(name, value);
    }
    let later = trusted.conn_of(&request, &from(peer));
    assert_eq!(first, later, "{headers:?}");
    first.client_addr().map(|addr| addr.ip())
}

#[test]
fn the_rightmost_address_that_is_no_proxys_is_the_clients() {
    let proxies = trusted(ForwardedHeader::XForwardedFor);
    let cases = [
        ("", Some("10.0.0.1")),
        ("X-Forwarded-For: 192.0.2.7\r\n", Some("192.0.2.7")),
        (
            "x-forwarded-for: 127.0.0.1, 192.0.2.7\r\n",
            Some("192.0.2.7"),
        ),
        (
            "X-Forwarded-For: 127.0.0.1, 192.0.2.7, 10.3.3.3\r\n",
            Some("192.0.2.7"),
        ),
        (
            "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 10.3.3.3\r\n",
            Some("192.0.2.7"),
        ),
        (
            "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.7\r\n",
            Some("192.0.2.7"),
        ),
        ("X-Forwarded-For: 10.9.9.9, 10.3.3.3\r\n", Some("10.9.9.9")),
        ("X-Forwarded-For: 192.0.2.7:5555\r\n", Some("192.0.2.7")),
        ("X-Forwarded-For: 2001:db8::7\r\n", Some("2001:db8::7")),
        ("X-Forwarded-For: [2001:db8::7]:55\r\n", Some("2001:db8::7")),
        ("X-Forwarded-For: ::ffff:192.0.2.7\r\n", Some("192.0.2.7")),
        ("X-Forwarded-For: 127.0.0.1, unknown\r\n", None),
        ("X-Forwarded-For: 127.0.0.1, unknown, 10.3.3.3\r\n", None),
        ("X-Forwarded-For: unknown, 192.0.2.7\r\n", Some("192.0.2.7")),
        ("X-Forwarded-For: ,\r\n", Some("10.0.0.1")),
        // Headers that this proxy does not set are the client's.
        (
            "X-Real-IP: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\n",
            Some("10.0.0.1"),
        ),
    ];
    for (headers, expected) in cases {
        let expected = expected.map(|ip| ip.parse().unwrap());
        assert_eq!(
            client(&proxies, "10.0.0.1:1", headers),
            expected,
            "{headers:?}"
        );
        assert_eq!(
            client(&proxies, "192.0.2.200:1", headers),
            "192.0.2.200".parse().ok(),
            "a stranger is not believed: {headers:?}"
        );
    }
}

#[test]
fn each_header_has_its_own_form() {
    let real = trusted(ForwardedHeader::XRealIp);
    let forwarded = trusted(ForwardedHeader::Forwarded);
    let cases = [
        (
            &real,
            "X-Real-IP: 192.0.2.7\r\nX-Forwarded-For: 127.0.0.1\r\n",
            Some("192.0.2.7"),
        ),
        (
            &real,
            "X-Real-IP: 192.0.2.7\r\nX-Real-IP: 127.0.0.1\r\n",
            None,
        ),
        (&real, "X-Real-IP: 192.0.2.7, 127.0.0.1\r\n", None),
        (
            &forwarded,
            "Forwarded: for=192.0.2.7\r\n",
            Some("192.0.2.7"),
        ),
        (
            &forwarded,
            "Forwarded: for=127.0.0.1, For=\"[2001:db8::7]:47\";proto=https;by=10.0.0.1, \
             for=10.3.3.3\r\n",
            Some("2001:db8::7"),
        ),
        (
            &forwarded,
            "Forwarded: proto=https; for=192.0.2.7\r\n",
            Some("192.0.2.7"),
        ),
        (&forwarded, "Forwarded: for=unknown\r\n", None),
        (&forwarded, "Forwarded: for=_hidden, for=10.3.3.3\r\n", None),
        (&forwarded, "Forwarded: proto=https\r\n", None),
        (
            &forwarded,
            "Forwarded: for=192.0.2.7;for=127.0.0.1\r\n",
            None,
        ),
        (&forwarded, "Forwarded: for=\"192.0.2.7\r\n", None),
    ];
    for (proxies, headers, expected) in cases {
        let expected = expected.map(|ip| ip.parse().unwrap());
        assert_eq!(
            client(proxies, "10.0.0.1:1", headers),
            expected,
            "{headers:?}"
        );
    }
}

#[test]
fn behind_a_unix_socket_everybody_is_a_proxy_or_nobody() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n";
    for on_unix_sockets in [false, true] {
        let mut proxies = trusted(ForwardedHeader::XForwardedFor);
        proxies.on_unix_sockets = on_unix_sockets;
        let mut conn = ConnMeta::default();
        conn.is_unix = true;
        proxies.note_head(head, &mut conn);
        assert_eq!(conn.header_peer.is_some(), on_unix_sockets);
        // A connection whose address nobody knows is not one of them.
        let mut conn = ConnMeta::default();
        proxies.note_head(head, &mut conn);
        assert_eq!(conn.header_peer, None);
    }
}
