//! Who is connected here, and how packets for a key are routed.
//!
//! Locks: each shard has one, and so has the list of watchers. While a shard is locked, the
//! sending halves of watchers may be locked to tell them of its clients, one at a time and
//! without I/O; never the reverse, and never two shards at once. Since each change of a key's
//! presence happens under its shard's lock, watchers learn of the changes in their order.

mod several;

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard};

use derp_proto::{NodePublic, PeerGoneReason, PeerPresentFlags};

use crate::forwarder::{Change, Forwarder, Forwarders};
use crate::lanes::Presence;
use crate::metrics::Gauges;
use crate::peer::{ConnId, Peer};
use crate::sent_to::SentTo;
use crate::shared::{RwLock, share};

use self::several::{Local, Several};

/// A power of two.
const SHARDS: usize = 64;
/// How many connections one key may have; the oldest that is not active has to go.
pub(crate) const MAX_PER_KEY: usize = 8;

/// Where a packet goes.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    Local(Arc<Peer>),
    Remote(Arc<dyn Forwarder>),
    /// Several connections have the key, and none of them is active.
    Duplicated,
    Unknown,
}

/// All clients of a server.
pub(crate) struct Registry {
    /// Keys are chosen by strangers, so the hash is keyed.
    hasher: ahash::RandomState,
    shards: Box<[Shard]>,
    /// Bounded by the number of mesh peers, who hold the mesh key.
    watchers: RwLock<Vec<Arc<Peer>>>,
    max_per_key: AtomicUsize,
    gauges: Arc<Gauges>,
}

type Clients = HashMap<NodePublic, Client, ahash::RandomState>;
type Shard = RwLock<Clients>;

/// All that is known of one key. Bounded by the connections here, and by what mesh peers report.
#[derive(Debug)]
struct Client {
    local: Local,
    remote: Option<Box<Remote>>,
    /// Whom connections of the key that have left have sent something, while others are here:
    /// the last to leave has them told.
    sent_to: Option<Box<SentTo>>,
}

/// A key that other relays have.
#[derive(Debug, Default)]
struct Remote {
    forwarders: Forwarders,
    /// Who is to be told when it has gone from all of them.
    sent_to: SentTo,
}

/// What the departure of a connection leaves to be done, outside of all locks.
#[derive(Debug, Default)]
#[must_use = "clients wait to be told"]
pub(crate) struct Departure {
    /// Whom to tell that the key has gone.
    pub(crate) tell: Vec<Arc<Peer>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("gauges", &self.gauges)
            .finish_non_exhaustive()
    }
}

impl Registry {
    pub(crate) fn new(gauges: Arc<Gauges>) -> Self {
        let hasher = ahash::RandomState::new();
        let shard = || RwLock::new(HashMap::with_hasher(hasher.clone()));
        let shards = (0..SHARDS).map(|_| shard()).collect();
        Self {
            hasher,
            shards,
            watchers: RwLock::default(),
            max_per_key: AtomicUsize::new(MAX_PER_KEY),
            gauges,
        }
    }

    /// Lets a key have so many connections from now on; those that are there stay.
    pub(crate) fn set_max_per_key(&self, max: usize) {
        self.max_per_key.store(max, Ordering::Relaxed);
    }

    fn shard(&self, key: &NodePublic) -> &Shard {
        // The map inside uses the low bits of the same hash, so these are others.
        let hash = self.hasher.hash_one(key);
        let at = usize::try_from(hash >> 48).expect("sixteen bits fit") % SHARDS;
        &self.shards[at]
    }

