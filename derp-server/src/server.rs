//! The relay as its owner holds it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use derp_proto::{MeshKey, NodePrivate, NodePublic, PeerPresentFlags, ServerFrame};
use derp_verify::{AllowAll, ConnMeta, Verifier};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::accept::Front;
use crate::clock;
use crate::driver::Driver;
use crate::error::AcceptError;
use crate::forwarder::Forwarder;
use crate::http::Pages;
use crate::hub::Hub;
use crate::inbox::Message;
use crate::listener::{ListenOptions, Listener, accept_loop};
use crate::login::fill_random;
use crate::metrics::Metrics;
use crate::peer::{ConnId, Peer};
use crate::tunables::Tunables;

/// What a server is made of.
#[derive(Debug)]
pub struct ServerBuilder {
    key: NodePrivate,
    mesh_keys: Vec<MeshKey>,
    verifier: Arc<dyn Verifier>,
    tunables: Tunables,
    workers: usize,
    pages: Pages,
}

impl ServerBuilder {
    /// Asks `verifier` about each client. Without one, everybody is admitted.
    #[must_use]
    pub fn verifier(mut self, verifier: impl Verifier) -> Self {
        self.verifier = Arc::new(verifier);
        self
    }

    /// The same, for a verifier that others hold as well.
    #[must_use]
    pub fn shared_verifier(mut self, verifier: Arc<dyn Verifier>) -> Self {
        self.verifier = verifier;
        self
    }

    /// Accepts relays that hold `key` as mesh peers. Several keys may be accepted at a time, so
    /// that they can be exchanged one after the other.
    #[must_use]
    pub fn mesh_key(mut self, key: MeshKey) -> Self {
        self.mesh_keys.push(key);
        self
    }

    /// Sets limits and times.
    #[must_use]
    pub fn tunables(mut self, tunables: Tunables) -> Self {
        self.tunables = tunables;
        self
    }

    /// How many threads relay packets; one for each processor by default. With none, all
    /// connections are served by tasks, which costs more memory and time.
    #[must_use]
    pub const fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// What is answered to requests that are not DERP's.
    #[must_use]
    pub fn pages(mut self, pages: Pages) -> Self {
        self.pages = pages;
        self
    }

    /// Starts the server's threads. It serves nobody yet; see [`Server::serve`].
    ///
    /// # Errors
    /// Where the system has no thread or poller left.
    pub fn start(self) -> io::Result<Server> {
        let hub = Arc::new(Hub::new(
            &self.key,
            self.mesh_keys,
            self.verifier,
            self.tunables,
            self.workers,
        ));
        let drivers = (0..self.workers)
            .map(|_| Driver::new())
            .collect::<io::Result<Vec<_>>>()?;
        hub.set_workers(
            drivers
                .iter()
                .map(|driver| Arc::clone(&driver.inbox))
                .collect(),
        );
        let (stop, _) = watch::channel(false);
        let front = Front {
            hub: Arc::clone(&hub),
            pages: Arc::new(self.pages),
            logins: Default::default(),
            page_places: Default::default(),
        };
        // From here on, dropping it stops the threads that there are, should one more be refused.
        let server = Server {
            inner: Arc::new(Inner {
                front: Arc::new(front),
                stop,
                threads: Mutex::default(),
            }),
        };
        for (n, driver) in drivers.into_iter().enumerate() {
            let totals = Arc::clone(hub.metrics.totals(n + 1));
            let hub = Arc::clone(&hub);
            let thread = std::thread::Builder::new()
                .name(format!("relay-{n}"))
                .spawn(move || {
                    if let Err(error) = driver.run(hub, totals) {
                        tracing::error!(%error, "a relay thread has ended");
                    }
                })?;
            let threads = &server.inner.threads;
            threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(thread);
        }
        Ok(server)
    }
}

/// A running relay. Cloning it gives another handle of the same relay, which ends when the last
/// handle is dropped or [`Server::shutdown`] is called.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    front: Arc<Front>,
    stop: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for worker in self.front.hub.workers() {
            worker.post(Message::Stop);
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("key", &self.public_key())
            .finish_non_exhaustive()
    }
}

