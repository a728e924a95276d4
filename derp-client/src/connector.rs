//! From a [`Target`] to a [`Client`]: dial, proxy, TLS, upgrade, login, each within the time that
//! is left.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use derp_proto::{DerpNode, DerpRegion, NodePublic, ServerIdentity};
use rustls::client::WebPkiServerVerifier;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use crate::client::{Client, ConnectionInfo, Start, StartKind};
use crate::dial::dial;
use crate::error::{ConnectError, Fault, Stage};
use crate::link::BoxStream;
use crate::login::Login;
use crate::metacert;
use crate::proxy::{Proxy, ProxyEnvironment};
use crate::random;
use crate::response::HeadError;
use crate::target::{
    Addresses, Endpoint, Host, Target, TargetError, UrlTarget, node_name, region_name,
};
use crate::tls::{self, CertCheck, Roots};
use crate::upgrade::{self, UpgradeError, Wanted};
use crate::websocket::Challenge;

/// For everything from DNS to the first frame that is sent (`derp/derphttp/derphttp_client.go`).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For TCP to one node of a region.
const NODE_TIMEOUT: Duration = Duration::from_millis(1500);

/// How connections are made. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Connector {
    roots: Roots,
    /// Made of `roots` when it is first needed.
    chains: Arc<OnceCell<Arc<WebPkiServerVerifier>>>,
    proxy: ProxyChoice,
    transport: Transport,
    prefer_ipv6: bool,
    plain_http: bool,
}

/// What DERP is carried in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// A connection that was upgraded from HTTP; a round trip shorter where the server's
    /// certificates tell its key.
    #[default]
    Upgrade,
    /// The same, and never the shorter way.
    SlowStart,
    /// A WebSocket, for networks that let only those through.
    WebSocket,
}

#[derive(Debug, Clone, Default)]
enum ProxyChoice {
    #[default]
    None,
    Fixed(Proxy),
    Environment(Arc<ProxyEnvironment>),
}

impl Connector {
    /// Connections with the system's roots, without a proxy.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts these roots.
    #[must_use]
    pub fn with_roots(self, roots: Roots) -> Self {
        Self {
            roots,
            chains: Arc::default(),
            ..self
        }
    }

    /// Reaches every server through this proxy.
    #[must_use]
    pub fn with_proxy(self, proxy: Proxy) -> Self {
        Self {
            proxy: ProxyChoice::Fixed(proxy),
            ..self
        }
    }

    /// Reaches servers through the proxies that an environment names.
    #[must_use]
    pub fn with_proxy_environment(self, environment: ProxyEnvironment) -> Self {
        Self {
            proxy: ProxyChoice::Environment(Arc::new(environment)),
            ..self
        }
    }

    /// Carries DERP in this.
    #[must_use]
    pub const fn with_transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// Whether IPv6 has 200 ms before IPv4 is tried as well.
    #[must_use]
    pub const fn prefer_ipv6(mut self, prefer: bool) -> Self {
        self.prefer_ipv6 = prefer;
        self
    }

    /// Whether nodes of a map are spoken to without TLS; their port is then 3340 where the map
    /// has none. For tests. URLs say themselves what they want.
    #[must_use]
    pub const fn plain_http(mut self, plain: bool) -> Self {
        self.plain_http = plain;
        self
    }

    /// Connects to the first of the target's nodes that TCP reaches, and logs in.
    ///
    /// Takes ten seconds at most, of which a node of a region gets 1.5 to accept a TCP
    /// connection. Dropping the future abandons the attempt.
    ///
    /// # Errors
    /// [`ConnectError`] names the server; of the nodes of a region that cannot be reached it is
    /// about the first.
    pub async fn connect(&self, target: &Target, login: &Login) -> Result<Client, ConnectError> {
        let budget = Budget::begin(CONNECT_TIMEOUT);
        let (endpoint, stream) = match target {
            Target::Region(region) => self.reach_region(region, &budget).await?,
            Target::Node(node) => {
                let reached = self.reach_node(node, &budget).await;
                reached.map_err(|fault| ConnectError::new(node_name(node), fault))?
            }
            Target::Url(url) => self.reach_url(url, &budget).await?,
        };
        let name = endpoint.name.clone();
        let client = self.log_in(endpoint, stream, login, &budget).await;
        client.map_err(|fault| ConnectError::new(name, fault))
    }

