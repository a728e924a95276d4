//! `/bootstrap-dns`: addresses of names that clients in broken networks cannot resolve
//! (`cmd/derper/bootstrap_dns.go`).
//!
//! The names are looked up at start and every ten minutes; the answer is ready before anybody
//! asks. Only published names are here: everybody who asks gets all of them.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::hash::BuildHasher;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use derp_ops::exposition::Exposition;
use serde::Serialize;
use tokio::sync::watch;

/// How often names are looked up again.
const REFRESH: Duration = Duration::from_secs(10 * 60);
/// How long looking all of them up may take.
const BUDGET: Duration = Duration::from_secs(60);
/// How many different names asked for are remembered, at most; then counting begins anew.
const MAX_DISTINCT: usize = 500;

/// Looks names up.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `name`.
    fn resolve(&self, name: &str) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|addr| addr.ip().to_canonical()).collect())
    }
}

/// Addresses by name.
type Published = BTreeMap<String, Vec<IpAddr>>;

/// The published names, their addresses, and who asked for what.
#[derive(Debug)]
pub struct BootstrapDns {
    /// What is looked up; who looks up waits for changes.
    names: watch::Sender<Vec<String>>,
    published: RwLock<Arc<Published>>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    published_hits: AtomicU64,
    published_misses: AtomicU64,
    unpublished_misses: AtomicU64,
    queried: AtomicU64,
    distinct: Mutex<Distinct>,
}

/// Which names were asked for: only hashes, for the names are strangers' texts.
#[derive(Debug, Default)]
struct Distinct {
    hashes: HashSet<u64>,
    hasher: RandomState,
}

impl BootstrapDns {
    /// Publishes `names`; nothing is known of them until [`Self::refresh`].
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self {
            names: watch::Sender::new(names),
            published: RwLock::default(),
            counters: Counters::default(),
        }
    }

    /// Publishes these names from now on, and says whether that is a change.
    pub fn set_names(&self, names: Vec<String>) -> bool {
        self.names.send_if_modified(|current| {
            let changed = *current != names;
            *current = names;
            changed
        })
    }

    /// Counts a request. `query` is the parameter `q`, decoded; it does not change the answer.
    pub fn note_request(&self, query: Option<&str>) {
        // The lock is held for a clone of the pointer only.
        let published = Arc::clone(
            &self
                .published
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.counters.note(query, &published);
    }

    /// Looks all names up once, at most for a minute, and returns the new answer (JSON), if there
    /// is one. A name that fails is left out; where every name fails, the old answer holds.
    pub async fn refresh(
        &self,
        resolver: &impl Resolve,
        mut shuffle: impl FnMut(&mut [IpAddr]),
    ) -> Option<Vec<u8>> {
        let names = self.names.borrow().clone();
        if names.is_empty() {
            return self.unpublish();
        }
        let Ok(mut published) = tokio::time::timeout(BUDGET, look_up(&names, resolver)).await
        else {
            tracing::warn!("bootstrap DNS: looking names up took more than a minute");
            return None;
        };
        if published.is_empty() {
            tracing::warn!("bootstrap DNS: no name could be looked up; the old answer stays");
            return None;
        }
        for addresses in published.values_mut() {
            shuffle(addresses);
        }
        let document = document(&published);
        *self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(published);
        Some(document)
    }

    /// Forgets what is published, and returns the empty answer if that is a change.
    fn unpublish(&self) -> Option<Vec<u8>> {
        let mut published = self
            .published
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let changed = !published.is_empty();
        *published = Arc::default();
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
        let counters = &self.counters;
        for (name, counter) in [
            ("requests", &counters.requests),
            ("published_hits", &counters.published_hits),
            ("published_misses", &counters.published_misses),
            ("unpublished_misses", &counters.unpublished_misses),
            ("queried_domains", &counters.queried),
        ] {
            let value = counter.load(Ordering::Relaxed);
            metrics.counter(&format!("bootstrap_dns_{name}"), value);
        }
    }
}

async fn look_up(names: &[String], resolver: &impl Resolve) -> Published {
    let mut published = Published::new();
    for name in names {
        match resolver.resolve(name).await {
            Ok(addresses) => {
                published.insert(name.clone(), addresses);
            }
            Err(err) => tracing::warn!(name, error = %err, "bootstrap DNS: look-up failed"),
        }
    }
    published
}

/// The answer, indented by tabs as the reference's.
fn document(published: &Published) -> Vec<u8> {
    let mut document = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut document, tabs);
    published
        .serialize(&mut serializer)
        .expect("names and addresses are text");
    document
}

impl Counters {
    fn note(&self, query: Option<&str>, published: &Published) {
        let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        add(&self.requests);
        let Some(query) = query.filter(|query| !query.is_empty()) else {
            return;
        };
        let mut distinct = self.distinct.lock().unwrap_or_else(PoisonError::into_inner);
        if distinct.note(query) {
            add(&self.queried);
        }
        drop(distinct);
        match published.get(query) {
            Some(addresses) if addresses.is_empty() => add(&self.published_misses),
            Some(_) => add(&self.published_hits),
            None => add(&self.unpublished_misses),
        };
    }
}

