//! What others ask of a worker.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use crate::admitted::Admitted;
use crate::peer::ConnId;
use crate::shared::{AtomicBool, AtomicUsize, Mutex};

/// A request to a worker.
#[derive(Debug)]
pub(crate) enum Message {
    /// A client has logged in: serve it.
    Serve(Box<Admitted>),
    /// Something waits for this client.
    Drain(ConnId),
    /// This client's connection takes nothing: watch the time.
    Stalled(ConnId),
    /// End this client's connection.
    Close(ConnId),
    /// Other limits hold for what clients may send.
    FollowLimits,
    /// End all connections and stop.
    Stop,
    /// Fail, outside of any connection.
    #[cfg(test)]
    Panic,
}

/// The mailbox of one worker, bounded by its clients: each has few requests at a time, and new
/// ones come no faster than they log in.
pub(crate) struct Inbox {
    /// `None` once the worker has ended.
    messages: Mutex<Option<Vec<Message>>>,
    /// Set while the worker knows that it has to look.
    announced: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
    /// How many connections the worker serves, for choosing the least loaded.
    pub(crate) load: AtomicUsize,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox")
            .field("load", &self.load)
            .finish_non_exhaustive()
    }
}

impl Inbox {
    /// A mailbox whose worker is woken by `wake`.
    pub(crate) fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            messages: Mutex::new(Some(Vec::new())),
            announced: AtomicBool::new(false),
            wake: Box::new(wake),
            load: AtomicUsize::new(0),
        }
    }

    fn messages(&self) -> MutexGuard<'_, Option<Vec<Message>>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn post(&self, message: Message) {
        match &mut *self.messages() {
            Some(messages) => messages.push(message),
            // A client holds this mailbox, so that it must not be kept here.
            None => return,
        }
        if !self.announced.swap(true, Ordering::AcqRel) {
            (self.wake)();
        }
    }

    /// Takes all messages. Called by the worker alone.
    pub(crate) fn take(&self) -> Vec<Message> {
        if !self.announced.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        self.messages()
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// The worker has ended: what it was asked, and what it will be, is forgotten.
    pub(crate) fn close(&self) {
        let forgotten = self.messages().take();
        drop(forgotten);
    }
}

#[cfg(test)]
mod tests {
    use crate::sim::{ClientOptions, Sim, key};
    use crate::tunables::Tunables;

    #[test]
    fn a_client_that_comes_after_its_workers_end_is_let_go() {
        let sim = Sim::new(Tunables::default());
        let before = sim.admit(0, key(1), &ClientOptions::default());
        sim.worker_inbox().close();
        let after = sim.admit(0, key(2), &ClientOptions::default());
        assert_eq!([before.holders(), after.holders()], [0, 0]);
    }
}
