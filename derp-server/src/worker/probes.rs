//! What a simulation asks of a worker, in place of its poller and beside it.

use std::time::Instant;

use super::Worker;
use crate::peer::ConnId;
use crate::wire::Wire;

impl Worker {
    /// What the poller would report of everybody, and more.
    pub(crate) fn on_everything(&mut self) {
        for at in self.conns.iter().map(|(at, _)| at).collect::<Vec<_>>() {
            self.on_writable(at);
            self.on_readable(at, false);
        }
    }

    /// What an edge-triggered poller reports, of connections in memory; says whether it was
    /// anything.
    pub(crate) fn on_events(&mut self) -> bool {
        let mut any = false;
        for at in self.conns.iter().map(|(at, _)| at).collect::<Vec<_>>() {
            let peer = &self.conns[at].inbound.peer;
            let Some(Wire::Memory(wire)) = peer.wire() else {
                continue;
            };
            let events = wire.take_events();
            if events.writable {
                self.on_writable(at);
            }
            if events.readable {
                self.on_readable(at, events.ends);
            }
            any |= events.writable || events.readable;
        }
        any
    }

    /// Whether connections wait to be read.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The numbers of its connections.
    pub(crate) fn conn_ids(&self) -> Vec<ConnId> {
        let ids = self.conns.iter().map(|(_, conn)| conn.inbound.peer.id);
        ids.collect()
    }

    /// What its connections have not finished, but for mesh peers'.
    pub(crate) fn held_unfinished(&self) -> usize {
        let conns = self.conns.iter().map(|(_, conn)| conn);
        conns
            .filter(|conn| !conn.inbound.peer.is_mesh_peer())
            .map(|conn| conn.rest.len())
            .sum()
    }

    pub(crate) fn conns(&self) -> usize {
        self.conns.len()
    }

    pub(crate) fn timers(&self) -> usize {
        self.timers.len()
    }

    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.next()
    }
}
