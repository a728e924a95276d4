//! Serves many connections: receives what they have, and sends it on. Everything it does to a
//! connection is a plain function call that never waits; `driver.rs` says when.

#[cfg(any(test, feature = "fuzzing"))]
mod probes;

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
use crate::inbound::{Inbound, Progress};
use crate::inbox::{Inbox, Message};
use crate::peer::{ConnId, Peer};
use crate::receive::{Received, understand};
use crate::tally::Totals;
use crate::timers::{Timer, Timers};
use crate::tls13::Opener;
use crate::turn::Turn;
use crate::tx::SendContext;
use crate::wire::Wire;

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
    /// While the connection takes nothing: what had come to its other end, and when.
    delivered: Option<(u32, Instant)>,
    keep_alive: Duration,
}

impl Conn {
    /// Receives what comes behind the rest, unless that is to be understood first. Says how much
    /// it was, and whether the socket is empty now.
    fn receive(&self, buf: &mut [u8]) -> Result<(usize, bool), Next> {
        if self.has_unread_rest && !self.rest.is_empty() {
            return Ok((0, false));
        }
        let wire = self.inbound.peer.wire();
        let wire = wire.expect("workers serve connections with a wire");
        match wire.recv(buf) {
            Ok(0) => Err(Next::End(None)),
            // A short read has emptied the socket; more will be reported, but for its end, which
            // may have been reported already.
            Ok(n) => Ok((n, n < buf.len() && !self.ends)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Next::Wait),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(Next::Again),
            Err(error) => Err(Next::End(Some(error.into()))),
        }
    }

    /// When the client was last seen to take anything, whose connection has not taken anything
    /// since `blocked`. That is no sign by itself: the kernel takes bytes only for many, and then
    /// it may take them of its own accord.
    fn last_took(&mut self, blocked: Instant, now: Instant) -> Instant {
        let Some(delivered) = self.inbound.peer.wire().and_then(Wire::delivered) else {
            return blocked;
        };
        match self.delivered {
            Some((before, since)) if before == delivered => since,
            _ => {
                self.delivered = Some((delivered, now));
                now
            }
        }
    }

