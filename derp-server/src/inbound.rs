//! What a logged-in client's bytes mean: frames in, packets for others and answers out. No I/O
//! but what a control frame asks for.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use derp_proto::{
    ClientFrame, ClientSide, DecodeError, FrameType, HEADER_LEN, KEY_LEN, NodePublic,
    PeerGoneReason, Scanned, Scanner,
};

use crate::FRAME_OVERHEAD;
use crate::error::SessionError;
use crate::hub::Hub;
use crate::limiter::{Limiter, Terms};
use crate::packet::{DropReason, PacketKind};
use crate::peer::Peer;
use crate::rate_limit::TokenBucket;
use crate::registry::{Departure, Route};
use crate::sent_to::SentTo;
use crate::turn::{LIMITED_READ_SIZE, READ_SIZE, Turn};

/// A change of home within this time after login is none: the client is merely starting.
const SETTLING: Duration = Duration::from_secs(5);

/// How far a client's bytes were understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All but an unfinished frame, which is still there.
    All,
    /// A limit is reached: no further before this moment.
    Until(Instant),
}

/// The receiving half of a client. Whoever owns the connection owns it, and nobody else sees it.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) peer: Arc<Peer>,
    scanner: Scanner<ClientSide>,
    /// Where the last packet went: the next one mostly goes there too. It holds the other's
    /// socket; see [`Self::forget_stale_route`].
    last_dst: Option<Arc<Peer>>,
    sent_to: SentTo,
    limiter: Option<Box<Limiter>>,
    /// Made for few: hardly any client has terms of its own.
    terms: Option<Box<Terms>>,
    /// How often the client may hear that somebody is not here; made when first needed.
    not_here: Option<Box<TokenBucket>>,
    home: bool,
    since: Instant,
    /// Since when something is unfinished: a frame, or a record that holds one.
    unfinished_since: Option<Instant>,
    /// The announced length of the unfinished frame, once that is known.
    unfinished_len: u32,
    /// Something was put into the client's own lanes.
    has_answers: bool,
}

impl Inbound {
    /// The receiving half of `peer`, which comes under the limits that hold now.
    pub(crate) fn new(peer: Arc<Peer>, terms: Option<Box<Terms>>, hub: &Hub, now: Instant) -> Self {
        peer.ledger.begin(now);
        let mut inbound = Self {
            peer,
            scanner: Scanner::new(),
            last_dst: None,
            sent_to: SentTo::default(),
            limiter: None,
            terms,
            not_here: None,
            home: false,
            since: now,
            unfinished_since: None,
            unfinished_len: 0,
            has_answers: false,
        };
        inbound.follow_limits(hub, now);
        inbound
    }

    /// Comes under the limits that hold now; mesh peers are never limited.
    pub(crate) fn follow_limits(&mut self, hub: &Hub, now: Instant) {
        self.not_here = None;
        if self.peer.is_mesh_peer() {
            return;
        }
        let none = Terms::default();
        let terms = self.terms.as_deref().unwrap_or(&none);
        let tunables = hub.tunables();
        let before = self.limiter.as_deref();
        self.limiter = Limiter::new(terms, &tunables, &hub.rates, before, now).map(Box::new);
    }

    /// How many bytes are received at a time.
    pub(crate) const fn read_size(&self) -> usize {
        match self.limiter {
            Some(_) => LIMITED_READ_SIZE,
            None => READ_SIZE,
        }
    }

    /// When what is unfinished must have come whole, if anything is.
    pub(crate) fn frame_deadline(&self, hub: &Hub) -> Option<Instant> {
        self.unfinished_since
            .map(|since| since + hub.frame_patience(self.unfinished_len))
    }

    /// Of the bytes that have come, so many wait for more, or none.
    #[inline]
    pub(crate) fn note_rest(&mut self, len: usize, hub: &Hub, now: Instant) {
        if len == 0 && !self.scanner.is_skipping() {
            self.unfinished_since = None;
            // Mostly nothing was held before, either.
            if self.peer.ledger.unfinished_bytes() == 0 {
                return;
            }
        } else {
            self.unfinished_since.get_or_insert(now);
        }
        self.hold(len, hub, now);
    }

