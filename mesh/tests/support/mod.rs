//! Relays on loopback, with a mesh key, and what tests wait for.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::net::SocketAddr;
use std::time::Duration;

use derp_client::{Client, Connector, Login, Policy, Received, ServerUrl};
use derp_mesh::{LinkStatus, Mesh, Peer};
use derp_proto::{MeshKey, NodePrivate, NodePublic};
use derp_server::{ListenOptions, Server};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// Waits of a test, in place of about five seconds.
pub(crate) const SHORT: Policy = Policy {
    floor: Duration::ZERO,
    first: Duration::from_millis(100),
    max: Duration::from_millis(100),
    healthy_after: Duration::from_secs(30),
};
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn private(n: u8) -> NodePrivate {
    NodePrivate::from_random([n; 32])
}

pub(crate) fn key(n: u8) -> NodePublic {
    private(n).public()
}

pub(crate) fn mesh_key(digit: char) -> MeshKey {
    MeshKey::from_secret_text(&digit.to_string().repeat(64)).expect("a key")
}

pub(crate) fn url(addr: SocketAddr) -> ServerUrl {
    format!("http://{addr}/derp").parse().expect("a URL")
}

pub(crate) struct Relay {
    pub(crate) server: Server,
    number: u8,
    pub(crate) addr: SocketAddr,
    tasks: JoinSet<()>,
}

impl Relay {
    /// A relay whose key has this number.
    pub(crate) async fn start(number: u8) -> Self {
        Self::start_at(number, "127.0.0.1:0".parse().expect("an address")).await
    }

    pub(crate) async fn start_at(number: u8, addr: SocketAddr) -> Self {
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

    pub(crate) fn mesh(&self) -> Mesh {
        let key = private(self.number);
        Mesh::new(self.server.clone(), key, mesh_key('a'), Connector::new()).with_policy(SHORT)
    }

    pub(crate) fn mesh_with(&self, other: &Self) -> Mesh {
        self.mesh()
            .with_peer(Peer::new("other", url(other.addr).into()))
    }

    pub(crate) fn run(&mut self, mesh: &Mesh) -> AbortHandle {
        let mesh = mesh.clone();
        self.tasks.spawn(async move { match mesh.run().await {} })
    }

    pub(crate) async fn client(&self, n: u8) -> Client {
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

    pub(crate) async fn stop(mut self) {
        self.server.shutdown().await;
        self.tasks.shutdown().await;
    }
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect(what);
}

pub(crate) fn only(mesh: &Mesh) -> LinkStatus {
    let [link] = &mesh.links()[..] else {
        panic!("{mesh:?}");
    };
    link.clone()
}
