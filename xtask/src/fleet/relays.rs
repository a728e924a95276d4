//! The relays of the fleet: their certificates, their processes and their map.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::relay::{MESH_KEY, free_tcp_port, free_udp_port, restrict};

/// For how long the certificate is valid that nobody renews: a relay does not start with one that
/// has expired.
const SHORT: Duration = Duration::from_secs(5);
/// Longer than the probe wants to see.
const LONG: Duration = Duration::from_secs(30 * 86_400);
/// How often something is looked at that another program does, and how many times at most.
const LOOKS: (Duration, u32) = (Duration::from_millis(20), 1000);

/// Relays on loopback, stopped when dropped.
pub(super) struct Fleet {
    /// Stopped before their folder goes.
    relays: Vec<Relay>,
    dir: TempDir,
}

impl Fleet {
    pub(super) fn start(ours: &Path, go: &Path) -> Result<Self> {
        let dir = TempDir::new()?;
        let authority = Authority::new(dir.path())?;
        let meshed = [("ams1", ours), ("ams2", ours), ("ams3", go)]
            .into_iter()
            .map(|(name, program)| Relay::new(name, program))
            .collect::<Result<Vec<_>>>()?;
        let with: Vec<_> = meshed
            .iter()
            .map(|it| format!("{}:{}/127.0.0.1", it.host(), it.port))
            .collect();
        let mesh_key = dir.path().join("mesh.key");
        fs::write(&mesh_key, MESH_KEY)?;
        restrict(&mesh_key)?;
        let nobody = dir.path().join("nobody");
        // A key that is no node's.
        fs::write(&nobody, format!("nodekey:{}\n", "07".repeat(32)))?;

        let mut fleet = Self {
            relays: Vec::new(),
            dir,
        };
        let mesh_key = mesh_key.display().to_string();
        for relay in meshed {
            authority.certify(&relay, LONG)?;
            fleet.add(
                relay,
                &["-mesh-psk-file", &mesh_key, "-mesh-with", &with.join(",")],
            )?;
        }
        let private = Relay::new("private", ours)?;
        authority.certify(&private, LONG)?;
        fleet.add(private, &["--allowlist", &nobody.display().to_string()])?;
        let dead = Relay::new("dead", ours)?;
        authority.certify(&dead, LONG)?;
        let dead = fleet.add(dead, &[])?;
        dead.kill()?;
        let old = Relay::new("old", ours)?;
        let expires = authority.certify(&old, SHORT)?;
        fleet.add(old, &[])?;
        fleet.write_map()?;
        // What waits for it sees nothing earlier than that.
        sleep(expires.duration_since(now()).unwrap_or_default() + Duration::from_secs(1));
        Ok(fleet)
    }

    /// Starts a relay, waits until it listens, and keeps it.
    fn add(&mut self, mut relay: Relay, flags: &[&str]) -> Result<&mut Relay> {
        relay.start(self.dir.path(), flags)?;
        self.relays.push(relay);
        self.relays.last_mut().context("a relay was added")
    }

    pub(super) fn len(&self) -> usize {
        self.relays.len()
    }

    /// The certificate that all relays' come from.
    pub(super) fn authority(&self) -> PathBuf {
        self.dir.path().join(AUTHORITY)
    }

    /// The fleet's DERP map.
    pub(super) fn map(&self) -> PathBuf {
        self.dir.path().join("derpmap.json")
    }

    fn write_map(&self) -> Result<()> {
        let (meshed, alone): (Vec<_>, Vec<_>) = self
            .relays
            .iter()
            .partition(|relay| relay.name.starts_with("ams"));
        let mut regions = serde_json::Map::new();
        let groups = std::iter::once(("ams", meshed))
            .chain(alone.into_iter().map(|relay| (relay.name, vec![relay])));
        for ((code, relays), id) in groups.zip(900..) {
            let nodes: Vec<_> = relays.iter().map(|relay| relay.node(id)).collect();
            let region =
                json!({ "RegionID": id, "RegionCode": code, "RegionName": code, "Nodes": nodes });
            regions.insert(id.to_string(), region);
        }
        fs::write(self.map(), format!("{:#}\n", json!({ "Regions": regions })))?;
        Ok(())
    }
}

struct Relay {
    name: &'static str,
    program: PathBuf,
    port: u16,
    stun_port: u16,
    child: Option<Child>,
}

impl Relay {
    fn new(name: &'static str, program: &Path) -> Result<Self> {
        Ok(Self {
            name,
            program: program.to_owned(),
            port: free_tcp_port()?,
            stun_port: free_udp_port()?,
            child: None,
        })
    }

    fn host(&self) -> String {
        format!("{}.test", self.name)
    }

    fn node(&self, region: u32) -> Value {
        json!({
            "Name": self.name,
            "RegionID": region,
            "HostName": self.host(),
            "IPv4": "127.0.0.1",
            "IPv6": "none",
            "DERPPort": self.port,
            "STUNPort": self.stun_port,
        })
    }

    fn start(&mut self, dir: &Path, flags: &[&str]) -> Result<()> {
        let log = dir.join(format!("{}.log", self.name));
        let out = File::create(&log)?;
        let child = Command::new(&self.program)
            .args(["-certmode", "manual", "-hostname", &self.host()])
            .arg("-certdir")
            .arg(dir)
            .arg("-c")
            .arg(dir.join(format!("{}.json", self.name)))
            .args(["-a", &format!("127.0.0.1:{}", self.port)])
            .args(["-stun-port", &self.stun_port.to_string()])
            .args(["-http-port", "-1"])
            .args(flags)
            .env("SSL_CERT_FILE", dir.join(AUTHORITY))
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.child = Some(child);
        let (pause, most) = LOOKS;
        let listens = (0..most).any(|_| {
            let listens = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            if !listens {
                sleep(pause);
            }
            listens
        });
        let log = || fs::read_to_string(&log).unwrap_or_default();
        ensure!(listens, "{} does not listen:\n{}", self.name, log());
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ended = self.kill();
    }
}

const AUTHORITY: &str = "authority.pem";

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
}

impl Authority {
    fn new(dir: &Path) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(dir.join(AUTHORITY), issuer.pem())?;
        Ok(Self {
            issuer,
            dir: dir.to_owned(),
        })
    }

    /// Puts a certificate where the relay looks for it, and returns when it ends.
    fn certify(&self, relay: &Relay, valid: Duration) -> Result<SystemTime> {
        let key = KeyPair::generate()?;
        let host = relay.host();
        let mut params = CertificateParams::new(vec![host.clone()])?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, &*host);
        let end = now() + valid;
        params.not_before = (now() - LONG).into();
        params.not_after = end.into();
        let certificate = params.signed_by(&key, &self.issuer)?;
        fs::write(self.dir.join(format!("{host}.crt")), certificate.pem())?;
        let file = self.dir.join(format!("{host}.key"));
        fs::write(&file, key.serialize_pem())?;
        restrict(&file)?;
        Ok(end)
    }
}

#[expect(clippy::disallowed_methods, reason = "certificates are made for now")]
fn now() -> SystemTime {
    SystemTime::now()
}