    /// Counts what is kept for the client to finish.
    #[inline(never)]
    fn hold(&self, len: usize, hub: &Hub, now: Instant) {
        if self.peer.is_mesh_peer() {
            return;
        }
        let since = self.unfinished_since.unwrap_or(now);
        let bytes = u32::try_from(len).expect("a rest is no longer than the buffer");
        let before = self.peer.ledger.unfinished_bytes();
        if before != bytes {
            hub.unfinished.change(before as usize, len);
        }
        // After that, so that nobody finds it free here and still in the sum.
        self.peer.ledger.set_unfinished(bytes, since);
    }

    /// Whether the client is owed an answer since this was last asked.
    pub(crate) fn take_has_answers(&mut self) -> bool {
        std::mem::take(&mut self.has_answers)
    }

    /// Understands the client's bytes at `range` of the turn's buffer, and moves the start of
    /// `range` behind them. `in_record` says that they are the content of one TLS record.
    pub(crate) fn process(
        &mut self,
        range: &mut Range<usize>,
        in_record: bool,
        hub: &Hub,
        turn: &mut Turn,
    ) -> Result<Progress, SessionError> {
        let whole = range.clone();
        if range.start < range.end && self.peer.is_standby() {
            hub.registry.note_activity(&self.peer);
        }
        while range.start < range.end {
            let scanned = self.scanner.scan(&turn.buf[range.clone()])?;
            let (ty, body) = match scanned {
                Scanned::Frame { ty, body } => (ty, body),
                Scanned::Skipped { ty, len, end } => {
                    let (body, max) = (len as usize, hub.max_unknown_frame_len());
                    if body > max {
                        return Err(DecodeError::TooLong { ty, len: body, max }.into());
                    }
                    if let Some(due) = self.holds_back(body, turn) {
                        // It will be understood again from its beginning.
                        self.scanner = Scanner::new();
                        return Ok(Progress::Until(due));
                    }
                    if !matches!(
                        ty,
                        FrameType::PONG | FrameType::CLIENT_INFO | FrameType::KEEP_ALIVE
                    ) {
                        turn.tally.unknown_frames += 1;
                    }
                    range.start += end;
                    self.begin_frame(if self.scanner.is_skipping() { len } else { 0 });
                    continue;
                }
                Scanned::Skipping { end } => {
                    range.start += end;
                    if !self.scanner.is_skipping() {
                        self.begin_frame(0);
                    }
                    continue;
                }
                Scanned::Partial { header, .. } => {
                    self.unfinished_len = header.map_or(0, |header| header.len);
                    return Ok(Progress::All);
                }
            };
            if let Some(due) = self.holds_back(body.len(), turn) {
                return Ok(Progress::Until(due));
            }
            self.begin_frame(0);
            let frame = range.start..range.start + body.end;
            range.start = frame.end;
            self.on_frame(ty, frame.clone(), in_record && frame == whole, hub, turn)?;
        }
        Ok(Progress::All)
    }

    /// Until when a limit holds the next frame back, whose body has `len` bytes, if one does.
    #[inline]
    fn holds_back(&mut self, len: usize, turn: &mut Turn) -> Option<Instant> {
        let limiter = self.limiter.as_mut()?;
        limiter.holds_back(len, turn.now, &mut turn.tally)
    }

    /// What was unfinished is done, and the next frame has this length, as far as is known.
    fn begin_frame(&mut self, len: u32) {
        self.unfinished_since = None;
        self.unfinished_len = len;
    }

