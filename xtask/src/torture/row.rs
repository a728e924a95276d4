//! The rows of the table, and what their relays need.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::relay::free_tcp_port;

/// One way to attack a relay.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// What the attacker calls it.
    pub(super) attack: &'static str,
    pub(super) needs: Needs,
    /// It takes time rather than the machine.
    pub(super) mostly_waits: bool,
}

/// How a row's relay is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// With TLS.
    Tls,
    /// With few places on the way to a login, where the attack is small.
    FewPlaces,
    /// With no limit to how often a key logs in.
    EagerKeys,
    /// With a limit to how many connections it takes in a second.
    AcceptLimit,
    /// With a list of those who are admitted.
    Allowlist,
    /// The same, with log lines in JSON.
    AllowlistJsonLog,
    /// Over plain HTTP.
    Plain,
    /// With an admission controller, and no client without its word.
    Controller,
    /// With a tailscaled.
    Tailscaled,
    /// On all addresses of the machine.
    AllAddresses,
    /// With little memory.
    ControlGroup,
    /// With a PROXY header in front of each connection.
    ProxyHeader,
    /// With a PROXY header in front of one proxy's connections, and telling of its clients.
    OneProxy,
    /// With no PROXY headers, and telling of its clients.
    NoProxy,
    /// Our core, among code that panics.
    PanickyRelay,
    /// The suite of cases.
    Conformance,
    /// Several relays that know of one another's clients.
    Region,
}

const fn row(name: &'static str, attack: &'static str, needs: Needs) -> Row {
    Row {
        name,
        attack,
        needs,
        mostly_waits: false,
    }
}

const fn patient(name: &'static str, attack: &'static str, needs: Needs) -> Row {
    Row {
        mostly_waits: true,
        ..row(name, attack, needs)
    }
}

/// All rows. Those that alone take the machine come first.
pub(super) const ROWS: &[Row] = &[
    row("malformed-streams", "malformed-streams", Needs::Tls),
    row("malformed-streams-plain", "malformed-streams", Needs::Plain),
    row("conformance", "", Needs::Conformance),
    row("idle-memory-tls13", "idle-memory-tls13", Needs::Tls),
    row("idle-memory-tls12", "idle-memory-tls12", Needs::Tls),
    row("idle-memory-websocket", "idle-memory-websocket", Needs::Tls),
    row("announced-lengths", "announced-lengths", Needs::Tls),
    row("stalled-readers", "stalled-readers", Needs::Tls),
    row("handshake-flood", "handshake-flood", Needs::Tls),
    row("churn", "churn", Needs::Tls),
    row("churn-plain", "churn", Needs::Plain),
    row("duplicate-keys", "duplicate-keys", Needs::EagerKeys),
    row("stun-hostile", "stun-hostile", Needs::AllAddresses),
    row("panic-isolation", "panic-isolation", Needs::PanickyRelay),
    row("log-volume", "log-volume", Needs::Tls),
    row("log-volume-denied", "log-volume-denied", Needs::Allowlist),
    row(
        "log-volume-denied-json",
        "log-volume-denied",
        Needs::AllowlistJsonLog,
    ),
    row("page-memory", "page-memory", Needs::Tls),
    row("certificate-rotation", "certificate-rotation", Needs::Tls),
    row("proxy-header", "proxy-header", Needs::ProxyHeader),
    row("proxy-spoofed", "proxy-spoofed", Needs::OneProxy),
    row("proxy-spoofed-off", "proxy-spoofed", Needs::NoProxy),
    row("memory-ceiling", "memory-ceiling", Needs::ControlGroup),
    row("accept-limit", "accept-limit", Needs::AcceptLimit),
    row("drain", "drain", Needs::Tls),
    patient("silent-connections", "silent-connections", Needs::FewPlaces),
    patient(
        "silent-connections-port-80",
        "silent-connections-port-80",
        Needs::FewPlaces,
    ),
    patient("stall-stages", "stall-stages", Needs::Tls),
    patient("stall-stages-port-80", "stall-stages-port-80", Needs::Tls),
    patient(
        "stall-stages-proxy",
        "stall-stages-proxy",
        Needs::ProxyHeader,
    ),
    patient("descriptor-exhaustion", "descriptor-exhaustion", Needs::Tls),
    patient("verifier-faults", "verifier-faults", Needs::Controller),
    patient("hung-tailscaled", "hung-tailscaled", Needs::Tailscaled),
    patient("dead-peer", "dead-peer", Needs::AllAddresses),
    patient("mesh-partition", "", Needs::Region),
];

/// What a row's relay and its attacker are given.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// Flags of the relay.
    pub(super) flags: Vec<String>,
    /// Arguments of the attacker.
    pub(super) args: Vec<String>,
    /// What the relay's configuration file says.
    pub(super) config: Option<&'static str>,
    control_group: Option<ControlGroup>,
}

impl Row {
    /// Whether the relay speaks plain HTTP.
    pub(super) fn is_plain(&self) -> bool {
        self.needs == Needs::Plain
    }

