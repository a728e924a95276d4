//! The PROXY header in front of a connection.

use crate::proxy_protocol::{Header, MAX_V1_LEN, MAX_V2_LEN, Progress, ProxyHeaderError, read};

/// A connection's first bytes, which come in pieces.
///
/// The first two bytes are the sizes of the pieces, in turn, less one; the rest is the stream.
/// However it comes, the same is read, and no byte of what stands behind the header.
pub fn proxy_header(data: &[u8]) {
    let Some((&[one, other], wire)) = data.split_first_chunk() else {
        return;
    };
    let whole = receive(wire, [usize::MAX; 2]);
    let sizes = [one, other].map(|size| usize::from(size) + 1);
    let in_pieces = receive(wire, sizes);
    let (taken, result) = whole;
    assert_eq!(in_pieces.1, result, "in pieces it is another");
    // How much of what is no header was read does not matter: the connection ends.
    if let Some(Ok(_)) = result {
        assert_eq!(in_pieces.0, taken, "in pieces it ends elsewhere");
    }
    let head = &wire[..taken];
    let is_v1 = head.starts_with(b"PROXY ");
    match result {
        // The stream ended first.
        None => assert_eq!(taken, wire.len()),
        Some(Err(ProxyHeaderError::Missing)) => {
            let start = &wire[..wire.len().min(12)];
            assert!(!b"\r\n\r\n\0\r\nQUIT\n".starts_with(start) && !start.starts_with(b"PROXY "));
        }
        Some(Err(_)) => {}
        Some(Ok(header)) => {
            if is_v1 {
                let end = wire.windows(2).position(|two| two == b"\r\n");
                assert_eq!(end, Some(taken - 2), "the line ends with the header");
            } else {
                let len = u16::from_be_bytes([head[14], head[15]]);
                assert_eq!(taken, 16 + usize::from(len));
            }
            check(head, header, is_v1);
        }
    }
}

/// Reads as a connection is read: at most as much as is asked for, and in pieces of these sizes.
fn receive(wire: &[u8], sizes: [usize; 2]) -> (usize, Option<Result<Header, ProxyHeaderError>>) {
    let (mut len, mut turn) = (0, 0);
    loop {
        match read(&wire[..len]) {
            Err(error) => return (len, Some(Err(error))),
            Ok(Progress::Complete(header)) => return (len, Some(Ok(header))),
            Ok(Progress::Needs(more)) => {
                assert!(more > 0, "a read of nothing");
                let most = match wire[..len].first() {
                    Some(b'P') => MAX_V1_LEN,
                    _ => MAX_V2_LEN,
                };
                assert!(len + more <= most, "a header of {}", len + more);
                if len == wire.len() {
                    return (len, None);
                }
                len += more.min(sizes[turn]).min(wire.len() - len);
                turn = 1 - turn;
            }
        }
    }
}

/// Looks up what is claimed where it stands.
fn check(head: &[u8], header: Header, is_v1: bool) {
    match header {
        Header::Local => assert!(!is_v1 && head[12] == 0x20),
        Header::Unknown => {
            assert!(head.starts_with(b"PROXY UNKNOWN") || head.get(12) == Some(&0x21));
        }
        Header::Client(addr) => {
            assert_eq!(addr.ip(), addr.ip().to_canonical(), "IPv4 in IPv6 form");
            if is_v1 {
                let line = std::str::from_utf8(head).expect("addresses are text");
                let words: Vec<_> = line.split_whitespace().collect();
                assert_eq!(words.len(), 6, "{line}");
                let ip: std::net::IpAddr = words[2].parse().expect("it was read");
                assert_eq!(
                    (ip.to_canonical(), words[4].parse()),
                    (addr.ip(), Ok(addr.port()))
                );
            } else {
                assert!(head[12] == 0x21 && matches!(head[13], 0x11 | 0x21));
                let port_at = if head[13] == 0x11 { 24 } else { 48 };
                let port = u16::from_be_bytes([head[port_at], head[port_at + 1]]);
                assert_eq!(port, addr.port());
            }
        }
    }
}