    fn on_frame(
        &mut self,
        ty: FrameType,
        frame: Range<usize>,
        is_record: bool,
        hub: &Hub,
        turn: &mut Turn,
    ) -> Result<(), SessionError> {
        match ty {
            FrameType::SEND_PACKET => {
                self.on_send_packet(&frame, is_record, hub, turn);
                return Ok(());
            }
            FrameType::FORWARD_PACKET => return self.on_forward_packet(&frame, hub, turn),
            _ => {}
        }
        let body = &turn.buf[frame.start + HEADER_LEN..frame.end];
        match ClientFrame::parse(ty, body)? {
            ClientFrame::Ping(data) => {
                turn.tally.got_ping += 1;
                self.peer.push_pong(data);
                self.has_answers = true;
            }
            ClientFrame::NotePreferred(home) => self.on_home(home, hub, turn.now),
            ClientFrame::WatchConns => {
                self.require_mesh_peer(ty)?;
                // A relay that meshes with itself need not hear of its own clients.
                if self.peer.key != hub.public_key() {
                    hub.registry.watch(&self.peer);
                }
            }
            ClientFrame::ClosePeer(key) => {
                self.require_mesh_peer(ty)?;
                for peer in hub.registry.connections_of(&key) {
                    tracing::debug!(conn = %peer.id, client = ?key, "closed for a mesh peer");
                    peer.close();
                }
            }
            ClientFrame::ClientInfo { .. }
            | ClientFrame::SendPacket { .. }
            | ClientFrame::ForwardPacket { .. }
            | ClientFrame::Pong(_)
            | ClientFrame::Unknown(_) => {}
        }
        Ok(())
    }

    fn require_mesh_peer(&self, ty: FrameType) -> Result<(), SessionError> {
        if self.peer.is_mesh_peer() {
            Ok(())
        } else {
            Err(SessionError::NotAllowed(ty))
        }
    }

    fn on_home(&mut self, home: bool, hub: &Hub, now: Instant) {
        if std::mem::replace(&mut self.home, home) == home {
            return;
        }
        self.peer.ledger.set_home(home);
        let gauges = hub.metrics.gauges();
        let moved = now.saturating_duration_since(self.since) > SETTLING;
        if home {
            gauges.home_connections.add(1);
            gauges.home_moves_in.add(moved.into());
        } else {
            gauges.home_connections.sub(1);
            gauges.home_moves_out.add(moved.into());
        }
    }

    /// Turns the SendPacket frame at `frame` into a RecvPacket frame for its destination. Both
    /// have the same length: only type and key differ.
    fn on_send_packet(
        &mut self,
        frame: &Range<usize>,
        is_record: bool,
        hub: &Hub,
        turn: &mut Turn,
    ) {
        let (head, packet) = turn.buf[frame.clone()].split_at_mut(FRAME_OVERHEAD);
        let kind = PacketKind::of(packet);
        let len = packet.len();
        let key: [u8; KEY_LEN] = head[HEADER_LEN..]
            .try_into()
            .expect("the scanner saw to it");
        let dst = NodePublic::from_bytes(key);
        turn.tally.packets_received += 1;
        turn.tally.bytes_received += len as u64;
        turn.tally.received_kind[kind as usize] += 1;
        self.peer.ledger.count(len as u64);

        let is_same = self
            .last_dst
            .as_ref()
            .is_some_and(|last| last.key == dst && last.is_current());
        if !is_same {
            self.forget_stale_route();
            match hub.registry.route(&dst) {
                Route::Local(peer) => {
                    let forgotten = self.sent_to.insert(&peer);
                    if forgotten > 0 {
                        let gauges = hub.metrics.gauges();
                        gauges.departures_forgotten.add(forgotten);
                    }
                    self.last_dst = Some(peer);
                }
                Route::Remote(forwarder) => {
                    match forwarder.forward(self.peer.key, dst, packet) {
                        Ok(()) => turn.tally.packets_forwarded_out += 1,
                        Err(_) => turn.tally.dropped(DropReason::QueueTail, kind, len),
                    }
                    return;
                }
                Route::Duplicated => {
                    turn.tally.dropped(DropReason::DupClient, kind, len);
                    return;
                }
                Route::Unknown => {
                    turn.tally.dropped(DropReason::UnknownDest, kind, len);
                    self.say_not_here(dst, kind, hub, turn);
                    return;
                }
            }
        }
        head[0] = FrameType::RECV_PACKET.0;
        head[HEADER_LEN..].copy_from_slice(self.peer.key.as_bytes());
        let peer = self
            .last_dst
            .as_ref()
            .expect("it is the same, or was just set");
        turn.add(peer, frame.start, frame.len(), kind, is_record);
    }

