//! Relays as processes, each with wires to all others.

use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use derp_client::{CertCheck, Client, Connector, Login, Received, Roots, Target, UrlTarget};
use derp_proto::NodePrivate;
use rustls::RootCertStore;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::authority::Authority;
use crate::wire::Wire;

const MESH_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// How long a relay may take to start, or a client to log in.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Region {
    relays: Vec<Relay>,
    /// By the relay that connects and the one that it connects to.
    wires: Vec<(usize, usize, Wire)>,
    roots: Arc<RootCertStore>,
    authority: Authority,
    dir: TempDir,
}

struct Relay {
    name: String,
    program: PathBuf,
    port: u16,
    with: String,
    child: Option<Child>,
}

/// The name of a relay in its certificate.
fn host(n: usize) -> String {
    format!("relay{n}.test")
}

/// The address of the wire from one relay to another.
fn wire_ip(from: usize, to: usize) -> Result<Ipv4Addr> {
    Ok(Ipv4Addr::new(
        127,
        77,
        u8::try_from(from)?,
        u8::try_from(to + 1)?,
    ))
}

impl Region {
    pub(crate) async fn start(programs: Vec<(String, PathBuf)>) -> Result<Self> {
        let dir = TempDir::new()?;
        let authority = Authority::new(dir.path())?;
        fs::write(dir.path().join("mesh.key"), MESH_KEY)?;
        fs::set_permissions(dir.path().join("mesh.key"), Permissions::from_mode(0o600))?;
        let mut relays = Vec::new();
        for (n, (name, program)) in programs.into_iter().enumerate() {
            authority.certify(&host(n), dir.path())?;
            relays.push(Relay {
                name,
                program,
                port: TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
                with: String::new(),
                child: None,
            });
        }
        let mut wires = Vec::new();
        let ports: Vec<u16> = relays.iter().map(|relay| relay.port).collect();
        for (from, relay) in relays.iter_mut().enumerate() {
            let mut with = Vec::new();
            for (to, port) in ports.iter().copied().enumerate() {
                let ip = wire_ip(from, to)?;
                // A relay may be told of itself, and has to notice.
                let wire = Wire::new(ip, SocketAddr::from(([127, 0, 0, 1], port))).await?;
                wires.push((from, to, wire));
                with.push(format!("{}:{port}/{ip}", host(to)));
            }
            relay.with = with.join(",");
        }
        let mut region = Self {
            relays,
            wires,
            roots: authority.roots()?,
            authority,
            dir,
        };
        for n in 0..region.len() {
            region.restart(n).await?;
        }
        Ok(region)
    }

    pub(crate) fn len(&self) -> usize {
        self.relays.len()
    }

    /// Starts the relay and waits until it listens.
    pub(crate) async fn restart(&mut self, n: usize) -> Result<()> {
        let dir = self.dir.path().to_owned();
        let authority = self.authority.file.clone();
        let relay = &mut self.relays[n];
        relay.child = Some(relay.spawn(n, &dir, &authority)?);
        let listens = async {
            while TcpStream::connect(("127.0.0.1", relay.port)).await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, listens).await.with_context(|| {
            let log = fs::read_to_string(dir.join(format!("log{n}"))).unwrap_or_default();
            format!("{} does not listen:\n{log}", relay.name)
        })
    }

    pub(crate) async fn kill(&mut self, n: usize) -> Result<()> {
        let child = self.relays[n].child.take();
        child.context("it does not run")?.kill().await?;
        Ok(())
    }

    /// Cuts or joins the wires between one relay and all others.
    pub(crate) fn partition(&self, one: usize, cut: bool) {
        for (from, to, wire) in &self.wires {
            if (*from == one) != (*to == one) {
                wire.cut(cut);
            }
        }
    }

    /// A new client of the relay, directly.
    pub(crate) fn connect(
        &self,
        n: usize,
    ) -> impl Future<Output = Result<(NodePrivate, Client)>> + use<> {
        let port = self.relays[n].port;
        let connector = Connector::new().with_roots(Roots::Custom(Arc::clone(&self.roots)));
        async move {
            let target = Target::Url(UrlTarget {
                url: format!("https://{}:{port}/derp", host(n)).parse()?,
                dial_host: Some("127.0.0.1".parse()?),
                check: CertCheck::HostName,
            });
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random bytes: {error}"))?;
            let key = NodePrivate::from_random(bytes);
            let admitted = async {
                let mut client = connector.connect(&target, &Login::new(key.clone())).await?;
                let first = client.recv().await?;
                ensure!(matches!(first, Received::ServerInfo(_)), "got {first:?}");
                Ok(client)
            };
            let client = timeout(PATIENCE, admitted).await??;
            Ok((key, client))
        }
    }

    pub(crate) fn all_alive(&mut self) -> Result<String> {
        for relay in &mut self.relays {
            if let Some(child) = &mut relay.child {
                let ended = child.try_wait()?;
                ensure!(ended.is_none(), "{} ended: {ended:?}", relay.name);
            }
        }
        Ok(String::new())
    }
}

impl Relay {
    fn spawn(&self, n: usize, dir: &Path, authority: &Path) -> Result<Child> {
        let at = |name: String| dir.join(name).display().to_string();
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join(format!("log{n}")))?;
        Command::new(&self.program)
            .args(["-certmode", "manual", "-hostname", &host(n)])
            .args(["-certdir", &at(String::new())])
            .args(["-c", &at(format!("derper{n}.key"))])
            .args(["-a", &format!("127.0.0.1:{}", self.port)])
            .args(["-http-port", "-1", "-stun=false"])
            .args(["-mesh-psk-file", &at("mesh.key".to_owned())])
            .args(["-mesh-with", &self.with])
            .env("SSL_CERT_FILE", authority)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))
    }
}
