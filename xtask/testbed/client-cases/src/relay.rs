//! The relay under test, how it is to be trusted, and clients of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use derp_client::{
    CertPin, Client, Connector, Fault, Login, PinError, Proxy, Received, Roots, ServerUrl, Target,
    Transport,
};
use derp_proto::{DerpNode, MeshKey, NodePrivate, NodePublic};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::timeout;

use crate::args::Args;
use crate::cases::Needs;

/// How long a case waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long it watches that something does not.
pub(crate) const GRACE: Duration = Duration::from_millis(150);

/// The relay, and what the flags say about it.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) is_tls: bool,
    /// Its certificate, where TLS is spoken.
    pub(crate) pin: Option<CertPin>,
    dial: Option<String>,
    roots: Option<Arc<RootCertStore>>,
    pub(crate) mesh_key: Option<MeshKey>,
    pub(crate) restart_with: Option<String>,
    has: Needs,
}

impl Relay {
    pub(crate) async fn from_args(args: &Args) -> anyhow::Result<Self> {
        let (host, port, is_tls) = match &args.url {
            Some(url) => {
                let url: ServerUrl = url.parse()?;
                (url.host().to_string(), url.port(), url.is_tls())
            }
            None => (args.host.clone(), args.port, !args.plain),
        };
        let mut relay = Self {
            host,
            port,
            is_tls,
            pin: None,
            dial: args.dial.clone(),
            roots: args.ca.as_ref().map(read_roots).transpose()?,
            mesh_key: read_mesh_key(args)?,
            restart_with: args.restart_with.clone(),
            has: Needs::default(),
        };
        if is_tls {
            relay.pin = Some(match &args.pin {
                Some(pin) => {
                    let digits = pin
                        .strip_prefix("sha256-raw:")
                        .context("--pin: no sha256-raw:")?;
                    CertPin::from_hex(digits).context("--pin")?
                }
                None => relay.shown_pin().await?,
            });
        }
        relay.has = Needs {
            tls: is_tls,
            fast_start: is_tls && !args.no_fast_start,
            roots: is_tls && relay.roots.is_some(),
            mesh: relay.mesh_key.is_some(),
            websocket: !args.no_ws,
            restart: args.restart_with.is_some(),
            slow: args.slow,
        };
        Ok(relay)
    }

    /// Whether the flags give what a case needs.
    pub(crate) fn has(&self, needs: Needs) -> bool {
        needs.are_met_by(self.has)
    }

    /// The pin of the certificate that the relay shows: what a wrong pin is refused with.
    async fn shown_pin(&self) -> anyhow::Result<CertPin> {
        let wrong = format!("sha256-raw:{}", "0".repeat(64));
        let node = DerpNode {
            cert_name: wrong,
            ..self.plain_node()
        };
        let login = Login::new(new_key());
        let Err(err) = self.connector().connect(&Target::Node(node), &login).await else {
            bail!("a wrong pin was accepted");
        };
        match pin_error(err.fault()) {
            Some(PinError::AnotherCertificate { seen }) => Ok(seen),
            _ => Err(err).context("looking at the relay's certificate"),
        }
    }

    /// A connector that trusts nobody but `--ca`.
    pub(crate) fn connector(&self) -> Connector {
        let roots = self
            .roots
            .clone()
            .unwrap_or_else(|| Arc::new(RootCertStore::empty()));
        Connector::new()
            .with_roots(Roots::Custom(roots))
            .plain_http(!self.is_tls)
    }

    /// Where the relay is, if not where its name says.
    pub(crate) fn dial_addr(&self) -> Option<String> {
        let dial = self.dial.as_ref()?;
        Some(format!("{dial}:{}", self.port))
    }

    /// The relay in a map, with nothing said about its certificate.
    pub(crate) fn plain_node(&self) -> DerpNode {
        let mut node = DerpNode {
            name: "1a".into(),
            region_id: 1,
            host_name: self.host.clone(),
            derp_port: self.port.into(),
            ..DerpNode::default()
        };
        match &self.dial {
            Some(ip) if ip.contains(':') => (node.ipv4, node.ipv6) = ("none".into(), ip.clone()),
            Some(ip) => (node.ipv4, node.ipv6) = (ip.clone(), "none".into()),
            None => {}
        }
        node
    }

    /// `--dial`, for a target that is a URL.
    pub(crate) fn dial_host(&self) -> anyhow::Result<Option<derp_client::Host>> {
        Ok(self.dial.as_ref().map(|host| host.parse()).transpose()?)
    }

    /// The relay in a map, with its certificate pinned.
    pub(crate) fn node(&self) -> DerpNode {
        let cert_name = self.pin.map(|pin| pin.to_string()).unwrap_or_default();
        DerpNode {
            cert_name,
            ..self.plain_node()
        }
    }

    pub(crate) fn target(&self) -> Target {
        Target::Node(self.node())
    }