    /// Lets a connection that has ended go for good, where this client sent to it last. Without
    /// this, its socket would stay as long as this client is connected and silent.
    pub(crate) fn forget_stale_route(&mut self) {
        if self.last_dst.as_ref().is_some_and(|last| last.is_gone()) {
            self.last_dst = None;
        }
    }

    /// Turns the ForwardPacket frame at `frame` into a RecvPacket frame, which is a key shorter,
    /// at its end.
    fn on_forward_packet(
        &mut self,
        frame: &Range<usize>,
        hub: &Hub,
        turn: &mut Turn,
    ) -> Result<(), SessionError> {
        self.require_mesh_peer(FrameType::FORWARD_PACKET)?;
        let body = &turn.buf[frame.start + HEADER_LEN..frame.end];
        let Ok(ClientFrame::ForwardPacket { src, dst, packet }) =
            ClientFrame::parse(FrameType::FORWARD_PACKET, body)
        else {
            unreachable!("the scanner saw to it");
        };
        let (kind, len) = (PacketKind::of(packet), packet.len());
        turn.tally.packets_forwarded_in += 1;
        // A forwarded packet goes to a client of this relay or nowhere.
        let peer = match hub.registry.route(&dst) {
            Route::Local(peer) => peer,
            Route::Duplicated => {
                turn.tally.dropped(DropReason::DupClient, kind, len);
                return Ok(());
            }
            Route::Remote(_) | Route::Unknown => {
                turn.tally
                    .dropped(DropReason::UnknownDestOnForward, kind, len);
                // The other relay learns that it has no route here any more.
                self.say_not_here(dst, kind, hub, turn);
                return Ok(());
            }
        };
        hub.registry.note_remote_sent(&src, &peer);
        let start = frame.start + KEY_LEN;
        let header = derp_proto::FrameHeader {
            ty: FrameType::RECV_PACKET,
            len: u32::try_from(KEY_LEN + len).expect("the scanner saw to it"),
        };
        turn.buf[start..start + HEADER_LEN].copy_from_slice(&header.to_bytes());
        turn.buf[start + HEADER_LEN..start + FRAME_OVERHEAD].copy_from_slice(src.as_bytes());
        turn.add(&peer, start, FRAME_OVERHEAD + len, kind, false);
        Ok(())
    }

    /// Tells the client that nobody with this key is here, as the reference does: for path
    /// discovery only, and not too often.
    fn say_not_here(&mut self, dst: NodePublic, kind: PacketKind, hub: &Hub, turn: &mut Turn) {
        if kind != PacketKind::Disco {
            return;
        }
        if self.not_here.is_none()
            && let Some(rate) = hub.tunables().not_here_rate
        {
            self.not_here = Some(Box::new(TokenBucket::of(rate, turn.now)));
        }
        let bucket = self.not_here.as_mut();
        if bucket.is_some_and(|bucket| bucket.take(1.0, turn.now).is_err()) {
            turn.tally.not_here_withheld += 1;
            return;
        }
        self.peer
            .push(|lanes| lanes.push_gone(dst, PeerGoneReason::NOT_HERE));
        self.has_answers = true;
    }

    /// The connection has ended: the client is no longer to be reached here.
    pub(crate) fn leave(self, hub: &Hub) {
        self.hold(0, hub, self.since);
        let gauges = hub.metrics.gauges();
        if self.home {
            gauges.home_connections.sub(1);
        }
        if self.peer.is_not_ideal() {
            gauges.not_ideal_connections.sub(1);
        }
        hub.metrics.tls_versions.goes(self.peer.tls);
        let departure: Departure = hub.registry.unregister(&self.peer, self.sent_to);
        departure.tell(self.peer.key);
    }
}

impl From<DecodeError> for SessionError {
    fn from(error: DecodeError) -> Self {
        Self::Frame(error)
    }
}
