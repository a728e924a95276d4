//! A relay with listeners of every kind, on loopback.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use derp_client::{
    Client, Connector, Login, LoginError, Received, Roots, ServerUrl, Target, Transport,
};
use derp_proto::http::IDEAL_NODE_HEADER;
use derp_server::{ListenOptions, Server, ServerBuilder, Tunables};
use derp_verify::ConnMeta;
use tempfile::TempDir;
use tokio::io::duplex;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::client::TestClient;
use super::kind::Kind;
use super::raw::Raw;
use super::request;
use super::stream::Stream;
use super::time::within;
use super::{login, mesh_key, private, tls};

pub const MESH_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The number of the relay's own key; tests number their clients from one.
pub const SERVER: u8 = 0xee;

/// How much a pipe in memory holds.
const PIPE: usize = 64 << 10;

/// A running relay.
pub struct Relay {
    pub server: Server,
    /// The kind of its clients' connections, where a test does not say another.
    pub kind: Kind,
    pub tcp: SocketAddr,
    pub tls: SocketAddr,
    unix: PathBuf,
    _dir: TempDir,
    /// All that serves connections.
    tasks: Mutex<JoinSet<()>>,
}

impl Relay {
    /// A relay with the mesh key and defaults else, for clients of this kind.
    pub async fn start(kind: Kind) -> Self {
        Self::start_with(kind, |builder| builder).await
    }