    /// The login of another relay of the region.
    pub(crate) fn mesh_login(&self) -> anyhow::Result<Login> {
        let mesh_key = self.mesh_key.clone().context("no mesh key was given")?;
        Ok(Login::mesh(new_key(), mesh_key))
    }

    /// A client with a new key.
    pub(crate) async fn peer(&self) -> anyhow::Result<Peer> {
        self.peer_with(&self.connector(), Login::new(new_key()))
            .await
    }

    /// A client with a new key that is connected in this way.
    pub(crate) async fn peer_over(&self, transport: Transport) -> anyhow::Result<Peer> {
        let connector = self.connector().with_transport(transport);
        self.peer_with(&connector, Login::new(new_key())).await
    }

    pub(crate) async fn peer_through(&self, proxy: Proxy) -> anyhow::Result<Peer> {
        let connector = self.connector().with_proxy(proxy);
        self.peer_with(&connector, Login::new(new_key())).await
    }

    /// A client that shows the mesh key.
    pub(crate) async fn mesh_peer(&self) -> anyhow::Result<Peer> {
        self.peer_with(&self.connector(), self.mesh_login()?).await
    }

    async fn peer_with(&self, connector: &Connector, login: Login) -> anyhow::Result<Peer> {
        Peer::connect(connector, &self.target(), &login).await
    }
}

/// What was wrong with a pinned certificate, where that is the fault.
pub(crate) fn pin_error(fault: &Fault) -> Option<PinError> {
    match fault {
        Fault::Certificate(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(
            other,
        ))) => other.0.downcast_ref().copied(),
        _ => None,
    }
}

fn read_roots(path: &std::path::PathBuf) -> anyhow::Result<Arc<RootCertStore>> {
    let context = || format!("--ca {}", path.display());
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(path).with_context(context)? {
        roots
            .add(cert.with_context(context)?)
            .with_context(context)?;
    }
    ensure!(
        !roots.is_empty(),
        "--ca {}: no certificate in it",
        path.display()
    );
    Ok(Arc::new(roots))
}

fn read_mesh_key(args: &Args) -> anyhow::Result<Option<MeshKey>> {
    let text = match (&args.mesh_key, &args.mesh_key_file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => std::fs::read_to_string(path).context("--mesh-key-file")?,
        (None, None) => return Ok(None),
    };
    Ok(Some(
        MeshKey::from_secret_text(&text).context("the mesh key")?,
    ))
}

/// A key that nobody has used.
pub(crate) fn new_key() -> NodePrivate {
    let mut random = [0; 32];
    getrandom::fill(&mut random).expect("the system has randomness");
    NodePrivate::from_random(random)
}

/// An admitted client.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) key: NodePublic,
}

impl Peer {
    pub(crate) async fn connect(
        connector: &Connector,
        target: &Target,
        login: &Login,
    ) -> anyhow::Result<Self> {
        let client = connector.connect(target, login).await?;
        let mut peer = Self {
            client,
            key: login.key.public(),
        };
        match peer.next().await? {
            Received::ServerInfo(_) => Ok(peer),
            other => bail!("{other:?} came before ServerInfo"),
        }
    }

    /// What comes next, keep-alives aside.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Received> {
        loop {
            let received = timeout(PATIENCE, self.client.recv()).await;
            match received.context("nothing came")?? {
                Received::KeepAlive => {}
                received => return Ok(received),
            }
        }
    }

    /// Fails unless this packet comes next.
    pub(crate) async fn expect_packet(&mut self, from: &Self, packet: &[u8]) -> anyhow::Result<()> {
        let expected = Received::Packet {
            src: from.key,
            packet: Bytes::copy_from_slice(packet),
        };
        let received = self.next().await?;
        ensure!(
            received == expected,
            "another thing came: {}",
            shown(&received)
        );
        Ok(())
    }

    /// Fails if something comes.
    pub(crate) async fn expect_nothing(&mut self) -> anyhow::Result<()> {
        match timeout(GRACE, self.client.recv()).await {
            Err(_) => Ok(()),
            Ok(received) => bail!("something came: {}", shown(&received?)),
        }
    }

    /// Fails unless the connection ends.
    pub(crate) async fn expect_end(&mut self) -> anyhow::Result<String> {
        loop {
            match timeout(PATIENCE, self.client.recv())
                .await
                .context("it goes on")?
            {
                Ok(_) => {}
                Err(end) => return Ok(end.to_string()),
            }
        }
    }

    /// Fails unless packets from this client reach `to`.
    pub(crate) async fn reaches(&self, to: &mut Self, packet: &[u8]) -> anyhow::Result<()> {
        self.client.send(to.key, packet).await?;
        to.expect_packet(self, packet).await
    }
}

/// What was received, shortened.
fn shown(received: &Received) -> String {
    match received {
        Received::Packet { src, packet } => format!("{} bytes from {src:?}", packet.len()),
        other => format!("{other:?}"),
    }
}
