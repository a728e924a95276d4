//! Our probe as a service beside the fleet.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::relay::free_tcp_port;

/// How often the service is looked at, and how many times until it must have probed everything.
const LOOKS: (Duration, u32) = (Duration::from_millis(100), 600);

/// A running service; stopped when dropped.
pub(super) struct Watch {
    child: Child,
    address: SocketAddr,
}

impl Watch {
    /// Starts `probe` with a port of its own, and with one run as enough for a verdict.
    pub(super) fn start(probe: &mut Command) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], free_tcp_port()?));
        let child = probe
            .args(["-listen", &address.to_string(), "-runs-in-a-row", "1"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start derpprobe")?;
        Ok(Self { child, address })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until each probe has run.
    pub(super) fn until_all_are_known(&self) -> Result<()> {
        let (pause, most) = LOOKS;
        for _ in 0..most {
            if let Ok(text) = self.get("/status.json") {
                let status: Value = serde_json::from_str(&text)?;
                let is_some = status["probes"].as_u64().is_some_and(|probes| probes > 1);
                if is_some && status["unknown"] == 0 {
                    return Ok(());
                }
            }
            sleep(pause);
        }
        bail!("some probes have not run");
    }

    /// The body of what is answered.
    pub(super) fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        Ok(body.to_owned())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