/// A connected client, as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientSnapshot {
    /// The connection's number.
    pub id: ConnId,
    /// The client's key.
    pub key: NodePublic,
    /// Where it connected from.
    pub addr: Option<SocketAddr>,
    /// What kind of client it is.
    pub flags: PeerPresentFlags,
    /// Packets written to it.
    pub packets_sent: u64,
    /// Bytes of these packets.
    pub bytes_sent: u64,
    /// Packets that it sent, those to be forwarded for another relay not counted.
    pub packets_received: u64,
    /// Bytes of these packets.
    pub bytes_received: u64,
    /// Bytes that wait for it.
    pub bytes_waiting: usize,
    /// Whether it calls this relay its home.
    pub is_home: bool,
    /// How long it has been here.
    pub connected_for: Duration,
}

/// How a server is emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainPlan {
    /// Connections are closed one after another over this time, each once it has what waits for it.
    pub spread: Duration,
    /// Clients are told to try for so long to come back.
    pub try_for: Duration,
    /// What is still connected after this time is cut off.
    pub hard_stop: Duration,
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DrainReport {
    /// Clients that were told that the server restarts.
    pub told: usize,
    /// Clients that were still connected at the hard stop.
    pub cut_off: usize,
}

impl Server {
    /// A server with this key.
    #[must_use]
    pub fn builder(key: NodePrivate) -> ServerBuilder {
        let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        ServerBuilder {
            key,
            mesh_keys: Vec::new(),
            verifier: Arc::new(AllowAll),
            tunables: Tunables::default(),
            workers,
            pages: Pages::default(),
        }
    }

    fn hub(&self) -> &Arc<Hub> {
        &self.inner.front.hub
    }

    /// The key that clients know the server by.
    #[must_use]
    pub fn public_key(&self) -> NodePublic {
        self.hub().public_key()
    }

    /// Accepts connections and serves them until the server is shut down.
    ///
    /// Dropping the future closes the listener, and ends the sessions that its tasks serve.
    pub async fn serve(&self, listener: impl Into<Listener>, options: ListenOptions) {
        let stop = self.inner.stop.subscribe();
        accept_loop(
            listener.into(),
            options,
            Arc::clone(&self.inner.front),
            stop,
        )
        .await;
    }

