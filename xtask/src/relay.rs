//! A relay that is started for a test: ours or Go's, by the same flags.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// The mesh key of all relays of a test.
pub(crate) const MESH_KEY: &str =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A running relay with a self-signed certificate for 127.0.0.1; stopped when dropped.
pub(crate) struct Relay {
    child: Child,
    pub(crate) port: u16,
    pub(crate) stun_port: u16,
    pub(crate) http_port: u16,
    dir: TempDir,
}

impl Relay {
    /// Starts `program` on ports that are free, and waits until it answers.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let dir = TempDir::new()?;
        let (port, stun_port, http_port) = (free_tcp_port()?, free_udp_port()?, free_tcp_port()?);
        let mesh = dir.path().join("mesh.key");
        fs::write(&mesh, MESH_KEY)?;
        restrict(&mesh)?;
        let log = File::create(dir.path().join("log"))?;
        let at = |name: &str| dir.path().join(name).display().to_string();
        let child = Command::new(program)
            .args(["-certmode", "manual", "-hostname", "127.0.0.1"])
            .args(["-certdir", &at("certs"), "-c", &at("derper.key")])
            .args(["-a", &format!("127.0.0.1:{port}")])
            .args(["-stun-port", &stun_port.to_string(), "-http-port", &http_port.to_string()])
            .args(["-mesh-psk-file", &at("mesh.key")])
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut relay = Self { child, port, stun_port, http_port, dir };
        relay.wait_until_ready()?;
        Ok(relay)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        #[expect(clippy::disallowed_methods, reason = "a bound on a wait for another program")]
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the relay ended with {status}:\n{}", self.log());
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("the relay does not listen:\n{}", self.log())
    }

    /// What the relay has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn mesh_key_file(&self) -> PathBuf {
        self.dir.path().join("mesh.key")
    }

    /// A folder of the relay's own, for files of a test.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[cfg(unix)]
fn restrict(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o600))?)
}

fn free_tcp_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn free_udp_port() -> Result<u16> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}