    async fn reach_region(
        &self,
        region: &DerpRegion,
        budget: &Budget,
    ) -> Result<(Endpoint, Dialed), ConnectError> {
        let none = |fault: TargetError| {
            ConnectError::new(
                format!("region {}", region_name(region)),
                Fault::Target(fault),
            )
        };
        let Some(ideal) = region.nodes.first() else {
            return Err(none(TargetError::NoNodes(region_name(region))));
        };
        let mut first_error = None;
        for (at, node) in region
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| !node.stun_only)
        {
            match self.reach_node(node, budget).await {
                Ok((mut endpoint, stream)) => {
                    endpoint.ideal_node = (at > 0).then(|| ideal.name.clone());
                    return Ok((endpoint, stream));
                }
                Err(fault) => {
                    let err = ConnectError::new(node_name(node), fault);
                    tracing::debug!(server = err.server(), fault = %err.fault(), "node not reached");
                    first_error.get_or_insert(err);
                }
            }
        }
        Err(first_error.unwrap_or_else(|| none(TargetError::OnlyStun(region_name(region)))))
    }

    async fn reach_node(
        &self,
        node: &DerpNode,
        budget: &Budget,
    ) -> Result<(Endpoint, Dialed), Fault> {
        let endpoint = Endpoint::of_node(node, self.plain_http).map_err(Fault::Target)?;
        let stream = self.reach(&endpoint, NODE_TIMEOUT, budget).await?;
        Ok((endpoint, stream))
    }

    async fn reach_url(
        &self,
        url: &UrlTarget,
        budget: &Budget,
    ) -> Result<(Endpoint, Dialed), ConnectError> {
        let endpoint = Endpoint::of_url(url);
        match self.reach(&endpoint, CONNECT_TIMEOUT, budget).await {
            Ok(stream) => Ok((endpoint, stream)),
            Err(fault) => Err(ConnectError::new(endpoint.name, fault)),
        }
    }

    /// A stream to the endpoint; direct TCP may take as long as `dial_timeout`.
    async fn reach(
        &self,
        endpoint: &Endpoint,
        dial_timeout: Duration,
        budget: &Budget,
    ) -> Result<Dialed, Fault> {
        let proxy = match &self.proxy {
            ProxyChoice::None => None,
            ProxyChoice::Fixed(proxy) => Some(proxy),
            ProxyChoice::Environment(environment) => {
                environment.proxy_for(&endpoint.host, endpoint.port, endpoint.tls.is_some())
            }
        };
        if let Some(proxy) = proxy {
            return self.reach_through(proxy, endpoint, budget).await;
        }
        let tcp = dial(&endpoint.addresses, endpoint.port, self.prefer_ipv6);
        Ok(Dialed::from(
            budget.spend_at_most(dial_timeout, Stage::Dial, tcp).await?,
        ))
    }

    async fn reach_through(
        &self,
        proxy: &Proxy,
        endpoint: &Endpoint,
        budget: &Budget,
    ) -> Result<Dialed, Fault> {
        let addresses = Addresses::of_host(proxy.host());
        let tcp = dial(&addresses, proxy.port(), self.prefer_ipv6);
        let mut dialed = Dialed::from(budget.spend(Stage::Proxy, tcp).await?);
        if proxy.is_tls() {
            let check = CertCheck::HostName;
            dialed.stream = self
                .tls(proxy.host(), check, dialed.stream, budget)
                .await?
                .stream;
        }
        // The proxy looks the name up; the addresses in the map are not for it.
        let target = endpoint.host.with_port(endpoint.port);
        let tunnel = proxy.open_tunnel(&mut dialed.stream, &target);
        budget
            .spend(Stage::Proxy, async { tunnel.await.map_err(Fault::Proxy) })
            .await?;
        Ok(dialed)
    }

    async fn log_in(
        &self,
        endpoint: Endpoint,
        dialed: Dialed,
        login: &Login,
        budget: &Budget,
    ) -> Result<Client, Fault> {
        let Dialed {
            stream,
            local_addr,
            peer_addr,
        } = dialed;
        let (mut stream, tls) = match &endpoint.tls {
            None => (stream, None),
            Some(check) => {
                let tls = self
                    .tls(&endpoint.host, check.clone(), stream, budget)
                    .await?;
                (tls.stream, Some((tls.version, tls.server_key)))
            }
        };
        let (tls_version, server_key) = tls.unzip();
        let (start, kind) = match (self.transport, server_key.flatten()) {
            (Transport::Upgrade, Some(key)) => {
                let request = upgrade::request(&endpoint, Wanted::FastStart);
                (
                    Start::Known {
                        server: ServerIdentity::known(key),
                        request,
                    },
                    StartKind::Fast,
                )
            }
            (Transport::WebSocket, _) => {
                let challenge = Challenge::from_random(random::bytes());
                let wanted = Wanted::WebSocket(&challenge);
                let read = upgrade(&mut stream, &endpoint, wanted, budget).await?;
                (
                    Start::Greeting {
                        read,
                        is_websocket: true,
                    },
                    StartKind::WebSocket,
                )
            }
            (Transport::Upgrade | Transport::SlowStart, _) => {
                let read = upgrade(&mut stream, &endpoint, Wanted::SlowStart, budget).await?;
                (
                    Start::Greeting {
                        read,
                        is_websocket: false,
                    },
                    StartKind::Slow,
                )
            }
        };
        let about = |server_key| ConnectionInfo {
            server: endpoint.name,
            server_key,
            node: endpoint.node,
            local_addr,
            peer_addr,
            start: kind,
            tls_version: tls_version.flatten(),
        };
        let client = Client::log_in(stream, start, login, about);
        budget
            .spend(Stage::Login, async { client.await.map_err(Fault::Login) })
            .await
    }

    /// Speaks TLS on a stream to `host`.
    async fn tls(
        &self,
        host: &Host,
        check: CertCheck,
        stream: BoxStream,
        budget: &Budget,
    ) -> Result<Tls, Fault> {
        let chains = match check.needs_roots() {
            true => Some(self.chains().await?),
            false => None,
        };
        let connector = TlsConnector::from(Arc::new(tls::client_config(check, chains)));
        let handshake = connector.connect(host.server_name().clone(), stream);
        let stream = budget
            .spend(Stage::Tls, async { handshake.await.map_err(tls_fault) })
            .await?;
        let (_, session) = stream.get_ref();
        let version = session.protocol_version();
        let server_key = match version {
            // Before 1.3 anybody on the way could have put a certificate there.
            Some(rustls::ProtocolVersion::TLSv1_3) => {
                session.peer_certificates().and_then(metacert::server_key)
            }
            _ => None,
        };
        Ok(Tls {
            stream: Box::new(stream),
            version,
            server_key,
        })
    }

    async fn chains(&self) -> Result<Arc<WebPkiServerVerifier>, Fault> {
        let made = self.chains.get_or_try_init(|| async {
            let roots = self.roots.clone();
            // Files are read, and some systems have many.
            let loading = tokio::task::spawn_blocking(move || roots.load());
            tls::chain_verifier(loading.await.map_err(std::io::Error::other)??)
        });
        made.await.map(Arc::clone).map_err(Fault::Roots)
    }
}

