//! How much of what was sent over a TCP connection has come to its other end, as the kernel counts
//! it.
//!
//! The kernel takes bytes for a full connection only once there is room for many, so that a send
//! does not tell a client that takes little from one that takes nothing. This does, and it also
//! counts what came behind something that was lost on the way. It is asked of
//! `sock_diag(7)` and not of the descriptor, for which there is no safe call; and it is asked
//! seldom: of connections alone that have taken nothing for a while.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};
use rustix::net::{getpeername, getsockname};

/// Where `struct tcp_info` has `tcpi_delivered` (`linux/tcp.h`, since 4.18).
const DELIVERED_AT: usize = 192;
/// `INET_DIAG_NOCOOKIE` of `linux/inet_diag.h`, twice.
const ANY_COOKIE: [u8; 8] = [0xff; 8];

/// How many segments that were sent over `socket` have come to its other end, modulo 2^32. `None`
/// where it is no connection of TCP, or the kernel does not say.
pub(crate) fn segments_of(socket: &OwnedFd) -> Option<u32> {
    let local = SocketAddr::try_from(getsockname(socket).ok()?).ok()?;
    let remote = SocketAddr::try_from(getpeername(socket).ok()??).ok()?;
    let answer = ask(question(local, remote)).ok()?;
    let message = NetlinkMessage::<SockDiagMessage>::deserialize(&answer).ok()?;
    let NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(known)) = message.payload else {
        return None;
    };
    known.nlas.iter().find_map(|nla| match nla {
        Nla::TcpInfo(info) => {
            let segments = info.get(DELIVERED_AT..DELIVERED_AT + 4)?;
            segments.try_into().ok().map(u32::from_ne_bytes)
        }
        _ => None,
    })
}

/// The question for one connection, in whatever state.
fn question(local: SocketAddr, remote: SocketAddr) -> InetRequest {
    let ips = (local.ip().to_canonical(), remote.ip().to_canonical());
    let (family, mut socket_id) = match ips {
        (IpAddr::V4(_), IpAddr::V4(_)) => (AF_INET, SocketId::new_v4()),
        _ => (AF_INET6, SocketId::new_v6()),
    };
    (socket_id.source_address, socket_id.destination_address) = ips;
    (socket_id.source_port, socket_id.destination_port) = (local.port(), remote.port());
    if let SocketAddr::V6(remote) = remote {
        socket_id.interface_id = remote.scope_id();
    }
    socket_id.cookie = ANY_COOKIE;
    InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO,
        states: StateFlags::all(),
        socket_id,
    }
}

fn ask(question: InetRequest) -> io::Result<Vec<u8>> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(question).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    // The kernel has answered when it has taken the question, and is not waited for.
    socket.set_non_blocking(true)?;
    socket.send_to(&bytes, &NetlinkAddr::new(0, 0), 0)?;
    let mut answer = Vec::with_capacity(2048);
    socket.recv(&mut answer, 0)?;
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
