//! What all connections of a server share.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aws_lc_rs::agreement;
use derp_proto::{KeyError, MeshKey, NodePrivate, NodePublic, SharedSecret};
use derp_verify::{ConnMeta, Verifier};
use tokio::sync::watch;

use crate::budget::HeldBytes;
use crate::error::Budget;
use crate::inbox::{Inbox, Message};
use crate::login_rates::{LoginRates, network_of};
use crate::metrics::Metrics;
use crate::peer::ConnId;
use crate::refusals::Refusals;
use crate::registry::Registry;
use crate::shared::{AtomicU64, AtomicUsize, Mutex, RwLock};
use crate::shared_rates::SharedRates;
use crate::tunables::Tunables;

/// The state that connections share, and that outlives each of them.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
    /// Packets that wait.
    pub(crate) queued: Arc<HeldBytes>,
    /// Frames that have begun, of clients that have logged in.
    pub(crate) unfinished: HeldBytes,
    pub(crate) verifier: Arc<dyn Verifier>,
    /// The limits that clients share.
    pub(crate) rates: SharedRates,
    /// Held for a lookup and an insertion.
    refusals: Mutex<Refusals>,
    /// Held for a lookup each.
    networks: Mutex<LoginRates<IpAddr>>,
    keys: Mutex<LoginRates<NodePublic>>,
    public: NodePublic,
    /// The private key, for a faster X25519 than the codec's.
    private: agreement::PrivateKey,
    mesh_keys: Vec<MeshKey>,
    tunables: RwLock<Arc<Tunables>>,
    lane_depth: AtomicUsize,
    /// In milliseconds.
    frame_timeout: AtomicUsize,
    frame_bytes_per_second: AtomicUsize,
    max_unknown_frame_len: AtomicUsize,
    next_conn: AtomicU64,
    stopping: watch::Sender<bool>,
    /// Empty where there are no workers; then tasks serve all connections.
    workers: OnceLock<Vec<Arc<Inbox>>>,
}

impl Hub {
    pub(crate) fn new(
        private: &NodePrivate,
        mesh_keys: Vec<MeshKey>,
        verifier: Arc<dyn Verifier>,
        tunables: Tunables,
        workers: usize,
    ) -> Self {
        let metrics = Metrics::new(workers);
        let key = private.expose_secret_bytes();
        let registry = Registry::new(Arc::clone(&metrics.gauges));
        let tunables = Arc::new(tunables);
        let hub = Self {
            registry,
            metrics,
            queued: Arc::new(HeldBytes::new(0)),
            unfinished: HeldBytes::new(0),
            verifier,
            rates: SharedRates::new(&tunables, crate::clock::now()),
            refusals: Mutex::new(Refusals::new(crate::clock::now())),
            networks: Mutex::new(LoginRates::new()),
            keys: Mutex::new(LoginRates::new()),
            public: private.public(),
            private: agreement::PrivateKey::from_private_key(&agreement::X25519, key)
                .expect("any 32 bytes are a key of X25519"),
            mesh_keys,
            lane_depth: AtomicUsize::new(0),
            frame_timeout: AtomicUsize::new(0),
            frame_bytes_per_second: AtomicUsize::new(0),
            max_unknown_frame_len: AtomicUsize::new(0),
            tunables: RwLock::new(Arc::clone(&tunables)),
            next_conn: AtomicU64::new(1),
            stopping: watch::Sender::new(false),
            workers: OnceLock::new(),
        };
        hub.apply(&tunables);
        hub
    }

    /// Tells those who keep a number of their own.
    fn apply(&self, tunables: &Tunables) {
        let timeout = tunables.frame_timeout.as_millis();
        for (number, value) in [
            (&self.lane_depth, tunables.lane_depth),
            (
                &self.frame_timeout,
                usize::try_from(timeout).unwrap_or(usize::MAX),
            ),
            (
                &self.frame_bytes_per_second,
                tunables.frame_bytes_per_second,
            ),
            (&self.max_unknown_frame_len, tunables.max_unknown_frame_len),
        ] {
            number.store(value, Ordering::Relaxed);
        }
        self.queued.set_limit(tunables.queue_budget_bytes);
        self.unfinished.set_limit(tunables.max_unfinished_bytes);
        self.registry
            .set_max_per_key(tunables.max_connections_per_key);
    }

    pub(crate) const fn public_key(&self) -> NodePublic {
        self.public
    }

