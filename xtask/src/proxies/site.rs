//! A relay, a website and a proxy on one machine, by the files under `deploy/proxy`.

use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use super::programs::Program;
use super::{CLIENT_IP, Tools};
use crate::go_client::Client;
use crate::relay::{MESH_KEY, free_tcp_port, free_udp_port, restrict};
use crate::shell;

/// The names in the files.
pub(super) const RELAY: &str = "derp.example.com";
const WEBSITE: &str = "www.example.com";

/// Whose certificate clients are shown.
#[derive(Clone, Copy)]
pub(super) enum Tls {
    Relays,
    Proxys,
}

/// Ports, files, and what runs.
pub(super) struct Site {
    dir: TempDir,
    derper: PathBuf,
    drivers: PathBuf,
    /// The port that is shared, and its like for plain HTTP.
    front: u16,
    front80: u16,
    relay: u16,
    relay80: u16,
    website: u16,
    relay_program: RefCell<Option<Program>>,
    proxies: RefCell<Vec<Program>>,
}

impl Site {
    /// Chooses ports, and lets the relay make a certificate that the others use as well.
    pub(super) fn new(tools: &Tools) -> Result<Self> {
        let site = Self {
            dir: TempDir::new()?,
            derper: tools.derper.clone(),
            drivers: tools.drivers.clone(),
            front: free_tcp_port()?,
            front80: free_tcp_port()?,
            relay: free_tcp_port()?,
            relay80: free_tcp_port()?,
            website: free_tcp_port()?,
            relay_program: RefCell::default(),
            proxies: RefCell::default(),
        };
        fs::write(site.mesh_key_file(), MESH_KEY)?;
        restrict(&site.mesh_key_file())?;
        let maker = "hostname = \"derp.example.com\"\ntls.mode = \"self-signed\"\n\
                     listen.address = \"127.0.0.1:0\"\nlisten.http_port = -1\nstun.enabled = false\n";
        fs::write(
            site.at("maker.toml"),
            format!("state_dir = {:?}\n{maker}", site.at("state")),
        )?;
        let mut command = Command::new(&site.derper);
        command.arg("--config").arg(site.at("maker.toml"));
        let mut maker = Program::start(command, site.at("maker.log"))?;
        maker.makes(&site.certificate("crt")).context("the relay")?;
        drop(maker);
        let read = |name| fs::read_to_string(site.certificate(name));
        fs::write(site.at("both.pem"), read("crt")? + &read("key")?)?;
        Ok(site)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn certificate(&self, extension: &str) -> PathBuf {
        self.at("state/certs").join(format!("{RELAY}.{extension}"))
    }

    pub(super) fn mesh_key_file(&self) -> PathBuf {
        self.at("mesh.key")
    }

    /// The shared port.
    pub(super) const fn front(&self) -> u16 {
        self.front
    }

    /// A file of `deploy/proxy` with what differs on this machine, and then `changes`. All that is
    /// replaced must be there.
    fn file(&self, name: &str, changes: &[(&str, &str)]) -> Result<String> {
        let path = shell::root().join("deploy/proxy").join(name);
        let mut text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let socket = self.at("derper.sock").display().to_string();
        // The same for all files; each has some of it.
        for (theirs, ours) in [
            ("listen 443", format!("listen 127.0.0.1:{}", self.front)),
            ("bind :443", format!("bind 127.0.0.1:{}", self.front)),
            ("listen 80;", format!("listen 127.0.0.1:{};", self.front80)),
            ("bind :80", format!("bind 127.0.0.1:{}", self.front80)),
            ("127.0.0.1:8443", format!("127.0.0.1:{}", self.relay)),
            ("127.0.0.1:3340", format!("127.0.0.1:{}", self.relay)),
            ("127.0.0.1:8080", format!("127.0.0.1:{}", self.relay80)),
            ("http_port = 8080", format!("http_port = {}", self.relay80)),
            ("127.0.0.1:4443", format!("127.0.0.1:{}", self.website)),
            ("/run/derper/derper.sock", socket),
        ] {
            text = text.replace(theirs, &ours);
        }
        let text = self.own_certificates(text);
        changes.iter().try_fold(text, |text, (from, to)| {
            ensure!(text.contains(from), "{from:?} is not in {name}:\n{text}");
            Ok(text.replace(from, to))
        })
    }

    /// Files of the test's in place of those of Debian, and no orders of certificates.
    fn own_certificates(&self, mut text: String) -> String {
        let [cert, key] = ["crt", "key"].map(|kind| self.certificate(kind).display().to_string());
        for (theirs, ours) in [
            ("/etc/ssl/www.example.com.crt", cert.as_str()),
            ("/etc/ssl/www.example.com.key", key.as_str()),
            ("/etc/ssl/derp.example.com.crt", cert.as_str()),
            ("/etc/ssl/derp.example.com.key", key.as_str()),
            (
                "/etc/haproxy/derp.example.com.pem",
                &self.at("both.pem").display().to_string(),
            ),
            ("mode = \"letsencrypt\"", "mode = \"self-signed\""),
            ("[acme]\nchallenges = [\"tls-alpn-01\"]\n", ""),
        ] {
            text = text.replace(theirs, ours);
        }
        text
    }

    /// What a relay of the test says besides, in front of all tables.
    fn prelude(&self) -> String {
        format!(
            "state_dir = {:?}\nlog.level = \"info,derp_server=debug\"\nmesh.key_file = {:?}\n",
            self.at("state"),
            self.mesh_key_file(),
        )
    }

    pub(super) fn start_relay(&self, name: &str, changes: &[(&str, &str)]) -> Result<()> {
        let stun = format!("address = \"127.0.0.1\"\nport = {}", free_udp_port()?);
        let changes = [changes, &[("address = \"::\"", &stun)]].concat();
        let toml = self.at("derper.toml");
        fs::write(&toml, self.prelude() + &self.file(name, &changes)?)?;
        let mut command = Command::new(&self.derper);
        command.arg("--config").arg(toml);
        let mut relay = Program::start(command, self.at("relay.log"))?;
        relay.listens(self.relay).context("the relay")?;
        *self.relay_program.borrow_mut() = Some(relay);
        Ok(())
    }

    pub(super) fn start_nginx(&self, name: &str, changes: &[(&str, &str)]) -> Result<()> {
        self.nginx(name, changes, self.front)
    }

    /// Starts nginx for the website alone: its other ports are another proxy's.
    pub(super) fn start_website(&self) -> Result<()> {
        let [front, front80] = [self.front, self.front80].map(|port| format!("127.0.0.1:{port};"));
        let elsewhere =
            [free_tcp_port()?, free_tcp_port()?].map(|port| format!("127.0.0.1:{port};"));
        let changes = [(&*front, &*elsewhere[0]), (&*front80, &*elsewhere[1])];
        self.nginx("nginx.conf", &changes, self.website)
    }

    fn nginx(&self, name: &str, changes: &[(&str, &str)], port: u16) -> Result<()> {
        let conf = self.at("nginx.conf");
        fs::write(&conf, self.file(name, changes)?)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(conf).args(["-e", "stderr", "-g"]);
        // One process, so that it ends as a whole, and may connect to the relay's socket.
        let pid = self.at("nginx.pid").display().to_string();
        command.arg(format!("daemon off; master_process off; pid {pid};"));
        self.start_proxy(command, "nginx", port)
    }

    pub(super) fn start_haproxy(&self, name: &str) -> Result<()> {
        let conf = self.at("haproxy.cfg");
        fs::write(&conf, self.file(name, &[])?)?;
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(conf);
        self.start_proxy(command, "haproxy", self.front)
    }

    fn start_proxy(&self, command: Command, name: &str, port: u16) -> Result<()> {
        let mut proxy = Program::start(command, self.at(&format!("{name}.log")))?;
        proxy.listens(port).with_context(|| name.to_owned())?;
        self.proxies.borrow_mut().push(proxy);
        Ok(())
    }

    /// A file for a machine of the relay's own, on which the usual ports are free.
    pub(super) fn for_namespace(&self, name: &str) -> Result<PathBuf> {
        let path = shell::root().join("deploy/proxy").join(name);
        let text = self.own_certificates(fs::read_to_string(path)?);
        let text = match name.ends_with(".toml") {
            true => self.prelude() + &text,
            false => text.replace("user www-data;", ""),
        };
        let file = self.at(&format!("namespace-{name}"));
        fs::write(&file, text)?;
        Ok(file)
    }

    pub(super) fn relay_log(&self) -> String {
        match &*self.relay_program.borrow() {
            Some(relay) => relay.log(),
            // A script has started it, beside its configuration.
            None => fs::read_to_string(self.at("relay.log")).unwrap_or_default(),
        }
    }

    /// Asks the website through the proxy, and looks whom it takes the visitor for.
    pub(super) fn website_sees(&self, address: &str) -> Result<()> {
        let text = self.curl("https", WEBSITE, self.front, "/", CLIENT_IP)?;
        ensure!(
            text == format!("the website, for {address}\n"),
            "the website says {text:?}"
        );
        Ok(())
    }

    /// Captive portal checks come to the relay, and nobody sees what this machine may see.
    pub(super) fn port_80_is_passed_on(&self) -> Result<()> {
        let ask = |path| self.curl("http", RELAY, self.front80, path, CLIENT_IP);
        let status = ask("/generate_204")?;
        ensure!(status.is_empty(), "/generate_204 says {status:?}");
        let denied = ask("/debug/varz")?;
        ensure!(
            denied == "debug access denied\n",
            "/debug/varz says {denied:?}"
        );
        Ok(())
    }

    fn curl(&self, scheme: &str, host: &str, port: u16, path: &str, from: &str) -> Result<String> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--insecure", "--max-time", "10"])
            .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
            .args([
                "--interface",
                from,
                &format!("{scheme}://{host}:{port}{path}"),
            ])
            .output()
            .context("curl")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "curl: {errors}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits until a metric of the relay is above zero.
    pub(super) fn wait_for_metric(&self, name: &str) -> Result<()> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a bound on a wait for another program"
        )]
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            let text = self.curl("https", RELAY, self.front, "/debug/varz", "127.0.0.1")?;
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            let value = value.with_context(|| format!("no metric {name}:\n{text}"))?;
            if value.trim() != "0" {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("{name} stays 0")
    }

    /// Connects a client of Go's, and looks where it comes from as a mesh peer is told.
    pub(super) fn mesh_peer_sees(&self, tls: Tls, address: &str) -> Result<()> {
        let fast = match tls {
            Tls::Relays => "yes",
            Tls::Proxys => "no",
        };
        let derpcli = || {
            let mut command = Command::new(self.drivers.join("derpcli"));
            command.args([
                "-host",
                RELAY,
                "-dial",
                "127.0.0.1",
                "-insecure",
                "-url-mode",
            ]);
            command.args(["-port", &self.front.to_string(), "-fast-start", fast]);
            command
        };
        let mut watcher = derpcli();
        watcher.args(["-mesh", "-watch", "-mesh-key-file"]);
        watcher.arg(self.mesh_key_file());
        let mut watcher = Client::start(watcher).context("the watcher")?;
        let mut client = derpcli();
        client.args(["-source", CLIENT_IP]);
        let mut client = Client::start(client)?;
        client.ping()?;
        let seen = watcher.address_of(&client.key)?;
        ensure!(seen.starts_with(address), "it is said to come from {seen}");
        Ok(())
    }
}
