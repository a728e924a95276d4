//! Serves one client over any stream, as one task: TLS 1.2, WebSocket, and streams that an
//! embedder brings. The same rules as a worker's, with more memory and more wake-ups.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

use crate::admitted::{Admitted, Rest};
use crate::clock;
use crate::error::SessionError;
use crate::hub::Hub;
use crate::inbound::{Inbound, Progress};
use crate::receive::{Received, understand};
use crate::turn::Turn;

thread_local! {
    /// The working memory of all tasks that run on this thread.
    static TURN: RefCell<Option<Box<Turn>>> = const { RefCell::new(None) };
}

/// How many reads and writes a task does before it lets others run.
const BUDGET: usize = 4;
/// How long a stream may take to end in its own way, as WebSocket and TLS do.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves `admitted` over `stream` until one of them ends.
///
/// Dropping the future ends the session as well: the client is no longer to be reached.
pub(crate) async fn serve<S>(
    stream: S,
    admitted: Admitted,
    hub: Arc<Hub>,
) -> Result<(), SessionError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let now = clock::now();
    let limits = hub.rates.changes();
    let inbound = admitted.inbound(&hub, now);
    let peer = Arc::clone(&admitted.peer);
    admitted.enter(&hub);
    let keep_alive = admitted.keep_alive;
    let mut driver = Driver {
        stream,
        session: Session {
            inbound: Some(inbound),
            hub,
        },
        rest: admitted.rest,
        has_unread_rest: true,
        out: Vec::new(),
        written: 0,
        needs_flush: false,
        blocked_since: None,
        paused_until: None,
        limits,
        keep_alive,
        keep_alive_at: now + keep_alive,
        sleep: Box::pin(tokio::time::sleep_until((now + keep_alive).into())),
    };
    let result = poll_fn(|cx| driver.poll(cx)).await;
    // It is gone for everybody else, and so is what it held.
    drop((driver.session, driver.rest, driver.out));
    // How it takes the goodbye is of no interest.
    let _ended = tokio::time::timeout(GOODBYE, driver.stream.shutdown()).await;
    let why = result
        .as_ref()
        .err()
        .map_or_else(String::new, ToString::to_string);
    tracing::debug!(conn = %peer.id, client = ?peer.key, why, "client left");
    result
}

/// The client's place in the registry, given up however the task ends.
struct Session {
    inbound: Option<Inbound>,
    hub: Arc<Hub>,
}

impl Session {
    fn inbound(&mut self) -> &mut Inbound {
        self.inbound
            .as_mut()
            .expect("it is taken only when the session is dropped")
    }

    fn frame_deadline(&self) -> Option<Instant> {
        self.inbound.as_ref()?.frame_deadline(&self.hub)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(inbound) = self.inbound.take() else {
            return;
        };
        let peer = Arc::clone(&inbound.peer);
        inbound.leave(&self.hub);
        let mut tally = crate::tally::Tally::default();
        peer.closed(&mut Vec::new(), &mut tally);
        self.hub.metrics.totals(0).add(&mut tally);
    }
}

