//! The two requests that tailscaled is asked, and what its answers mean.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use derp_proto::NodePublic;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use super::status::Status;
use crate::http::{Answer, Fault, Request, excerpt, exchange};
use crate::verdict::VerifyError;

/// The LocalAPI behind a socket.
#[derive(Clone)]
pub(super) struct LocalApi {
    pub(super) socket: PathBuf,
    /// For all of one request and its answer.
    pub(super) timeout: Duration,
}

/// What tailscaled says of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Whois {
    Known,
    Unknown,
    /// It cannot look up nodes by their keys.
    CannotTell,
}

#[derive(Deserialize)]
struct WhoisAnswer {
    #[serde(rename = "Node")]
    node: Node,
}

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "Key")]
    key: String,
}

impl LocalApi {
    pub(super) const fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            timeout: Duration::from_secs(5),
        }
    }

    pub(super) async fn whois(&self, key: &NodePublic) -> Result<Whois, VerifyError> {
        let text = key.to_string();
        let target = format!("/localapi/v0/whois?addr={}", text.replace(':', "%3A"));
        let answer = self.ask(&target, MAX_WHOIS).await?;
        match answer.status {
            200 => {}
            404 => return Ok(Whois::Unknown),
            400 if contains(&answer.body, b"invalid 'addr' parameter") => {
                return Ok(Whois::CannotTell);
            }
            _ => return Err(self.refused(&answer)),
        }
        let found: WhoisAnswer = serde_json::from_slice(&answer.body)
            .map_err(|err| self.bad_answer(&answer, &err.to_string()))?;
        if found.node.key != text {
            return Err(self.bad_answer(&answer, "it is about another node"));
        }
        Ok(Whois::Known)
    }

    pub(super) async fn status(&self, with_peers: bool) -> Result<Status, VerifyError> {
        let target = match with_peers {
            true => "/localapi/v0/status",
            false => "/localapi/v0/status?peers=false",
        };
        let answer = self.ask(target, MAX_STATUS).await?;
        if answer.status != 200 {
            return Err(self.refused(&answer));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|err| self.bad_answer(&answer, &err.to_string()))
    }

    async fn ask(&self, target: &str, max_body: usize) -> Result<Answer, VerifyError> {
        let deadline = Instant::now() + self.timeout;
        let request = Request {
            method: "GET",
            target,
            host: "local-tailscaled.sock",
            lines: &[("Tailscale-Cap", CAPABILITY_VERSION)],
            body: None,
            max_body,
        };
        let stream = timeout_at(deadline, UnixStream::connect(&self.socket)).await;
        let stream = stream.map_err(|_| VerifyError::TimedOut(self.timeout))?;
        let mut stream = stream.map_err(|err| self.unreachable(err))?;
        match exchange(&mut stream, request, deadline).await {
            Ok(answer) => Ok(answer),
            Err(Fault::TimedOut) => Err(VerifyError::TimedOut(self.timeout)),
            Err(Fault::Connection { source, .. }) => Err(self.unreachable(source)),
            Err(Fault::Answer(why)) => {
                let what = format!("{}: {why}", self.described(None));
                Err(VerifyError::BadAnswer(what))
            }
        }
    }

    fn unreachable(&self, source: io::Error) -> VerifyError {
        let advice = match source.kind() {
            io::ErrorKind::NotFound => {
                "; is it running, and in a container, is the folder of its socket mounted?"
            }
            io::ErrorKind::ConnectionRefused => {
                "; is it running? In a container the folder of the socket must be mounted, \
                 for a mounted socket is lost when tailscaled starts again"
            }
            io::ErrorKind::PermissionDenied => "; may this user reach the socket?",
            _ => "",
        };
        let what = format!("{}{advice}", self.described(None));
        VerifyError::Unreachable { what, source }
    }

    fn refused(&self, answer: &Answer) -> VerifyError {
        let who = self.described(Some(answer));
        let what = format!("{who} ({})", excerpt(&answer.body));
        let status = answer.status;
        VerifyError::refused(what, status)
    }

    /// It answers, and yet has nothing to say of anybody.
    pub(super) fn knows_nobody(&self, state: &str) -> VerifyError {
        let advice = match state {
            "NeedsLogin" => "it is logged out; tailscale up logs it in",
            "Stopped" => "it was switched off; tailscale up switches it on",
            "NeedsMachineAuth" => "it waits for an administrator to approve this machine",
            _ => "it has not heard from its control server since it started",
        };
        let what = format!("the tailnet of {}: {advice}", self.described(None));
        let source = io::Error::new(io::ErrorKind::NotConnected, "it knows no node yet");
        VerifyError::Unreachable { what, source }
    }

    fn bad_answer(&self, answer: &Answer, why: &str) -> VerifyError {
        VerifyError::BadAnswer(format!("{}: {why}", self.described(Some(answer))))
    }

    /// Whom we ask and who we are: where access is denied, these are what there is to change.
    fn described(&self, answer: Option<&Answer>) -> String {
        let version = answer.and_then(|answer| answer.header("Tailscale-Version"));
        let version = version.map(|text| format!(" {}", excerpt(text.as_bytes())));
        let uid = rustix::process::geteuid().as_raw();
        format!(
            "tailscaled{} at {} (asked by user {uid})",
            version.unwrap_or_default(),
            self.socket.display()
        )
    }
}

fn contains(body: &[u8], words: &[u8]) -> bool {
    body.windows(words.len()).any(|window| window == words)
}

/// What the reference says of itself (`tailcfg/tailcfg.go`). tailscaled only reports it.
const CAPABILITY_VERSION: &str = "145";
/// The longest answer about one node, in bytes. With many capabilities it has some 100 KiB.
const MAX_WHOIS: usize = 1 << 20;
/// The longest answer about all nodes, in bytes.
const MAX_STATUS: usize = 64 << 20;
