//! What waits for a client whose connection takes nothing at the moment. Pure, and bounded.
//!
//! Two lanes of packets, each of which gives up its oldest packet when it is full: what
//! WireGuard's users need again they send again, and what is late is of no use to them. Beside
//! them the control frames, of which there is one each, or one per key.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use derp_proto::{
    NodePublic, PeerGoneReason, PeerPresent, PeerPresentFlags, PingData, ServerFrame,
};

use crate::packet::PacketKind;

/// The most peer-gone notices that wait for one client; older ones are given up.
const MAX_GONE_NOTICES: usize = 1024;

/// A RecvPacket frame that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// The whole frame, header and key included.
    pub(crate) frame: Box<[u8]>,
    pub(crate) kind: PacketKind,
    pub(crate) since: Instant,
}

/// A client that connected or left, as a watcher will be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Present {
        addr: Option<SocketAddr>,
        flags: PeerPresentFlags,
    },
    Gone,
}

/// All that waits for one client.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// Each lane is bounded by the depth that [`Self::push`] is given.
    disco: VecDeque<Waiting>,
    data: VecDeque<Waiting>,
    /// Of the packets in both; the sender sees to the budget of all clients.
    bytes: usize,
    pong: Option<PingData>,
    keep_alive: bool,
    /// Bounded by [`MAX_GONE_NOTICES`].
    gone: VecDeque<(NodePublic, PeerGoneReason)>,
    /// How many of these were given up, and not counted yet.
    gone_given_up: u64,
    /// For watchers. Bounded by the number of keys: the last state of each is what counts.
    presence: BTreeMap<NodePublic, Presence>,
    /// Other frames, encoded: restarting, health. Bounded by their callers.
    notices: Vec<u8>,
}

/// What [`Lanes::next_into`] took off.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Packet {
        kind: PacketKind,
        payload: usize,
        since: Instant,
    },
    PeerGone(PeerGoneReason),
    Presence,
    Pong,
    Other,
}