/// Asks for the upgrade and reads the response; returns what was read beyond it.
async fn upgrade(
    stream: &mut BoxStream,
    endpoint: &Endpoint,
    wanted: Wanted<'_>,
    budget: &Budget,
) -> Result<bytes::BytesMut, Fault> {
    let exchange = async {
        let broken = |err| Fault::Upgrade(UpgradeError::Head(HeadError::Io(err)));
        stream
            .write_all(&upgrade::request(endpoint, wanted))
            .await
            .map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        upgrade::response(stream, wanted)
            .await
            .map_err(Fault::Upgrade)
    };
    budget.spend(Stage::Upgrade, exchange).await
}

/// Tells a certificate that is refused from everything else that can go wrong.
fn tls_fault(err: std::io::Error) -> Fault {
    match err
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(refused @ rustls::Error::InvalidCertificate(_)) => Fault::Certificate(refused.clone()),
        _ => Fault::Tls(err),
    }
}

/// A stream to a server or through a proxy, before TLS.
struct Dialed {
    stream: BoxStream,
    local_addr: Option<SocketAddr>,
    peer_addr: Option<SocketAddr>,
}

impl From<TcpStream> for Dialed {
    fn from(tcp: TcpStream) -> Self {
        let (local_addr, peer_addr) = (tcp.local_addr().ok(), tcp.peer_addr().ok());
        Self {
            stream: Box::new(tcp),
            local_addr,
            peer_addr,
        }
    }
}

/// A stream with TLS on it.
struct Tls {
    stream: BoxStream,
    version: Option<rustls::ProtocolVersion>,
    /// The DERP key that the certificates name.
    server_key: Option<NodePublic>,
}

/// The time that is left for a connection.
struct Budget {
    until: Instant,
}

impl Budget {
    fn begin(total: Duration) -> Self {
        Self {
            until: Instant::now() + total,
        }
    }

    /// Runs a step within what is left.
    async fn spend<T>(
        &self,
        stage: Stage,
        step: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        self.spend_at_most(Duration::MAX, stage, step).await
    }

    /// Runs a step within `most` or what is left.
    async fn spend_at_most<T>(
        &self,
        most: Duration,
        stage: Stage,
        step: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let within = most.min(self.until.saturating_duration_since(Instant::now()));
        match timeout(within, step).await {
            Ok(done) => done,
            Err(_) => Err(Fault::Timeout { stage, within }),
        }
    }
}
