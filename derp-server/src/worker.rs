//! Serves many connections: receives what they have, and sends it on. Everything it does to a
//! connection is a plain function call that never waits; `driver.rs` says when.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Token};
use slab::Slab;

use crate::admitted::{Admitted, Rest};
use crate::error::SessionError;
use crate::hub::Hub;
use crate::inbound::{FRAME_PATIENCE, Inbound, Progress};
use crate::inbox::{Inbox, Message};
use crate::peer::{ConnId, Peer};
use crate::receive::{Received, understand};
use crate::tally::Totals;
use crate::timers::{Timer, Timers};
use crate::tls13::Opener;
use crate::turn::Turn;
use crate::tx::SendContext;

/// How many timers are dealt with before connections are read again, so that packets do not wait
/// while thousands of clients are told that the relay is there.
const TIMERS_PER_TURN: usize = 64;

/// A connection that this worker serves.
#[derive(Debug)]
struct Conn {
    inbound: Inbound,
    opener: Option<Box<Opener>>,
    rest: Rest,
    /// It is in the list of those to be read.
    is_ready: bool,
    /// The rest has to be understood even where nothing more is received.
    has_unread_rest: bool,
    /// The peer has sent its last byte; it may still be on its way through the socket.
    ends: bool,
    /// Its limit is reached, and a timer will tell when to go on. Timers for other moments were
    /// set under limits that hold no longer.
    resume_at: Option<Instant>,
    watches_frame: bool,
    keep_alive: Duration,
}

impl Conn {
    /// The relay has not looked at all that has come: the client cannot finish anything.
    const fn is_kept_waiting(&self) -> bool {
        self.resume_at.is_some() || self.has_unread_rest
    }
}

/// What is left to do for a connection after it was read.
enum Next {
    /// Nothing, until the socket has something.
    Wait,
    /// More may be there.
    Again,
    /// It is over.
    End(Option<SessionError>),
}

/// The state of a worker, apart from the thread and the poller that drive it.
#[derive(Debug)]
pub(crate) struct Worker {
    hub: Arc<Hub>,
    totals: Arc<Totals>,
    inbox: Arc<Inbox>,
    /// `None` where a simulation says what is ready.
    registry: Option<mio::Registry>,
    /// By their tokens, which is how the poller names them. Bounded, as all clients are, by
    /// `Tunables::max_clients`; so are the two below.
    conns: Slab<Conn>,
    /// By their numbers, which is how everybody else does.
    tokens: HashMap<ConnId, usize, ahash::RandomState>,
    ready: VecDeque<usize>,
    timers: Timers,
    turn: Turn,
    /// It has been told to stop.
    pub(crate) stopped: bool,
}

impl Worker {
    pub(crate) fn new(
        hub: Arc<Hub>,
        totals: Arc<Totals>,
        inbox: Arc<Inbox>,
        registry: Option<mio::Registry>,
        now: Instant,
    ) -> Self {
        Self {
            hub,
            totals,
            inbox,
            registry,
            conns: Slab::new(),
            tokens: HashMap::default(),
            ready: VecDeque::new(),
            timers: Timers::new(now),
            turn: Turn::new(now),
            stopped: false,
        }
    }

    fn context(&self) -> SendContext {
        SendContext {
            now: self.turn.now,
            depth: self.hub.lane_depth(),
        }
    }

