//! What is known of a link, for whoever looks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use derp_proto::NodePublic;

/// How a link is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStatus {
    /// The other relay, as it was named; for one that was found by a name, with its address.
    pub name: String,
    /// Its key, where it is connected.
    pub server_key: Option<NodePublic>,
    /// It turned out to be this relay.
    pub is_self: bool,
    /// Why it is not connected, once that was tried.
    pub problem: Option<String>,
    /// How many clients it has.
    pub clients: usize,
    /// How many times it told of a client that was one too many.
    pub ignored: u64,
    /// How many times the connection ended or did not come about.
    pub failures: u64,
    /// Packets that were queued for it.
    pub forwarded: u64,
    /// Packets that there was no room for, or that its connection took with it.
    pub dropped: u64,
}

impl LinkStatus {
    /// Whether it is connected.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.server_key.is_some()
    }
}

#[derive(Debug)]
pub(crate) struct LinkState {
    name: String,
    connection: Mutex<Connection>,
    clients: AtomicUsize,
    ignored: AtomicU64,
    failures: AtomicU64,
    pub(crate) forwarded: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Connection {
    New,
    Up(NodePublic),
    Down(String),
    ToItself,
}

impl LinkState {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            connection: Mutex::new(Connection::New),
            clients: AtomicUsize::new(0),
            ignored: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            forwarded: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.connection(), Connection::Up(_))
    }

    pub(crate) fn up(&self, server_key: NodePublic) {
        self.set(Connection::Up(server_key));
    }

    /// Says whether that is news: there was a connection, or another reason why there was none.
    pub(crate) fn down(&self, problem: String) -> bool {
        self.failures.fetch_add(1, Relaxed);
        self.clients.store(0, Relaxed);
        let now = Connection::Down(problem);
        self.set(now.clone()) != now
    }

    pub(crate) fn to_itself(&self) {
        self.set(Connection::ToItself);
    }

    /// Nobody keeps the link any more.
    pub(crate) fn ended(&self) {
        if self.is_up() {
            self.clients.store(0, Relaxed);
            self.set(Connection::New);
        }
    }

    pub(crate) fn follows(&self, clients: usize, ignored: u64) {
        self.clients.store(clients, Relaxed);
        self.ignored.store(ignored, Relaxed);
    }

    pub(crate) fn status(&self) -> LinkStatus {
        let mut status = LinkStatus {
            name: self.name.clone(),
            server_key: None,
            is_self: false,
            problem: None,
            clients: self.clients.load(Relaxed),
            ignored: self.ignored.load(Relaxed),
            failures: self.failures.load(Relaxed),
            forwarded: self.forwarded.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        };
        match self.connection() {
            Connection::New => {}
            Connection::Up(key) => status.server_key = Some(key),
            Connection::Down(problem) => status.problem = Some(problem),
            Connection::ToItself => status.is_self = true,
        }
        status
    }

    fn connection(&self) -> Connection {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, now: Connection) -> Connection {
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut connection, now)
    }
}
