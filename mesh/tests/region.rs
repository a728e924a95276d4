//! Relays in one process, on loopback, whose clients find one another.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use derp_client::{Client, Connector, Login, Policy, Received, ServerUrl};
use derp_mesh::{LinkStatus, Mesh, Name, Peer, Resolve, Resolving};
use derp_proto::{MeshKey, NodePrivate, NodePublic, PeerGoneReason};
use derp_server::{ListenOptions, Server};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Waits of a test, in place of about five seconds.
const SHORT: Policy = Policy {
    floor: Duration::ZERO,
    first: Duration::from_millis(100),
    max: Duration::from_millis(100),
    healthy_after: Duration::from_secs(30),
};
const PATIENCE: Duration = Duration::from_secs(20);

fn private(n: u8) -> NodePrivate {
    NodePrivate::from_random([n; 32])
}

fn key(n: u8) -> NodePublic {
    private(n).public()
}

fn mesh_key(digit: char) -> MeshKey {
    MeshKey::from_secret_text(&digit.to_string().repeat(64)).expect("a key")
}

fn url(addr: SocketAddr) -> ServerUrl {
    format!("http://{addr}/derp").parse().expect("a URL")
}

struct Relay {
    server: Server,
    number: u8,
    addr: SocketAddr,
    tasks: JoinSet<()>,
}

impl Relay {
    /// A relay whose key has this number.
    async fn start(number: u8) -> Self {
        Self::start_at(number, "127.0.0.1:0".parse().expect("an address")).await
    }

    async fn start_at(number: u8, addr: SocketAddr) -> Self {
        let server = Server::builder(private(number))
            .mesh_key(mesh_key('a'))
            .workers(1)
            .start()
            .expect("threads");
        let listener = TcpListener::bind(addr).await.expect("a port");
        let addr = listener.local_addr().expect("it is bound");
        let mut tasks = JoinSet::new();
        let serving = server.clone();
        tasks.spawn(async move {
            serving.serve(listener, ListenOptions::plain("main")).await;
        });
        Self {
            server,
            number,
            addr,
            tasks,
        }
    }

    fn mesh(&self) -> Mesh {
        let key = private(self.number);
        Mesh::new(self.server.clone(), key, mesh_key('a'), Connector::new()).with_policy(SHORT)
    }

    fn mesh_with(&self, other: &Self) -> Mesh {
        self.mesh()
            .with_peer(Peer::new("other", url(other.addr).into()))
    }

    fn run(&mut self, mesh: &Mesh) -> AbortHandle {
        let mesh = mesh.clone();
        self.tasks.spawn(async move { match mesh.run().await {} })
    }

    async fn client(&self, n: u8) -> Client {
        let login = Login::new(private(n));
        let target = url(self.addr).into();
        let mut client = Connector::new()
            .connect(&target, &login)
            .await
            .expect("the relay is there");
        match client.recv().await {
            Ok(Received::ServerInfo(_)) => client,
            other => panic!("{other:?}"),
        }
    }

    async fn stop(mut self) {
        self.server.shutdown().await;
        self.tasks.shutdown().await;
    }
}

/// Two relays that watch each other, and their links.
async fn two() -> ([Relay; 2], [Mesh; 2]) {
    let (mut one, mut two) = (Relay::start(101).await, Relay::start(102).await);
    let meshes = [one.mesh_with(&two), two.mesh_with(&one)];
    one.run(&meshes[0]);
    two.run(&meshes[1]);
    ([one, two], meshes)
}

/// What a client sends to find out whether another is there; only these are answered.
fn disco() -> Vec<u8> {
    [b"TS\xf0\x9f\x92\xac", &[5; 56][..]].concat()
}

/// Waits until it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect(what);
}

fn only(mesh: &Mesh) -> LinkStatus {
    let [link] = &mesh.links()[..] else {
        panic!("{mesh:?}");
    };
    link.clone()
}

async fn follows(mesh: &Mesh, clients: usize) {
    until("the other relay's clients are known", || {
        mesh.links().iter().any(|link| link.clients == clients)
    })
    .await;
}

async fn packet(client: &mut Client) -> (NodePublic, Vec<u8>) {
    match timeout(PATIENCE, client.recv()).await.expect("a packet") {
        Ok(Received::Packet { src, packet }) => (src, packet.to_vec()),
        other => panic!("{other:?}"),
    }
}

