//! How long packets of TCP connections take there and back, as the kernel estimates it.
//!
//! The kernel is asked once for all connections of a port (`sock_diag(7)`), not for each of them
//! by its descriptor: that needs no timer and no memory for each client.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddr};

/// What the kernel answers at a time, at most (`inet_diag(7)`, `NLMSG_GOODSIZE` and more).
const ANSWER: usize = 64 << 10;
/// Where `struct tcp_info` has `tcpi_rtt`, in microseconds (`linux/tcp.h`). The structure grows
/// at its end from version to version.
const RTT_AT: usize = 68;

/// An established connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RoundTrip {
    /// The other end. IPv4 addresses are never in IPv6 form.
    pub(crate) remote: SocketAddr,
    /// How long it takes there and back, smoothed.
    pub(crate) time: Duration,
}

/// The established connections that came to a listener at `address`.
///
/// # Errors
/// The kernel has no such diagnosis, or the process may not ask.
pub(crate) fn of_listener(address: SocketAddr) -> io::Result<Vec<RoundTrip>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    let mut found = Vec::new();
    // A listener of IPv6 takes IPv4 too, and the kernel knows such connections as IPv6.
    for (family, socket_id) in [
        (AF_INET, SocketId::new_v4()),
        (AF_INET6, SocketId::new_v6()),
    ] {
        if family == AF_INET6 && address.is_ipv4() {
            continue;
        }
        ask(&socket, family, socket_id, address.port())?;
        collect(&socket, address, &mut found)?;
    }
    Ok(found)
}

fn ask(socket: &Socket, family: u8, mut socket_id: SocketId, port: u16) -> io::Result<()> {
    socket_id.source_port = port;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let request = InetRequest {
        family,
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::INFO,
        states: StateFlags::ESTABLISHED,
        socket_id,
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).map(drop)
}

/// Reads the answer to its end.
fn collect(socket: &Socket, listener: SocketAddr, found: &mut Vec<RoundTrip>) -> io::Result<()> {
    let mut buf = vec![0; ANSWER];
    loop {
        let len = socket.recv(&mut &mut buf[..], 0)?;
        let mut rest = buf.get(..len).unwrap_or(&[]);
        while !rest.is_empty() {
            let message =
                NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(socket)) => {
                    let id = &socket.header.socket_id;
                    let is_ours = id.source_port == listener.port()
                        && is_listener(listener.ip(), id.source_address);
                    let time = socket.nlas.iter().find_map(|nla| match nla {
                        Nla::TcpInfo(info) => round_trip(info),
                        _ => None,
                    });
                    if let (true, Some(time)) = (is_ours, time) {
                        let ip = id.destination_address.to_canonical();
                        let remote = SocketAddr::new(ip, id.destination_port);
                        found.push(RoundTrip { remote, time });
                    }
                }
                _ => {}
            }
            let len = message.header.length as usize;
            // Messages begin at multiples of four bytes.
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        }
    }
}

/// Whether a connection with this local address came to a listener with that one: another program
/// may have the same port at another address.
fn is_listener(listener: IpAddr, local: IpAddr) -> bool {
    listener.is_unspecified() || listener.to_canonical() == local.to_canonical()
}

fn round_trip(tcp_info: &[u8]) -> Option<Duration> {
    let rtt = tcp_info.get(RTT_AT..RTT_AT + 4)?;
    let micros = u32::from_ne_bytes(rtt.try_into().expect("it has four bytes"));
    Some(Duration::from_micros(micros.into()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn connections_to_a_listener_are_found_by_their_other_end() {
        for address in ["127.0.0.1:0", "[::]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            assert_eq!(of_listener(address).unwrap(), [], "{address}");
            let to = SocketAddr::from(([127, 0, 0, 1], address.port()));
            let clients: Vec<_> = (0..300)
                .map(|_| {
                    let client = TcpStream::connect(to).unwrap();
                    let (accepted, _) = listener.accept().unwrap();
                    (client, accepted)
                })
                .collect();
            let mut found = of_listener(address).unwrap();
            found.sort_by_key(|it| it.remote);
            let mut expected: Vec<_> = clients
                .iter()
                .map(|(client, _)| client.local_addr().unwrap())
                .collect();
            expected.sort();
            let remotes: Vec<_> = found.iter().map(|it| it.remote).collect();
            assert_eq!(remotes, expected, "{address}");
            let slowest = found.iter().map(|it| it.time).max().unwrap();
            assert!(slowest > Duration::ZERO && slowest < Duration::from_secs(1));
        }
    }

    #[test]
    fn another_address_with_the_same_port_is_another_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let _accepted = listener.accept().unwrap();
        let other = SocketAddr::from(([127, 0, 0, 2], address.port()));
        assert_eq!(of_listener(other).unwrap(), []);
        assert_eq!(of_listener(address).unwrap().len(), 1);
    }
}
