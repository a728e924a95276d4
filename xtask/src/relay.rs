//! A relay that is started for a test: ours or Go's, by the same flags.

use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
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

/// How a relay is started where its speed is of interest.
pub(crate) struct Launch<'a> {
    /// Program and arguments. Where `{port}` stands among them, they are all there is, and
    /// `{stun_port}` may stand there too; otherwise Go's flags follow.
    pub(crate) command: &'a [String],
    /// The CPUs that it may use, as taskset lists them.
    pub(crate) cpus: &'a str,
    /// Whether it speaks plain HTTP.
    pub(crate) plain: bool,
    /// What its configuration file says, where it has one.
    pub(crate) config: Option<&'a str>,
}

impl Relay {
    /// Starts `program` on ports that are free, and waits until it answers.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let place = Place::new()?;
        let mut command = Command::new(program);
        command.args(place.flags(false));
        place.start(command)
    }

    /// The same on all addresses of the machine, of both families.
    pub(crate) fn start_on_all_addresses(program: &Path) -> Result<Self> {
        let place = Place::new()?;
        let mut command = Command::new(program);
        command.args(place.flags(false));
        // The last one counts.
        command.args(["-a", &format!("[::]:{}", place.port)]);
        place.start(command)
    }

    /// Starts a relay as `launch` says, and waits until it answers.
    pub(crate) fn launch(launch: &Launch<'_>) -> Result<Self> {
        Self::launch_with(launch, &[])
    }

    /// The same, with more of Go's flags, in which `{port}` may stand. They override the usual
    /// ones, and are left out where the command takes none.
    pub(crate) fn launch_with(launch: &Launch<'_>, flags: &[String]) -> Result<Self> {
        let place = Place::new()?;
        let mut command = Command::new("taskset");
        command.args(["-c", launch.cpus]);
        if launch.command.iter().any(|word| word.contains("{port}")) {
            let (port, stun_port) = (place.port.to_string(), place.stun_port.to_string());
            command.args(launch.command.iter().map(|word| {
                word.replace("{port}", &port)
                    .replace("{stun_port}", &stun_port)
            }));
        } else {
            let port = place.port.to_string();
            command.args(launch.command).args(place.flags(launch.plain));
            command.args(flags.iter().map(|flag| flag.replace("{port}", &port)));
        }
        if let Some(config) = launch.config {
            let file = place.dir.path().join("relay.toml");
            fs::write(&file, config)?;
            command.arg("--config").arg(file);
        }
        place.start(command)
    }

    /// The relay's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a bound on a wait for another program"
        )]
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

/// Ports that are free and a folder, before a relay has them.
struct Place {
    port: u16,
    stun_port: u16,
    http_port: u16,
    dir: TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let dir = TempDir::new()?;
        let mesh = dir.path().join("mesh.key");
        fs::write(&mesh, MESH_KEY)?;
        restrict(&mesh)?;
        Ok(Self {
            port: free_tcp_port()?,
            stun_port: free_udp_port()?,
            http_port: free_tcp_port()?,
            dir,
        })
    }

    /// The flags of Go's relay. Without a certificate mode it serves plain HTTP on such a port.
    fn flags(&self, plain: bool) -> Vec<String> {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let mut flags = vec!["-hostname".to_owned(), "127.0.0.1".to_owned()];
        if !plain {
            flags.extend(["-certmode".to_owned(), "manual".to_owned()]);
            flags.extend(["-certdir".to_owned(), at("certs")]);
        }
        flags.extend(["-c".to_owned(), at("derper.key")]);
        flags.extend(["-a".to_owned(), format!("127.0.0.1:{}", self.port)]);
        flags.extend(["-stun-port".to_owned(), self.stun_port.to_string()]);
        flags.extend(["-http-port".to_owned(), self.http_port.to_string()]);
        flags.extend(["-mesh-psk-file".to_owned(), at("mesh.key")]);
        flags
    }

    fn start(self, mut command: Command) -> Result<Relay> {
        let log = File::create(self.dir.path().join("log"))?;
        let child = command
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let Self {
            port,
            stun_port,
            http_port,
            dir,
        } = self;
        let mut relay = Relay {
            child,
            port,
            stun_port,
            http_port,
            dir,
        };
        relay.wait_until_ready()?;
        Ok(relay)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Keeps a file to its owner.
#[cfg(unix)]
pub(crate) fn restrict(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(
        file,
        fs::Permissions::from_mode(0o600),
    )?)
}

/// A port that was free a moment ago, and that nobody is given who asks for any port: attackers
/// open thousands of connections before a relay has taken its own.
pub(crate) fn free_tcp_port() -> Result<u16> {
    free_port(|port| {
        // Free on all addresses, for a relay may listen on all of them.
        let everywhere = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
        everywhere.or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, port)))
    })
}

/// The same for UDP.
pub(crate) fn free_udp_port() -> Result<u16> {
    free_port(|port| {
        let everywhere = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port));
        everywhere.or_else(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)))
    })
}

fn free_port<S>(bind: impl Fn(u16) -> std::io::Result<S>) -> Result<u16> {
    // Below what Linux, and what most systems, give to whoever asks for any.
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Several of this program may run.
    let start = std::process::id().wrapping_mul(101);
    for _ in 0..COUNT {
        let n = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + n)?;
        if bind(port).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free")
}