struct Driver<S> {
    stream: S,
    session: Session,
    rest: Rest,
    has_unread_rest: bool,
    /// Frames that have left the lanes, as many as are fetched at a time.
    out: Vec<u8>,
    written: usize,
    needs_flush: bool,
    blocked_since: Option<Instant>,
    paused_until: Option<Instant>,
    /// The change of limits that the client has come under.
    limits: u64,
    keep_alive: Duration,
    keep_alive_at: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionError>> {
        loop {
            let now = clock::now();
            self.on_time(now)?;
            let wrote = self.write(now, cx)?;
            self.check_write_time(now)?;
            // What others ask of this task is looked at behind the write: that has sent what was
            // said in front of it, and has left them something to wake the task by.
            let is_written = wrote == Work::Done && self.out.is_empty() && !self.needs_flush;
            let peer = &self.session.inbound().peer;
            if peer.is_gone() || is_written && peer.can_leave() {
                return Poll::Ready(Err(SessionError::Closed));
            }
            self.follow_limits(now);
            let Poll::Ready(read) = self.read(now, cx)? else {
                return Poll::Ready(Ok(()));
            };
            if wrote == Work::BudgetSpent || read == Work::BudgetSpent {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // Answers to what was read wait now.
            if self.session.inbound().take_has_answers() && self.blocked_since.is_none() {
                continue;
            }
            let next = self.next_deadline();
            self.sleep.as_mut().reset(next.into());
            ready!(self.sleep.as_mut().poll(cx));
        }
    }

    /// Takes changed limits over, and goes on by them.
    fn follow_limits(&mut self, now: Instant) {
        let Session { inbound, hub } = &mut self.session;
        let limits = hub.rates.changes();
        if std::mem::replace(&mut self.limits, limits) == limits {
            return;
        }
        let inbound = inbound.as_mut().expect("the session lasts");
        inbound.follow_limits(hub, now);
        if self.paused_until.take().is_some() {
            self.has_unread_rest = true;
        }
    }

    /// Does what is due.
    fn on_time(&mut self, now: Instant) -> Result<(), SessionError> {
        let Session { inbound, hub } = &mut self.session;
        let inbound = inbound.as_mut().expect("the session lasts");
        if self.keep_alive_at <= now {
            inbound.forget_stale_route();
            inbound.peer.push(crate::lanes::Lanes::push_keep_alive);
            self.keep_alive_at = now + self.keep_alive;
        }
        let is_paused = self.paused_until.is_some();
        if !is_paused && inbound.frame_deadline(hub).is_some_and(|at| at <= now) {
            hub.metrics.gauges().frame_timeouts.add(1);
            return Err(SessionError::UnfinishedFrame);
        }
        if self.paused_until.is_some_and(|at| at <= now) {
            self.paused_until = None;
            self.has_unread_rest = true;
        }
        Ok(())
    }

    /// Judged behind a write, so that a stream that takes a little has taken it.
    fn check_write_time(&mut self, now: Instant) -> Result<(), SessionError> {
        if let (Some(since), Some(patience)) = (self.blocked_since, self.patience())
            && since + patience <= now
        {
            self.session.hub.metrics.gauges().write_timeouts.add(1);
            return Err(SessionError::WriteTimeout(patience));
        }
        Ok(())
    }

    fn patience(&mut self) -> Option<Duration> {
        let is_mesh_peer = self.session.inbound().peer.is_mesh_peer();
        self.session.hub.tunables().write_patience(is_mesh_peer)
    }

    fn next_deadline(&mut self) -> Instant {
        let blocked = self.blocked_since;
        let patience = blocked.and_then(|_| self.patience());
        let write = blocked
            .zip(patience)
            .map(|(since, patience)| since + patience);
        let frame = match self.paused_until {
            None => self.session.frame_deadline(),
            Some(_) => None,
        };
        [write, frame, self.paused_until]
            .into_iter()
            .flatten()
            .fold(self.keep_alive_at, Instant::min)
    }

    /// Writes what waits, as far as the stream takes it.
    fn write(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<Work, SessionError> {
        let mut budget = BUDGET;
        loop {
            if self.written < self.out.len() {
                let bytes = &self.out[self.written..];
                match Pin::new(&mut self.stream).poll_write(cx, bytes)? {
                    Poll::Ready(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                    Poll::Ready(n) => {
                        self.written += n;
                        self.blocked_since = None;
                        continue;
                    }
                    Poll::Pending => {
                        self.blocked_since.get_or_insert(now);
                        self.session.inbound().peer.stuck(cx.waker());
                        return Ok(Work::Done);
                    }
                }
            }
            self.out.clear();
            self.written = 0;
            if budget == 0 {
                return Ok(Work::BudgetSpent);
            }
            budget -= 1;
            let mut tally = crate::tally::Tally::default();
            let peer = &self
                .session
                .inbound
                .as_ref()
                .expect("the session lasts")
                .peer;
            let fetched = peer.fetch(now, cx.waker(), &mut self.out, &mut tally);
            tally.writes += u64::from(fetched);
            self.session.hub.metrics.totals(0).add(&mut tally);
            if fetched {
                self.needs_flush = true;
                continue;
            }
            if self.needs_flush {
                match Pin::new(&mut self.stream).poll_flush(cx)? {
                    Poll::Ready(()) => {
                        self.needs_flush = false;
                        self.blocked_since = None;
                    }
                    Poll::Pending => {
                        self.blocked_since.get_or_insert(now);
                    }
                }
            }
            if self.out.capacity() > 0 {
                self.out = Vec::new();
            }
            return Ok(Work::Done);
        }
    }

    /// Reads what is there. Pending is never returned: the error-free end of the stream is.
    fn read(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<Poll<Work>, SessionError> {
        if self.paused_until.is_some() {
            return Ok(Poll::Ready(Work::Done));
        }
        TURN.with_borrow_mut(|turn| {
            let turn = turn.get_or_insert_with(|| Box::new(Turn::new(now)));
            turn.now = now;
            for _ in 0..BUDGET {
                match self.read_once(turn, cx)? {
                    Reading::More => {}
                    Reading::Empty => return Ok(Poll::Ready(Work::Done)),
                    Reading::End => return Ok(Poll::Pending),
                }
            }
            Ok(Poll::Ready(Work::BudgetSpent))
        })
    }

    fn read_once(
        &mut self,
        turn: &mut Turn,
        cx: &mut Context<'_>,
    ) -> Result<Reading, SessionError> {
        // Another task may have panicked, and left something that is not to be sent.
        turn.clear();
        let behind_rest = self.rest.len();
        let room = self.session.inbound().read_size();
        let end = turn.buf.len().min(behind_rest + room);
        // What has come already is understood before more is received.
        let received = if self.has_unread_rest && !self.rest.is_empty() {
            0
        } else {
            let mut buf = ReadBuf::new(&mut turn.buf[behind_rest..end]);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf)? {
                Poll::Ready(()) if buf.filled().is_empty() => return Ok(Reading::End),
                Poll::Ready(()) => buf.filled().len(),
                Poll::Pending => return Ok(Reading::Empty),
            }
        };
        self.has_unread_rest = false;
        turn.buf[..behind_rest].copy_from_slice(self.rest.bytes());
        let where_ = (0, self.rest.plain_len(), behind_rest + received);
        turn.used = where_.2;
        let Session { inbound, hub } = &mut self.session;
        let inbound = inbound.as_mut().expect("the session lasts");
        let result = understand(inbound, None, where_, hub, turn);
        // What came before a fault is delivered.
        turn.flush(hub, hub.metrics.totals(0));
        let Received { rest, progress, .. } = result.inspect_err(|_| {
            hub.metrics.gauges().protocol_errors.add(1);
        })?;
        self.rest = rest;
        if let Progress::Until(at) = progress {
            self.paused_until = Some(at);
            return Ok(Reading::Empty);
        }
        Ok(Reading::More)
    }
}

/// How a bounded piece of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// There is no more of it now, and the task will be woken when there is.
    Done,
    BudgetSpent,
}

enum Reading {
    More,
    Empty,
    End,
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use derp_proto::{
        ClientFrame, FrameDecoder, FrameType, NodePublic, PeerPresentFlags, ServerSide,
    };
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::forwarder::{Forwarder, Refused};
    use crate::peer::Peer;
    use crate::sim::{Sim, key};
    use crate::tunables::Tunables;

    #[derive(Debug)]
    struct Faulty;

    impl Forwarder for Faulty {
        fn forward(&self, _: NodePublic, _: NodePublic, _: &[u8]) -> Result<(), Refused> {
            panic!("a fault of an embedder's code");
        }
    }

    fn connect(hub: &Arc<Hub>, n: u8) -> (DuplexStream, JoinHandle<Result<(), SessionError>>) {
        let (flags, queued) = (PeerPresentFlags::REGULAR, Arc::clone(&hub.queued));
        let admitted = Admitted {
            peer: Peer::of_task(key(n), hub.next_conn(), flags, queued),
            server_info: vec![FrameType::SERVER_INFO.0, 0, 0, 0, 1, 7],
            opener: None,
            rest: Rest::default(),
            terms: None,
            keep_alive: Duration::from_secs(60),
        };
        let (ours, theirs) = duplex(64 << 10);
        let task = tokio::spawn(serve(theirs, admitted, Arc::clone(hub)));
        (ours, task)
    }

    fn packets(to: &[u8]) -> Vec<u8> {
        let mut frames = Vec::new();
        for to in to {
            let (dst, packet) = (key(*to), &b"packet"[..]);
            ClientFrame::SendPacket { dst, packet }.encode(&mut frames);
        }
        frames
    }

    #[tokio::test]
    async fn what_a_task_leaves_that_panics_is_sent_to_nobody() {
        let hub = Sim::new(Tunables::default()).hub;
        hub.registry.add_forwarder(key(9), Arc::new(Faulty));
        let (mut receiver, _task) = connect(&hub, 1);
        assert!(receiver.read_u8().await.is_ok(), "it is registered");
        let (mut faulty, task) = connect(&hub, 2);
        faulty
            .write_all(&packets(&[1, 9]))
            .await
            .expect("there is room");
        assert!(task.await.is_err_and(|error| error.is_panic()));
        let (mut sender, task) = connect(&hub, 3);
        sender
            .write_all(&packets(&[1]))
            .await
            .expect("there is room");
        sender.shutdown().await.expect("the pipe is ours");
        assert!(task.await.is_ok());
        for peer in hub.registry.all() {
            peer.close();
        }
        let mut received = BytesMut::from(&[FrameType::SERVER_INFO.0][..]);
        while receiver.read_buf(&mut received).await.is_ok_and(|n| n > 0) {}
        let mut decoder = FrameDecoder::<ServerSide>::new();
        let frames = std::iter::from_fn(|| decoder.decode(&mut received).expect("whole frames"));
        let packets = frames.filter(|frame| frame.ty == FrameType::RECV_PACKET);
        assert_eq!(packets.count(), 1, "of the two that were sent");
    }
}
