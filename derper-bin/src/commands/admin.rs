//! Commands that ask the relay that runs, over its admin socket.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use derp_proto::NodePublic;
use serde::Deserialize;

use crate::look::{Age, Bytes, Client, Look, RoundTrip};
use crate::start::Start;

/// How long an answer may take: a reload reads files and asks for names.
const PATIENCE: Duration = Duration::from_secs(30);

/// A relay's admin socket.
pub(super) struct Relay(PathBuf);

impl Relay {
    /// The socket of the relay that runs with this configuration.
    pub(super) fn of(start: &Start) -> anyhow::Result<Self> {
        start.admin_socket()?.map(Self).context(
            "the relay has no admin socket: start it with --admin-socket /run/derper/admin.sock \
             (in the file: admin.socket), and give this command the same flag or file",
        )
    }

    /// Everything that the relay tells.
    pub(super) fn look(&self) -> anyhow::Result<Look> {
        let body = self.ask("GET", "/status")?;
        serde_json::from_str(&body).context("the relay answers what this version does not know")
    }

    /// The body of a good answer.
    fn ask(&self, method: &str, path: &str) -> anyhow::Result<String> {
        let Self(socket) = self;
        let mut stream = UnixStream::connect(socket).map_err(|err| unreachable(socket, err))?;
        let exchange = |stream: &mut UnixStream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let length = if method == "POST" {
                "Content-Length: 0\r\n"
            } else {
                ""
            };
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: derper\r\n{length}Connection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        };
        let answer = exchange(&mut stream)
            .with_context(|| format!("no answer over {}", socket.display()))?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .with_context(|| format!("{} is no relay's admin socket", socket.display()))?;
        if head.starts_with("HTTP/1.1 200 ") {
            return Ok(body.to_owned());
        }
        Err(match serde_json::from_str(body) {
            Ok(Refusal { error, mistakes }) => {
                anyhow!("{}", [vec![error], mistakes].concat().join("\n  "))
            }
            Err(_) => anyhow!("{} is no relay's admin socket", socket.display()),
        })
    }
}

/// Why the relay did not do it.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    #[serde(default)]
    mistakes: Vec<String>,
}

fn unreachable(socket: &Path, err: std::io::Error) -> anyhow::Error {
    let remedy = match err.kind() {
        ErrorKind::NotFound => {
            "there is no such socket: is the relay running, and with this --admin-socket?"
        }
        ErrorKind::ConnectionRefused => "nobody serves this socket: the relay is not running",
        ErrorKind::PermissionDenied => {
            "this user may not use it: root may, and whoever is in the relay's group"
        }
        _ => "it does not answer",
    };
    anyhow::Error::new(err).context(format!("{}: {remedy}", socket.display()))
}

/// `derper clients`: a table, or the relay's own JSON.
pub(super) fn clients(start: &Start, as_json: bool) -> anyhow::Result<String> {
    let relay = Relay::of(start)?;
    if as_json {
        return relay.ask("GET", "/clients");
    }
    Ok(table(&relay.look()?.clients))
}

fn table(clients: &[Client]) -> String {
    let mut text = format!(
        "{:72}  {:<21}  {:6}  {:4}  {:>7}  {:>7}  {:>10}  {:>10}  {:>10}\n",
        "KEY", "FROM", "KIND", "HOME", "HERE", "RTT", "FROM IT", "TO IT", "WAITING"
    );
    for client in clients {
        text.push_str(&format!(
            "{:72}  {:<21}  {:6}  {:4}  {:>7}  {:>7}  {:>10}  {:>10}  {:>10}\n",
            client.key,
            client.address.as_deref().unwrap_or("-"),
            client.kind,
            if client.home { "yes" } else { "-" },
            Age(client.connected_seconds),
            RoundTrip(client.rtt_micros),
            Bytes(client.bytes_received),
            Bytes(client.bytes_sent),
            Bytes(client.bytes_waiting),
        ));
    }
    text
}

/// `derper close`: ends the connections of a key.
pub(super) fn close(start: &Start, key: &str) -> anyhow::Result<String> {
    if key.parse::<NodePublic>().is_err() {
        bail!("{key:?} is not a key: it is written nodekey: and 64 hexadecimal digits");
    }
    let body = Relay::of(start)?.ask("POST", &format!("/clients/{key}/close"))?;
    #[derive(Deserialize)]
    struct Closed {
        closed: usize,
    }
    let Closed { closed } = serde_json::from_str(&body).context("the relay's answer")?;
    let connections = if closed == 1 {
        "connection"
    } else {
        "connections"
    };
    Ok(format!(
        "closed {closed} {connections}; the client may come back unless it is no longer admitted\n"
    ))
}

/// `derper reload`: has the relay read its configuration again.
pub(super) fn reload(start: &Start) -> anyhow::Result<String> {
    let _answer = Relay::of(start)?.ask("POST", "/reload")?;
    Ok("reloaded\n".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_does_not_answer_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let missing = Relay(dir.path().join("none.sock"));
        let text = missing.look().unwrap_err().to_string();
        assert!(text.contains("is the relay running"), "{text}");
        let left = dir.path().join("left.sock");
        drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
        let text = Relay(left).look().unwrap_err().to_string();
        assert!(text.contains("the relay is not running"), "{text}");
    }
}
