//! Does somebody whom nobody knows get in, and should it?
//!
//! A key is made up and logs in as clients do. It sends nothing.

use std::net::SocketAddr;
use std::time::Duration;

use derp_client::{
    CertCheck, Client, ConnectError, Connector, Fault, Login, Received, ServerUrl, StartKind,
    Target, UrlTarget,
};
use derp_proto::NodePublic;

use super::finding::Findings;
use super::outside::Outside;
use super::own_key;
use crate::config::Config;
use crate::problem::chain;
use crate::random;

const CHECK: &str = "login";
/// Verifiers have five seconds, and may have to be waited for.
const PATIENCE: Duration = Duration::from_secs(13);

/// What became of the made-up key.
#[derive(Debug)]
enum Outcome {
    Admitted { key: NodePublic, start: StartKind },
    TurnedAway { key: NodePublic },
    Failed { what: String, is_upgrade: bool },
}

pub(super) async fn look(
    outside: &Outside,
    config: Option<&Config>,
    addresses: &[SocketAddr],
    findings: &mut Findings,
) {
    let scheme = if outside.is_tls { "https" } else { "http" };
    let url = format!("{scheme}://{}/derp", outside.authority());
    let (Ok(url), Some(first)) = (url.parse::<ServerUrl>(), addresses.first()) else {
        return;
    };
    let target = Target::Url(UrlTarget {
        url,
        dial_host: first.ip().to_canonical().to_string().parse().ok(),
        // What is wrong with the certificate has been told.
        check: CertCheck::Insecure,
    });
    let outcome = try_it(&target).await;
    // Nothing is said of admission where the relay serves no clients at all.
    let is_open = config.map(|config| config.listen.derp.then(|| config.admission.is_open()));
    judge(&outcome, is_open, config.and_then(own_key), findings);
}

/// Whether the node of a DERP map leads to the relay, by the rules of clients.
pub(super) async fn reach(target: &Target) -> Result<(), String> {
    match try_it(target).await {
        Outcome::Admitted { .. } | Outcome::TurnedAway { .. } => Ok(()),
        Outcome::Failed { what, .. } => Err(what),
    }
}

async fn try_it(target: &Target) -> Outcome {
    let login = Login::new(random::private_key());
    match Connector::new().connect(target, &login).await {
        Ok(client) => admission(client).await,
        Err(err) => failed(&err),
    }
}

async fn admission(mut client: Client) -> Outcome {
    let (key, start) = (client.info().server_key, client.info().start);
    match tokio::time::timeout(PATIENCE, client.recv()).await {
        Ok(Ok(Received::ServerInfo(_))) => Outcome::Admitted { key, start },
        Ok(Ok(other)) => Outcome::Failed {
            what: format!("the relay begins with {other:?}"),
            is_upgrade: false,
        },
        Ok(Err(_)) => Outcome::TurnedAway { key },
        Err(_) => Outcome::Failed {
            what: format!("neither admitted nor turned away in {PATIENCE:?}"),
            is_upgrade: false,
        },
    }
}

fn failed(err: &ConnectError) -> Outcome {
    Outcome::Failed {
        what: chain(err.fault()),
        is_upgrade: matches!(err.fault(), Fault::Upgrade(_)),
    }
}

fn judge(
    outcome: &Outcome,
    is_open: Option<Option<bool>>,
    own: Option<NodePublic>,
    findings: &mut Findings,
) {
    let key = match outcome {
        Outcome::Admitted { key, .. } | Outcome::TurnedAway { key } => *key,
        Outcome::Failed { what, is_upgrade } => {
            let remedy = if *is_upgrade {
                "whatever answers passes no upgrade on: a proxy that terminates TLS must pass the \
                 headers Upgrade and Connection, and a CDN cannot; docs/sharing-port-443.md"
            } else {
                "see the relay's log at this time, with --log-level info,derp_server=debug"
            };
            if is_open == Some(None) {
                findings.ok(CHECK, "the relay serves no clients, as -derp=false says");
            } else {
                findings.problem(CHECK, format!("nobody can log in: {what}"), remedy);
            }
            return;
        }
    };
    if own.is_some_and(|own| own != key) {
        findings.problem(
            CHECK,
            format!("another relay answers: its key is {key}"),
            "the name, the proxy or the port leads to another relay, or this configuration is not \
             the one that runs",
        );
    }
    match (outcome, is_open) {
        (Outcome::Admitted { .. }, Some(Some(false))) => findings.problem(
            CHECK,
            "a key that was made up a moment ago was admitted",
            "a verifier admits everybody, or could not be reached and fails open; or the relay \
             runs with another configuration than this one",
        ),
        (Outcome::Admitted { start, .. }, _) => findings.warn(
            CHECK,
            format!("everybody may use this relay ({})", begun(*start)),
            "for a relay of your own, say who may: --allowlist, --verify-tailscaled or \
             --verify-headscale; docs/private-relay.md",
        ),
        (Outcome::TurnedAway { .. }, Some(Some(true))) => findings.problem(
            CHECK,
            "a stranger is turned away, though the configuration admits everybody",
            "the relay runs with another configuration than this one, or is full: see its log",
        ),
        _ => findings.ok(CHECK, "a stranger is turned away"),
    }
}

const fn begun(start: StartKind) -> &'static str {
    match start {
        StartKind::Fast => "logged in without an extra round trip",
        StartKind::Slow | StartKind::Direct | StartKind::WebSocket => "logged in",
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn whoever_gets_in_must_be_meant_to() {
        let key = NodePublic::from_bytes([7; 32]);
        let admitted = Outcome::Admitted {
            key,
            start: StartKind::Fast,
        };
        let turned_away = Outcome::TurnedAway { key };
        let failed = Outcome::Failed {
            what: "status 200".to_owned(),
            is_upgrade: true,
        };
        let (open, closed, unknown) = (Some(Some(true)), Some(Some(false)), None);
        for (outcome, is_open, level) in [
            (&admitted, open, Level::Warning),
            (&admitted, closed, Level::Problem),
            (&admitted, unknown, Level::Warning),
            (&turned_away, open, Level::Problem),
            (&turned_away, closed, Level::Ok),
            (&turned_away, unknown, Level::Ok),
            (&failed, open, Level::Problem),
            (&failed, Some(None), Level::Ok),
        ] {
            let mut findings = Findings::default();
            judge(outcome, is_open, None, &mut findings);
            assert_eq!(findings.only().0, level, "{outcome:?} {is_open:?}");
        }
        let mut findings = Findings::default();
        let other = Some(NodePublic::from_bytes([8; 32]));
        judge(&turned_away, closed, other, &mut findings);
        assert_eq!(
            findings.levels(),
            [(CHECK, Level::Problem), (CHECK, Level::Ok)]
        );
    }
}
