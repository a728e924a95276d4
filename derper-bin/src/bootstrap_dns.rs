//! `/bootstrap-dns`: addresses of names that clients in broken networks cannot resolve
//! (`cmd/derper/bootstrap_dns.go`).
//!
//! The names are looked up at start and every ten minutes; the answer is ready before anybody
//! asks. Everybody who asks gets all published names. An unpublished one is told to those alone who
//! ask for it by its name, and of them to as many as its rollout has come to ([`rollout`]).

mod counters;
pub mod rollout;
pub mod txt;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use derp_ops::exposition::Exposition;
use serde::Serialize;
use tokio::sync::watch;

use self::counters::Counters;
use crate::random;

/// How often names are looked up again.
const REFRESH: Duration = Duration::from_secs(10 * 60);
/// How long looking all of a list up may take.
const BUDGET: Duration = Duration::from_secs(60);

/// The names that are looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Told to everybody.
    pub published: Vec<String>,
    /// Told to those who ask for them.
    pub unpublished: Vec<Unpublished>,
}

/// A name that is told to those who ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpublished {
    /// The name.
    pub name: String,
    /// The name whose TXT record says how many percent of those who ask are told; without it all.
    pub txt: Option<String>,
}

/// Looks names up.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `name`.
    fn resolve(&self, name: &str) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;

    /// The texts of `name`'s TXT records.
    fn texts(&self, name: &str) -> impl Future<Output = io::Result<Vec<String>>> + Send;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|addr| addr.ip().to_canonical()).collect())
    }

    async fn texts(&self, name: &str) -> io::Result<Vec<String>> {
        txt::look_up(name).await
    }
}

/// Addresses by name.
type Published = BTreeMap<String, Vec<IpAddr>>;

/// Addresses of unpublished names, and to how many percent of those who ask they are told.
type Hidden = BTreeMap<String, (Vec<IpAddr>, u8)>;

/// The names, their addresses, and who asked for what.
#[derive(Debug)]
pub struct BootstrapDns {
    /// What is looked up; who looks up waits for changes.
    names: watch::Sender<Names>,
    published: RwLock<Arc<Published>>,
    hidden: RwLock<Arc<Hidden>>,
    counters: Counters,
}

impl BootstrapDns {
    /// Tells of `names`; nothing is known of them until [`Self::refresh`].
    #[must_use]
    pub fn new(names: Names) -> Self {
        Self {
            names: watch::Sender::new(names),
            published: RwLock::default(),
            hidden: RwLock::default(),
            counters: Counters::default(),
        }
    }

    /// Tells of these names from now on, and says whether that is a change.
    pub fn set_names(&self, names: Names) -> bool {
        self.names.send_if_modified(|current| {
            let changed = *current != names;
            *current = names;
            changed
        })
    }

    /// Counts a request from `from`, with the parameter `q`, decoded. Where that is an unpublished
    /// name which `from` is to be told, returns the answer (JSON); everybody else is answered with
    /// what is published.
    pub fn answer(&self, query: Option<&str>, from: Option<IpAddr>) -> Option<Vec<u8>> {
        let counters = &self.counters;
        counters.note_request();
        let query = query.filter(|query| !query.is_empty())?;
        counters.note_query(query);
        // The locks are held for a clone of the pointer only.
        let hidden = current(&self.hidden);
        if let Some((addresses, percent)) = hidden.get(query)
            && !addresses.is_empty()
        {
            counters.unpublished_hit();
            if rollout::admits(*percent, from, random::coin) {
                let told = BTreeMap::from([(query, addresses)]);
                return Some(document(&told));
            }
            counters.percent_miss();
        }
        let published = current(&self.published);
        counters.note_published(published.get(query).map(Vec::len));
        None
    }

    /// Looks all names up once, at most for a minute each list, and returns the new public answer
    /// (JSON), if there is one. A name that fails is left out; where every name of a list fails,
    /// what was known of it holds.
    pub async fn refresh(
        &self,
        resolver: &impl Resolve,
        mut shuffle: impl FnMut(&mut [IpAddr]),
    ) -> Option<Vec<u8>> {
        let names = self.names.borrow().clone();
        self.refresh_hidden(&names.unpublished, resolver).await;
        if names.published.is_empty() {
            return self.unpublish();
        }
        let found = look_up_within(look_up(&names.published, resolver)).await?;
        let mut published: Published = found.into_iter().collect();
        for addresses in published.values_mut() {
            shuffle(addresses);
        }
        let document = document(&published);
        replace(&self.published, published);
        Some(document)
    }

