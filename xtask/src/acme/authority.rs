//! Pebble as a process, and the name server that it asks, for which every name is this machine's.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::Tools;
use super::relay::{BRIEF, wait_until};
use crate::relay::{free_tcp_port, free_udp_port};
use crate::shell;

const MODULE: &str = "github.com/letsencrypt/pebble/v2";
const VERSION: &str = "v2.10.1";
const PROGRAMS: [&str; 2] = ["pebble", "pebble-challtestsrv"];

/// The binding that a [`Binding::Required`] authority knows.
pub(super) const KID: &str = "kid-1";
pub(super) const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

/// Where Pebble's programs are, and the certificates that come with its source.
pub(super) struct Programs {
    bin: PathBuf,
    source: PathBuf,
}

/// Installs Pebble where it is missing.
pub(super) fn install() -> Result<Programs> {
    let bin = shell::target_dir()
        .join("peers")
        .join(format!("pebble-{VERSION}"));
    if PROGRAMS.iter().any(|program| !bin.join(program).exists()) {
        println!("installing Pebble {VERSION}");
        let mut command = shell::command("go");
        command.arg("install").env("GOBIN", &bin);
        command.args(PROGRAMS.map(|name| format!("{MODULE}/cmd/{name}@{VERSION}")));
        shell::run_command(&mut command, "go install")?;
    }
    let output = Command::new("go")
        .args(["mod", "download", "-json", &format!("{MODULE}@{VERSION}")])
        .output()
        .context("cannot run go")?;
    let found: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let source = found.get("Dir").and_then(|dir| dir.as_str());
    let source = source.context("where is Pebble's source?")?.into();
    Ok(Programs { bin, source })
}

/// Whether accounts need a binding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    Free,
    Required,
}

/// A running authority; stopped when dropped.
pub(super) struct Authority {
    names: Child,
    pebble: Option<Child>,
    dir: TempDir,
    directory_port: u16,
    management_port: u16,
    names_port: u16,
    /// Where it looks for relays.
    pub(super) http_port: u16,
    pub(super) tls_port: u16,
    certificates: PathBuf,
}

impl Authority {
    pub(super) fn start(tools: &Tools, binding: Binding) -> Result<Self> {
        let dir = TempDir::new()?;
        let names_port = free_udp_port()?;
        let log = File::create(dir.path().join("names.log"))?;
        let names = Command::new(tools.pebble.bin.join("pebble-challtestsrv"))
            .args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", ""])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""])
            .arg("-dnsserver")
            .arg(format!("127.0.0.1:{names_port}"))
            .arg("-management")
            .arg(format!("127.0.0.1:{}", free_tcp_port()?))
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .context("pebble-challtestsrv")?;
        let mut authority = Self {
            names,
            pebble: None,
            dir,
            directory_port: free_tcp_port()?,
            management_port: free_tcp_port()?,
            names_port,
            http_port: free_tcp_port()?,
            tls_port: free_tcp_port()?,
            certificates: tools.pebble.source.join("test/certs"),
        };
        authority.write_config(binding)?;
        authority.start_again(tools)?;
        Ok(authority)
    }

    fn write_config(&self, binding: Binding) -> Result<()> {
        let profile = |seconds| serde_json::json!({ "description": "", "validityPeriod": seconds });
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{}", self.directory_port),
            "managementListenAddress": format!("127.0.0.1:{}", self.management_port),
            "certificate": self.certificates.join("localhost/cert.pem"),
            "privateKey": self.certificates.join("localhost/key.pem"),
            "httpPort": self.http_port,
            "tlsPort": self.tls_port,
            "externalAccountBindingRequired": binding == Binding::Required,
            "externalAccountMACKeys": { KID: KEY },
            "retryAfter": { "authz": 1, "order": 1 },
            "keyAlgorithm": "ecdsa",
            "profiles": {
                "default": profile(90 * 86_400),
                "shortlived": profile(6 * 86_400),
                BRIEF: profile(30),
            },
        }});
        fs::write(self.dir.path().join("config.json"), config.to_string())?;
        Ok(())
    }

    /// Starts it, with a new root and without accounts.
    pub(super) fn start_again(&mut self, tools: &Tools) -> Result<()> {
        let log = File::create(self.dir.path().join("log"))?;
        let pebble = Command::new(tools.pebble.bin.join("pebble"))
            .arg("-config")
            .arg(self.dir.path().join("config.json"))
            .arg("-dnsserver")
            .arg(format!("127.0.0.1:{}", self.names_port))
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_AUTHZREUSE", "0")
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .context("pebble")?;
        self.pebble = Some(pebble);
        wait_until(super::SOON, || self.root(tools).is_ok())
            .with_context(|| format!("Pebble does not answer:\n{}", self.log()))
    }

    pub(super) fn stop(&mut self) {
        if let Some(mut pebble) = self.pebble.take() {
            end(&mut pebble);
        }
    }

    /// A file with the root that its certificates end in.
    pub(super) fn root(&self, tools: &Tools) -> Result<PathBuf> {
        let output = Command::new(tools.drivers.join("fetch"))
            .arg("-ca")
            .arg(self.ca_file())
            .arg(format!(
                "https://localhost:{}/roots/0",
                self.management_port
            ))
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let file = self.dir.path().join("root.pem");
        fs::write(&file, output.stdout)?;
        Ok(file)
    }

    pub(super) fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.directory_port)
    }

    /// What its own certificate comes from.
    pub(super) fn ca_file(&self) -> PathBuf {
        self.certificates.join("pebble.minica.pem")
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.stop();
        end(&mut self.names);
    }
}

pub(super) fn end(child: &mut Child) {
    // Errors say that it has ended already.
    let _ended = child.kill();
    let _reaped = child.wait();
}
