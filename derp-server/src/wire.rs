//! The non-blocking byte pipe under a connection of the fast path.
//!
//! A socket, or for simulation a pipe in memory that behaves like one: bounded, and it says
//! "would block" when it is full or empty.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
#[cfg(test)]
use std::sync::Arc;

use rustix::net::{RecvFlags, SendFlags};

#[cfg(test)]
pub(crate) use memory::MemoryWire;

/// Bytes in, bytes out; never waits. Shared by the worker that receives and by any that send.
#[derive(Debug)]
pub(crate) enum Wire {
    Socket(OwnedFd),
    #[cfg(test)]
    Memory(Arc<MemoryWire>),
}

impl Wire {
    /// Receives into `buf`. Zero bytes mean that the peer sends nothing more.
    pub(crate) fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Socket(fd) => Ok(rustix::net::recv(fd, buf, RecvFlags::DONTWAIT)?.0),
            #[cfg(test)]
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
            #[cfg(test)]
            Self::Memory(wire) => wire.send(bytes),
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
            #[cfg(test)]
            Self::Memory(wire) => wire.shutdown(),
        }
    }

    /// The descriptor to poll, where there is one.
    pub(crate) fn poll_fd(&self) -> Option<RawFd> {
        match self {
            Self::Socket(fd) => Some(fd.as_fd().as_raw_fd()),
            #[cfg(test)]
            Self::Memory(_) => None,
        }
    }
}

#[cfg(test)]
mod memory {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;

    /// One end of a pipe in memory. The test holds the same value and plays the network.
    #[derive(Debug)]
    pub(crate) struct MemoryWire {
        state: Mutex<State>,
    }

    #[derive(Debug)]
    struct State {
        /// What the network delivered and the relay has not received.
        inward: VecDeque<u8>,
        /// What the relay sent and the network has not taken.
        outward: VecDeque<u8>,
        /// How many bytes `outward` may hold.
        room: usize,
        /// The relay has shut the connection down.
        ended: bool,
        /// The client has.
        hung_up: bool,
    }

    impl MemoryWire {
        pub(crate) fn new(room: usize) -> Arc<Self> {
            let (inward, outward) = (VecDeque::new(), VecDeque::new());
            Arc::new(Self {
                state: Mutex::new(State {
                    inward,
                    outward,
                    room,
                    ended: false,
                    hung_up: false,
                }),
            })
        }

        pub(super) fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
            let mut state = self.state.lock().unwrap();
            if state.inward.is_empty() {
                return if state.ended || state.hung_up {
                    Ok(0)
                } else {
                    Err(io::ErrorKind::WouldBlock.into())
                };
            }
            let n = buf.len().min(state.inward.len());
            for (to, from) in buf.iter_mut().zip(state.inward.drain(..n)) {
                *to = from;
            }
            Ok(n)
        }

        pub(super) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.state.lock().unwrap();
            if state.ended || state.hung_up {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let n = bytes.len().min(state.room - state.outward.len());
            if n == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            state.outward.extend(&bytes[..n]);
            Ok(n)
        }

        pub(super) fn shutdown(&self) {
            self.state.lock().unwrap().ended = true;
        }

        /// The network delivers.
        pub(crate) fn deliver(&self, bytes: &[u8]) {
            self.state.lock().unwrap().inward.extend(bytes);
        }

        /// The network takes at most `max` bytes.
        pub(crate) fn take(&self, max: usize) -> Vec<u8> {
            let mut state = self.state.lock().unwrap();
            let n = max.min(state.outward.len());
            state.outward.drain(..n).collect()
        }

        /// The client closes its end.
        pub(crate) fn hang_up(&self) {
            self.state.lock().unwrap().hung_up = true;
        }

        pub(crate) fn is_shut(&self) -> bool {
            self.state.lock().unwrap().ended
        }
    }
}
