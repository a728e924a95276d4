//! How much of what was sent over a TCP connection has come to its other end, as the kernel counts
//! it.
//!
//! The kernel takes bytes for a full connection only once there is room for many, so that a send
//! does not tell a client that takes little from one that takes nothing. This does, and it also
//! counts what came behind something that was lost on the way. It is asked of
//! `sock_diag(7)` and not of the descriptor, for which there is no safe call; and it is asked
//! seldom: of connections alone that have taken nothing for a while.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, getpeername, getsockname, recv,
    sendto, socket_with,
};

/// `SOCK_DIAG_BY_FAMILY` of `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` of `linux/netlink.h`.
const REQUEST: u16 = 1;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// `INET_DIAG_INFO` of `linux/inet_diag.h`, as an attribute and as a wish for it.
const INFO: u16 = 2;
const WITH_INFO: u8 = 1 << (INFO - 1);
/// Of `struct nlmsghdr`, and of `struct inet_diag_req_v2` behind it.
const REQUEST_LEN: usize = 16 + 56;
/// Where attributes begin in the answer: behind `struct nlmsghdr` and `struct inet_diag_msg`.
const ATTRIBUTES_AT: usize = 16 + 72;
/// Where `struct tcp_info` has `tcpi_delivered` (`linux/tcp.h`, since 4.18).
const DELIVERED_AT: usize = 192;

/// How many segments that were sent over `socket` have come to its other end, modulo 2^32. `None`
/// where it is no connection of TCP, or the kernel does not say.
pub(crate) fn segments_of(socket: &OwnedFd) -> Option<u32> {
    let local = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
    let remote = SocketAddr::try_from(getpeername(socket).ok()??).ok()?;
    let answer = ask(&request(local, remote)).ok()?;
    let ty = answer.get(4..6)?;
    if ty != BY_FAMILY.to_ne_bytes() {
        return None;
    }
    let tcp_info = attribute(answer.get(ATTRIBUTES_AT..)?)?;
    let segments = tcp_info.get(DELIVERED_AT..DELIVERED_AT + 4)?;
    segments.try_into().ok().map(u32::from_ne_bytes)
}

/// What the attribute [`INFO`] has among `attributes`.
fn attribute(mut attributes: &[u8]) -> Option<&[u8]> {
    loop {
        let &[a, b, c, d] = attributes.first_chunk()?;
        let len = usize::from(u16::from_ne_bytes([a, b]));
        if u16::from_ne_bytes([c, d]) == INFO {
            return attributes.get(4..len);
        }
        // They begin at multiples of four bytes, and none is shorter than its head.
        attributes = attributes.get(len.max(4).next_multiple_of(4)..)?;
    }
}

/// The question for one connection.
fn request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    let family = match (local.ip().to_canonical(), remote.ip().to_canonical()) {
        (IpAddr::V4(_), IpAddr::V4(_)) => AddressFamily::INET,
        _ => AddressFamily::INET6,
    };
    let family = u8::try_from(family.as_raw()).expect("families have small numbers");
    let scope = match remote {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(remote) => remote.scope_id(),
    };
    let len = u32::try_from(REQUEST_LEN).expect("it is short");
    let mut request = Vec::with_capacity(REQUEST_LEN);
    request.extend(len.to_ne_bytes());
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend(REQUEST.to_ne_bytes());
    // Neither a number of the question nor of who asks it.
    request.extend([0; 8]);
    request.extend([family, TCP, WITH_INFO, 0]);
    // In any state.
    request.extend(u32::MAX.to_ne_bytes());
    request.extend(local.port().to_be_bytes());
    request.extend(remote.port().to_be_bytes());
    request.extend(sixteen_bytes(local));
    request.extend(sixteen_bytes(remote));
    request.extend(scope.to_ne_bytes());
    // `INET_DIAG_NOCOOKIE`, twice.
    request.extend([0xff; 8]);
    request
}

/// An address as it stands there: one of IPv4 has the first four bytes.
fn sixteen_bytes(address: SocketAddr) -> [u8; 16] {
    match address.ip().to_canonical() {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
    }
}

fn ask(request: &[u8]) -> io::Result<Vec<u8>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(netlink::SOCK_DIAG),
    )?;
    let kernel = SocketAddrNetlink::new(0, 0);
    sendto(&socket, request, SendFlags::empty(), &kernel)?;
    // The kernel has answered when it has taken the question.
    let mut answer = vec![0; 2048];
    let (len, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    answer.truncate(len);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_comes_to_the_other_end_is_counted() {
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            let to = match address {
                "[::1]:0" => SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)),
                _ => SocketAddr::from(([127, 0, 0, 1], port)),
            };
            let mut client = TcpStream::connect(to).unwrap();
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_nonblocking(true).unwrap();
            let mut sent = 0;
            while let Ok(n) = socket.write(&[0; 65_536]) {
                sent += n;
            }
            let fd = OwnedFd::from(socket);
            let full = segments_of(&fd).unwrap();
            assert!(full > 0);
            // What was sent is more than what came: as it is read, more comes.
            let mut buf = vec![0; 1 << 16];
            while segments_of(&fd).unwrap() == full {
                sent -= client.read(&mut buf[..sent.min(1 << 16)]).unwrap();
            }
        }
    }

    #[test]
    fn what_is_no_connection_of_tcp_has_no_such_number() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(segments_of(&ours.into()), None);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(segments_of(&listener.into()), None);
    }
}
