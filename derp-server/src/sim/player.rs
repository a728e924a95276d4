//! A client of the chaos: what it sent, what it got, and what it knows of others by that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use derp_proto::{NodePublic, OwnedFrame, PeerGoneReason, ServerFrame};

use super::SimClient;
use super::chaos::{KEYS, key_of};
use super::mark::Mark;

pub(super) struct Player {
    pub(super) client: SimClient,
    /// Its place among all that ever were.
    pub(super) session: u32,
    pub(super) key: u8,
    pub(super) is_mesh_peer: bool,
    /// It has asked to be told of everybody.
    pub(super) watches: bool,
    /// The relay has it among its clients.
    pub(super) is_alive: bool,
    /// It has closed its end.
    pub(super) has_left: bool,
    /// It reads nothing.
    pub(super) is_blocked: bool,
    /// The relay has a reason to close it: what it did, or what somebody else may do to it.
    pub(super) may_be_closed: bool,
    /// How long it may have kept the relay waiting.
    pub(super) waits: Duration,
    /// What it has sent and the network has not delivered.
    pub(super) outbox: Vec<u8>,
    /// The time of its key's presence that it lives in; see [`super::chaos::Presences`].
    pub(super) epoch: u32,
    /// The times of all keys when it came.
    pub(super) epochs_before: [u32; KEYS],
    pub(super) sent: u32,
    pub(super) pings: u64,
    /// How many new keys it has taken since it last sent data; the relay bears so many.
    pub(super) key_updates: u8,
    /// It has sent bytes that are no frames: what comes behind them need not be understood.
    pub(super) is_garbled: bool,
    was_greeted: bool,
    pongs: u64,
    /// The number of the last packet from each session, by lane.
    last: BTreeMap<(u32, bool), u32>,
    /// Senders of packets that came, by their keys and times.
    pub(super) heard_from: BTreeSet<(u8, u32)>,
    /// How often it was told that a key has gone.
    pub(super) told_gone: [u32; KEYS],
    /// Keys that it was told are not here.
    pub(super) told_not_here: BTreeSet<u8>,
    /// Keys that it asked for with path discovery.
    pub(super) sought: BTreeSet<u8>,
    /// Who is connected, by what it was told as a watcher.
    pub(super) view: BTreeSet<u8>,
}

impl Player {
    pub(super) fn new(client: SimClient, session: u32, key: u8) -> Self {
        Self {
            client,
            session,
            key,
            is_mesh_peer: false,
            watches: false,
            is_alive: true,
            has_left: false,
            is_blocked: false,
            may_be_closed: false,
            waits: Duration::ZERO,
            outbox: Vec::new(),
            epoch: 0,
            epochs_before: [0; KEYS],
            sent: 0,
            pings: 0,
            key_updates: 0,
            is_garbled: false,
            was_greeted: false,
            pongs: 0,
            last: BTreeMap::new(),
            heard_from: BTreeSet::new(),
            told_gone: [0; KEYS],
            told_not_here: BTreeSet::new(),
            sought: BTreeSet::new(),
            view: BTreeSet::new(),
        }
    }

    /// The network delivers at most `max` bytes of what it sent.
    pub(super) fn deliver(&mut self, max: usize) {
        let len = self.outbox.len().min(max);
        if len > 0 && !self.has_left {
            self.client.wire.deliver(&self.outbox[..len]);
            self.outbox.drain(..len);
        }
    }

    /// Takes at most `max` bytes from the network, and returns the packets among them.
    pub(super) fn take(&mut self, max: usize) -> Vec<Mark> {
        let frames = self.client.receive_some(max);
        frames
            .iter()
            .filter_map(|frame| self.on_frame(frame))
            .collect()
    }

    fn on_frame(&mut self, frame: &OwnedFrame) -> Option<Mark> {
        let frame = frame.as_server().expect("the relay sends what it may");
        let is_greeting = matches!(frame, ServerFrame::ServerInfo(_));
        assert_eq!(
            is_greeting, !self.was_greeted,
            "the greeting comes first, and once"
        );
        self.was_greeted = true;
        match frame {
            ServerFrame::RecvPacket { src, packet } => return Some(self.on_packet(src, packet)),
            ServerFrame::PeerGone { key, reason } => {
                let key = number_of(key);
                if reason == PeerGoneReason::NOT_HERE {
                    assert!(self.sought.contains(&key), "it never asked for {key}");
                    self.told_not_here.insert(key);
                } else {
                    self.told_gone[usize::from(key)] += 1;
                    self.view.remove(&key);
                }
            }
            ServerFrame::PeerPresent(present) => {
                assert!(self.watches, "only watchers are told");
                self.view.insert(number_of(present.key));
            }
            ServerFrame::Pong(data) => {
                assert_eq!(data, self.ping_data(), "an answer to somebody else");
                self.pongs += 1;
                assert!(self.pongs <= self.pings, "more answers than questions");
            }
            _ => {}
        }
        None
    }

    /// A packet is for this key, from who it says, and later than those of its lane before it.
    fn on_packet(&mut self, src: NodePublic, packet: &[u8]) -> Mark {
        let mark = Mark::of(packet);
        assert_eq!(mark.dst, self.key, "a packet for somebody else: {mark:?}");
        assert_eq!(key_of(mark.src), src, "a packet in another's name");
        let lane = (mark.session, mark.is_disco);
        if let Some(last) = self.last.insert(lane, mark.number) {
            assert!(last < mark.number, "{mark:?} after number {last}");
        }
        mark
    }

    pub(super) fn ping_data(&self) -> [u8; 8] {
        u64::from(self.session).to_le_bytes()
    }
}

fn number_of(key: NodePublic) -> u8 {
    let number = key.as_bytes()[0];
    assert_eq!(key_of(number), key, "nobody has this key");
    number
}
