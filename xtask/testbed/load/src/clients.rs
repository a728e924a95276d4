//! All clients of a run and the events of their sockets, in one thread.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};
use derp_proto::{ClientFrame, NodePublic, ServerFrame};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::conn::{Conn, Progress, READ_BUFFER_LEN};
use crate::login::Target;

const TIMER: Token = Token(usize::MAX);

/// Takes what clients receive.
pub(crate) trait Receiver {
    /// `client` received `packet`, which the relay says came from `src`.
    fn packet(&mut self, client: usize, src: NodePublic, packet: &[u8]) -> Result<()>;

    /// What follows is of another read than what came before.
    fn next_read(&mut self);
}

/// Clients by number, in the order of their login.
pub(crate) struct Clients {
    poll: Poll,
    events: Events,
    buffer: Box<[u8]>,
    timer: OwnedFd,
    all: Vec<Member>,
    outbox: Outbox,
    /// Keep-alives that clients received.
    pub(crate) keep_alives: u64,
}

struct Member {
    conn: Conn,
    /// Whether [`Clients::turn`] reads for it.
    listens: bool,
}

/// Sealed frames of one client that are to be written together. All clients share it, because a
/// buffer for each would be cold whenever its turn comes, and push the relay's out of the cache.
#[derive(Default)]
struct Outbox {
    client: usize,
    sealed: Vec<u8>,
}

impl Clients {
    pub(crate) fn new() -> Result<Self> {
        let poll = Poll::new()?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let source = timer.as_raw_fd();
        poll.registry()
            .register(&mut SourceFd(&source), TIMER, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            buffer: vec![0; READ_BUFFER_LEN].into_boxed_slice(),
            timer,
            all: Vec::new(),
            outbox: Outbox::default(),
            keep_alives: 0,
        })
    }

    /// Logs in one client more and returns its number.
    pub(crate) fn add(&mut self, target: &Target) -> Result<usize> {
        let number = self.all.len();
        let member = self.log_in(target, number)?;
        self.all.push(member);
        Ok(number)
    }

    /// Closes a client's connection and logs in a new client with its number.
    pub(crate) fn replace(&mut self, target: &Target, number: usize) -> Result<()> {
        let conn = &mut self.all[number].conn;
        self.poll.registry().deregister(&mut conn.socket)?;
        conn.socket.shutdown(std::net::Shutdown::Both)?;
        self.all[number] = self.log_in(target, number)?;
        Ok(())
    }

    fn log_in(&self, target: &Target, number: usize) -> Result<Member> {
        let client = target
            .log_in()
            .with_context(|| format!("login of client {number}"))?;
        let mut conn = Conn::new(client)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut conn.socket, Token(number), interest)?;
        Ok(Member {
            conn,
            listens: true,
        })
    }

    pub(crate) fn key(&self, client: usize) -> NodePublic {
        self.all[client].conn.key
    }

    /// Leaves what `client` receives in its socket; see [`Self::read`].
    pub(crate) fn stop_listening(&mut self, client: usize) {
        self.all[client].listens = false;
    }

    /// Sends a frame of `client`. Frames of the same client that follow each other are written by
    /// one call, at the next [`Self::flush`] at the latest.
    pub(crate) fn queue(&mut self, client: usize, frame: &ClientFrame<'_>) -> Result<()> {
        if self.outbox.client != client {
            self.flush()?;
            self.outbox.client = client;
        }
        self.all[client].conn.seal(frame, &mut self.outbox.sealed);
        Ok(())
    }

    /// How many bytes of `client` its socket has not taken yet.
    pub(crate) fn backlog(&self, client: usize) -> usize {
        self.all[client].conn.backlog()
    }

    /// Writes what was queued.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let Outbox { client, sealed } = &mut self.outbox;
        if sealed.is_empty() {
            return Ok(());
        }
        self.all[*client].conn.write(sealed)?;
        sealed.clear();
        Ok(())
    }

    /// Ends a later [`Self::turn`] after `nanos`, more exactly than its timeout can.
    pub(crate) fn wake_in(&self, nanos: u64) -> Result<()> {
        let value = Timespec::try_from(Duration::from_nanos(nanos.max(1)))?;
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: value,
        };
        // Events are edges: an expiry that nobody reads does not repeat, and this call resets it.
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }

    /// Waits until something happens, `timeout` at most, and takes what has arrived.
    pub(crate) fn turn(&mut self, timeout: Duration, to: &mut impl Receiver) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            if event.token() == TIMER {
                continue;
            }
            let client = event.token().0;
            let member = &mut self.all[client];
            if event.is_writable() && member.conn.backlog() > 0 {
                member.conn.flush()?;
            }
            if event.is_readable() && member.listens {
                let keep_alives = &mut self.keep_alives;
                while receive(
                    member,
                    client,
                    &mut self.buffer,
                    usize::MAX,
                    to,
                    keep_alives,
                )? == Progress::MaybeMore
                {}
            }
        }
        Ok(())
    }

    /// Reads at most `limit` bytes for a client that does not listen, and returns how many.
    pub(crate) fn read(
        &mut self,
        client: usize,
        limit: usize,
        to: &mut impl Receiver,
    ) -> Result<usize> {
        let member = &mut self.all[client];
        let before = member.conn.received;
        receive(
            member,
            client,
            &mut self.buffer,
            limit,
            to,
            &mut self.keep_alives,
        )?;
        Ok(member.conn.received - before)
    }
}

fn receive(
    member: &mut Member,
    client: usize,
    buffer: &mut [u8],
    limit: usize,
    to: &mut impl Receiver,
    keep_alives: &mut u64,
) -> Result<Progress> {
    to.next_read();
    member
        .conn
        .receive(buffer, limit, &mut |frame| match frame {
            ServerFrame::RecvPacket { src, packet } => to.packet(client, *src, packet),
            ServerFrame::KeepAlive => {
                *keep_alives += 1;
                Ok(())
            }
            // Whoever exchanged packets with somebody hears that it left.
            ServerFrame::PeerGone { .. }
            | ServerFrame::Health(_)
            | ServerFrame::Unknown(_)
            | ServerFrame::Pong(_) => Ok(()),
            other => anyhow::bail!("a frame that no test asks for: {other:?}"),
        })
}