impl Distinct {
    /// Whether the name is new.
    fn note(&mut self, name: &str) -> bool {
        if self.hashes.len() >= MAX_DISTINCT {
            self.hashes.clear();
        }
        let hash = self.hasher.hash_one(name);
        self.hashes.insert(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows a few names; what it knows can change.
    #[derive(Default)]
    struct Table(Mutex<BTreeMap<&'static str, Vec<IpAddr>>>);

    impl Table {
        fn set(&self, name: &'static str, addresses: &[&str]) {
            let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            self.0.lock().unwrap().insert(name, addresses);
        }
    }

    impl Resolve for Table {
        async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
            let found = self.0.lock().unwrap().get(name).cloned();
            found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        }
    }

    impl Resolve for Arc<Table> {
        async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
            Table::resolve(self, name).await
        }
    }

    /// Takes for ever.
    struct Stuck;

    impl Resolve for Stuck {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            std::future::pending().await
        }
    }

    fn dns(names: &[&str]) -> BootstrapDns {
        BootstrapDns::new(names.iter().map(|&name| name.to_owned()).collect())
    }

    async fn text(dns: &BootstrapDns, resolver: &impl Resolve) -> Option<String> {
        let document = dns
            .refresh(resolver, |addresses| addresses.reverse())
            .await?;
        Some(String::from_utf8(document).unwrap())
    }

    #[tokio::test]
    async fn the_answer_is_the_references_with_the_addresses_shuffled() {
        let table = Table::default();
        table.set("b.example.com", &["192.0.2.2"]);
        table.set("a.example.com", &["192.0.2.1", "2001:db8::1"]);
        let dns = dns(&["a.example.com", "b.example.com", "gone.example.com"]);
        let expected = "{\n\t\"a.example.com\": [\n\t\t\"2001:db8::1\",\n\t\t\"192.0.2.1\"\n\t],\n\t\
                        \"b.example.com\": [\n\t\t\"192.0.2.2\"\n\t]\n}";
        assert_eq!(text(&dns, &table).await.as_deref(), Some(expected));
    }

    #[tokio::test(start_paused = true)]
    async fn without_names_or_in_an_outage_there_is_no_new_answer() {
        assert_eq!(text(&dns(&[]), &Table::default()).await, None);
        let dns = dns(&["a.example.com"]);
        assert_eq!(text(&dns, &Table::default()).await, None);
        let start = tokio::time::Instant::now();
        assert_eq!(text(&dns, &Stuck).await, None);
        assert_eq!(start.elapsed(), BUDGET);
    }

    #[tokio::test(start_paused = true)]
    async fn names_are_looked_up_every_ten_minutes() {
        let table = Arc::new(Table::default());
        table.set("a.example.com", &["192.0.2.1"]);
        let dns = dns(&["a.example.com"]);
        let start = tokio::time::Instant::now();
        let answers = Mutex::new(Vec::new());
        let publish = |document: Vec<u8>| {
            let document = String::from_utf8(document).unwrap();
            answers
                .lock()
                .unwrap()
                .push((start.elapsed(), document.contains("192.0.2.9")));
        };
        let script = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            table.set("a.example.com", &["192.0.2.9"]);
            tokio::time::sleep(REFRESH).await;
        };
        tokio::select! {
            () = dns.keep_fresh(Arc::clone(&table), |_| {}, publish) => panic!("it never ends"),
            () = script => {}
        }
        assert_eq!(
            *answers.lock().unwrap(),
            [(Duration::ZERO, false), (REFRESH, true)]
        );
    }

    #[tokio::test]
    async fn requests_are_counted_by_what_they_found() {
        let table = Table::default();
        table.set("full", &["192.0.2.1"]);
        table.set("bare", &[]);
        let dns = dns(&["full", "bare"]);
        assert!(text(&dns, &table).await.is_some());
        for query in [
            None,
            Some("full"),
            Some("full"),
            Some("bare"),
            Some("x"),
            Some("y"),
            Some("x"),
        ] {
            dns.note_request(query);
        }
        let mut metrics = Exposition::new();
        dns.expose(&mut metrics);
        let values: Vec<String> = metrics
            .to_string()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(str::to_owned)
            .collect();
        assert_eq!(
            values,
            [
                "bootstrap_dns_published_hits 2",
                "bootstrap_dns_published_misses 1",
                "bootstrap_dns_queried_domains 4",
                "bootstrap_dns_requests 7",
                "bootstrap_dns_unpublished_misses 3",
            ]
        );
    }

    #[test]
    fn a_flood_of_names_takes_no_memory() {
        let mut distinct = Distinct::default();
        for number in 0..10_000 {
            distinct.note(&format!("{number}.example.com"));
            assert!(distinct.hashes.len() <= MAX_DISTINCT);
        }
    }
}
