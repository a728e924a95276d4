//! A worker's thread: it waits until any of the connections has something, and has the worker
//! deal with all that do. What is done to a connection is in `worker.rs`.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};

use crate::clock;
use crate::hub::Hub;
use crate::inbox::Inbox;
use crate::tally::Totals;
use crate::worker::Worker;

/// Not a connection's: those are places in a slab.
const WAKER: Token = Token(usize::MAX);
const EVENTS: usize = 256;

/// A worker's poller, and how to reach the worker.
pub(crate) struct Driver {
    poll: Poll,
    pub(crate) inbox: Arc<Inbox>,
}

impl Driver {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let inbox = Arc::new(Inbox::new(move || {
            // It fails only where the poller has gone, and nobody is left to be woken.
            let _gone = waker.wake();
        }));
        Ok(Self { poll, inbox })
    }

    /// Serves connections until it is told to stop.
    pub(crate) fn run(self, hub: Arc<Hub>, totals: Arc<Totals>) -> io::Result<()> {
        let inbox = Arc::clone(&self.inbox);
        let ended = self.start(hub, totals).and_then(Running::run);
        inbox.close();
        ended
    }

    /// The same without a thread: its owner takes the turns.
    pub(crate) fn start(self, hub: Arc<Hub>, totals: Arc<Totals>) -> io::Result<Running> {
        let registry = self.poll.registry().try_clone()?;
        let now = clock::now();
        Ok(Running {
            poll: self.poll,
            events: Events::with_capacity(EVENTS),
            worker: Worker::new(hub, totals, self.inbox, Some(registry), now),
            now,
        })
    }
}

/// A worker with its poller.
pub(crate) struct Running {
    poll: Poll,
    events: Events,
    worker: Worker,
    now: Instant,
}

impl Running {
    fn run(mut self) -> io::Result<()> {
        let mut ended = Ok(());
        while ended.is_ok() && !self.worker.stopped {
            match catch_unwind(AssertUnwindSafe(|| self.turn(None))) {
                Ok(turned) => ended = turned,
                Err(_) => self.worker.start_anew(),
            }
        }
        self.worker.end_all();
        ended
    }

    /// Waits until there is something to do, but not longer than `at_most`, and does all that
    /// there is then.
    pub(crate) fn turn(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        let worker = &mut self.worker;
        let patience = match (worker.patience(self.now), at_most) {
            (Some(patience), Some(at_most)) => Some(patience.min(at_most)),
            (patience, at_most) => patience.or(at_most),
        };
        match self.poll.poll(&mut self.events, patience) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.now = clock::now();
        worker.set_now(self.now);
        let mut asked = false;
        for event in &self.events {
            if event.token() == WAKER {
                asked = true;
                continue;
            }
            let at = event.token().0;
            if event.is_writable() {
                worker.on_writable(at);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                worker.on_readable(at, event.is_read_closed() || event.is_error());
            }
        }
        if asked {
            worker.on_messages();
        }
        worker.on_timers();
        worker.run_ready();
        Ok(())
    }
}