    /// The same with changes.
    pub async fn start_with(
        kind: Kind,
        change: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Self {
        Self::start_as(SERVER, kind, change).await
    }

    /// The same, of which the key has this number.
    pub async fn start_as(
        number: u8,
        kind: Kind,
        change: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Self {
        let workers = if kind == Kind::NoWorkers { 0 } else { 2 };
        let builder = Server::builder(private(number))
            .mesh_key(mesh_key())
            .workers(workers);
        let server = change(builder).start().expect("threads");
        let dir = TempDir::new().expect("a directory");
        let unix = dir.path().join("derp.sock");
        let listener = UnixListener::bind(&unix).expect("a socket");
        let mut relay = Self {
            server,
            kind,
            tcp: SocketAddr::from(([0, 0, 0, 0], 0)),
            tls: SocketAddr::from(([0, 0, 0, 0], 0)),
            unix,
            _dir: dir,
            tasks: Mutex::default(),
        };
        relay.tune(|tunables| tunables.own_record_layer = kind != Kind::Tls13ByRustls);
        relay.spawn(|server| async move {
            server.serve(listener, ListenOptions::plain("unix")).await;
        });
        relay.tcp = relay.listen(ListenOptions::plain("http")).await;
        let tls = tls::server(relay.server.public_key());
        relay.tls = relay
            .listen(ListenOptions::tls("https", Arc::new(tls)))
            .await;
        relay
    }

    /// Serves a further TCP listener, and returns its address.
    pub async fn listen(&self, options: ListenOptions) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("a bound socket");
        self.spawn(|server| async move { server.serve(listener, options).await });
        addr
    }

    /// Has the task end before the relay does.
    pub fn spawn<F>(&self, task: impl FnOnce(Server) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks
            .lock()
            .expect("no panic")
            .spawn(task(self.server.clone()));
    }

    /// Changes limits and times from now on.
    pub fn tune(&self, change: impl FnOnce(&mut Tunables)) {
        let mut tunables = Tunables::clone(&self.server.tunables());
        change(&mut tunables);
        self.server.set_tunables(tunables);
    }

    /// A connection on which the relay waits for a request.
    ///
    /// # Errors
    /// Where the relay ended it before that.
    pub async fn open(&self, kind: Kind) -> io::Result<Stream> {
        Ok(match kind {
            Kind::Plain | Kind::NoWorkers | Kind::WebSocket => {
                let tcp = tcp(self.tcp).await?;
                let addr = tcp.local_addr().ok();
                Stream::new(tcp, addr)
            }
            Kind::Tls13 | Kind::Tls13ByRustls | Kind::WebSocketTls => {
                self.open_tls(&rustls::version::TLS13).await?
            }
            Kind::Tls12 => self.open_tls(&rustls::version::TLS12).await?,
            Kind::Stream => {
                let (ours, theirs) = duplex(PIPE);
                let mut conn = ConnMeta::default();
                conn.socket_peer = "[abc::def]:7".parse().ok();
                let addr = conn.socket_peer;
                self.spawn(|server| async move {
                    // How it ends is for the client to see.
                    let _ended = server.serve_stream(theirs, conn).await;
                });
                Stream::new(ours, addr)
            }
            Kind::Unix => Stream::new(UnixStream::connect(&self.unix).await?, None),
            Kind::Upgraded => panic!("there is no request on a stream that is upgraded"),
        })
    }

    async fn open_tls(
        &self,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> io::Result<Stream> {
        let tcp = tcp(self.tls).await?;
        let addr = tcp.local_addr().ok();
        Ok(Stream::new(tls::connect(tcp, version).await?, addr))
    }

    /// A connection on which the relay greets; `headers` go into the request, if there is one.
    ///
    /// # Errors
    /// Where the relay ended it before that.
    pub async fn upgraded(&self, kind: Kind, headers: &str) -> io::Result<Stream> {
        if kind == Kind::Upgraded {
            let (ours, theirs) = duplex(PIPE);
            self.spawn(|server| async move {
                let _ended = server.serve_upgraded(theirs, ConnMeta::default()).await;
            });
            return Ok(Stream::new(ours, None));
        }
        let mut stream = within("a connection", self.open(kind)).await?;
        let request = match kind.is_websocket() {
            true => request::websocket(headers),
            false => request::derp(headers),
        };
        within("the upgrade", request::upgrade(&mut stream.io, &request)).await?;
        Ok(stream)
    }

    /// A client that sends what a test wants, and has sent nothing yet.
    pub async fn raw(&self) -> Raw {
        let stream = self.upgraded(self.kind, "").await.expect("a connection");
        Raw::new(stream, self.kind.is_websocket())
    }

    /// The same, logged in as client `n`.
    pub async fn raw_client(&self, n: u8) -> Raw {
        self.raw_login(&login(n)).await
    }

    /// The same, logged in with `login`.
    pub async fn raw_login(&self, login: &Login) -> Raw {
        let mut raw = self.raw().await;
        raw.log_in(login).await;
        raw
    }

    /// The same, of a client that wanted to reach another node of the region.
    pub async fn raw_not_ideal(&self, login: &Login) -> Raw {
        let header = format!("{IDEAL_NODE_HEADER}: 1a\r\n");
        let stream = self
            .upgraded(self.kind, &header)
            .await
            .expect("a connection");
        let mut raw = Raw::new(stream, self.kind.is_websocket());
        raw.log_in(login).await;
        raw
    }

    /// Client `n`.
    pub async fn client(&self, n: u8) -> TestClient {
        self.admit(&login(n)).await
    }

    /// A client with this login.
    pub async fn admit(&self, login: &Login) -> TestClient {
        self.admit_over(self.kind, login).await
    }

    /// The same over a connection of another kind than the relay's.
    pub async fn admit_over(&self, kind: Kind, login: &Login) -> TestClient {
        let client = self.connect_over(kind, login).await.expect("a login");
        TestClient::admitted(client, login).await
    }

    /// Logs a client in, whom the relay may still turn away.
    ///
    /// # Errors
    /// Where the relay closed the connection before it had the login.
    pub async fn connect(&self, login: &Login) -> Result<Client, LoginError> {
        self.connect_over(self.kind, login).await
    }

    async fn connect_over(&self, kind: Kind, login: &Login) -> Result<Client, LoginError> {
        let transport = if kind.is_websocket() {
            Transport::WebSocket
        } else {
            Transport::Upgrade
        };
        let (connector, target) = match kind {
            Kind::Plain | Kind::NoWorkers | Kind::WebSocket => {
                (Connector::new(), target("http", self.tcp))
            }
            Kind::Tls13 | Kind::Tls13ByRustls | Kind::WebSocketTls => (
                Connector::new().with_roots(Roots::Custom(tls::roots())),
                self.target(),
            ),
            Kind::Tls12 | Kind::Stream | Kind::Upgraded | Kind::Unix => {
                let stream = self.upgraded(kind, "").await?;
                return Client::handshake_over(stream.io, login).await;
            }
        };
        let connected = connector
            .with_transport(transport)
            .connect(&target, login)
            .await;
        connected.map_err(|err| LoginError::Io(io::Error::other(err)))
    }

    /// Whether a client with this login may stay.
    pub async fn admits(&self, login: &Login) -> bool {
        let Ok(mut client) = self.connect(login).await else {
            return false;
        };
        match within("an answer to the login", client.recv()).await {
            Ok(Received::ServerInfo(_)) => true,
            Ok(other) => panic!("{other:?} before the ServerInfo frame"),
            Err(_) => false,
        }
    }

    /// The relay as clients over TLS find it.
    pub fn target(&self) -> Target {
        target("https", self.tls)
    }

    /// Ends the relay, and looks at what it leaves.
    pub async fn end(self) {
        self.settled().await;
        within("the relay's threads", self.server.shutdown()).await;
        let mut tasks = std::mem::take(&mut *self.tasks.lock().expect("no panic"));
        within("the relay's tasks", async {
            while let Some(ended) = tasks.join_next().await {
                ended.expect("no task panics");
            }
        })
        .await;
        self.settled().await;
        let gauges = self.server.metrics().gauges();
        let left = [
            &gauges.connections,
            &gauges.home_connections,
            &gauges.not_ideal_connections,
            &gauges.clients_local,
            &gauges.dup_client_keys,
            &gauges.dup_client_conns,
            &gauges.watchers,
            &gauges.panics,
        ];
        assert_eq!(left.map(|gauge| gauge.get()), [0; 8], "{gauges:?}");
        assert_eq!(self.server.clients(), []);
        assert_eq!(self.server.check(), Ok(()));
    }
}

/// A connection that sends small writes at once.
async fn tcp(addr: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(addr).await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

fn target(scheme: &str, addr: SocketAddr) -> Target {
    let url: ServerUrl = format!("{scheme}://{addr}").parse().expect("a URL");
    url.into()
}