async fn gone(client: &mut Client) -> (NodePublic, PeerGoneReason) {
    match timeout(PATIENCE, client.recv()).await.expect("news") {
        Ok(Received::PeerGone { key, reason }) => (key, reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_different_relays_reach_each_other() {
    let ([one, two], meshes) = two().await;
    let (mut a, mut b) = (one.client(1).await, two.client(2).await);
    // Each link also shows the other relay, which watches as a client does.
    follows(&meshes[0], 1).await;
    follows(&meshes[1], 1).await;
    for n in 0..1000_u32 {
        let sent = n.to_be_bytes().repeat(300);
        a.send(key(2), &sent).await.expect("a connection");
        assert_eq!(packet(&mut b).await, (key(1), sent.clone()));
        b.send(key(1), &sent).await.expect("a connection");
        assert_eq!(packet(&mut a).await, (key(2), sent));
    }
    drop(b);
    assert_eq!(gone(&mut a).await, (key(2), PeerGoneReason::DISCONNECTED));
    follows(&meshes[0], 0).await;
    a.send(key(2), &disco()).await.expect("a connection");
    assert_eq!(gone(&mut a).await, (key(2), PeerGoneReason::NOT_HERE));
    assert_eq!(only(&meshes[0]).forwarded, 1000);
    assert_eq!(only(&meshes[0]).server_key, Some(key(102)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_ends_takes_its_clients_along_and_brings_them_back() {
    let ([one, two], meshes) = two().await;
    let mut a = one.client(1).await;
    let _b = two.client(2).await;
    follows(&meshes[0], 1).await;
    a.send(key(2), b"packet").await.expect("a connection");
    let addr = two.addr;
    two.stop().await;
    until("the link is down", || !only(&meshes[0]).is_up()).await;
    a.send(key(2), &disco()).await.expect("a connection");
    assert_eq!(gone(&mut a).await, (key(2), PeerGoneReason::NOT_HERE));
    let last = only(&meshes[0]);
    assert_eq!((last.clients, last.failures > 0), (0, true));
    assert!(last.problem.is_some());

    let two = Relay::start_at(102, addr).await;
    let mut b = two.client(2).await;
    follows(&meshes[0], 1).await;
    a.send(key(2), b"again").await.expect("a connection");
    assert_eq!(packet(&mut b).await, (key(1), b"again".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_dropped_takes_its_routes_back() {
    let (mut one, two) = (Relay::start(101).await, Relay::start(102).await);
    let _b = two.client(2).await;
    let mesh = one.mesh_with(&two);
    let running = one.run(&mesh);
    follows(&mesh, 1).await;
    let remote = || one.server.metrics().gauges().clients_remote.get();
    assert_eq!(remote(), 1);
    running.abort();
    until("the routes are gone", || remote() == 0).await;
    until("the link is not listed", || mesh.links().is_empty()).await;
    one.run(&mesh);
    follows(&mesh, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_to_the_relay_itself_ends_for_good() {
    let mut one = Relay::start(101).await;
    let mesh = one
        .mesh()
        .with_peer(Peer::new("itself", url(one.addr).into()));
    one.run(&mesh);
    until("it is noticed", || {
        mesh.links().iter().any(|link| link.is_self)
    })
    .await;
    until("it has left", || one.server.clients().is_empty()).await;
    assert_eq!(one.server.metrics().gauges().clients_remote.get(), 0);
}

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

/// Says what a test wants it to say.
#[derive(Debug, Clone, Default)]
struct Names(Arc<Mutex<Option<Vec<IpAddr>>>>);

impl Names {
    fn set(&self, addresses: Option<&[IpAddr]>) {
        *self.0.lock().expect("no panic") = addresses.map(<[_]>::to_vec);
    }
}

impl Resolve for Names {
    fn resolve(&self, host: &str) -> Resolving {
        assert_eq!(host, "relays.test");
        let found = self.0.lock().expect("no panic").clone();
        Box::pin(async move { found.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_are_found_by_a_name_as_they_come_and_go() {
    let mut one = Relay::start_at(101, "127.0.0.1:0".parse().expect("an address")).await;
    let port = one.addr.port();
    let [first, second, third] = [1, 2, 3].map(|n| IpAddr::from([127, 0, 0, n]));
    let two = Relay::start_at(102, (second, port).into()).await;
    let names = Names::default();
    names.set(Some(&[first, second]));
    let by_name = format!("http://relays.test:{port}").parse().expect("a URL");
    let mesh = one.mesh().with_name(
        Name::new(by_name)
            .with_resolver(names.clone())
            // As often as it can be.
            .looked_up_every(Duration::ZERO),
    );
    one.run(&mesh);
    let up = |address: IpAddr| {
        let name = format!("relays.test/{address}");
        mesh.links()
            .iter()
            .any(|link| link.name == name && link.is_up())
    };
    until("the second is found", || up(second)).await;
    until("the first is known to be this one", || {
        mesh.links().iter().any(|link| link.is_self)
    })
    .await;

    let three = Relay::start_at(103, (third, port).into()).await;
    let mut c = three.client(3).await;
    names.set(Some(&[first, second, third]));
    until("the third is found", || up(third)).await;
    follows(&mesh, 1).await;
    let a = one.client(1).await;
    a.send(key(3), b"found").await.expect("a connection");
    assert_eq!(packet(&mut c).await, (key(1), b"found".to_vec()));

    // Neither a name server that fails nor one that forgets ends a link that works.
    names.set(None);
    names.set(Some(&[first, third]));
    a.send(key(3), b"still").await.expect("a connection");
    assert_eq!(packet(&mut c).await, (key(1), b"still".to_vec()));
    assert!(up(second));
    two.stop().await;
    until("the second is forgotten", || {
        mesh.links()
            .iter()
            .all(|link| link.name != "relays.test/127.0.0.2")
    })
    .await;
}
