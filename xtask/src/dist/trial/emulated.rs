//! Runs programs for another kind of machine, as far as an emulator can: they say their version,
//! the relay starts with nothing at hand, and a probe logs in at it and sends a packet.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::super::platform::Platform;
use super::{Running, until_well};

/// Tries the programs in the folder `built`.
pub(in super::super) fn emulated(built: &Path) -> Result<()> {
    let place = tempfile::TempDir::new()?;
    let program = |name: &str| {
        let mut command = Platform::Arm64.program(&built.join(name));
        command.stdin(Stdio::null());
        command.envs(["HOME", "XDG_CACHE_HOME", "DERPER_STATE_DIR"].map(|at| (at, place.path())));
        command
    };
    let version = program("derper").arg("--version").output();
    let version = version.context("qemu-aarch64-static: install qemu-user-static")?;
    let said = String::from_utf8_lossy(&version.stdout);
    ensure!(
        said.contains(env!("CARGO_PKG_VERSION")),
        "derper --version: {version:?}"
    );

    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let stun_port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let flags = format!("-a 127.0.0.1:{port} -stun-port {stun_port} -http-port -1");
    let flags: Vec<&str> = flags.split(' ').collect();
    let mut relay = program("derper");
    relay.args(["quickstart", "127.0.0.1"]).args(&flags);
    let mut relay = Running(relay.stdout(Stdio::piped()).spawn()?);
    let map = BufReader::new(relay.0.stdout.take().context("a pipe")?);
    let pin = pin(map).context("the relay prints no node for a DERP map")?;
    until_well(|| {
        let mut health = program("derper");
        health.args(["healthcheck", "-hostname=127.0.0.1", "-certmode=manual"]);
        health.args(&flags);
        health
    })?;
    probe_page(port)?;
    let mut probe = program("derpprobe");
    let node = format!("127.0.0.1:{port},{pin},stun:{stun_port}");
    probe.args(["-once", "-spread=false", "-derp-map", &node]);
    let told = probe.output()?;
    let lines = String::from_utf8_lossy(&told.stdout);
    ensure!(
        told.status.success() && lines.contains("derp"),
        "derpprobe: {told:?}"
    );
    print!("{lines}");
    println!(
        "dist: for arm64, under an emulator, the relay is well, and the probe logs in and sends"
    );
    Ok(())
}

/// The hash that the first node in what quickstart prints is pinned by.
fn pin(map: impl BufRead) -> Option<String> {
    map.lines().map_while(Result::ok).find_map(|line| {
        let (_, name) = line.split_once("\"CertName\": \"")?;
        Some(name.split_once('"')?.0.to_owned())
    })
}

/// The page by which clients measure latency over HTTPS.
fn probe_page(port: u16) -> Result<()> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--insecure", "--output", "/dev/null"]);
    curl.args(["--write-out", "%{http_code}"]);
    curl.arg(format!("https://127.0.0.1:{port}/derp/probe"));
    let answer = curl.output().context("cannot run curl")?;
    ensure!(answer.stdout == b"200", "/derp/probe: {answer:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_is_found_in_the_map() {
        let map = "{\n  \"HostName\": \"127.0.0.1\",\n  \"CertName\": \"sha256-raw:ab\",\n}\n";
        assert_eq!(pin(map.as_bytes()).as_deref(), Some("sha256-raw:ab"));
        assert_eq!(pin(&b"nothing\n"[..]), None);
    }
}