    async fn refresh_hidden(&self, names: &[Unpublished], resolver: &impl Resolve) {
        if names.is_empty() {
            return replace(&self.hidden, Hidden::new());
        }
        let found = look_up_within(async {
            let mut found = Vec::new();
            for Unpublished { name, txt } in names {
                let Some(addresses) = resolve(name, resolver).await else {
                    continue;
                };
                let percent = match txt {
                    None => 100,
                    Some(txt) => percent(txt, resolver).await,
                };
                found.push((name.clone(), (addresses, percent)));
            }
            found
        });
        if let Some(found) = found.await {
            replace(&self.hidden, found.into_iter().collect());
        }
    }

    /// Forgets what is published, and returns the empty answer if that is a change.
    fn unpublish(&self) -> Option<Vec<u8>> {
        let changed = !current(&self.published).is_empty();
        replace(&self.published, Published::new());
        changed.then(Vec::new)
    }

    /// Looks names up now, every ten minutes and whenever they change, for ever, and hands each
    /// new answer to `publish`. Drop it at any time.
    pub async fn keep_fresh(
        &self,
        resolver: impl Resolve,
        mut shuffle: impl FnMut(&mut [IpAddr]),
        publish: impl Fn(Vec<u8>),
    ) {
        let mut ticks = tokio::time::interval(REFRESH);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut changes = self.names.subscribe();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // The names are here, and so is who changes them.
                Ok(()) = changes.changed() => {}
            }
            if let Some(document) = self.refresh(&resolver, &mut shuffle).await {
                publish(document);
            }
        }
    }

    /// Adds its counters to the metrics, by the reference's names.
    pub fn expose(&self, metrics: &mut Exposition) {
        self.counters.expose(metrics);
    }
}

fn current<T>(shared: &RwLock<Arc<T>>) -> Arc<T> {
    Arc::clone(&shared.read().unwrap_or_else(PoisonError::into_inner))
}

fn replace<T>(shared: &RwLock<Arc<T>>, new: T) {
    *shared.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
}

/// What a list's look-up found, if it found anything in its time.
async fn look_up_within<T>(found: impl Future<Output = Vec<T>>) -> Option<Vec<T>> {
    let Ok(found) = tokio::time::timeout(BUDGET, found).await else {
        tracing::warn!("bootstrap DNS: looking names up took more than a minute");
        return None;
    };
    if found.is_empty() {
        tracing::warn!("bootstrap DNS: no name could be looked up; what was known stays");
        return None;
    }
    Some(found)
}

async fn look_up(names: &[String], resolver: &impl Resolve) -> Vec<(String, Vec<IpAddr>)> {
    let mut found = Vec::new();
    for name in names {
        if let Some(addresses) = resolve(name, resolver).await {
            found.push((name.clone(), addresses));
        }
    }
    found
}

async fn resolve(name: &str, resolver: &impl Resolve) -> Option<Vec<IpAddr>> {
    match resolver.resolve(name).await {
        Ok(addresses) => Some(addresses),
        Err(err) => {
            tracing::warn!(name, error = %err, "bootstrap DNS: look-up failed");
            None
        }
    }
}

/// How far a rollout has come: nowhere, as long as nothing understandable says so.
async fn percent(txt: &str, resolver: &impl Resolve) -> u8 {
    match resolver.texts(txt).await {
        Ok(texts) => {
            let mut percents = texts.iter().rev().filter_map(|text| rollout::parse(text));
            // The last one that is understood, as in the reference.
            percents.next().unwrap_or(0)
        }
        Err(err) => {
            tracing::warn!(name = txt, error = %err, "bootstrap DNS: look-up of a rollout failed");
            0
        }
    }
}

/// An answer, indented by tabs as the reference's.
fn document(addresses: &impl Serialize) -> Vec<u8> {
    let mut document = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut document, tabs);
    addresses
        .serialize(&mut serializer)
        .expect("names and addresses are text");
    document
}

#[cfg(test)]
mod tests;