    /// Serves one stream that begins with an HTTP request, as of a proxy that ends TLS, or a pipe
    /// in memory. Ends with the session.
    ///
    /// Dropping the future ends the session.
    ///
    /// # Errors
    /// How the connection failed to become a client's, or how the client's session ended.
    pub async fn serve_stream<S>(&self, stream: S, conn: ConnMeta) -> Result<(), AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.inner.front.accept_stream(stream, conn).await
    }

    /// Serves one stream on which DERP begins at once: whoever calls has answered the request
    /// for an upgrade. Ends with the session.
    ///
    /// Dropping the future ends the session.
    ///
    /// # Errors
    /// As of [`Self::serve_stream`].
    pub async fn serve_upgraded<S>(&self, stream: S, conn: ConnMeta) -> Result<(), AcceptError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.inner.front.accept_upgraded(stream, conn, false).await
    }

    /// All numbers of the server.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.hub().metrics
    }

    /// What is answered to requests that are not DERP's.
    #[must_use]
    pub fn pages(&self) -> &Pages {
        &self.inner.front.pages
    }

    /// Limits and times as they are.
    #[must_use]
    pub fn tunables(&self) -> Arc<Tunables> {
        self.hub().tunables()
    }

    /// Changes limits and times for all clients, those that are connected included.
    pub fn set_tunables(&self, tunables: Tunables) {
        self.hub().set_tunables(tunables);
    }

    /// The clients that are connected.
    #[must_use]
    pub fn clients(&self) -> Vec<ClientSnapshot> {
        let now = clock::now();
        let peers = self.hub().registry.all();
        peers.iter().map(|peer| snapshot(peer, now)).collect()
    }

    /// Closes all connections of `key` and says how many there were. `reason` goes to the log.
    pub fn close_client(&self, key: &NodePublic, reason: &str) -> usize {
        let peers = self.hub().registry.connections_of(key);
        for peer in &peers {
            tracing::info!(conn = %peer.id, client = ?key, reason, "client closed");
            peer.close();
        }
        peers.len()
    }

    /// From now on packets for `key` that are for no client of this server go to `forwarder`.
    pub fn add_forwarder(&self, key: NodePublic, forwarder: Arc<dyn Forwarder>) {
        self.hub().registry.add_forwarder(key, forwarder);
    }

    /// No longer.
    pub fn remove_forwarder(&self, key: NodePublic, forwarder: &Arc<dyn Forwarder>) {
        self.hub()
            .registry
            .remove_forwarder(key, forwarder)
            .tell(key);
    }

    /// Whether the server's own count of its clients agrees with its books.
    ///
    /// # Errors
    /// Says where they differ. While clients come and go they may, for a moment.
    pub fn check(&self) -> Result<(), String> {
        let listed = self.hub().registry.all().len() as u64;
        let counted = self.metrics().gauges().connections.get();
        if listed == counted {
            return Ok(());
        }
        Err(format!(
            "{counted} connections are counted, and {listed} are listed"
        ))
    }

    /// Tells each client that the server restarts, lets nobody else in, and closes connections
    /// one after another, each once it has what waits for it.
    pub async fn drain(&self, plan: DrainPlan) -> DrainReport {
        self.hub().stop_admitting();
        self.inner.stop.send_replace(true);
        let start = clock::now();
        let mut clients = self.hub().registry.all();
        shuffle(&mut clients);
        let step = plan.spread / u32::try_from(clients.len().max(1)).unwrap_or(u32::MAX);
        for (n, peer) in clients.iter().enumerate() {
            let reconnect_in = step * u32::try_from(n).unwrap_or(u32::MAX);
            peer.notify_frame(&ServerFrame::Restarting {
                reconnect_in,
                try_for: plan.try_for,
            });
        }
        let deadline = start + plan.hard_stop;
        for (n, peer) in clients.iter().enumerate() {
            let at = start + step * u32::try_from(n).unwrap_or(u32::MAX);
            if peer.is_gone() {
                continue;
            }
            tokio::time::sleep_until(at.min(deadline).into()).await;
            peer.close_when_sent();
        }
        let cut_off = self.wait_until_empty(deadline).await;
        DrainReport {
            told: clients.len(),
            cut_off,
        }
    }

    /// Waits until nobody is connected, and returns how many still are at `deadline`.
    async fn wait_until_empty(&self, deadline: Instant) -> usize {
        loop {
            let left = self.hub().registry.all().len();
            if left == 0 || clock::now() >= deadline {
                return left;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Closes all connections and ends the server's threads. Returns when they have ended.
    pub async fn shutdown(&self) {
        self.hub().stop_admitting();
        self.inner.stop.send_replace(true);
        for peer in self.hub().registry.all() {
            peer.close();
        }
        for worker in self.hub().workers() {
            worker.post(Message::Stop);
        }
        let threads = std::mem::take(
            &mut *self
                .inner
                .threads
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let join = move || threads.into_iter().for_each(|thread| drop(thread.join()));
        // An error says that the runtime is ending, and then so is everything.
        let _ended = tokio::task::spawn_blocking(join).await;
    }
}

fn snapshot(peer: &Peer, now: Instant) -> ClientSnapshot {
    let (packets_sent, bytes_sent) = peer.sent();
    let (packets_received, bytes_received) = peer.ledger.received();
    ClientSnapshot {
        id: peer.id,
        key: peer.key,
        addr: peer.addr,
        flags: peer.flags,
        packets_sent,
        bytes_sent,
        packets_received,
        bytes_received,
        bytes_waiting: peer.held(),
        is_home: peer.ledger.is_home(),
        connected_for: peer.ledger.age(now),
    }
}

/// Who leaves first is a matter of chance, not of keys.
fn shuffle(peers: &mut [Arc<Peer>]) {
    for n in (1..peers.len()).rev() {
        let mut bytes = [0; 8];
        fill_random(&mut bytes);
        let other = usize::try_from(u64::from_be_bytes(bytes) % (n as u64 + 1))
            .expect("a remainder by a length is an index");
        peers.swap(n, other);
    }
}
