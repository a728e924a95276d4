//! Other relays that a DNS name leads to: each of its addresses is one.
//!
//! That is how a region grows behind any load balancer: a headless service of Kubernetes has such
//! a name, and so has any name with several addresses.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use derp_client::{CertCheck, ServerUrl, UrlTarget};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::state::LinkState;
use crate::{Mesh, Peer};

/// How often a name is looked up by default.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(10);
/// How often a name is looked up at most: an interval of nothing at all is none.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
/// How long looking it up may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// How many addresses of a name are connected to. With n relays there are n·(n−1) links, so a
/// region this large should have been several long before.
pub const MAX_DISCOVERED: usize = 64;

/// Looks names up.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// The addresses of `host`.
    fn resolve(&self, host: &str) -> Resolving;
}

/// A lookup on its way.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> Resolving {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|addr| addr.ip().to_canonical()).collect())
        })
    }
}

/// A name whose addresses are relays of the region, perhaps this one among them.
#[derive(Debug, Clone)]
pub struct Name {
    url: ServerUrl,
    resolver: Arc<dyn Resolve>,
    every: Duration,
}

impl Name {
    /// The relays at `url`, whose host is the name. They all have certificates for that host.
    #[must_use]
    pub fn new(url: ServerUrl) -> Self {
        Self {
            url,
            resolver: Arc::new(SystemResolver),
            every: LOOKUP_INTERVAL,
        }
    }

    /// Another way to look the name up.
    #[must_use]
    pub fn with_resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// How often it is looked up; every ten seconds by default.
    #[must_use]
    pub const fn looked_up_every(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
    }

    async fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        let host = self.url.host().to_string();
        match timeout(LOOKUP_TIMEOUT, self.resolver.resolve(&host)).await {
            Ok(found) => found,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    fn peer(&self, address: IpAddr) -> Peer {
        let target = UrlTarget {
            url: self.url.clone(),
            dial_host: address.to_string().parse().ok(),
            check: CertCheck::HostName,
        };
        let name = format!("{}/{address}", self.url.host());
        Peer::new(name, derp_client::Target::Url(target))
    }
}

/// Keeps a link to each address that the name has.
pub(crate) async fn follow(mesh: &Mesh, name: Name) -> Infallible {
    let mut tasks = JoinSet::new();
    let mut links: BTreeMap<IpAddr, (Arc<LinkState>, AbortHandle)> = BTreeMap::new();
    let mut tick = interval(name.every.max(SHORTEST_INTERVAL));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_found = true;
    loop {
        tick.tick().await;
        let addresses = match name.addresses().await {
            Ok(addresses) => addresses,
            Err(error) => {
                // The relays that are known stay: a name server's fault is not theirs.
                if std::mem::take(&mut was_found) {
                    let host = name.url.host();
                    tracing::warn!(%host, %error, "the region's relays cannot be looked up");
                }
                continue;
            }
        };
        was_found = true;
        links.retain(|address, (state, task)| {
            // Names change faster than relays go: while one answers, it is there.
            let stays = addresses.contains(address) || state.is_up();
            if !stays {
                task.abort();
                mesh.forget(state);
            }
            stays
        });
        for address in addresses {
            if links.contains_key(&address) || links.len() >= MAX_DISCOVERED {
                continue;
            }
            let link = mesh.link(name.peer(address));
            let state = Arc::clone(link.state());
            let task = tasks.spawn(link.run());
            links.insert(address, (state, task));
        }
        while tasks.try_join_next().is_some() {}
    }
}