    /// The time has come to be `now`.
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.turn.now = now;
    }

    /// Does what others ask.
    pub(crate) fn on_messages(&mut self) {
        for message in self.inbox.take() {
            match message {
                Message::Serve(admitted) => self.serve(*admitted),
                Message::Drain(id) => self.with_token(id, Self::drain),
                Message::Stalled(id) => self.with_token(id, Self::watch_writes),
                Message::Close(id) => {
                    self.with_token(id, |worker, at| worker.end(at, Some(&SessionError::Closed)));
                }
                Message::FollowLimits => self.follow_limits(),
                Message::Stop => self.stopped = true,
            }
        }
    }

    /// Limits everybody anew. Whoever waits for the former limit goes on by this one.
    fn follow_limits(&mut self) {
        let mut paused = Vec::new();
        for (at, conn) in &mut self.conns {
            conn.inbound.follow_limits(&self.hub, self.turn.now);
            if conn.resume_at.take().is_some() {
                conn.has_unread_rest = true;
                paused.push(at);
            }
        }
        for at in paused {
            self.on_readable(at, false);
        }
    }

    /// Does something to a connection, if it is still there.
    fn with_token(&mut self, id: ConnId, work: impl FnOnce(&mut Self, usize)) {
        if let Some(at) = self.tokens.get(&id).copied() {
            work(self, at);
        }
    }

    /// A client has logged in: it is to be reached from now on.
    fn serve(&mut self, admitted: Admitted) {
        let now = self.turn.now;
        let id = admitted.peer.id;
        let inbound = admitted.inbound(&self.hub, now);
        let at = self.conns.vacant_key();
        if let Err(error) = self.poll_for(at, &admitted.peer) {
            tracing::warn!(conn = %id, %error, "cannot poll a connection");
            admitted
                .peer
                .closed(&mut self.turn.scratch, &mut self.turn.tally);
            self.inbox.load.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        // What tells the client that it is admitted waits in front of all that others send it
        // from the moment on in which it is registered.
        admitted
            .peer
            .push(|lanes| lanes.push_encoded(&admitted.server_info));
        if let Some(surplus) = self.hub.registry.register(&admitted.peer) {
            tracing::debug!(conn = %surplus.id, client = ?surplus.key, "one connection too many");
            surplus.close();
        }
        // Whoever ends the server closes all that is registered, and it may have begun before.
        if self.hub.is_stopping() {
            admitted.peer.close();
        }
        if admitted.is_not_ideal {
            self.hub.metrics.gauges().not_ideal_connections.add(1);
        }
        self.tokens.insert(id, at);
        let token = self.conns.insert(Conn {
            inbound,
            opener: admitted.opener,
            rest: admitted.rest,
            is_ready: false,
            has_unread_rest: true,
            ends: false,
            resume_at: None,
            watches_frame: false,
            keep_alive: admitted.keep_alive,
        });
        debug_assert_eq!(token, at, "it is the vacant one");
        self.timers
            .set(now + admitted.keep_alive, id, Timer::KeepAlive);
        self.drain(at);
        self.on_readable(at, false);
    }

    fn poll_for(&self, at: usize, peer: &Peer) -> io::Result<()> {
        let (Some(registry), Some(fd)) =
            (&self.registry, peer.wire().and_then(|wire| wire.poll_fd()))
        else {
            return Ok(());
        };
        // Edge-triggered, and once for both directions: a send that finds the socket full makes
        // the kernel report when it is not, whichever thread sent.
        registry.register(
            &mut SourceFd(&fd),
            Token(at),
            Interest::READABLE | Interest::WRITABLE,
        )
    }

    /// The socket has something to receive; `ends` says that it is the last.
    pub(crate) fn on_readable(&mut self, at: usize, ends: bool) {
        let Some(conn) = self.conns.get_mut(at) else {
            return;
        };
        conn.ends |= ends;
        if !conn.is_ready && conn.resume_at.is_none() {
            conn.is_ready = true;
            self.ready.push_back(at);
        }
    }

    /// The socket takes bytes again.
    pub(crate) fn on_writable(&mut self, at: usize) {
        // A socket that takes bytes is reported with everything else that happens to it.
        if self.conns.get(at).is_some_and(|conn| {
            let peer = &conn.inbound.peer;
            peer.held() > 0 || peer.is_leaving()
        }) {
            self.drain(at);
        }
    }

    fn drain(&mut self, at: usize) {
        let context = self.context();
        let Some(conn) = self.conns.get(at) else {
            return;
        };
        let peer = &conn.inbound.peer;
        peer.drain(context, &mut self.turn.scratch, &mut self.turn.tally);
        if peer.can_leave() {
            self.end(at, Some(&SessionError::Closed));
        }
    }

    fn watch_writes(&mut self, at: usize) {
        let Some(conn) = self.conns.get(at) else {
            return;
        };
        let peer = Arc::clone(&conn.inbound.peer);
        let patience = self.hub.tunables().write_patience(peer.is_mesh_peer());
        let mut due = peer.write_deadline(patience);
        if due.is_some_and(|due| due <= self.turn.now) {
            // The poller reports room only where there is much of it. Whether a slow client has
            // taken a little since is for the connection to say, which may end at that.
            self.drain(at);
            if !self.conns.contains(at) {
                return;
            }
            due = peer.write_deadline(patience);
        }
        match (due, patience) {
            (Some(due), Some(patience)) if due <= self.turn.now => {
                self.hub.metrics.gauges().write_timeouts.add(1);
                self.end(at, Some(&SessionError::WriteTimeout(patience)));
            }
            (Some(due), _) => self.timers.set(due, peer.id, Timer::Write),
            (None, _) => {}
        }
    }

    /// Does what is due, as far as one turn goes.
    pub(crate) fn on_timers(&mut self) {
        let now = self.turn.now;
        for _ in 0..TIMERS_PER_TURN {
            let Some((id, timer)) = self.timers.pop(now) else {
                return;
            };
            let Some(at) = self.tokens.get(&id).copied() else {
                continue;
            };
            let Some(conn) = self.conns.get_mut(at) else {
                continue;
            };
            match timer {
                Timer::KeepAlive => {
                    conn.inbound.forget_stale_route();
                    conn.inbound.peer.push(crate::lanes::Lanes::push_keep_alive);
                    self.timers.set(now + conn.keep_alive, id, Timer::KeepAlive);
                    self.drain(at);
                }
                Timer::Write => self.watch_writes(at),
                Timer::Frame => {
                    conn.watches_frame = false;
                    match conn.inbound.frame_deadline() {
                        Some(due) if due <= now && !conn.is_kept_waiting() => {
                            self.hub.metrics.gauges().frame_timeouts.add(1);
                            self.end(at, Some(&SessionError::UnfinishedFrame));
                        }
                        Some(due) => {
                            conn.watches_frame = true;
                            let look =
                                due.clamp(now + Duration::from_secs(1), now + FRAME_PATIENCE);
                            self.timers.set(look, id, Timer::Frame);
                        }
                        None => {}
                    }
                }
                Timer::Resume => {
                    if conn.resume_at.is_none_or(|resume_at| now < resume_at) {
                        continue;
                    }
                    conn.resume_at = None;
                    conn.has_unread_rest = true;
                    self.on_readable(at, false);
                }
            }
        }
    }

    /// Reads each connection that is ready once, and sends on what they sent.
    pub(crate) fn run_ready(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(at) = self.ready.pop_front() else {
                break;
            };
            let rest = self.conns.get(at).map_or(0, |conn| conn.rest.len());
            if !self.turn.has_room(rest) {
                self.flush();
            }
            // A fault of ours in one connection's code ends that connection alone.
            let next = catch_unwind(AssertUnwindSafe(|| self.read(at)));
            match next {
                Ok(Next::Wait) => {
                    if let Some(conn) = self.conns.get_mut(at) {
                        conn.is_ready = false;
                    }
                }
                Ok(Next::Again) => self.ready.push_back(at),
                Ok(Next::End(why)) => self.end(at, why.as_ref()),
                Err(_) => {
                    self.hub.metrics.gauges().panics.add(1);
                    self.end(at, Some(&SessionError::Panicked));
                }
            }
        }
        if self.turn.is_empty() {
            self.turn.settle(&self.hub, &self.totals);
        } else {
            self.flush();
        }
    }

    /// Sends what the turn holds, and counts it.
    fn flush(&mut self) {
        let turn = &mut self.turn;
        if catch_unwind(AssertUnwindSafe(|| turn.flush(&self.hub, &self.totals))).is_err() {
            self.hub.metrics.gauges().panics.add(1);
            self.turn.clear();
            self.turn.settle(&self.hub, &self.totals);
        }
    }

    fn read(&mut self, at: usize) -> Next {
        // Its place may have been given to another since it was ready.
        let Some(conn) = self.conns.get_mut(at).filter(|conn| conn.is_ready) else {
            return Next::Wait;
        };
        let turn = &mut self.turn;
        let base = turn.used;
        let behind_rest = base + conn.rest.len();
        let room = conn.inbound.read_size();
        let end = turn.buf.len().min(behind_rest + room);
        let wire = conn
            .inbound
            .peer
            .wire()
            .expect("workers serve connections with a wire");
        // What has come already is understood before more is received.
        let only_rest = conn.has_unread_rest && !conn.rest.is_empty();
        let (received, drained) = if only_rest {
            (0, false)
        } else {
            match wire.recv(&mut turn.buf[behind_rest..end]) {
                Ok(0) => return Next::End(None),
                // A short read has emptied the socket; more will be reported, but for its end,
                // which may have been reported already.
                Ok(n) => (n, behind_rest + n < end && !conn.ends),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Next::Wait,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Next::Again,
                Err(error) => return Next::End(Some(error.into())),
            }
        };
        conn.has_unread_rest = false;
        turn.buf[base..behind_rest].copy_from_slice(conn.rest.bytes());
        let end = behind_rest + received;
        let where_ = (base, conn.rest.plain_len(), end);
        // From here on the turn may refer to these bytes.
        turn.used = end;
        let result = understand(
            &mut conn.inbound,
            conn.opener.as_deref_mut(),
            where_,
            &self.hub,
            turn,
        );
        let Received {
            rest,
            progress,
            closed,
        } = match result {
            Ok(received) => received,
            Err(error) => {
                self.hub.metrics.gauges().protocol_errors.add(1);
                return Next::End(Some(error));
            }
        };
        conn.rest = rest;
        if closed {
            return Next::End(None);
        }
        if !conn.watches_frame
            && let Some(due) = conn.inbound.frame_deadline()
        {
            conn.watches_frame = true;
            // What comes behind a long frame may have to be there before that one had to be.
            let look = due.min(turn.now + FRAME_PATIENCE);
            self.timers.set(look, conn.inbound.peer.id, Timer::Frame);
        }
        if conn.inbound.take_has_answers() {
            let context = SendContext {
                now: turn.now,
                depth: self.hub.lane_depth(),
            };
            conn.inbound
                .peer
                .drain(context, &mut turn.scratch, &mut turn.tally);
        }
        if let Progress::Until(due) = progress {
            conn.resume_at = Some(due);
            self.timers.set(due, conn.inbound.peer.id, Timer::Resume);
            return Next::Wait;
        }
        if drained { Next::Wait } else { Next::Again }
    }

    /// A connection is over.
    fn end(&mut self, at: usize, why: Option<&SessionError>) {
        let Some(conn) = self.conns.try_remove(at) else {
            return;
        };
        let peer = Arc::clone(&conn.inbound.peer);
        let id = peer.id;
        self.tokens.remove(&id);
        self.timers
            .forget(self.conns.len(), |id| !self.tokens.contains_key(&id));
        let (packets, bytes) = conn.inbound.peer.ledger.received();
        if let (Some(registry), Some(fd)) =
            (&self.registry, peer.wire().and_then(|wire| wire.poll_fd()))
        {
            // The descriptor stays open while anybody refers to the client; it must not be
            // reported any more. An error says that it is not.
            let _unknown = registry.deregister(&mut SourceFd(&fd));
        }
        // What this turn holds for the client, and from it, is delivered before it leaves.
        if !self.turn.is_empty() {
            self.flush();
        }
        conn.inbound.leave(&self.hub);
        peer.closed(&mut self.turn.scratch, &mut self.turn.tally);
        self.inbox.load.fetch_sub(1, Ordering::Relaxed);
        let why = why.map_or_else(String::new, ToString::to_string);
        tracing::debug!(conn = %id, client = ?peer.key, packets, bytes, why, "client left");
    }

    /// How long the worker may wait for its sockets.
    pub(crate) fn patience(&self, now: Instant) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers
            .next()
            .map(|at| at.saturating_duration_since(now))
    }

    /// Ends all connections.
    pub(crate) fn end_all(&mut self) {
        for at in self.conns.iter().map(|(at, _)| at).collect::<Vec<_>>() {
            self.end(at, Some(&SessionError::Closed));
        }
        self.turn.settle(&self.hub, &self.totals);
    }

    /// What the poller would report of everybody, and more.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn on_everything(&mut self) {
        for at in self.conns.iter().map(|(at, _)| at).collect::<Vec<_>>() {
            self.on_writable(at);
            self.on_readable(at, false);
        }
    }

    /// What an edge-triggered poller reports, of connections in memory; says whether it was
    /// anything.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn on_events(&mut self) -> bool {
        let mut any = false;
        for at in self.conns.iter().map(|(at, _)| at).collect::<Vec<_>>() {
            let peer = &self.conns[at].inbound.peer;
            let Some(crate::wire::Wire::Memory(wire)) = peer.wire() else {
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
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The numbers of its connections.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn conn_ids(&self) -> Vec<ConnId> {
        let ids = self.conns.iter().map(|(_, conn)| conn.inbound.peer.id);
        ids.collect()
    }

    /// What its connections have not finished, but for mesh peers'.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn held_unfinished(&self) -> usize {
        let conns = self.conns.iter().map(|(_, conn)| conn);
        conns
            .filter(|conn| !conn.inbound.peer.is_mesh_peer())
            .map(|conn| conn.rest.len())
            .sum()
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn conns(&self) -> usize {
        self.conns.len()
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn timers(&self) -> usize {
        self.timers.len()
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn next_timer(&self) -> Option<Instant> {
        self.timers.next()
    }
}
