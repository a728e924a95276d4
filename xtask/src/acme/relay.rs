//! Our relay with an authority's certificate, and Go's client of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::authority::{Authority, KEY, KID, end};
use super::{SOON, Tools};
use crate::go_client::Client;
use crate::relay::{free_udp_port, restrict};

/// The relay's name, which every name server but Pebble's denies.
pub(super) const NAME: &str = "derp.example.test";
/// The kind of certificate that lives for half a minute.
pub(super) const BRIEF: &str = "brief";

/// What differs from case to case.
pub(super) struct Settings {
    pub(super) http: bool,
    /// As in TOML, without the brackets; empty for the default.
    pub(super) challenges: &'static str,
    pub(super) ip_certs: bool,
    pub(super) binding: bool,
    pub(super) profile: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http: true,
            challenges: "\"tls-alpn-01\", \"http-01\"",
            ip_certs: false,
            binding: false,
            profile: "",
        }
    }
}

impl Settings {
    /// Certificates that have to be renewed in the middle of the test.
    pub(super) fn brief() -> Self {
        Self {
            profile: BRIEF,
            ..Self::default()
        }
    }
}

/// Whom a client expects.
#[derive(Clone, Copy)]
pub(super) enum Subject {
    Name,
    Address,
}

/// A running relay; stopped when dropped.
pub(super) struct Relay {
    child: Child,
    dir: TempDir,
    port: u16,
    program: PathBuf,
}

pub(super) fn start(tools: &Tools, authority: &Authority, settings: &Settings) -> Result<Relay> {
    let dir = TempDir::new()?;
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (port, http_port) = (authority.tls_port, authority.http_port);
    let http_port = if settings.http {
        i32::from(http_port)
    } else {
        -1
    };
    let stun_port = free_udp_port()?;
    let mut config = format!(
        "hostname = {NAME:?}\nstate_dir = {:?}\n\
         [listen]\naddress = \"127.0.0.1:{port}\"\nhttp_port = {http_port}\n\
         [stun]\nport = {stun_port}\n[tls]\nmode = \"letsencrypt\"\ncert_dir = {:?}\n\
         [acme]\ndirectory = {:?}\nca_file = {:?}\nemail = \"admin@example.test\"\n\
         ip_certs = {}\nprofile = {:?}\n",
        at("state"),
        at("certs"),
        authority.directory(),
        authority.ca_file().display().to_string(),
        settings.ip_certs,
        settings.profile,
    );
    if settings.http {
        config.push_str(&format!("challenges = [{}]\n", settings.challenges));
    }
    if settings.binding {
        config.push_str(&format!(
            "eab_kid = {KID:?}\neab_key_file = {:?}\n",
            at("eab")
        ));
        fs::write(at("eab"), KEY)?;
        restrict(&dir.path().join("eab"))?;
    }
    fs::write(at("derper.toml"), config)?;
    Ok(Relay {
        child: spawn(&tools.derper, dir.path())?,
        dir,
        port,
        program: tools.derper.clone(),
    })
}

fn spawn(program: &Path, dir: &Path) -> Result<Child> {
    let log = File::create(dir.join("log"))?;
    Command::new(program)
        .arg("--config")
        .arg(dir.join("derper.toml"))
        .stdout(log.try_clone()?)
        .stderr(log)
        .stdin(Stdio::null())
        .spawn()
        .context("derper")
}

impl Relay {
    /// Ends it as an operator would not, and starts it with the same files and a new log.
    pub(super) fn restart(&mut self) -> Result<()> {
        end(&mut self.child);
        self.child = spawn(&self.program, self.dir.path())?;
        Ok(())
    }

    /// Sends SIGHUP.
    pub(super) fn hang_up(&self) -> Result<()> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-HUP", &pid]).status()?;
        ensure!(status.success(), "kill ended with {status}");
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Waits until `text` stands in the log `times` times.
    pub(super) fn wait_for(&self, text: &str, times: usize, at_most: Duration) -> Result<()> {
        wait_until(at_most, || self.log().matches(text).count() >= times)
            .with_context(|| format!("{text:?} is not in the log {times} times:\n{}", self.log()))
    }

    /// The certificate as it is kept.
    pub(super) fn kept(&self) -> Result<Vec<u8>> {
        Ok(fs::read(self.dir.path().join("certs").join(NAME))?)
    }

    /// Whether Go's client logs in to it, and starts fast.
    pub(super) fn go_client(
        &self,
        tools: &Tools,
        authority: &Authority,
        subject: Subject,
    ) -> Result<String> {
        self.go_client_trusting(tools, &authority.root(tools)?, subject)
    }

    pub(super) fn go_client_trusting(
        &self,
        tools: &Tools,
        root: &Path,
        subject: Subject,
    ) -> Result<String> {
        let mut client = self.client(tools, subject);
        client.args(["-fast-start", "yes", "-ca"]).arg(root);
        Client::start(client)?.ping()?;
        Ok("Go's client logs in".to_owned())
    }

    /// Whether any certificate is shown for `name`.
    pub(super) fn shown(&self, tools: &Tools, name: &str) -> Result<()> {
        self.wait_for("listening", 1, SOON)?;
        let mut client = Command::new(tools.drivers.join("derpcli"));
        client.args(["-host", name, "-dial", "127.0.0.1"]);
        client.args(["-port", &self.port.to_string(), "-insecure"]);
        Client::start(client)?.ping()
    }

    /// A client of Go's that stays connected.
    pub(super) fn connect(&self, tools: &Tools, authority: &Authority) -> Result<Client> {
        let mut client = self.client(tools, Subject::Name);
        client.arg("-ca").arg(authority.root(tools)?);
        Client::start(client)
    }

    fn client(&self, tools: &Tools, subject: Subject) -> Command {
        let mut client = Command::new(tools.drivers.join("derpcli"));
        match subject {
            Subject::Name => client.args(["-host", NAME, "-dial", "127.0.0.1"]),
            Subject::Address => client.args(["-host", "127.0.0.1"]),
        };
        client.args(["-port", &self.port.to_string()]);
        client
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Asks again and again, for these are other programs.
pub(super) fn wait_until(at_most: Duration, mut is_so: impl FnMut() -> bool) -> Result<()> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a bound on a wait for another program"
    )]
    let start = Instant::now();
    while start.elapsed() < at_most {
        if is_so() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("not within {} seconds", at_most.as_secs())
}
