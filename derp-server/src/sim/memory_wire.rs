//! A pipe in memory in place of a socket: bounded, and it tells what an edge-triggered poller
//! would.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BytesMut};

/// One end of a pipe in memory. The test holds the same value and plays the network.
#[derive(Debug)]
pub(crate) struct MemoryWire {
    state: Mutex<State>,
}

/// What has changed since it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WireEvents {
    /// Something came, or will never come.
    pub(crate) readable: bool,
    /// Nothing will come any more.
    pub(crate) ends: bool,
    /// There is room where there was too little for a send.
    pub(crate) writable: bool,
}

#[derive(Debug)]
struct State {
    /// What the network delivered and the relay has not received.
    inward: BytesMut,
    /// What the relay sent and the network has not taken.
    outward: Vec<u8>,
    /// How often it took any of that.
    takes: u32,
    /// How many bytes `outward` may hold.
    room: usize,
    /// A send found too little room, and no event has said that there is more.
    was_full: bool,
    /// See [`MemoryWire::widen_unseen`].
    widens_to: Option<usize>,
    events: WireEvents,
    /// The relay has shut the connection down.
    ended: bool,
    /// The client has.
    hung_up: bool,
    /// See [`MemoryWire::fail`].
    fails: bool,
}

impl MemoryWire {
    pub(crate) fn new(room: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                inward: BytesMut::new(),
                outward: Vec::new(),
                takes: 0,
                room,
                was_full: false,
                widens_to: None,
                events: WireEvents::default(),
                ended: false,
                hung_up: false,
                fails: false,
            }),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        if state.inward.is_empty() {
            return if state.ended || state.hung_up {
                Ok(0)
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            };
        }
        let n = buf.len().min(state.inward.len());
        buf[..n].copy_from_slice(&state.inward[..n]);
        state.inward.advance(n);
        Ok(n)
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state();
        assert!(!state.fails, "a fault of ours");
        if state.ended || state.hung_up {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // The kernel takes nothing for a full connection until there is room for much.
        if state.was_full && state.outward.len() > state.room / 4 * 3 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let n = bytes.len().min(state.room - state.outward.len());
        state.was_full |= n < bytes.len();
        if state.was_full
            && let Some(room) = state.widens_to.take()
        {
            state.room = room;
            state.was_full = false;
        }
        if n == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.outward.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    pub(crate) fn delivered(&self) -> u32 {
        self.state().takes
    }

    pub(crate) fn shutdown(&self) {
        self.state().ended = true;
    }

    /// What the poller has to report, once.
    pub(crate) fn take_events(&self) -> WireEvents {
        std::mem::take(&mut self.state().events)
    }

    /// The network delivers.
    pub(crate) fn deliver(&self, bytes: &[u8]) {
        let mut state = self.state();
        state.inward.extend_from_slice(bytes);
        state.events.readable = true;
    }

    /// The network takes at most `max` bytes. As by the kernel, room is reported only once half of
    /// all is free.
    pub(crate) fn take(&self, max: usize) -> Vec<u8> {
        let mut state = self.state();
        let n = max.min(state.outward.len());
        let taken: Vec<_> = state.outward.drain(..n).collect();
        state.takes = state.takes.wrapping_add(u32::from(n > 0));
        if n > 0 && state.outward.len() <= state.room / 2 {
            state.events.writable |= std::mem::take(&mut state.was_full);
        }
        taken
    }

    /// The network gets better.
    pub(crate) fn widen(&self, room: usize) {
        let mut state = self.state();
        state.room = state.room.max(room);
        state.events.writable |= std::mem::take(&mut state.was_full);
    }

    /// The network gets better right after the next send that finds too little room, and the owner
    /// hears of it before the sender can tell anybody that there was too little.
    #[cfg(test)]
    pub(crate) fn widen_unseen(&self, room: usize) {
        self.state().widens_to = Some(room);
    }

    /// Whoever sends something from now on panics.
    #[cfg(test)]
    pub(crate) fn fail(&self) {
        self.state().fails = true;
    }

    /// Whether the relay has sent what the network has not taken.
    pub(crate) fn has_outward(&self) -> bool {
        !self.state().outward.is_empty()
    }

    /// How much the network has delivered and the relay has not received, in bytes.
    pub(crate) fn inward(&self) -> usize {
        self.state().inward.len()
    }

    /// The client closes its end.
    pub(crate) fn hang_up(&self) {
        let mut state = self.state();
        state.hung_up = true;
        state.events = WireEvents {
            readable: true,
            ends: true,
            writable: true,
        };
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.state().ended
    }
}
