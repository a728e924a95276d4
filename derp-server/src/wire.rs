//! The non-blocking byte pipe under a connection of the fast path.
//!
//! A socket, or for simulation a pipe in memory that behaves like one: bounded, and it says
//! "would block" when it is full or empty.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
#[cfg(any(test, feature = "fuzzing"))]
use std::sync::Arc;

use rustix::net::{RecvFlags, SendFlags};

use crate::delivered;
#[cfg(any(test, feature = "fuzzing"))]
use crate::sim::MemoryWire;

/// Bytes in, bytes out; never waits. Shared by the worker that receives and by any that send.
#[derive(Debug)]
pub(crate) enum Wire {
    Socket(OwnedFd),
    #[cfg(any(test, feature = "fuzzing"))]
    Memory(Arc<MemoryWire>),
}

impl Wire {
    /// Receives into `buf`. Zero bytes mean that the peer sends nothing more.
    pub(crate) fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Socket(fd) => Ok(rustix::net::recv(fd, buf, RecvFlags::DONTWAIT)?.0),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Memory(wire) => wire.recv(buf),
        }
    }

    /// Sends some of `bytes` and says how many.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Socket(fd) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                Ok(rustix::net::send(fd, bytes, flags)?)
            }
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Memory(wire) => wire.send(bytes),
        }
    }

    /// A number that changes when anything comes to the other end, where that is known.
    pub(crate) fn delivered(&self) -> Option<u32> {
        match self {
            Self::Socket(fd) => delivered::segments_of(fd),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Memory(wire) => Some(wire.delivered()),
        }
    }

    /// Ends both directions. The descriptor stays open until the last owner drops it, so that
    /// its number cannot come to mean another connection.
    pub(crate) fn shutdown(&self) {
        match self {
            Self::Socket(fd) => {
                // An error says that the connection has ended already.
                let _ended = socket2::SockRef::from(fd).shutdown(Shutdown::Both);
            }
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Memory(wire) => wire.shutdown(),
        }
    }

    /// The descriptor to poll, where there is one.
    pub(crate) fn poll_fd(&self) -> Option<RawFd> {
        match self {
            Self::Socket(fd) => Some(fd.as_fd().as_raw_fd()),
            #[cfg(any(test, feature = "fuzzing"))]
            Self::Memory(_) => None,
        }
    }
}