    pub(crate) fn next_conn(&self) -> ConnId {
        ConnId(self.next_conn.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether the log is to be told of something that strangers caused: then how many such lines
    /// it did not get since the last.
    pub(crate) fn tell(&self) -> Option<u64> {
        self.refusals().tell(crate::clock::now())
    }

    /// The same of something that is about `key`.
    pub(crate) fn tell_of(&self, key: &NodePublic) -> Option<u64> {
        self.refusals().tell_of(key, crate::clock::now())
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for one more client. Those that are about to come are not counted:
    /// it is asked again when they have logged in.
    pub(crate) fn has_room(&self) -> Result<(), Budget> {
        let gauges = self.metrics.gauges();
        let clients = usize::try_from(gauges.connections.get()).unwrap_or(usize::MAX);
        if clients < self.tunables().max_clients {
            return Ok(());
        }
        gauges.rejected_connections.add(1);
        Err(Budget::Clients)
    }

    /// Whether one more connection may come from there.
    pub(crate) fn admit_network(
        &self,
        conn: &ConnMeta,
        is_trusted_proxy: bool,
    ) -> Result<(), Budget> {
        let Some(rate) = self.tunables().network_login_rate else {
            return Ok(());
        };
        let Some(network) = network_of(conn, is_trusted_proxy) else {
            return Ok(());
        };
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        match networks.take(network, rate, crate::clock::now()) {
            true => Ok(()),
            false => Err(Budget::NetworkRate),
        }
    }

    /// Whether the key may log in once more.
    pub(crate) fn admit_key(&self, key: &NodePublic) -> Result<(), Budget> {
        let Some(rate) = self.tunables().key_login_rate else {
            return Ok(());
        };
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.take(*key, rate, crate::clock::now()) {
            true => Ok(()),
            false => Err(Budget::KeyRate),
        }
    }

    /// Nobody else is to be let in.
    pub(crate) fn stop_admitting(&self) {
        self.stopping.send_replace(true);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Waits until nobody else is to be let in.
    pub(crate) async fn stopped(&self) {
        // The sender is our own, so that it cannot have gone.
        let mut stopping = self.stopping.subscribe();
        let _seen = stopping.wait_for(|stopping| *stopping).await;
    }

    pub(crate) fn lane_depth(&self) -> usize {
        self.lane_depth.load(Ordering::Relaxed)
    }

    /// How long a frame of this length may take from its first byte to its last.
    pub(crate) fn frame_patience(&self, len: u32) -> Duration {
        let timeout = self.frame_timeout.load(Ordering::Relaxed) as u64;
        let rate = self.frame_bytes_per_second.load(Ordering::Relaxed) as u64;
        Duration::from_millis(timeout) + Duration::from_secs(u64::from(len) / rate.max(1))
    }

    /// The longest frame that is skipped, in bytes.
    pub(crate) fn max_unknown_frame_len(&self) -> usize {
        self.max_unknown_frame_len.load(Ordering::Relaxed)
    }

    pub(crate) fn tunables(&self) -> Arc<Tunables> {
        Arc::clone(&self.tunables.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the limits and times of all connections, those that are open included.
    pub(crate) fn set_tunables(&self, tunables: Tunables) {
        self.apply(&tunables);
        let tunables = Arc::new(tunables);
        let mut current = self
            .tunables
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, Arc::clone(&tunables));
        let rates = |of: &Tunables| {
            let of_each = (of.client_rate, of.client_frame_rate, of.not_here_rate);
            (of_each, of.total_rate, of.group_rates.clone())
        };
        let changed = rates(&before) != rates(&tunables);
        if changed {
            // In the order in which the limits themselves changed.
            self.rates.change(&before, &tunables);
        }
        drop(current);
        if changed {
            for worker in self.workers() {
                worker.post(Message::FollowLimits);
            }
            for peer in self.registry.all() {
                peer.wake_task();
            }
        }
    }

    pub(crate) fn set_workers(&self, workers: Vec<Arc<Inbox>>) {
        let first = self.workers.set(workers).is_ok();
        debug_assert!(first, "workers are started once");
    }

    pub(crate) fn workers(&self) -> &[Arc<Inbox>] {
        self.workers.get().map_or(&[], Vec::as_slice)
    }

    /// The worker that serves the fewest connections.
    pub(crate) fn least_loaded_worker(&self) -> Option<&Arc<Inbox>> {
        self.workers()
            .iter()
            .min_by_key(|worker| worker.load.load(Ordering::Relaxed))
    }

    /// Whether `key` makes its holder a mesh peer. Takes the same time for each wrong key.
    pub(crate) fn is_mesh_key(&self, key: &MeshKey) -> bool {
        // Without a short cut: which of the keys it is shows in no time either.
        self.mesh_keys
            .iter()
            .fold(false, |found, known| found | known.ct_eq(key))
    }

    /// The secret that the server shares with the holder of `key`.
    pub(crate) fn shared_secret(&self, key: &NodePublic) -> Result<SharedSecret, KeyError> {
        key.check()?;
        let peer = agreement::UnparsedPublicKey::new(&agreement::X25519, key.as_bytes());
        let secret = agreement::agree(&self.private, peer, KeyError::LowOrder, |secret| {
            <[u8; 32]>::try_from(secret).map_err(|_| KeyError::LowOrder)
        })?;
        SharedSecret::from_x25519(secret)
    }
}
