//! Relays of one region that act as one.
//!
//! A tailnet's nodes choose a region, and any relay of it; two nodes in the same region may be
//! connected to different relays. So each relay watches which clients each other one has, and
//! forwards what is for them:
//!
//! ```text
//!   client A ─► relay 1 ─── ForwardPacket ──► relay 2 ─► client B
//!                  ▲                             │
//!                  └── PeerPresent, PeerGone ────┘
//! ```
//!
//! Each of them connects to each other one as a client that shows the mesh key
//! (`cmd/derper/mesh.go`), so that n relays have n·(n−1) links. There are no routes over a third.
//! The other relays may be the reference's.
//!
//! ```no_run
//! use derp_client::{Connector, ServerUrl};
//! use derp_mesh::{Mesh, Peer};
//! use derp_proto::{MeshKey, NodePrivate};
//! use derp_server::Server;
//!
//! # async fn example(key: NodePrivate, mesh_key: MeshKey) -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::builder(key.clone()).mesh_key(mesh_key.clone()).start()?;
//! let other: ServerUrl = "https://derp1b.example.com".parse()?;
//! let mesh = Mesh::new(server.clone(), key, mesh_key, Connector::new())
//!     .with_peer(Peer::new("derp1b.example.com", other.into()));
//! tokio::spawn(mesh.run());
//! for link in mesh.links() {
//!     println!("{}: {} clients", link.name, link.clients);
//! }
//! # Ok(()) }
//! ```
//!
//! # What another relay cannot do
//!
//! Clients of this relay never wait for another one: packets for it are queued, as far as
//! [`QUEUE_BYTES`] go, and dropped and counted beyond. It cannot have more than a million clients
//! followed, whatever it says. Once its link ends, or two pings in a row stay unanswered, none of
//! its clients is routed to it any more; it is connected to again after about five seconds, and
//! tells of its clients anew.
//!
//! # What is not here
//!
//! Accepting other relays, telling them who is here, and delivering what they forward: that is
//! `derp-server`'s, which does it for whoever shows the mesh key.

mod discovery;
mod link;
mod queue;
mod state;

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use derp_client::{Connector, Login, Policy, Target};
use derp_proto::{MeshKey, NodePrivate, NodePublic};
use derp_server::Server;
use tokio::task::JoinSet;

pub use crate::discovery::{MAX_DISCOVERED, Name, Resolve, Resolving, SystemResolver};
pub use crate::queue::QUEUE_BYTES;
pub use crate::state::LinkStatus;

use crate::link::Link;
use crate::state::LinkState;

/// Another relay of the region.
#[derive(Debug, Clone)]
pub struct Peer {
    name: String,
    target: Target,
}

impl Peer {
    /// A relay that logs and metrics call `name`.
    #[must_use]
    pub fn new(name: impl Into<String>, target: Target) -> Self {
        Self {
            name: name.into(),
            target,
        }
    }
}

/// A relay's links to the others of its region. Clones are handles of the same.
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

struct Inner {
    server: Server,
    login: Login,
    connector: Connector,
    policy: Policy,
    peers: Vec<Peer>,
    names: Vec<Name>,
    /// Of the links that there are; bounded by the peers, and [`MAX_DISCOVERED`] for each name.
    links: Mutex<Vec<Arc<LinkState>>>,
}

impl Mesh {
    /// The links of `server`, which has the private key `key`. Others accept them for the sake of
    /// `mesh_key`.
    #[must_use]
    pub fn new(server: Server, key: NodePrivate, mesh_key: MeshKey, connector: Connector) -> Self {
        Self {
            inner: Arc::new(Inner {
                server,
                login: Login::mesh(key, mesh_key),
                connector,
                policy: link::POLICY,
                peers: Vec::new(),
                names: Vec::new(),
                links: Mutex::default(),
            }),
        }
    }

    /// Adds another relay. It may be this one: that is noticed, and the link ends for good.
    ///
    /// # Panics
    /// Where there are clones already.
    #[must_use]
    pub fn with_peer(mut self, peer: Peer) -> Self {
        self.inner_mut().peers.push(peer);
        self
    }

    /// Adds all relays whose addresses a name has. This one may be among them.
    ///
    /// # Panics
    /// Where there are clones already.
    #[must_use]
    pub fn with_name(mut self, name: Name) -> Self {
        self.inner_mut().names.push(name);
        self
    }

    /// Other waits between attempts to connect than about five seconds.
    ///
    /// # Panics
    /// Where there are clones already.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.inner_mut().policy = policy;
        self
    }

    fn inner_mut(&mut self) -> &mut Inner {
        Arc::get_mut(&mut self.inner).expect("a mesh is put together before it is shared")
    }

    /// Keeps the links; those to peers are listed at once. Dropping the future ends them: clients
    /// are not routed to other relays any more, and [`Self::links`] has none. It is for one task at
    /// a time.
    pub fn run(&self) -> impl Future<Output = Infallible> + Send + use<> {
        let listed = Listed(self.clone());
        let peers = self.inner.peers.iter();
        let links: Vec<_> = peers.map(|peer| self.link(peer.clone())).collect();
        listed.keep(links)
    }

    /// How the links are.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        self.states().iter().map(|link| link.status()).collect()
    }

    fn own_key(&self) -> NodePublic {
        self.inner.server.public_key()
    }

    fn states(&self) -> std::sync::MutexGuard<'_, Vec<Arc<LinkState>>> {
        self.inner
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A link to `peer`, which is listed from now on.
    fn link(&self, peer: Peer) -> Link {
        let state = Arc::new(LinkState::new(peer.name));
        self.states().push(Arc::clone(&state));
        Link::new(
            self.inner.server.clone(),
            (self.inner.connector.clone(), peer.target),
            self.inner.login.clone(),
            self.inner.policy,
            state,
        )
    }

    /// The link is listed no longer.
    fn forget(&self, state: &Arc<LinkState>) {
        self.states().retain(|known| !Arc::ptr_eq(known, state));
    }
}

/// The links of a run, listed until it ends.
struct Listed(Mesh);

impl Listed {
    async fn keep(self, links: Vec<Link>) -> Infallible {
        // Dropped first.
        let mut tasks = JoinSet::new();
        for link in links {
            tasks.spawn(async move {
                link.run().await;
            });
        }
        for name in &self.0.inner.names {
            let (mesh, name) = (self.0.clone(), name.clone());
            tasks.spawn(async move { match discovery::follow(&mesh, name).await {} });
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a mesh link has failed and will not come back");
            }
        }
        std::future::pending().await
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.0.states().clear();
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh")
            .field("server", &self.own_key())
            .field("links", &self.links())
            .finish_non_exhaustive()
    }
}
