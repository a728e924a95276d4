//! Can those be asked who say who may use the relay, and whom do they see?

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use derp_proto::NodePublic;
use derp_verify::{Admission as Controller, Candidate, ConnMeta, HttpOptions, Verifier};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::net::UnixStream;

use super::exchange::{self, Answer};
use super::finding::Findings;
use crate::app::TAILSCALED_SOCKET;
use crate::config::{Admission, Opened, Source};
use crate::problem::chain;
use crate::{process, random};

const CHECK: &str = "verifier";
/// What to do about what cannot even be asked.
const UNUSABLE: &str = "mend the URL or the file that it names";

pub(super) async fn look(admission: &Admission, serves_derp: bool, findings: &mut Findings) {
    if !serves_derp {
        return;
    }
    if let Some(list) = &admission.lists.allow {
        match list.len() {
            0 => findings.warn(
                CHECK,
                "the allowlist is empty, and admits nobody",
                "write the keys of your nodes into it, or the output of tailscale status --json",
            ),
            keys => findings.ok(CHECK, format!("the allowlist has {keys} keys")),
        }
    }
    for remote in &admission.ours.remotes {
        if let Source::Tailscaled(socket) = &remote.source {
            tailscaled(socket, findings).await;
            continue;
        }
        match remote.open() {
            Ok(Opened::Tailscaled(_)) => {}
            Ok(Opened::HeadscaleVerify(one)) => ask(&remote.name, &one, findings).await,
            Ok(Opened::HeadscaleNodes(one)) => ask(&remote.name, &*one, findings).await,
            Ok(Opened::Url(one)) => ask(&remote.name, &one, findings).await,
            Err(err) => {
                findings.problem(CHECK, format!("{}: {}", remote.name, chain(&err)), UNUSABLE)
            }
        }
    }
    if admission.go.tailscaled {
        let socket = admission.go.socket.clone();
        let socket = socket.unwrap_or_else(|| PathBuf::from(TAILSCALED_SOCKET));
        tailscaled(&socket, findings).await;
    }
    if let Some(url) = &admission.go.url {
        match Controller::lenient(url, HttpOptions::default()) {
            Ok(controller) => ask("url", &controller, findings).await,
            Err(err) => findings.problem(CHECK, format!("url: {}", chain(&err)), UNUSABLE),
        }
    }
}

/// Asks about a key that nobody can know.
async fn ask(name: &str, verifier: &dyn Verifier, findings: &mut Findings) {
    let stranger: NodePublic = random::private_key().public();
    let conn = ConnMeta::default();
    match verifier.verify(&Candidate::new(stranger, &conn)).await {
        Ok(verdict) if verdict.allow => findings.problem(
            CHECK,
            format!("{name} admits a key that was made up a moment ago"),
            "it admits everybody: see that the URL is the one of the admission controller, and \
             what it goes by",
        ),
        Ok(_) => findings.ok(
            CHECK,
            format!("{name} answers, and does not know a stranger"),
        ),
        Err(err) => findings.problem(
            CHECK,
            format!("{name} does not answer: {}", chain(&err)),
            "nobody new comes in meanwhile (verify.fail): see that it runs and can be reached from \
             here, and its certificate and credentials",
        ),
    }
}

/// What a tailscaled says of itself and its tailnet.
#[derive(Debug, Deserialize)]
struct Status {
    #[serde(rename = "BackendState", default)]
    state: String,
    #[serde(rename = "Version", default)]
    version: String,
    #[serde(rename = "CurrentTailnet", default)]
    tailnet: Option<Tailnet>,
    #[serde(rename = "Peer", default)]
    peers: Option<std::collections::BTreeMap<String, IgnoredAny>>,
}

#[derive(Debug, Deserialize)]
struct Tailnet {
    #[serde(rename = "Name", default)]
    name: String,
}

