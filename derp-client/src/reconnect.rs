//! A client that connects again when its connection ends.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use derp_proto::NodePublic;
use thiserror::Error;
use tokio::time::{Instant, sleep_until};

use crate::backoff::{Backoff, Policy};
use crate::client::Client;
use crate::connector::Connector;
use crate::error::{ConnectError, RecvError, SendError};
use crate::login::Login;
use crate::random;
use crate::reader::ClientReader;
use crate::received::Received;
use crate::target::Target;
use crate::writer::ClientWriter;

/// A way to a server, used for each new connection.
pub trait Connect: Send {
    /// Connects and logs in.
    fn connect(&mut self, login: Login) -> Connecting;
}

/// A connection on its way.
pub type Connecting = Pin<Box<dyn Future<Output = Result<Client, ConnectError>> + Send>>;

/// A connector, and where it leads.
impl Connect for (Connector, Target) {
    fn connect(&mut self, login: Login) -> Connecting {
        let (connector, target) = self.clone();
        Box::pin(async move { connector.connect(&target, &login).await })
    }
}

/// A function, for everything else.
impl<F, C> Connect for F
where
    F: FnMut(Login) -> C + Send,
    C: Future<Output = Result<Client, ConnectError>> + Send + 'static,
{
    fn connect(&mut self, login: Login) -> Connecting {
        Box::pin(self(login))
    }
}

/// A client that connects again when its connection ends.
///
/// It does so while [`next`](Self::next) is polled, with the waits of a [`Backoff`]. Packets that
/// are sent between two connections are refused, not kept: their senders retransmit.
pub struct Reconnecting {
    connect: Box<dyn Connect>,
    login: Login,
    backoff: Backoff,
    random: Box<dyn FnMut() -> u64 + Send>,
    state: State,
    shared: Arc<Shared>,
}

enum State {
    /// Until the time given.
    Waiting(Instant),
    Connecting(Connecting),
    Connected(Box<ClientReader>),
}

/// What writers know of the client.
#[derive(Debug)]
struct Shared {
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    /// The connection, while there is one.
    writer: Option<ClientWriter>,
    /// Which connection it is, counted.
    number: u64,
    /// What the server is to be told.
    preferred: bool,
    /// What this connection's server was told.
    told: bool,
}