    /// Makes what the relay needs, in `place`.
    pub(super) fn prepare(&self, place: &Path, quick: bool) -> Result<Prepared> {
        let mut prepared = Prepared::default();
        match self.needs {
            Needs::Controller => {
                let port = free_tcp_port()?;
                prepared.flags = vec![
                    format!("-verify-client-url=http://127.0.0.1:{port}/"),
                    "-verify-client-url-fail-open=false".to_owned(),
                ];
                prepared.args = vec![format!("--controller-port={port}")];
            }
            Needs::FewPlaces if quick => {
                prepared.config = Some("[limits]\npending_logins = 1000\n");
            }
            Needs::EagerKeys => {
                prepared.config = Some("[limits]\nkey_logins_per_second = 0\n");
            }
            Needs::AcceptLimit => {
                prepared.flags = vec![
                    "-accept-connection-limit=200".to_owned(),
                    "-accept-connection-burst=300".to_owned(),
                ];
            }
            Needs::Allowlist | Needs::AllowlistJsonLog => {
                let list = place.join("allowlist").display().to_string();
                // A key that nobody has, until the attacker writes its own.
                fs::write(&list, format!("nodekey:{}\n", "1".repeat(64)))?;
                prepared.flags = vec![format!("--allowlist={list}")];
                prepared.args = vec![format!("--allowlist={list}")];
                if self.needs == Needs::AllowlistJsonLog {
                    prepared.flags.push("--log-format=json".to_owned());
                }
            }
            Needs::Tailscaled => {
                let socket = place.join("tailscaled.sock").display().to_string();
                prepared.flags = vec!["-verify-clients".to_owned(), format!("-socket={socket}")];
                prepared.args = vec![format!("--tailscaled={socket}")];
            }
            Needs::AllAddresses => {
                prepared.flags = vec!["-a=:{port}".to_owned()];
                if quick {
                    // What takes a minute by default.
                    prepared.config = Some("[timeouts]\nkeep_alive = \"10s\"\n");
                    prepared.args = vec!["--keep-alive=10".to_owned()];
                }
            }
            Needs::ProxyHeader => prepared.flags = vec!["--proxy-protocol=required".to_owned()],
            Needs::OneProxy | Needs::NoProxy => {
                let socket = place.join("admin.sock").display().to_string();
                prepared.flags = vec![
                    format!("--admin-socket={socket}"),
                    // The level at which addresses are told.
                    "--log-level=info,derp_server=debug".to_owned(),
                ];
                prepared.args = vec![format!("--admin-socket={socket}")];
                if self.needs == Needs::OneProxy {
                    const PROXY: &str = "127.0.0.9";
                    prepared.flags.push("--proxy-protocol=required".to_owned());
                    let from = format!("--proxy-protocol-from={PROXY}/32");
                    prepared.flags.push(from);
                    prepared.args.push(format!("--proxy={PROXY}"));
                }
            }
            Needs::ControlGroup => {
                prepared.control_group = ControlGroup::new();
                if let Some(group) = &prepared.control_group {
                    let dir = group.dir.display();
                    prepared.args = vec![format!("--control-group={dir}")];
                }
            }
            _ => {}
        }
        Ok(prepared)
    }
}

impl Prepared {
    /// The relay's command, in its control group if it has one.
    pub(super) fn wrap(&self, command: &[String]) -> Vec<String> {
        let Some(group) = &self.control_group else {
            return command.to_vec();
        };
        let enter = format!(
            "echo $$ > {}/cgroup.procs && exec \"$@\"",
            group.dir.display()
        );
        let shell = ["sh", "-c", &enter, "sh"].map(str::to_owned);
        shell.into_iter().chain(command.iter().cloned()).collect()
    }
}

/// A control group with 256 MiB of memory, gone when dropped.
#[derive(Debug)]
struct ControlGroup {
    dir: PathBuf,
}

impl ControlGroup {
    /// None where this process may not make one.
    fn new() -> Option<Self> {
        const LIMIT: &str = "268435456";
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let name = format!("derpkit-torture-{}", std::process::id());
        // Version 1 has a tree of its own for memory, version 2 one tree for everything.
        let first = own.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let is_memory = controllers.split(',').any(|one| one == "memory");
            is_memory.then(|| PathBuf::from(format!("/sys/fs/cgroup/memory{path}")))
        });
        let second = own
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .map(|path| PathBuf::from(format!("/sys/fs/cgroup{path}")));
        let (dir, file) = match (first, second) {
            (Some(dir), _) => (dir.join(name), "memory.limit_in_bytes"),
            (None, Some(dir)) => (dir.join(name), "memory.max"),
            (None, None) => return None,
        };
        fs::create_dir(&dir).ok()?;
        let group = Self { dir };
        fs::write(group.dir.join(file), LIMIT).ok()?;
        Some(group)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // It stays while a process is in it, which is said nowhere: nobody can help it.
        let _left_behind = fs::remove_dir(&self.dir);
    }
}
