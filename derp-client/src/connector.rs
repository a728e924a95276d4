//! From a [`Target`] to a [`Client`]: dial, proxy, TLS, upgrade, login, each within the time that
//! is left.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use derp_proto::{DerpNode, DerpRegion, ServerIdentity};
use tokio::net::TcpStream;

use crate::budget::Budget;
use crate::client::{Client, ConnectionInfo, Start, StartKind};
use crate::dial::dial;
use crate::endpoint::{Addresses, Endpoint};
use crate::error::{ConnectError, Fault, Stage};
use crate::link::BoxStream;
use crate::login::Login;
use crate::proxy::{Proxy, ProxyEnvironment};
use crate::random;
use crate::target::{Target, TargetError, UrlTarget, node_name, region_name};
use crate::tls::{CertCheck, Roots};
use crate::trust::{Secured, Trust};
use crate::upgrade::{self, Wanted};
use crate::websocket::Challenge;

/// For everything from DNS to the first frame that is sent (`derp/derphttp/derphttp_client.go`).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For TCP to one node of a region.
const NODE_TIMEOUT: Duration = Duration::from_millis(1500);

/// How connections are made. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Connector {
    trust: Trust,
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
            trust: Trust::new(roots),
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
            let (host, check) = (proxy.host(), CertCheck::HostName);
            let secured = self
                .trust
                .secure(host, check, dialed.stream, budget)
                .await?;
            dialed.stream = secured.stream;
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
        let (mut stream, tls_version, known) = match &endpoint.tls {
            None => (stream, None, None),
            Some(check) => {
                let secured = self
                    .trust
                    .secure(&endpoint.host, check.clone(), stream, budget);
                let Secured {
                    stream,
                    version,
                    server_key,
                } = secured.await?;
                (stream, version, server_key)
            }
        };
        let (kind, start) = match (self.transport, known) {
            (Transport::Upgrade, Some(key)) => {
                let request = upgrade::request(&endpoint, Wanted::FastStart);
                (
                    StartKind::Fast,
                    Start::Known {
                        server: ServerIdentity::known(key),
                        request,
                    },
                )
            }
            (Transport::WebSocket, _) => {
                let challenge = Challenge::from_random(random::bytes());
                let wanted = Wanted::WebSocket(&challenge);
                let read = upgrade(&mut stream, &endpoint, wanted, budget).await?;
                (
                    StartKind::WebSocket,
                    Start::Greeting {
                        read,
                        is_websocket: true,
                    },
                )
            }
            (Transport::Upgrade | Transport::SlowStart, _) => {
                let read = upgrade(&mut stream, &endpoint, Wanted::SlowStart, budget).await?;
                (
                    StartKind::Slow,
                    Start::Greeting {
                        read,
                        is_websocket: false,
                    },
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
            tls_version,
        };
        let client = Client::log_in(stream, start, login, about);
        budget
            .spend(Stage::Login, async { client.await.map_err(Fault::Login) })
            .await
    }
}

/// Runs the upgrade within what is left.
async fn upgrade(
    stream: &mut BoxStream,
    endpoint: &Endpoint,
    wanted: Wanted<'_>,
    budget: &Budget,
) -> Result<BytesMut, Fault> {
    let upgrade = upgrade::upgrade(stream, endpoint, wanted);
    budget
        .spend(Stage::Upgrade, async {
            upgrade.await.map_err(Fault::Upgrade)
        })
        .await
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