    fn read(&self, key: &NodePublic) -> RwLockReadGuard<'_, Clients> {
        self.shard(key)
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: &NodePublic) -> RwLockWriteGuard<'_, Clients> {
        self.shard(key)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Where packets for `key` go at the moment: to the client itself before another relay.
    pub(crate) fn route(&self, key: &NodePublic) -> Route {
        match self.read(key).get(key) {
            None => Route::Unknown,
            Some(Client {
                local: Local::One(peer),
                ..
            }) => Route::Local(share(peer)),
            Some(Client {
                local: Local::Several(several),
                ..
            }) => match several.active() {
                Some(peer) => Route::Local(share(peer)),
                None => Route::Duplicated,
            },
            Some(Client {
                local: Local::None,
                remote,
                ..
            }) => {
                match remote
                    .as_ref()
                    .and_then(|remote| remote.forwarders.preferred())
                {
                    Some(forwarder) => Route::Remote(share(forwarder)),
                    None => Route::Unknown,
                }
            }
        }
    }

    /// A client has logged in. Returns a connection of the same key that has to go for it.
    #[must_use = "a connection too many has to be closed"]
    pub(crate) fn register(&self, peer: &Arc<Peer>) -> Option<Arc<Peer>> {
        let mut shard = self.write(&peer.key);
        let mut surplus = None;
        match shard.entry(peer.key) {
            MapEntry::Vacant(place) => {
                place.insert(Client::new(Local::One(Arc::clone(peer))));
                self.gauges.clients_local.add(1);
            }
            MapEntry::Occupied(mut place) => {
                let client = place.get_mut();
                client.local = match std::mem::replace(&mut client.local, Local::None) {
                    Local::None => {
                        self.gauges.clients_remote.sub(1);
                        self.gauges.clients_local.add(1);
                        Local::One(Arc::clone(peer))
                    }
                    Local::One(older) => {
                        self.gauges.dup_client_keys.add(1);
                        self.gauges.dup_client_conns.add(2);
                        self.gauges.total_dup_client_conns.add(1);
                        Local::Several(Box::new(Several::new(older, Arc::clone(peer))))
                    }
                    Local::Several(mut several) => {
                        self.gauges.dup_client_conns.add(1);
                        self.gauges.total_dup_client_conns.add(1);
                        several.add(Arc::clone(peer));
                        surplus = several.surplus(self.max_per_key.load(Ordering::Relaxed));
                        Local::Several(several)
                    }
                };
                if let Local::Several(several) = &client.local {
                    several.mark();
                }
            }
        }
        self.gauges.connections.add(1);
        self.tell_watchers(peer.key, presence_of(peer));
        surplus
    }

    /// A connection of a key that has several said something.
    pub(crate) fn note_activity(&self, peer: &Peer) {
        let mut shard = self.write(&peer.key);
        if let Some(Client {
            local: Local::Several(several),
            ..
        }) = shard.get_mut(&peer.key)
        {
            several.note_activity(peer.id);
        }
    }

    /// A connection has ended. `sent_to` are the clients that it sent something.
    pub(crate) fn unregister(&self, peer: &Peer, sent_to: SentTo) -> Departure {
        if peer.is_mesh_peer() {
            self.unwatch(peer.id);
        }
        let mut shard = self.write(&peer.key);
        let MapEntry::Occupied(mut place) = shard.entry(peer.key) else {
            return Departure::default();
        };
        let client = place.get_mut();
        match std::mem::replace(&mut client.local, Local::None) {
            Local::One(current) if current.id == peer.id => {}
            Local::Several(mut several) if several.find(peer.id).is_some() => {
                self.gauges.connections.sub(1);
                self.gauges.dup_client_conns.sub(1);
                let forgotten = client.sent_to.get_or_insert_default().merge(sent_to);
                self.gauges.departures_forgotten.add(forgotten);
                several.remove(peer.id);
                client.local = if let [last] = several.peers() {
                    self.gauges.dup_client_conns.sub(1);
                    self.gauges.dup_client_keys.sub(1);
                    last.set_duplicate(false, true);
                    Local::One(Arc::clone(last))
                } else {
                    several.mark();
                    Local::Several(several)
                };
                return Departure::default();
            }
            // Not ours: a later connection has taken the place.
            other => {
                client.local = other;
                return Departure::default();
            }
        }
        self.gauges.connections.sub(1);
        self.gauges.clients_local.sub(1);
        self.tell_watchers(peer.key, Presence::Gone);
        let mut sent_to = sent_to;
        if let Some(others) = client.sent_to.take() {
            self.gauges.departures_forgotten.add(sent_to.merge(*others));
        }
        let Some(remote) = &mut client.remote else {
            place.remove();
            let mut tell = sent_to.into_living();
            // Whoever sent something to itself knows that it leaves.
            tell.retain(|other| other.id != peer.id);
            return Departure { tell };
        };
        // It is still to be reached by another relay.
        let forgotten = remote.sent_to.merge(sent_to);
        self.gauges.departures_forgotten.add(forgotten);
        self.gauges.clients_remote.add(1);
        Departure::default()
    }

    /// Ends the mesh peer's subscription.
    fn unwatch(&self, id: ConnId) {
        let mut watchers = self
            .watchers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let before = watchers.len();
        watchers.retain(|watcher| watcher.id != id);
        self.gauges.watchers.sub((before - watchers.len()) as u64);
    }

    /// From now on `watcher` learns of each client that comes and goes, and first of those that
    /// are here, itself included.
    pub(crate) fn watch(&self, watcher: &Arc<Peer>) {
        {
            let mut watchers = self
                .watchers
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            if watchers.iter().any(|known| known.id == watcher.id) {
                return;
            }
            watchers.push(Arc::clone(watcher));
            self.gauges.watchers.add(1);
        }
        for shard in &self.shards {
            for client in shard
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
            {
                for peer in client.local.peers() {
                    watcher.notify_presence(peer.key, presence_of(peer));
                }
            }
        }
    }

    fn tell_watchers(&self, key: NodePublic, presence: Presence) {
        for watcher in self
            .watchers
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            watcher.notify_presence(key, presence);
        }
    }

    /// All connections of `key`.
    pub(crate) fn connections_of(&self, key: &NodePublic) -> Vec<Arc<Peer>> {
        self.read(key)
            .get(key)
            .map_or_else(Vec::new, |client| client.local.peers().to_vec())
    }

    /// All connections there are.
    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            for client in shard
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
            {
                all.extend(client.local.peers().iter().cloned());
            }
        }
        all
    }

    /// Another relay of the region has a client of this key.
    pub(crate) fn add_forwarder(&self, key: NodePublic, forwarder: Arc<dyn Forwarder>) {
        let mut shard = self.write(&key);
        let client = match shard.entry(key) {
            MapEntry::Occupied(place) => place.into_mut(),
            MapEntry::Vacant(place) => {
                self.gauges.clients_remote.add(1);
                place.insert(Client::new(Local::None))
            }
        };
        let remote = client.remote.get_or_insert_default();
        if remote.forwarders.add(forwarder) == Change::Multi {
            self.gauges.multiforwarder_created.add(1);
        }
    }

    /// It no longer has.
    pub(crate) fn remove_forwarder(
        &self,
        key: NodePublic,
        forwarder: &Arc<dyn Forwarder>,
    ) -> Departure {
        let mut shard = self.write(&key);
        let MapEntry::Occupied(mut place) = shard.entry(key) else {
            return Departure::default();
        };
        let client = place.get_mut();
        let change = match &mut client.remote {
            None => Change::Nothing,
            Some(remote) => remote.forwarders.remove(forwarder),
        };
        match change {
            Change::Nothing => self.gauges.forwarder_delete_other_value.add(1),
            Change::Multi => self.gauges.multiforwarder_deleted.add(1),
            Change::AmongSeveral => {}
            Change::Plain => {
                let remote = client.remote.take().unwrap_or_default();
                if matches!(client.local, Local::None) {
                    self.gauges.clients_remote.sub(1);
                    place.remove();
                    return Departure {
                        tell: remote.sent_to.into_living(),
                    };
                }
                // It is still here, and has gone only when its last connection has.
                if !remote.sent_to.is_empty() {
                    let sent_to = client.sent_to.get_or_insert_default();
                    let forgotten = sent_to.merge(remote.sent_to);
                    self.gauges.departures_forgotten.add(forgotten);
                }
            }
        }
        Departure::default()
    }

    /// A packet from `src`, a client of another relay, was delivered to `dst`, which will be
    /// told when `src` has gone from the region.
    pub(crate) fn note_remote_sent(&self, src: &NodePublic, dst: &Arc<Peer>) {
        let remote_of =
            |client: &Client| client.remote.as_ref().map(|it| it.sent_to.contains(dst.id));
        // Mostly it was noted with an earlier packet.
        if self.read(src).get(src).and_then(remote_of) == Some(false)
            && let Some(client) = self.write(src).get_mut(src)
            && let Some(remote) = &mut client.remote
        {
            let forgotten = remote.sent_to.insert(dst);
            self.gauges.departures_forgotten.add(forgotten);
        }
    }

    /// The number of keys that have an entry; for consistency checks.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }
}

impl Departure {
    /// Tells everybody that is to be told that `key` has gone.
    pub(crate) fn tell(self, key: NodePublic) {
        for peer in self.tell {
            if peer.key != key {
                peer.notify_gone(key, PeerGoneReason::DISCONNECTED);
            }
        }
    }
}

fn presence_of(peer: &Peer) -> Presence {
    Presence::Present {
        addr: peer.addr,
        flags: peer.flags,
    }
}

impl Client {
    fn new(local: Local) -> Self {
        Self {
            local,
            remote: None,
            sent_to: None,
        }
    }
}

/// What kind of client a connection is, as watchers are told.
pub(crate) fn flags(is_mesh_peer: bool, is_prober: bool, is_ideal: bool) -> PeerPresentFlags {
    let when = |applies, flag| if applies { flag } else { PeerPresentFlags(0) };
    let flags = when(is_mesh_peer, PeerPresentFlags::MESH_PEER)
        | when(is_prober, PeerPresentFlags::PROBER)
        | when(!is_ideal, PeerPresentFlags::NOT_IDEAL);
    if flags.0 == 0 {
        PeerPresentFlags::REGULAR
    } else {
        flags
    }
}
