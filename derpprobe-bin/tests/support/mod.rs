//! A fleet for tests: relays, STUN servers, and things that are neither, on loopback.

#![allow(dead_code, reason = "each test crate uses a part of it")]

pub(crate) mod authority;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use derp_proto::{DerpMap, DerpNode, DerpRegion, MeshKey, NodePrivate};
use derp_server::tls::{CertifiedChain, ServedCertificate, ServerTls, SniPolicy};
use derp_server::{ListenOptions, Server, ServerBuilder};
use derp_stun::StunServer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use authority::Identity;

/// The mesh key of all relays.
pub(crate) const MESH_KEY: &str =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// What runs until the test ends.
#[derive(Default)]
pub(crate) struct Fleet {
    tasks: JoinSet<()>,
    servers: Vec<Server>,
    last_key: u8,
}

impl Fleet {
    /// Starts a relay that shows this certificate, after a change to how it is built.
    pub(crate) async fn relay(
        &mut self,
        identity: &Identity,
        change: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> SocketAddr {
        self.last_key += 1;
        let mesh_key = MeshKey::from_secret_text(MESH_KEY).expect("a key");
        let builder = Server::builder(NodePrivate::from_random([self.last_key; 32]));
        let server = change(builder.workers(1).mesh_key(mesh_key))
            .start()
            .expect("threads");
        let key = identity.key.clone_key();
        let chain = CertifiedChain::from_der(vec![identity.cert.clone()], key).expect("a chain");
        let served = ServedCertificate {
            names: SniPolicy::Any,
            chain,
        };
        #[expect(clippy::disallowed_methods, reason = "the meta certificate has dates")]
        let now = SystemTime::now();
        let tls = ServerTls::new(server.public_key(), vec![served], now).expect("TLS");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a bound socket");
        let serving = server.clone();
        self.tasks.spawn(async move {
            serving
                .serve(listener, ListenOptions::tls("https", Arc::new(tls)))
                .await;
        });
        self.servers.push(server);
        address
    }

    /// Starts a STUN server; its port.
    pub(crate) fn stun(&mut self) -> u16 {
        let server = StunServer::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let port = server.local_addr().port();
        self.tasks.spawn(async move {
            server.serve().await;
        });
        port
    }

    /// Accepts connections, and never says anything.
    pub(crate) async fn mute(&mut self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a bound socket");
        self.tasks.spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        address
    }

    pub(crate) async fn shutdown(self) {
        for server in &self.servers {
            server.shutdown().await;
        }
    }
}

/// A node of a map with this name, at an address on loopback, without STUN.
pub(crate) fn node(name: &str, host: &str, relay: SocketAddr) -> DerpNode {
    DerpNode {
        name: name.to_owned(),
        host_name: host.to_owned(),
        ipv4: relay.ip().to_string(),
        ipv6: "none".to_owned(),
        derp_port: relay.port().into(),
        stun_port: -1,
        ..DerpNode::default()
    }
}

/// A map in a file that is there as long as the value.
pub(crate) struct MapFile {
    dir: tempfile::TempDir,
}

impl MapFile {
    /// A map with a region for each list of nodes: `r1`, `r2` and so on.
    pub(crate) fn of(regions: &[&[DerpNode]]) -> Self {
        let region = |(id, nodes): (i64, &&[DerpNode])| {
            let region = DerpRegion {
                region_id: id,
                region_code: format!("r{id}"),
                nodes: nodes.to_vec(),
                ..DerpRegion::default()
            };
            (id, Some(region))
        };
        let regions = (1..).zip(regions).map(region).collect();
        let map = DerpMap {
            regions,
            ..DerpMap::default()
        };
        let file = Self {
            dir: tempfile::tempdir().expect("a folder"),
        };
        std::fs::write(file.path(), serde_json::to_vec(&map).expect("JSON")).expect("written");
        file
    }

    /// Writes a file beside it that only its owner may read; its path.
    pub(crate) fn beside(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("changed");
        path
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("map.json")
    }

    /// The value of `-derp-map`.
    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.path().display())
    }
}