/// What happens to a [`Reconnecting`] client.
#[derive(Debug)]
pub enum Event {
    /// There is a connection. Whether the server admits the client is seen when
    /// [`Received::ServerInfo`] comes.
    Connected(ClientWriter),
    /// The server sent something.
    Received(Received),
    /// There is none any more, or none came about.
    Disconnected {
        /// Why.
        cause: Cause,
        /// When the next attempt follows.
        retry_in: Duration,
    },
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum Cause {
    /// None came about.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It ended.
    #[error(transparent)]
    Recv(#[from] RecvError),
}

impl Reconnecting {
    /// A client that will connect to `target` when [`Self::next`] is first polled.
    #[must_use]
    pub fn new(connector: Connector, target: Target, login: Login) -> Self {
        let random = || u64::from_ne_bytes(random::bytes());
        Self::with_parts((connector, target), login, Policy::CLIENT, random)
    }

    /// The same with other ways to connect and to wait. `random` yields 64 uniform bits.
    #[must_use]
    pub fn with_parts(
        connect: impl Connect + 'static,
        login: Login,
        policy: Policy,
        random: impl FnMut() -> u64 + Send + 'static,
    ) -> Self {
        let current = Current {
            writer: None,
            number: 0,
            preferred: login.preferred,
            told: login.preferred,
        };
        Self {
            connect: Box::new(connect),
            login,
            backoff: Backoff::new(policy),
            random: Box::new(random),
            state: State::Waiting(Instant::now()),
            shared: Arc::new(Shared {
                current: Mutex::new(current),
            }),
        }
    }

    /// A handle for sending on whatever connection there is.
    #[must_use]
    pub fn writer(&self) -> ReconnectingWriter {
        ReconnectingWriter {
            shared: Arc::clone(&self.shared),
        }
    }

    /// What happens next: connects, waits and receives as it has to.
    ///
    /// Cancel safe: dropping the future loses nothing, and an attempt to connect goes on when it
    /// is called again. It never ends by itself.
    pub async fn next(&mut self) -> Event {
        loop {
            match &mut self.state {
                State::Waiting(until) => {
                    sleep_until(*until).await;
                    self.backoff.attempt(Instant::now().into_std());
                    self.login.preferred = self.shared.current().preferred;
                    self.state = State::Connecting(self.connect.connect(self.login.clone()));
                }
                State::Connecting(connecting) => {
                    return match connecting.await {
                        Ok(client) => self.connected(client),
                        Err(err) => self.disconnected(err.into()),
                    };
                }
                State::Connected(reader) => {
                    let received = match self.shared.untold() {
                        None => reader.recv().await,
                        // What was asked for while the connection came about.
                        Some(untold) => tokio::select! {
                            received = reader.recv() => received,
                            told = untold.tell(&self.shared) => match told {
                                Ok(()) => continue,
                                Err(_) => reader.recv().await,
                            },
                        },
                    };
                    return match received {
                        Ok(received) => self.received(received),
                        Err(err) => self.disconnected(err.into()),
                    };
                }
            }
        }
    }

    /// Gives up the connection that there is, for good if nobody polls [`Self::next`] any more.
    pub(crate) fn abandon(&mut self) {
        self.shared.current().writer = None;
        self.state = State::Waiting(Instant::now());
    }

    fn connected(&mut self, client: Client) -> Event {
        let (reader, writer) = client.split();
        self.state = State::Connected(Box::new(reader));
        let mut current = self.shared.current();
        current.writer = Some(writer.clone());
        current.number += 1;
        current.told = self.login.preferred;
        drop(current);
        Event::Connected(writer)
    }

    fn received(&mut self, received: Received) -> Event {
        match &received {
            Received::ServerInfo(_) => self.backoff.admitted(Instant::now().into_std()),
            Received::Restarting { reconnect_in, .. } => {
                self.backoff
                    .advise(Instant::now().into_std(), *reconnect_in);
            }
            _ => {}
        }
        Event::Received(received)
    }

    fn disconnected(&mut self, cause: Cause) -> Event {
        self.shared.current().writer = None;
        let now = Instant::now();
        let retry_in = self.backoff.failed(now.into_std(), (self.random)());
        self.state = State::Waiting(now + retry_in);
        Event::Disconnected { cause, retry_in }
    }
}

impl fmt::Debug for Reconnecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Waiting(_) => "waiting",
            State::Connecting(_) => "connecting",
            State::Connected(_) => "connected",
        };
        f.debug_struct("Reconnecting")
            .field("state", &state)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server of the connection that there is has not been told yet.
    fn untold(&self) -> Option<Untold> {
        let current = self.current();
        if current.told == current.preferred {
            return None;
        }
        Some(Untold {
            writer: current.writer.clone()?,
            number: current.number,
            preferred: current.preferred,
        })
    }
}

/// Something that the server of a connection is to be told.
struct Untold {
    writer: ClientWriter,
    number: u64,
    preferred: bool,
}

impl Untold {
    async fn tell(self, shared: &Shared) -> Result<(), SendError> {
        self.writer.note_preferred(self.preferred).await?;
        let mut current = shared.current();
        if current.number == self.number {
            current.told = self.preferred;
        }
        Ok(())
    }
}

/// A handle for sending on whatever connection a [`Reconnecting`] client has. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ReconnectingWriter {
    shared: Arc<Shared>,
}

impl ReconnectingWriter {
    /// The connection, while there is one. It stays the same one, also when it has ended.
    #[must_use]
    pub fn current(&self) -> Option<ClientWriter> {
        self.shared.current().writer.clone()
    }

    /// Sends a packet. Cancel safe, see [`ClientWriter`].
    ///
    /// # Errors
    /// [`SendError::NotConnected`] between two connections; see [`ClientWriter::send`].
    pub async fn send(&self, dst: NodePublic, packet: &[u8]) -> Result<(), SendError> {
        self.connection()?.send(dst, packet).await
    }

    /// Tells this server, and those of later connections, whether it is this client's home.
    ///
    /// A connection that is on its way is told once it is there, and so is one where this future
    /// was dropped: by whoever is in [`Reconnecting::next`].
    ///
    /// # Errors
    /// The connection's end. Later connections tell it then.
    pub async fn note_preferred(&self, preferred: bool) -> Result<(), SendError> {
        self.shared.current().preferred = preferred;
        match self.shared.untold() {
            Some(untold) => untold.tell(&self.shared).await,
            None => Ok(()),
        }
    }

    /// This side's address on the current connection. Never waits.
    ///
    /// # Errors
    /// [`SendError::NotConnected`] where there is no connection, or none with an address.
    pub fn local_addr(&self) -> Result<SocketAddr, SendError> {
        self.connection()?
            .info()
            .local_addr
            .ok_or(SendError::NotConnected)
    }

    fn connection(&self) -> Result<ClientWriter, SendError> {
        self.current().ok_or(SendError::NotConnected)
    }
}
