//! A relay among clients that come, go, send, stall and break as a seed says, with everything
//! checked that must be true whatever happens.
//!
//! A story is a string of bytes, each action a few of them: a seed makes them up, and so does a
//! fuzzer. Nothing else goes into it, so that a story can be told again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use derp_proto::{ClientFrame, FrameType, NodePublic, ServerFrame};

use super::choices::Choices;
use super::link::Link;
use super::mark::Mark;
use super::player::Player;
use super::{ClientOptions, LINKS, Sim, limits};
use crate::peer::ConnId;
use crate::registry::MAX_PER_KEY;
use crate::tls13::{MAX_CONTENT, MAX_KEY_UPDATES};

/// How many keys there are, so that clients meet.
pub(super) const KEYS: usize = 6;
const WORKERS: usize = 2;
/// How many may be connected at once.
const MAX_PLAYERS: usize = 14;
/// After so many rounds without an event from outside, a worker spins.
const MAX_ROUNDS: usize = 5000;

/// A client that has kept the relay waiting for less is not closed for that.
const PATIENCE: Duration = Duration::from_secs(2);

/// The key with this number.
pub(super) const fn key_of(number: u8) -> NodePublic {
    let mut key = [1; 32];
    key[0] = number;
    NodePublic::from_bytes(key)
}

/// Tells the story that `data` is, and checks it. With `aloud`, says what happens.
pub(crate) fn run(data: &[u8], aloud: bool) {
    let mut choices = Choices::new(data);
    let Some(mut chaos) = Chaos::new(&mut choices, aloud) else {
        return;
    };
    while chaos.act(&mut choices).is_some() {
        if std::mem::take(&mut chaos.has_changed) {
            chaos.check();
        }
    }
    chaos.finish();
}

pub(super) struct Chaos {
    pub(super) sim: Sim,
    /// All that ever were; a player's session is its place.
    pub(super) players: Vec<Player>,
    pub(super) sessions: BTreeMap<ConnId, usize>,
    pub(super) presences: Presences,
    pub(super) mesh: Vec<Arc<Link>>,
    /// Those that say they have a key, in the order in which they said so.
    pub(super) routes: BTreeMap<u8, Vec<usize>>,
    /// Every packet that somebody got.
    pub(super) delivered: BTreeSet<Mark>,
    pub(super) forwarded: u64,
    pub(super) queue_budget: usize,
    /// The most that a lane may have held so far.
    pub(super) lane_depth: usize,
    /// Keys that a mesh peer has had closed, or that have had too many connections.
    closable: BTreeSet<u8>,
    /// Something happened in the relay since it was checked.
    has_changed: bool,
    aloud: bool,
}

/// Since when each key is there, here or elsewhere in the region: counted in times that it had
/// gone. What a key's connections sent in one such time is made known gone at its end.
#[derive(Debug, Default)]
pub(super) struct Presences {
    pub(super) gone: [u32; KEYS],
    pub(super) is_there: [bool; KEYS],
}

impl Chaos {
    fn new(choices: &mut Choices<'_>, aloud: bool) -> Option<Self> {
        let tunables = limits::tunables(choices)?;
        let (queue_budget, lane_depth) = (tunables.queue_budget_bytes, tunables.lane_depth);
        let sim = Sim::with_workers(WORKERS, tunables);
        let inboxes = sim.workers.iter().map(|worker| Arc::clone(&worker.inbox));
        sim.hub.set_workers(inboxes.collect());
        Some(Self {
            sim,
            players: Vec::new(),
            sessions: BTreeMap::new(),
            presences: Presences::default(),
            mesh: (0..3).map(|_| Arc::default()).collect(),
            routes: BTreeMap::new(),
            delivered: BTreeSet::new(),
            forwarded: 0,
            queue_budget,
            lane_depth,
            closable: BTreeSet::new(),
            has_changed: false,
            aloud,
        })
    }

