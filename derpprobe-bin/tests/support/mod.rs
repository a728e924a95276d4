//! A fleet for tests: relays, STUN servers, and things that are neither, on loopback.

#![allow(dead_code, reason = "each test crate uses a part of it")]

pub(crate) mod authority;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use derp_client::{Connector, Roots, Target};
use derp_mesh::{LinkStatus, Mesh, Peer};
use derp_proto::{DerpMap, DerpNode, DerpRegion, MeshKey, NodePrivate};
use derp_server::tls::{CertifiedChain, ServedCertificate, ServerTls, SniPolicy};
use derp_server::{ListenOptions, Server, ServerBuilder};
use derp_stun::StunServer;
use rustls::RootCertStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
        let builder = Server::builder(own_key(self.last_key));
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

    /// The relay that was started first.
    pub(crate) fn first(&self) -> &Server {
        &self.servers[0]
    }

    /// Lets these relays, which were started first, follow one another; returns when they do.
    pub(crate) async fn mesh(&mut self, nodes: &[DerpNode], roots: &RootCertStore) {
        let roots = Roots::Custom(Arc::new(roots.clone()));
        let connector = Connector::new().with_roots(roots);
        let mesh_key = MeshKey::from_secret_text(MESH_KEY).expect("a key");
        let mut meshes = Vec::new();
        for (at, server) in self.servers.iter().take(nodes.len()).enumerate() {
            let key = own_key(u8::try_from(at + 1).expect("few relays"));
            let mut mesh = Mesh::new(server.clone(), key, mesh_key.clone(), connector.clone());
            for (_, other) in nodes.iter().enumerate().filter(|(other, _)| *other != at) {
                mesh = mesh.with_peer(Peer::new(&other.name, Target::Node(other.clone())));
            }
            meshes.push(mesh.clone());
            self.tasks.spawn(async move { match mesh.run().await {} });
        }
        let is_up = |mesh: &Mesh| mesh.links().iter().all(LinkStatus::is_up);
        let all_follow = async {
            while !meshes.iter().all(is_up) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let patience = Duration::from_secs(60);
        let followed = tokio::time::timeout(patience, all_follow).await;
        followed.expect("the relays follow one another");
    }

    /// How many clients came in WebSockets to any of the relays.
    pub(crate) fn in_websockets(&self) -> u64 {
        let came = |server: &Server| server.metrics().gauges().websocket_accepts.get();
        self.servers.iter().map(came).sum()
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

    /// Starts a web server over TLS that has none of the pages that it is asked for.
    pub(crate) async fn web_server(&mut self, identity: &Identity) -> SocketAddr {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![identity.cert.clone()], identity.key.clone_key())
            .expect("a certificate");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a bound socket");
        self.tasks.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(tcp).await else {
                    continue;
                };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    if !matches!(stream.read_buf(&mut request).await, Ok(1..)) {
                        break;
                    }
                }
                let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
                let _hung_up = stream.write_all(answer).await;
                let _hung_up = stream.shutdown().await;
            }
        });
        address
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

    /// Accepts connections, and says what means nothing to anybody, without an end.
    pub(crate) async fn rubbish(&mut self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a bound socket");
        self.tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // As long as somebody takes it.
                tokio::spawn(async move { while stream.write_all(&[0xa5; 4096]).await.is_ok() {} });
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

/// The key of a relay, by the order in which they were started, from 1 on.
pub(crate) fn own_key(number: u8) -> NodePrivate {
    NodePrivate::from_random([number; 32])
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
        let file = Self {
            dir: tempfile::tempdir().expect("a folder"),
        };
        file.write(regions);
        file
    }

    /// Makes it another map.
    pub(crate) fn write(&self, regions: &[&[DerpNode]]) {
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
        self.write_text(&serde_json::to_string(&map).expect("JSON"));
    }

    /// Puts this text in its place, as a whole.
    pub(crate) fn write_text(&self, text: &str) {
        let new = self.dir.path().join("new.json");
        std::fs::write(&new, text).expect("written");
        std::fs::rename(new, self.path()).expect("moved");
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
