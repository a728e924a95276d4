//! The relay under attack, and how attackers and well-behaved clients reach it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use derp_proto::{ClientFrame, FrameType, NodePrivate};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::link::{Io, Link};
use crate::metrics::Metrics;
use crate::process::Process;
use crate::random;
use crate::tls::{self, Version};

/// How long a well-behaved client waits for each step, on a machine that is under attack.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// By this header a proxy says where a client is. One on the machine itself may see numbers.
pub(crate) fn proxy_header(client: Ipv4Addr) -> String {
    format!("PROXY TCP4 {client} 127.0.0.1 40000 443\r\n")
}

/// A relay on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    pub(crate) addr: SocketAddr,
    pub(crate) process: Process,
    /// Whether each connection must begin with a PROXY header.
    pub(crate) wants_proxy_header: bool,
    /// None where it speaks plain HTTP.
    tls: Option<Arc<ClientConfig>>,
}

/// What is special about a connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dial {
    /// Where it comes from, if that is not the system's choice.
    pub(crate) source: Option<Ipv4Addr>,
    /// The socket's receive buffer in bytes, if that is not the system's choice.
    pub(crate) receive_buffer: Option<u32>,
    /// Another TLS version than 1.3.
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Dial {
    /// A connection from `source`.
    pub(crate) fn from(source: Ipv4Addr) -> Self {
        Self {
            source: Some(source),
            ..Self::default()
        }
    }
}

impl Relay {
    /// # Errors
    /// Where it is on another machine: this program is no way to attack another's. Addresses for
    /// private use are those of a network namespace.
    pub(crate) fn new(addr: SocketAddr, pid: u32, plain: bool) -> Result<Self> {
        let is_near = match addr.ip() {
            std::net::IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
            std::net::IpAddr::V6(ip) => ip.is_loopback(),
        };
        ensure!(is_near, "{addr} is another machine");
        let tls = if plain {
            None
        } else {
            Some(tls::config(Version::Tls13)?)
        };
        Ok(Self {
            addr,
            process: Process(pid),
            wants_proxy_header: false,
            tls,
        })
    }

    /// Whether connections begin with TLS.
    pub(crate) const fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// A TCP connection. When it is dropped it is reset, so that no port is left waiting.
    pub(crate) async fn tcp(&self, dial: &Dial) -> Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if let Some(source) = dial.source {
            socket.bind(SocketAddrV4::new(source, 0).into())?;
        }
        if let Some(size) = dial.receive_buffer {
            socket.set_recv_buffer_size(size)?;
        }
        let stream = timeout(PATIENCE, socket.connect(self.addr))
            .await
            .context("connecting takes too long")??;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(stream)
    }

    /// A connection that stands, with TLS where the relay has it.
    pub(crate) async fn connect(&self, dial: &Dial) -> Result<Link> {
        let mut tcp = self.tcp(dial).await?;
        if self.wants_proxy_header {
            // Clients behind a proxy are as many as those in front of it would be.
            let client = dial.source.unwrap_or(Ipv4Addr::LOCALHOST);
            tcp.write_all(proxy_header(client).as_bytes()).await?;
        }
        self.over(tcp, dial.tls.as_ref()).await
    }

    /// The same over a connection that a proxy, or somebody who says so, begins with `header`.
    pub(crate) async fn connect_through(&self, mut tcp: TcpStream, header: &[u8]) -> Result<Link> {
        tcp.write_all(header).await?;
        self.over(tcp, None).await
    }

    async fn over(&self, tcp: TcpStream, tls: Option<&Arc<ClientConfig>>) -> Result<Link> {
        let Some(config) = tls.or(self.tls.as_ref()) else {
            return Ok(Link::new(Box::new(tcp)));
        };
        let name = ServerName::IpAddress(self.addr.ip().into());
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = timeout(PATIENCE, connector.connect(name, tcp))
            .await
            .context("the TLS handshake takes too long")?
            .context("TLS handshake")?;
        Ok(Link::new(Box::new(stream) as Box<dyn Io>))
    }

    /// A client that has logged in.
    pub(crate) async fn client(&self, key: &NodePrivate, dial: &Dial) -> Result<Link> {
        let mut link = self.connect(dial).await?;
        link.upgrade().await?;
        timeout(PATIENCE, link.log_in(key))
            .await
            .context("the login takes too long")??;
        Ok(link)
    }

    /// `count` clients with new keys, some at a time.
    pub(crate) async fn clients(&self, count: usize, dial: &Dial) -> Result<Vec<Link>> {
        const AT_A_TIME: usize = 32;
        let mut clients = Vec::with_capacity(count);
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..count {
            if n >= AT_A_TIME {
                clients.push(tasks.join_next().await.context("a task is there")???);
            }
            let (relay, dial) = (self.clone(), dial.clone());
            tasks.spawn(async move { relay.client(&random::key(), &dial).await });
        }
        while let Some(client) = tasks.join_next().await {
            clients.push(client??);
        }
        Ok(clients)
    }

    /// The relay's own numbers, where it tells them as ours does.
    pub(crate) async fn metrics(&self) -> Result<Metrics> {
        let mut link = self.connect(&Dial::default()).await?;
        let text = timeout(PATIENCE, link.get("/debug/varz"))
            .await
            .context("the relay's numbers take too long")??;
        Ok(Metrics::parse(&text))
    }

    /// A packet from one new client to another.
    ///
    /// # Errors
    /// Where it does not arrive: the relay does not relay any more.
    pub(crate) async fn relays(&self) -> Result<()> {
        let (alice, bob) = (random::key(), random::key());
        let mut from = self.client(&alice, &Dial::default()).await?;
        let mut to = self.client(&bob, &Dial::default()).await?;
        let packet = b"does this arrive?";
        let dst = bob.public();
        from.send(&ClientFrame::SendPacket { dst, packet }).await?;
        loop {
            let (ty, body) = timeout(PATIENCE, to.frame())
                .await
                .context("a packet does not arrive")??;
            if ty == FrameType::RECV_PACKET {
                ensure!(
                    body[..32] == *alice.public().as_bytes() && body[32..] == *packet,
                    "a packet was changed"
                );
                return Ok(());
            }
        }
    }

    /// Waits until no more than `files` are open and the rest has settled, `limit` at most.
    /// Returns how many are open then.
    pub(crate) async fn settle(&self, files: u64, limit: Duration) -> Result<u64> {
        let step = Duration::from_millis(200);
        let mut waited = Duration::ZERO;
        let mut quiet = 0;
        let mut cpu = self.process.cpu()?;
        loop {
            tokio::time::sleep(step).await;
            waited += step;
            let used = self.process.cpu()?;
            let busy = used - cpu;
            cpu = used;
            let open = self.process.files()?;
            quiet = if open <= files && busy < step / 50 {
                quiet + 1
            } else {
                0
            };
            if quiet >= 2 || waited >= limit {
                return Ok(open);
            }
        }
    }

    /// # Errors
    /// Where the process has ended.
    pub(crate) fn ensure_alive(&self) -> Result<()> {
        if self.process.is_alive() {
            return Ok(());
        }
        bail!("the relay has ended");
    }
}
