//! Datagrams in batches, with the address each was sent to.
//!
//! A relay with several addresses must answer from the one that was asked: clients behind NAT
//! get no answer that comes from elsewhere. The destination address and `recvmmsg` come from
//! `quinn-udp`; readiness comes from tokio. What the datagrams mean is not known here.

use std::{
    array,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

/// Where datagrams come from and answers go to: the real socket, or a test's script.
pub(crate) trait Datagrams {
    /// Waits for datagrams and replaces the content of `batch` with them.
    ///
    /// Dropping the future loses nothing.
    async fn receive(&self, batch: &mut Batch) -> io::Result<()>;

    /// Sends `answer`, waiting while the socket's buffer is full.
    ///
    /// Dropping the future loses this answer.
    async fn send(&self, answer: Answer<'_>) -> io::Result<()>;
}

/// A datagram and its way here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Datagram<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) from: SocketAddr,
    /// The address of ours that it was sent to, if the system told and it can send.
    pub(crate) asked: Option<IpAddr>,
}

/// A datagram to be sent back by the way that another one came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) to: SocketAddr,
    pub(crate) from: Option<IpAddr>,
}

/// A UDP socket that tells which of the machine's addresses was asked.
#[derive(Debug)]
pub(crate) struct BatchSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    local_addr: SocketAddr,
}

impl BatchSocket {
    /// Binds `addr`. The wildcard `[::]` takes IPv4 as well, whatever the system's default is.
    pub(crate) fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&addr.into())?;
        Self::from_std(socket.into())
    }

    /// Takes a bound socket over; its blocking mode does not matter.
    pub(crate) fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        let local_addr = socket.local_addr()?;
        let socket = UdpSocket::from_std(socket)?;
        Ok(Self {
            socket,
            state,
            local_addr,
        })
    }

    /// The bound address, with the port that the system chose if it was asked to.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

impl Datagrams for BatchSocket {
    async fn receive(&self, batch: &mut Batch) -> io::Result<()> {
        self.socket
            .async_io(Interest::READABLE, || {
                batch.fill(|buffers, meta| self.state.recv((&self.socket).into(), buffers, meta))
            })
            .await
    }

    async fn send(&self, answer: Answer<'_>) -> io::Result<()> {
        let transmit = Transmit {
            destination: answer.to,
            ecn: None,
            contents: answer.bytes,
            segment_size: None,
            src_ip: answer.from,
        };
        self.socket
            .async_io(Interest::WRITABLE, || {
                self.state.try_send((&self.socket).into(), &transmit)
            })
            .await
    }
}

/// Room for what one system call can bring; allocated once.
#[derive(Debug)]
pub(crate) struct Batch {
    room: Vec<u8>,
    meta: [RecvMeta; BATCH_SIZE],
    filled: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            room: vec![0; BATCH_SIZE * BUFFER_LEN],
            meta: [RecvMeta::default(); BATCH_SIZE],
            filled: 0,
        }
    }

    /// Lets `receive` fill the buffers and say how many it filled, as
    /// [`UdpSocketState::recv`] does.
    pub(crate) fn fill(
        &mut self,
        receive: impl FnOnce(&mut [IoSliceMut<'_>], &mut [RecvMeta]) -> io::Result<usize>,
    ) -> io::Result<()> {
        self.filled = 0;
        let mut room = self.room.chunks_exact_mut(BUFFER_LEN);
        let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
            array::from_fn(|_| IoSliceMut::new(room.next().unwrap_or_default()));
        self.filled = receive(&mut buffers, &mut self.meta)?;
        Ok(())
    }

    /// Whether more datagrams are likely to wait in the socket.
    pub(crate) fn is_full(&self) -> bool {
        self.filled == BATCH_SIZE
    }

    /// The datagrams received last, in the order of their arrival.
    ///
    /// The kernel may lay several of one sender into one buffer, which are taken apart again here.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        let received = self.room.chunks_exact(BUFFER_LEN).zip(&self.meta);
        received.take(self.filled).flat_map(|(buffer, meta)| {
            let bytes = buffer.get(..meta.len).unwrap_or(buffer);
            // An empty datagram is still one: it is to be counted like any other.
            let empty = bytes.is_empty().then_some(bytes);
            let pieces = bytes.chunks(meta.stride.max(1));
            let (from, asked) = (meta.addr, meta.dst_ip.filter(can_send));
            empty
                .into_iter()
                .chain(pieces)
                .map(move |bytes| Datagram { bytes, from, asked })
        })
    }
}

/// Whether an address can be the source of a datagram: not so those that name a group of hosts.
fn can_send(addr: &IpAddr) -> bool {
    match addr.to_canonical() {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_multicast() && !v6.is_unspecified(),
    }
}

/// Room for one datagram, or for the 64 requests of one sender that the kernel may hand over as
/// one. What is longer is cut, and then refused for its length; no client sends it.
const BUFFER_LEN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(received: &[(&[u8], usize)]) -> Batch {
        let mut batch = Batch::new();
        batch
            .fill(|buffers, metas| {
                for ((buffer, meta), (bytes, stride)) in buffers.iter_mut().zip(metas).zip(received)
                {
                    buffer[..bytes.len()].copy_from_slice(bytes);
                    meta.len = bytes.len();
                    meta.stride = *stride;
                }
                Ok(received.len())
            })
            .unwrap();
        batch
    }

    fn contents(batch: &Batch) -> Vec<&[u8]> {
        batch.datagrams().map(|datagram| datagram.bytes).collect()
    }

    #[test]
    fn datagrams_that_the_kernel_joined_are_taken_apart() {
        let batch = batch(&[(b"aabbc", 2), (b"dd", 2)]);
        assert_eq!(contents(&batch), [&b"aa"[..], b"bb", b"c", b"dd"]);
    }

    #[test]
    fn an_empty_datagram_is_a_datagram() {
        assert_eq!(contents(&batch(&[(b"", 0), (b"x", 1)])), [&b""[..], b"x"]);
    }

    #[test]
    fn a_failed_read_leaves_no_old_datagrams_behind() {
        let mut batch = batch(&[(b"old", 3)]);
        batch
            .fill(|_, _| Err(io::Error::other("scripted")))
            .unwrap_err();
        assert_eq!(contents(&batch), [&b""[..]; 0]);
    }

    #[test]
    fn answers_to_group_addresses_leave_the_source_to_the_system() {
        let can_send = |text: &str| can_send(&text.parse().unwrap());
        assert!(can_send("192.0.2.1"));
        assert!(can_send("::ffff:192.0.2.1"));
        assert!(can_send("2001:db8::1"));
        for group in [
            "255.255.255.255",
            "224.0.0.1",
            "::ffff:224.0.0.1",
            "ff02::1",
        ] {
            assert!(!can_send(group), "{group}");
        }
    }
}
