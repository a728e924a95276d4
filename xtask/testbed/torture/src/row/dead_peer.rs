//! Clients that are cut off the network without a word.
//!
//! The clients run in a network namespace of their own, at the other end of a pair of virtual
//! interfaces, and from one moment on nothing leaves that namespace.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use derp_proto::{ClientFrame, NodePublic};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{Instant, interval, timeout};

use crate::args::Cli;
use crate::random;
use crate::relay::{Dial, Relay};
use crate::report::Report;
use crate::watch::Rest;

/// How long the network may be silent, for a client that is sent nothing (besides what the relay
/// says once a while).
const IDLE: Duration = Duration::from_secs(25);
/// The same for one that packets are sent to.
const MOST_BUSY: Duration = Duration::from_secs(17);
/// What may stay in memory, in bytes.
const MOST_DRIFT: u64 = 4 << 20;

/// A namespace, and the interfaces that lead there.
struct Namespace {
    name: String,
}

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let most_idle = Duration::from_secs(cli.keep_alive) + IDLE;
    let namespace = Namespace::new().await?;
    let before = Rest::of(&relay).await?;
    let (held, keys) = namespace.hold_two(cli).await?;
    let mut sender = relay.client(&random::key(), &Dial::default()).await?;
    let with_all = clients(&relay).await?;
    ensure!(with_all >= 3, "three clients are connected");

    let start = Instant::now();
    namespace.cut().await?;
    // One is sent packets, the other none.
    let (mut busy, mut idle) = (None, None);
    let mut ticks = interval(Duration::from_millis(100));
    let packet = vec![0x5a; 1200];
    while idle.is_none() && start.elapsed() < most_idle * 2 {
        ticks.tick().await;
        if busy.is_none() {
            let (dst, packet) = (keys[0], &packet);
            sender
                .send(&ClientFrame::SendPacket { dst, packet })
                .await?;
        }
        let gone = with_all.saturating_sub(clients(&relay).await?);
        if gone >= 1 && busy.is_none() {
            busy = Some(start.elapsed());
        }
        if gone >= 2 {
            idle = Some(start.elapsed());
        }
    }
    drop(held);
    drop(namespace);
    let never = most_idle * 2;
    let mut report = Report::new(
        cli.times(),
        format!(
            "2 clients in a network namespace, keep-alive {} s",
            cli.keep_alive
        ),
    );
    report.deadline("busy one removed after", busy.unwrap_or(never), MOST_BUSY);
    report.deadline("idle one after", idle.unwrap_or(never), most_idle);
    drop(sender);
    before.check(&relay, &mut report, MOST_DRIFT).await?;
    Ok(report)
}

/// How many clients there are; where the relay does not tell, how many files it has.
async fn clients(relay: &Relay) -> Result<u64> {
    match relay.metrics().await?.count("derp_current_connections") {
        Some(clients) => Ok(clients),
        None => relay.process.files(),
    }
}

/// Two clients that do nothing until standard input ends. Prints their keys.
pub(super) async fn hold(cli: &Cli) -> Result<()> {
    let relay = cli.relay()?;
    let mut links = Vec::new();
    for _ in 0..2 {
        let key = random::key();
        links.push(relay.client(&key, &Dial::default()).await?);
        println!("{}", key.public().to_hex());
    }
    let mut rest = Vec::new();
    tokio::io::stdin().read_to_end(&mut rest).await?;
    drop(links);
    Ok(())
}

impl Namespace {
    async fn new() -> Result<Self> {
        let name = format!("torture{}", std::process::id());
        let namespace = Self { name };
        let (inner, outer) = (namespace.inner(), namespace.outer());
        for words in [
            format!("netns add {}", namespace.name),
            format!(
                "link add {outer} type veth peer name {inner} netns {}",
                namespace.name
            ),
            format!("addr add {}/30 dev {outer}", namespace.address(1)),
            format!("link set {outer} up"),
            format!(
                "-n {} addr add {}/30 dev {inner}",
                namespace.name,
                namespace.address(2)
            ),
            format!("-n {} link set {inner} up", namespace.name),
        ] {
            ip(&words).await?;
        }
        Ok(namespace)
    }

    fn inner(&self) -> String {
        format!("in{}", std::process::id())
    }

    fn outer(&self) -> String {
        format!("out{}", std::process::id())
    }

    /// A network that few others use, and no other run at this time.
    fn address(&self, host: u32) -> String {
        let block = (std::process::id() % (1 << 12)) * 4 + host;
        format!("10.213.{}.{}", block >> 8 & 0xff, block & 0xff)
    }

    /// Clients in the namespace, and their keys.
    async fn hold_two(&self, cli: &Cli) -> Result<(Child, [NodePublic; 2])> {
        let relay = cli.relay()?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]);
        command.arg(std::env::current_exe()?);
        let addr = format!("{}:{}", self.address(1), relay.addr.port());
        let pid = relay.process.0.to_string();
        command.args(["--pid", &pid, "--addr", &addr, "hold-two"]);
        if !relay.has_tls() {
            command.arg("--plain");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .kill_on_drop(true)
            .spawn()
            .context("ip netns exec")?;
        let stdout = child.stdout.take().context("its output is ours")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut keys = [NodePublic::from_bytes([0; 32]); 2];
        for key in &mut keys {
            let line = timeout(Duration::from_secs(30), lines.next_line()).await??;
            let line = line.context("clients in a namespace could not log in")?;
            *key = NodePublic::from_hex(&line)?;
        }
        Ok((child, keys))
    }

    async fn cut(&self) -> Result<()> {
        // What the relay sends still arrives; nothing comes back.
        let (name, relay) = (&self.name, self.address(1));
        ip(&format!("-n {name} route add blackhole {relay}/32")).await
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The interfaces go with the namespace that one of them is in.
        let mut command = std::process::Command::new("ip");
        let _left_behind = command.args(["netns", "del", &self.name]).status();
    }
}

async fn ip(words: &str) -> Result<()> {
    let status = Command::new("ip")
        .args(words.split_whitespace())
        .status()
        .await;
    let status = status.context("ip (iproute2) is needed")?;
    ensure!(status.success(), "`ip {words}` needs root");
    Ok(())
}