async fn tailscaled(socket: &Path, findings: &mut Findings) {
    match status(socket).await {
        Ok((status, owner)) => judge_status(socket, &status, owner, findings),
        Err(err) => {
            let kind = err.downcast_ref::<io::Error>().map(io::Error::kind);
            let remedy = match kind {
                Some(io::ErrorKind::NotFound) => {
                    "there is no such socket: see that tailscaled runs, and that its directory is \
                     mounted where the relay runs in a container"
                }
                Some(io::ErrorKind::PermissionDenied) => {
                    "the relay's user may not use this socket: look at the modes of it and its \
                     directory"
                }
                _ => "see that tailscaled runs: systemctl status tailscaled",
            };
            let what = format!(
                "the tailscaled at {} does not answer: {err:#}",
                socket.display()
            );
            findings.problem(CHECK, what, remedy);
        }
    }
}

/// What it says, and whose socket it is.
async fn status(socket: &Path) -> anyhow::Result<(Status, u32)> {
    let stream = UnixStream::connect(socket).await?;
    let owner = std::fs::metadata(socket)?.uid();
    let path = "/localapi/v0/status";
    // The name that tailscaled wants to be called by (`client/local/local.go`).
    let Answer { status, body, .. } =
        exchange::get(stream, "local-tailscaled.sock", path, None).await?;
    ensure!(status.is_success(), "it answers {status}");
    let status = serde_json::from_slice(&body).context("its answer is not understood")?;
    Ok((status, owner))
}

fn judge_status(socket: &Path, status: &Status, owner: u32, findings: &mut Findings) {
    let socket = socket.display();
    if owner != 0 && owner != process::user() {
        findings.warn(
            CHECK,
            format!("{socket} belongs to the user {owner}, who decides who is admitted"),
            "a tailscaled that runs as root has a socket of root's",
        );
    }
    let peers = status
        .peers
        .as_ref()
        .map_or(0, std::collections::BTreeMap::len);
    let tailnet = status.tailnet.as_ref().map_or("", |tailnet| &tailnet.name);
    match status.state.as_str() {
        "Running" | "Starting" if peers == 0 => findings.warn(
            CHECK,
            format!("the tailscaled at {socket} sees no other nodes"),
            "nodes that the tailnet's policy hides from the relay's own node are turned away: \
             docs/private-relay.md has a policy that shows them",
        ),
        "Running" | "Starting" => findings.ok(
            CHECK,
            format!(
                "the tailscaled at {socket} ({}) sees {peers} nodes of {tailnet}",
                status.version
            ),
        ),
        state => findings.problem(
            CHECK,
            format!("the tailscaled at {socket} is in no tailnet: {state}"),
            "log it in with tailscale up; until then nobody new is admitted",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_tailscaled_must_be_logged_in_and_see_somebody() {
        let cases = [
            (
                r#"{"BackendState":"NeedsLogin"}"#,
                Level::Problem,
                "NeedsLogin",
            ),
            (
                r#"{"BackendState":"Running","Peer":null}"#,
                Level::Warning,
                "no other nodes",
            ),
            (
                r#"{"Version":"1.2","BackendState":"Running","Peer":{"nodekey:1":{},"nodekey:2":{}},
                    "CurrentTailnet":{"Name":"example.com"}}"#,
                Level::Ok,
                "(1.2) sees 2 nodes of example.com",
            ),
        ];
        for (json, level, part) in cases {
            let status: Status = serde_json::from_str(json).unwrap();
            let mut findings = Findings::default();
            judge_status(Path::new("/s"), &status, 0, &mut findings);
            let (found, what, _) = findings.only();
            assert_eq!(found, level, "{what}");
            assert!(what.contains(part), "{what}");
        }
        let status: Status = serde_json::from_str(cases[2].0).unwrap();
        let mut findings = Findings::default();
        let stranger = process::user() + 1;
        judge_status(Path::new("/s"), &status, stranger, &mut findings);
        assert_eq!(findings.levels()[0], (CHECK, Level::Warning));
    }
}