impl Lanes {
    /// Bytes of all waiting packets, their headers and keys included.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.disco.is_empty() && self.data.is_empty() && !self.has_control()
    }

    /// How many packets wait, of disco and of others; for consistency checks.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn packets(&self) -> [usize; 2] {
        [self.disco.len(), self.data.len()]
    }

    /// [`Self::bytes`], counted anew; for consistency checks.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn count_bytes(&self) -> usize {
        let all = self.disco.iter().chain(&self.data);
        all.map(|packet| packet.frame.len()).sum()
    }

    pub(crate) fn has_control(&self) -> bool {
        self.pong.is_some()
            || self.keep_alive
            || !self.gone.is_empty()
            || !self.presence.is_empty()
            || !self.notices.is_empty()
    }

    /// Adds a packet at the tail of its lane. A lane that holds `depth` packets gives up its
    /// head, and returns it.
    #[must_use = "a packet that is given up must be counted"]
    pub(crate) fn push(&mut self, packet: Waiting, depth: usize) -> Option<Waiting> {
        self.bytes += packet.frame.len();
        let lane = self.lane(packet.kind);
        lane.push_back(packet);
        let evicted = if lane.len() > depth {
            lane.pop_front()
        } else {
            None
        };
        self.bytes -= evicted.as_ref().map_or(0, |packet| packet.frame.len());
        evicted
    }

    fn lane(&mut self, kind: PacketKind) -> &mut VecDeque<Waiting> {
        match kind {
            PacketKind::Disco => &mut self.disco,
            PacketKind::Other => &mut self.data,
        }
    }

    /// Gives up the oldest packet, of the data lane as long as it has any.
    #[must_use = "a packet that is given up must be counted"]
    pub(crate) fn give_up_oldest(&mut self) -> Option<Waiting> {
        let packet = self.data.pop_front().or_else(|| self.disco.pop_front())?;
        self.bytes -= packet.frame.len();
        Some(packet)
    }

    /// Keeps one pong. Further pings are ignored until it is sent; says whether it was kept.
    pub(crate) fn push_pong(&mut self, data: PingData) -> bool {
        let kept = self.pong.is_none();
        self.pong.get_or_insert(data);
        kept
    }

    pub(crate) fn push_keep_alive(&mut self) {
        self.keep_alive = true;
    }

    pub(crate) fn push_gone(&mut self, key: NodePublic, reason: PeerGoneReason) {
        if self.gone.len() == MAX_GONE_NOTICES {
            self.gone.pop_front();
            self.gone_given_up += 1;
        }
        self.gone.push_back((key, reason));
    }

    /// How many peer-gone notices were given up since this was last asked.
    pub(crate) fn take_gone_given_up(&mut self) -> u64 {
        std::mem::take(&mut self.gone_given_up)
    }

    pub(crate) fn push_presence(&mut self, key: NodePublic, presence: Presence) {
        self.presence.insert(key, presence);
    }

    pub(crate) fn push_notice(&mut self, frame: &ServerFrame<'_>) {
        frame.encode(&mut self.notices);
    }

    /// Lets whole frames wait that are encoded already.
    pub(crate) fn push_encoded(&mut self, frames: &[u8]) {
        self.notices.extend_from_slice(frames);
    }

    /// Appends the next frame to `out` and takes it off: control frames first, then disco, then
    /// data. `None` where nothing waits.
    pub(crate) fn next_into(&mut self, out: &mut Vec<u8>) -> Option<Taken> {
        if !self.notices.is_empty() {
            out.append(&mut self.notices);
            return Some(Taken::Other);
        }
        if let Some(data) = self.pong.take() {
            ServerFrame::Pong(data).encode(out);
            return Some(Taken::Pong);
        }
        if std::mem::take(&mut self.keep_alive) {
            ServerFrame::KeepAlive.encode(out);
            return Some(Taken::Other);
        }
        if let Some((key, reason)) = self.gone.pop_front() {
            ServerFrame::PeerGone { key, reason }.encode(out);
            return Some(Taken::PeerGone(reason));
        }
        if let Some((key, presence)) = self.presence.pop_first() {
            match presence {
                Presence::Present { addr, flags } => {
                    ServerFrame::PeerPresent(PeerPresent { key, addr, flags }).encode(out);
                }
                Presence::Gone => {
                    let reason = PeerGoneReason::DISCONNECTED;
                    ServerFrame::PeerGone { key, reason }.encode(out);
                }
            }
            return Some(Taken::Presence);
        }
        let packet = self.disco.pop_front().or_else(|| self.data.pop_front())?;
        self.bytes -= packet.frame.len();
        out.extend_from_slice(&packet.frame);
        let payload = packet.frame.len() - crate::FRAME_OVERHEAD;
        Some(Taken::Packet {
            kind: packet.kind,
            payload,
            since: packet.since,
        })
    }

    /// The length of the frame that [`Self::next_into`] would append next, in bytes.
    pub(crate) fn next_len(&self) -> usize {
        if self.has_control() {
            return 64.max(self.notices.len());
        }
        self.disco
            .front()
            .or_else(|| self.data.front())
            .map_or(0, |packet| packet.frame.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::now;
    use PacketKind::{Disco, Other};

    fn packet(kind: PacketKind, mark: u8) -> Waiting {
        Waiting {
            frame: vec![mark; 37 + usize::from(mark)].into(),
            kind,
            since: now(),
        }
    }

    fn drain(lanes: &mut Lanes) -> Vec<u8> {
        let (mut marks, mut out) = (Vec::new(), Vec::new());
        while lanes.next_into(&mut out).is_some() {
            marks.push(out[0]);
            out.clear();
        }
        marks
    }

    #[test]
    fn a_full_lane_gives_up_its_own_oldest_packet() {
        let mut lanes = Lanes::default();
        for mark in 0..3 {
            assert!(lanes.push(packet(Other, mark), 3).is_none());
        }
        assert!(lanes.push(packet(Disco, 100), 3).is_none());
        let evicted = lanes.push(packet(Other, 3), 3).expect("the lane was full");
        assert_eq!((evicted.kind, evicted.frame[0]), (Other, 0));
        assert_eq!(drain(&mut lanes), [100, 1, 2, 3]);
        assert!(lanes.is_empty());
        assert_eq!(lanes.bytes(), 0);
    }

    #[test]
    fn bytes_are_those_of_the_packets_that_wait() {
        let mut lanes = Lanes::default();
        for mark in 0..10 {
            let _evicted = lanes.push(packet(Other, mark), 4);
        }
        assert_eq!(lanes.bytes(), 37 * 4 + (6 + 7 + 8 + 9));
        assert_eq!(
            lanes.give_up_oldest().map(|packet| packet.frame[0]),
            Some(6)
        );
        assert_eq!(lanes.bytes(), 37 * 3 + (7 + 8 + 9));
    }

    #[test]
    fn control_frames_come_first_and_one_of_each() {
        let mut lanes = Lanes::default();
        assert!(lanes.push(packet(Other, 50), 3).is_none());
        lanes.push_keep_alive();
        lanes.push_keep_alive();
        assert!(lanes.push_pong([1; 8]));
        assert!(!lanes.push_pong([2; 8]));
        lanes.push_gone(NodePublic::from_bytes([9; 32]), PeerGoneReason::NOT_HERE);
        let types = drain(&mut lanes);
        assert_eq!(types, [0x13, 0x06, 0x08, 50]);
    }

    #[test]
    fn a_watcher_learns_the_last_state_of_each_key() {
        let mut lanes = Lanes::default();
        let key = NodePublic::from_bytes([9; 32]);
        let present = Presence::Present {
            addr: None,
            flags: PeerPresentFlags::REGULAR,
        };
        for presence in [present, Presence::Gone, present, Presence::Gone] {
            lanes.push_presence(key, presence);
        }
        assert_eq!(drain(&mut lanes), [0x08]);
    }

    #[test]
    fn notices_of_departure_are_bounded() {
        let mut lanes = Lanes::default();
        for n in 0..2 * MAX_GONE_NOTICES {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_be_bytes());
            lanes.push_gone(NodePublic::from_bytes(key), PeerGoneReason::DISCONNECTED);
        }
        assert_eq!(drain(&mut lanes).len(), MAX_GONE_NOTICES);
        let given_up = [lanes.take_gone_given_up(), lanes.take_gone_given_up()];
        assert_eq!(given_up, [1024, 0]);
    }
}
