//! What an operator reads of links. One test to a program: whether anybody listens to a line is
//! remembered for all threads, by the thread that logs it first.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use derp_client::Connector;
use derp_mesh::{Mesh, Peer};

use support::{Relay, SHORT, mesh_key, only, private, until, url};

/// Counts what is news to whoever reads the log.
#[derive(Clone, Default)]
struct News(Arc<AtomicU32>);

impl tracing::Subscriber for News {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("derp_mesh") && *metadata.level() <= tracing::Level::INFO
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        if self.enabled(event.metadata()) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_wrong_key_gives_no_link_and_a_reason_that_is_news_once() {
    let news = News::default();
    let _heard = tracing::subscriber::set_default(news.clone());
    let (mut one, two) = (Relay::start(101).await, Relay::start(102).await);
    let wrong = Mesh::new(
        one.server.clone(),
        private(101),
        mesh_key('b'),
        Connector::new(),
    );
    let mesh = wrong
        .with_policy(SHORT)
        .with_peer(Peer::new("other", url(two.addr).into()));
    one.run(&mesh);
    until("it was tried three times", || {
        mesh.links().iter().any(|link| link.failures >= 3)
    })
    .await;
    let link = only(&mesh);
    assert!(link.problem.is_some() && !link.is_up(), "{link:?}");
    assert_eq!((link.clients, news.0.load(Relaxed)), (0, 1));
}