    #[expect(
        clippy::print_stderr,
        reason = "whoever looks for a fault wants to read it"
    )]
    pub(super) fn say(&self, what: impl FnOnce() -> String) {
        if self.aloud {
            eprintln!("{}", what());
        }
    }

    /// One action. `None` says that the story is over.
    fn act(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        match choices.below(64)? {
            0..=6 => self.join(choices),
            7..=24 => self.send_packets(choices),
            25..=28 => self.deliver_some(choices),
            29..=34 => self.take_some(choices),
            35..=46 => {
                let worker = choices.below(WORKERS)?;
                self.say(|| format!("worker {worker} takes a turn"));
                self.step(worker);
                Some(())
            }
            47..=49 => self.pass_time(choices),
            50 => self.leave(choices),
            51 => self.kick(choices),
            52..=54 => self.mesh_peer_acts(choices),
            55..=57 => self.mesh_changes(choices),
            58 => self.change_tunables(choices),
            59 | 60 => self.send_something_else(choices),
            61 => self.block(choices),
            _ => {
                self.say(|| "all that can be done is done".into());
                self.settle();
                self.check_settled();
                Some(())
            }
        }
    }

    /// One of those who are connected, as far as they know.
    fn somebody(&self, choices: &mut Choices<'_>) -> Option<Option<usize>> {
        let choice = choices.byte()?;
        let candidates = self.players.iter().filter(|p| p.is_alive && !p.has_left);
        let candidates: Vec<_> = candidates.map(|player| player.session).collect();
        if candidates.is_empty() {
            return Some(None);
        }
        let session = candidates[usize::from(choice) % candidates.len()];
        Some(usize::try_from(session).ok())
    }

    fn join(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let key = key_number(choices)?;
        let (kind, room, rate) = (choices.byte()?, choices.below(8)?, choices.below(16)?);
        let worker = usize::from(kind >> 7);
        if self.players.iter().filter(|player| player.is_alive).count() >= MAX_PLAYERS {
            return Some(());
        }
        let options = ClientOptions {
            // Records cost time; most clients have none.
            link: LINKS[usize::from(kind & 7).saturating_sub(4)],
            is_mesh_peer: kind & 0x70 == 0,
            rate: limits::rate_limit(rate),
            group: (rate == 5).then_some("group"),
            room: [1 << 20, 1 << 18, 1 << 16, 1 << 14, 3000, 1000, 100, 7][room],
        };
        let session = u32::try_from(self.players.len()).expect("stories are short");
        let client = self.sim.admit(worker, key_of(key), &options);
        self.say(|| {
            format!(
                "{session} joins with key {key}: {kind:#x}, {}",
                options.room
            )
        });
        // All that was asked of the worker before is done before the client is served.
        self.sim.serve(worker);
        self.note_departures(Some(client.id));
        let mut player = Player::new(client, session, key);
        player.is_mesh_peer = options.is_mesh_peer;
        player.epoch = self.presences.gone[usize::from(key)];
        player.epochs_before = self.presences.gone;
        player.may_be_closed = self.closable.contains(&key);
        self.presences.is_there[usize::from(key)] = true;
        self.sessions.insert(player.client.id, self.players.len());
        self.players.push(player);
        let of_key = self.players.iter().filter(|p| p.is_alive && p.key == key);
        if of_key.count() > MAX_PER_KEY {
            self.expect_closing(key);
        }
        self.step(worker);
        Some(())
    }

    fn send_packets(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let who = self.somebody(choices)?;
        let (dst, shape, size) = (key_number(choices)?, choices.byte()?, choices.byte()?);
        let Some(who) = who else { return Some(()) };
        let player = &mut self.players[who];
        let mut frames = Vec::new();
        for _ in 0..1 + (shape & 3) * (shape >> 2 & 3) {
            let mark = Mark {
                session: player.session,
                number: player.sent,
                src: player.key,
                dst,
                is_disco: shape & 0x30 == 0,
            };
            player.sent += 1;
            if mark.is_disco {
                player.sought.insert(dst);
            }
            let packet = mark.packet(size_of(size));
            ClientFrame::SendPacket {
                dst: key_of(dst),
                packet: &packet,
            }
            .encode(&mut frames);
        }
        let sent = player.sent;
        self.say(|| {
            format!(
                "{who} sends up to number {sent} to key {dst}, {}",
                size_of(size)
            )
        });
        self.send(who, &frames, shape);
        Some(())
    }

    /// A client sends frames, in records of some size, and most often they arrive at once.
    pub(super) fn send(&mut self, who: usize, frames: &[u8], shape: u8) {
        let player = &mut self.players[who];
        let content = [MAX_CONTENT, MAX_CONTENT, 1 + frames.len() / 9, 37][usize::from(shape >> 6)];
        let bytes = player.client.protect(frames, content.min(MAX_CONTENT));
        player.outbox.extend_from_slice(&bytes);
        if !frames.is_empty() {
            player.key_updates = 0;
        }
        if !shape.is_multiple_of(5) {
            player.deliver(usize::MAX);
        }
    }

    fn deliver_some(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let (who, size) = (self.somebody(choices)?, choices.byte()?);
        let Some(who) = who else { return Some(()) };
        let max = if size < 0x80 { size.into() } else { usize::MAX };
        self.say(|| format!("up to {max} bytes of {who} arrive"));
        self.players[who].deliver(max);
        Some(())
    }

    fn take_some(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let (who, size) = (self.somebody(choices)?, choices.byte()?);
        let Some(who) = who else { return Some(()) };
        let max = match size {
            0..0x40 => usize::from(size),
            0x40..0x80 => usize::from(size) << 8,
            _ => usize::MAX,
        };
        self.say(|| format!("{who} takes up to {max} bytes"));
        let had_something = max > 0 && self.players[who].client.wire.has_outward();
        self.take(who, max);
        if had_something {
            // The relay may go on, and the time that it waits begins anew.
            self.work();
            let player = &mut self.players[who];
            if player.outbox.is_empty() {
                player.waits = Duration::ZERO;
            }
        }
        Some(())
    }

    fn take(&mut self, who: usize, max: usize) {
        for mark in self.players[who].take(max) {
            self.on_delivered(mark, Some(who));
        }
    }

    /// A packet has come to where it belongs, and nowhere else.
    pub(super) fn on_delivered(&mut self, mark: Mark, to: Option<usize>) {
        assert!(self.delivered.insert(mark), "{mark:?} comes twice");
        let sender = &self.players[mark.session as usize];
        assert!(mark.number < sender.sent, "{mark:?} was never sent");
        let (key, epoch) = (sender.key, sender.epoch);
        // What another relay forwards is no sign of its own client's presence.
        if let Some(to) = to
            && mark.src == key
            && !sender.is_mesh_peer
        {
            self.players[to].heard_from.insert((key, epoch));
        }
    }

    pub(super) fn step(&mut self, worker: usize) -> bool {
        let any = self.sim.step(worker);
        if any {
            self.note_departures(None);
        }
        any
    }

    /// Sees who has left, and which keys have gone with them. Whoever has just come, came after
    /// that.
    fn note_departures(&mut self, newcomer: Option<ConnId>) {
        let here: BTreeSet<_> = self.sim.hub.registry.all().iter().map(|p| p.id).collect();
        for player in &mut self.players {
            let is_here = here.contains(&player.client.id);
            assert!(
                is_here || !player.is_alive || player.may_be_closed,
                "{} is closed for no reason",
                player.session
            );
            player.is_alive &= is_here;
        }
        let known = self.players.iter().filter(|player| player.is_alive).count();
        assert_eq!(
            here.len(),
            known + usize::from(newcomer.is_some()),
            "the relay has clients that are none"
        );
        self.note_presences();
    }

    pub(super) fn note_presences(&mut self) {
        self.has_changed = true;
        for key in 0..KEYS {
            let number = u8::try_from(key).expect("keys are few");
            let is_local = self.players.iter().any(|p| p.is_alive && p.key == number);
            let is_there = is_local || self.routes.contains_key(&number);
            let was_there = std::mem::replace(&mut self.presences.is_there[key], is_there);
            self.presences.gone[key] += u32::from(was_there && !is_there);
        }
    }

    fn pass_time(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        const TIMES: [u64; 8] = [1, 30, 400, 900, 1990, 11_000, 61_000, 600_000];
        let time = Duration::from_millis(TIMES[choices.below(TIMES.len())?]);
        self.say(|| format!("{time:?} pass"));
        self.pass(time);
        Some(())
    }

    /// Time passes, in which workers do what they have to, and clients nothing.
    pub(super) fn pass(&mut self, time: Duration) {
        for player in &mut self.players {
            player.waits += time;
            player.may_be_closed |= player.waits >= PATIENCE;
        }
        let end = self.sim.now + time;
        self.work();
        while let Some(next) = self.sim.next_timer().filter(|next| *next <= end) {
            self.sim.now = self.sim.now.max(next);
            self.work();
        }
        self.sim.now = end;
        self.work();
    }

    /// The workers do all that they can do now.
    pub(super) fn work(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let mut any = false;
            for worker in 0..WORKERS {
                any |= self.step(worker);
            }
            if !any {
                return;
            }
        }
        panic!("the workers do not come to rest");
    }

    /// The workers do all that they can do, and clients read all that comes, over networks that
    /// are good now.
    pub(super) fn settle(&mut self) {
        for player in self.players.iter().filter(|player| !player.is_blocked) {
            player.client.wire.widen(1 << 18);
        }
        for _ in 0..MAX_ROUNDS {
            self.work();
            let before = self.delivered.len();
            let mut any = false;
            for who in 0..self.players.len() {
                let player = &self.players[who];
                if player.is_alive && !player.is_blocked && player.client.wire.has_outward() {
                    any = true;
                    self.take(who, usize::MAX);
                }
            }
            if !any {
                assert_eq!(self.delivered.len(), before);
                self.forget_waiting();
                return;
            }
        }
        panic!("there is no end to what clients get");
    }

    fn forget_waiting(&mut self) {
        for player in &mut self.players {
            if player.outbox.is_empty() && !player.is_blocked {
                player.waits = Duration::ZERO;
            }
        }
    }

    fn leave(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let (who, politely) = (self.somebody(choices)?, choices.byte()? < 0x60);
        let Some(who) = who else { return Some(()) };
        self.say(|| format!("{who} leaves, politely: {politely}"));
        let player = &mut self.players[who];
        player.may_be_closed = true;
        if politely {
            player.outbox.extend_from_slice(&player.client.goodbye());
            player.deliver(usize::MAX);
        }
        player.client.hang_up();
        player.has_left = true;
        Some(())
    }

    fn kick(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let who = self.somebody(choices)?;
        let Some(who) = who else { return Some(()) };
        let soon = who % 2 == 1;
        self.say(|| format!("{who} is closed, once it has all: {soon}"));
        self.players[who].may_be_closed = true;
        let id = self.players[who].client.id;
        let all = self
            .sim
            .hub
            .registry
            .connections_of(&key_of(self.players[who].key));
        let peer = all.iter().find(|peer| peer.id == id);
        let peer = peer.expect("it is connected");
        if soon {
            peer.close_when_sent();
        } else {
            peer.close();
        }
        Some(())
    }

    /// Whoever has this key, or comes to have it, may be closed.
    pub(super) fn expect_closing(&mut self, key: u8) {
        self.closable.insert(key);
        for player in self.players.iter_mut().filter(|player| player.key == key) {
            player.may_be_closed = true;
        }
    }

    fn change_tunables(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let tunables = limits::tunables(choices)?;
        self.queue_budget = tunables.queue_budget_bytes;
        self.lane_depth = self.lane_depth.max(tunables.lane_depth);
        self.say(|| format!("limits change: {tunables:?}"));
        self.sim.hub.set_tunables(tunables);
        Some(())
    }

    fn send_something_else(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let (who, kind, len) = (self.somebody(choices)?, choices.below(8)?, choices.byte()?);
        let Some(who) = who else { return Some(()) };
        self.say(|| format!("{who} sends something else: {kind}, {len}"));
        let player = &mut self.players[who];
        let mut frame = Vec::new();
        match kind {
            0 | 1 => {
                player.pings += 1;
                ClientFrame::Ping(player.ping_data()).encode(&mut frame);
            }
            2 => ClientFrame::NotePreferred(len % 2 == 0).encode(&mut frame),
            3 => frame.extend([&[0x77, 0, 0, 0, len][..], &vec![len; len.into()]].concat()),
            4 => {
                let record = player.client.update_key();
                player.key_updates = player
                    .key_updates
                    .saturating_add(u8::from(!record.is_empty()));
                player.may_be_closed |= player.key_updates > MAX_KEY_UPDATES;
                player.outbox.extend(record);
            }
            5 => {
                for peer in self.sim.hub.registry.all() {
                    peer.notify_frame(&ServerFrame::Restarting {
                        reconnect_in: Duration::from_secs(1),
                        try_for: Duration::from_secs(9),
                    });
                }
            }
            6 => {
                player.may_be_closed = true;
                frame.extend([FrameType::SEND_PACKET.0, 0xff, len, len, len]);
            }
            _ => {
                player.may_be_closed = true;
                player.is_garbled = true;
                player.outbox.extend(vec![len; len.into()]);
            }
        }
        self.send(who, &frame, 1);
        Some(())
    }

    fn block(&mut self, choices: &mut Choices<'_>) -> Option<()> {
        let who = self.somebody(choices)?;
        let Some(who) = who else { return Some(()) };
        let player = &mut self.players[who];
        player.is_blocked ^= true;
        let blocked = player.is_blocked;
        self.say(|| format!("{who} reads nothing: {blocked}"));
        Some(())
    }

    /// Those whose rate is limited get the time that what they have sent needs.
    fn wait_for_limits(&mut self) {
        let end = self.sim.now + limits::time_for(self.unread());
        while self.unread().any(|bytes| bytes > 0) && self.sim.now < end {
            self.pass(Duration::from_millis(1500));
            self.settle();
        }
    }

    /// How many bytes of each client have arrived that the relay has not read.
    fn unread(&self) -> impl Iterator<Item = u64> {
        let alive = self.players.iter().filter(|player| player.is_alive);
        alive.map(|player| player.client.wire.inward() as u64)
    }

    /// Everybody leaves, and nothing is left.
    fn finish(&mut self) {
        self.say(|| "everybody reads, and all that was sent arrives".into());
        for player in &mut self.players {
            player.is_blocked = false;
            player.deliver(usize::MAX);
        }
        self.settle();
        self.check_settled();
        self.wait_for_limits();
        self.check_settled();
        self.check_understood();
        self.say(|| "everybody leaves".into());
        for player in &mut self.players {
            player.may_be_closed = true;
        }
        for player in self.players.iter().filter(|player| player.session % 2 == 0) {
            player.client.hang_up();
        }
        for peer in self.sim.hub.registry.all() {
            let who = self.sessions[&peer.id];
            if who % 2 == 1 {
                peer.close();
            }
        }
        for link in 0..self.mesh.len() {
            self.lose_link(link);
        }
        self.work();
        self.check();
        // The longest time that a worker sets.
        self.pass(Duration::from_secs(3600));
        self.check_empty();
    }
}

pub(super) fn key_number(choices: &mut Choices<'_>) -> Option<u8> {
    u8::try_from(choices.below(KEYS)?).ok()
}

/// Mostly small ones.
fn size_of(choice: u8) -> usize {
    match choice {
        0..0xa0 => usize::from(choice) + 1,
        0xa0..0xe8 => 1280,
        0xe8..0xf8 => 16_384 - 37 + usize::from(choice & 1),
        _ => 65_536,
    }
}
