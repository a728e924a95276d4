//! Go's client as a program that is driven by lines: `derpcli`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// A connected client; ended when dropped.
pub(crate) struct Client {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Its public key, as relays name it.
    pub(crate) key: String,
}

impl Client {
    /// Starts `derpcli` with what `command` has for it, and waits until it is connected.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .context("derpcli")?;
        let output = BufReader::new(child.stdout.take().context("no output of derpcli")?);
        let key = String::new();
        let mut client = Self { child, output, key };
        let first = client.wait_for(|line| line["event"] == "key")?;
        client.key = first["public"].as_str().unwrap_or_default().to_owned();
        client.wait_for(|line| line["event"] == "connected")?;
        Ok(client)
    }

    /// Whether the relay answers.
    pub(crate) fn ping(&mut self) -> Result<()> {
        let input = self.child.stdin.as_mut().context("no input of derpcli")?;
        writeln!(input, "{{\"cmd\":\"ping\"}}")?;
        self.wait_for(|line| line["event"] == "done").map(drop)
    }

    /// Where the client with this key comes from, as a mesh peer is told.
    pub(crate) fn address_of(&mut self, key: &str) -> Result<String> {
        let line = self.wait_for(|line| line["type"] == "peer_present" && line["peer"] == key)?;
        Ok(line["addr"].as_str().unwrap_or_default().to_owned())
    }

    /// Reads on to a line. It ends by itself where it cannot connect or gets no answer.
    fn wait_for(&mut self, is_wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut text = String::new();
        loop {
            text.clear();
            if self.output.read_line(&mut text)? == 0 {
                bail!("Go's client has ended");
            }
            let line: Value = serde_json::from_str(&text)?;
            let is_bad = line["event"] == "failed" || line["event"] == "closed";
            ensure!(
                !is_bad && line["error"].is_null(),
                "Go's client says: {text}"
            );
            if is_wanted(&line) {
                return Ok(line);
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