    /// Has somebody look when what is unfinished must have come whole.
    fn watch_frame(&mut self, now: Instant, hub: &Hub, timers: &mut Timers) {
        if !self.watches_frame
            && let Some(due) = self.inbound.frame_deadline(hub)
        {
            self.watches_frame = true;
            // What comes behind a long frame may have to be there before that one had to be.
            let look = due.min(now + hub.frame_patience(0));
            timers.set(look, self.inbound.peer.id, Timer::Frame);
        }
    }

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
                Message::Serve(admitted) => {
                    let at = self.conns.vacant_key();
                    self.guard(at, |worker| worker.serve(*admitted, at));
                }
                Message::Drain(id) => self.with_token(id, Self::drain),
                Message::Stalled(id) => self.with_token(id, Self::watch_writes),
                Message::Close(id) => {
                    self.with_token(id, |worker, at| worker.end(at, Some(&SessionError::Closed)));
                }
                Message::FollowLimits => {
                    if !self.is_sound(Self::follow_limits) {
                        self.end_all();
                    }
                }
                Message::Stop => self.stopped = true,
                #[cfg(test)]
                Message::Panic => panic!("a fault of ours"),
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
            self.guard(at, |worker| work(worker, at));
        }
    }

    /// Does something for a connection. A fault of ours in that ends this connection alone.
    fn guard(&mut self, at: usize, work: impl FnOnce(&mut Self)) {
        if !self.is_sound(work) {
            self.is_sound(|worker| worker.end(at, Some(&SessionError::Panicked)));
        }
    }

    /// Does something, and says whether that went without a panic.
    fn is_sound(&mut self, work: impl FnOnce(&mut Self)) -> bool {
        let is_sound = catch_unwind(AssertUnwindSafe(|| work(self))).is_ok();
        if !is_sound {
            self.hub.metrics.gauges().panics.add(1);
        }
        is_sound
    }

    /// A client has logged in: it is to be reached from now on, and has this place.
    fn serve(&mut self, mut admitted: Admitted, at: usize) {
        let now = self.turn.now;
        let id = admitted.peer.id;
        let inbound = admitted.inbound(&self.hub, now);
        if let Err(error) = self.poll_for(at, &admitted.peer) {
            tracing::warn!(conn = %id, %error, "cannot poll a connection");
            admitted
                .peer
                .closed(&mut self.turn.scratch, &mut self.turn.tally);
            self.inbox.load.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.tokens.insert(id, at);
        let token = self.conns.insert(Conn {
            inbound,
            opener: admitted.opener.take(),
            rest: std::mem::take(&mut admitted.rest),
            is_ready: false,
            has_unread_rest: true,
            ends: false,
            resume_at: None,
            watches_frame: false,
            delivered: None,
            keep_alive: admitted.keep_alive,
        });
        debug_assert_eq!(token, at, "it is the vacant one");
        admitted.enter(&self.hub);
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
            self.guard(at, |worker| worker.drain(at));
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
            // The poller reports room only where there is much of it. There may be some, and the
            // connection may end at that.
            self.drain(at);
            due = peer.write_deadline(patience);
        }
        let Some(conn) = self.conns.get_mut(at) else {
            return;
        };
        let (Some(due), Some(patience)) = (due, patience) else {
            conn.delivered = None;
            return;
        };
        let (blocked, now) = (due - patience, self.turn.now);
        let due = conn.last_took(blocked, now) + patience;
        if due <= now {
            self.hub.metrics.gauges().write_timeouts.add(1);
            self.end(at, Some(&SessionError::WriteTimeout(patience)));
            return;
        }
        // What the other end's kernel still takes counts from when it is seen: at first it does take
        // something, so that it is looked at soon, and then again before the end.
        let soon = blocked + patience / 4;
        let next = if now < soon { soon } else { now + patience / 2 };
        self.timers.set(due.min(next), peer.id, Timer::Write);
    }

    /// Does what is due, as far as one turn goes.
    pub(crate) fn on_timers(&mut self) {
        let now = self.turn.now;
        for _ in 0..TIMERS_PER_TURN {
            let Some((id, timer)) = self.timers.pop(now) else {
                return;
            };
            self.with_token(id, |worker, at| worker.on_timer(at, timer, now));
        }
    }

    fn on_timer(&mut self, at: usize, timer: Timer, now: Instant) {
        let Some(conn) = self.conns.get_mut(at) else {
            return;
        };
        let id = conn.inbound.peer.id;
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
                match conn.inbound.frame_deadline(&self.hub) {
                    Some(due) if due <= now && !conn.is_kept_waiting() => {
                        self.hub.metrics.gauges().frame_timeouts.add(1);
                        self.end(at, Some(&SessionError::UnfinishedFrame));
                    }
                    Some(due) => {
                        conn.watches_frame = true;
                        let look = due.min(now + self.hub.frame_patience(0));
                        let look = look.max(now + Duration::from_secs(1));
                        self.timers.set(look, id, Timer::Frame);
                    }
                    None => {}
                }
            }
            Timer::Resume => {
                if conn.resume_at.is_some_and(|resume_at| now >= resume_at) {
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
            self.guard(at, |worker| match worker.read(at) {
                Next::Wait => {
                    if let Some(conn) = worker.conns.get_mut(at) {
                        conn.is_ready = false;
                    }
                }
                Next::Again => worker.ready.push_back(at),
                Next::End(why) => worker.end(at, why.as_ref()),
            });
        }
        if self.turn.is_empty() {
            self.turn.settle(&self.hub, &self.totals);
        } else {
            self.flush();
        }
    }

    /// Sends what the turn holds, and counts it.
    fn flush(&mut self) {
        if !self.is_sound(|worker| worker.turn.flush(&worker.hub, &worker.totals)) {
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
        let (received, drained) = match conn.receive(&mut turn.buf[behind_rest..end]) {
            Ok(received) => received,
            Err(next) => return next,
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
        conn.watch_frame(turn.now, &self.hub, &mut self.timers);
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
        self.inbox.load.fetch_sub(1, Ordering::Relaxed);
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
            self.guard(at, |worker| worker.end(at, Some(&SessionError::Closed)));
        }
        self.turn.settle(&self.hub, &self.totals);
    }

    /// A fault of ours that is no connection's: all of this worker's end, and it goes on with others.
    pub(crate) fn start_anew(&mut self) {
        self.hub.metrics.gauges().panics.add(1);
        self.turn.clear();
        self.is_sound(Self::end_all);
    }
}
