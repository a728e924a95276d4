//! `derper doctor`: looks for what is wrong with a relay, on its machine and as its clients see it.
//!
//! ```text
//!   configuration ─┬─► ports ─ verifiers ─ clients          this machine
//!                  └─► Outside ─► name ─► certificate ─ pages ─ clock ─ login ─ stun
//!   --url ─────────────┘                                    as a client
//!   --map ───────────────────────────────────────────────── the entry against all that
//! ```
//!
//! One file for each check. What a check found out is judged by plain functions, so that they can
//! be tried with what is hard to have in a test: clocks, Docker's bridges, other machines. Nothing
//! is changed, and nobody is asked whom the configuration or the words do not name.

mod certificate;
mod clients;
mod clock;
mod derp_map;
mod exchange;
mod finding;
mod login;
mod name;
mod outside;
mod pages;
mod ports;
mod stun;
mod verifiers;

use derp_proto::NodePublic;

use self::finding::Findings;
use self::outside::Outside;
use self::ports::Running;
use super::Output;
use crate::args::Doctor;
use crate::config::{Config, KeyPlan, Tls};
use crate::gather::gather;
use crate::start::Start;

/// Everything is in here that concerns the settings alone.
const CONFIGURATION: &str = "configuration";

/// Looks, and tells.
///
/// # Errors
/// The words make no sense, or the system has no means to look.
pub(super) fn run(start: &Start, what: &Doctor) -> anyhow::Result<Output> {
    let mut findings = Findings::default();
    let config = configuration(start, what, &mut findings);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(look(start, what, config.as_ref(), &mut findings))?;
    Ok(Output {
        text: if what.json {
            findings.json()
        } else {
            findings.text()
        },
        is_good: findings.problems() == 0,
    })
}

async fn look(
    start: &Start,
    what: &Doctor,
    config: Option<&Config>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let running = match config {
        Some(config) => ports::look(config, start.doorway().ok(), findings).await,
        None => Running::Unknown,
    };
    let map = match &what.map {
        Some(place) => derp_map::read(place, findings).await,
        None => None,
    };
    let outside = match (&what.url, config) {
        (Some(url), config) => Some(Outside::of_url(url, config)?),
        (None, Some(config)) if running != Running::No => Outside::of_config(config, findings),
        (None, _) => None,
    };
    if let Some(mut outside) = outside {
        let entries = derp_map::entries(map.as_ref(), &outside, findings);
        if let (Some(entry), None) = (entries.first(), config) {
            outside.expect(entry);
        }
        let addresses = name::look(&outside, findings).await;
        let seen = certificate::look(&outside, config, &addresses, findings).await;
        pages::look(&outside, &addresses, findings).await;
        login::look(&outside, config, &addresses, findings).await;
        stun::look(&outside, &addresses, findings).await;
        for entry in entries {
            derp_map::compare(&entry, &outside, &addresses, seen.as_ref(), findings).await;
        }
    }
    if let Some(config) = config {
        verifiers::look(&config.admission, config.listen.derp, findings).await;
        clients::look(start, config, findings);
    }
    Ok(())
}

/// The configuration, unless there is none and none is needed, or it has mistakes.
fn configuration(start: &Start, what: &Doctor, findings: &mut Findings) -> Option<Config> {
    let gathered = gather(start.args.clone(), &start.vars).sources;
    let is_given = !gathered.flags.is_empty() || !gathered.env.is_empty();
    if what.url.is_some() && !is_given && gathered.file().is_none() {
        return None;
    }
    match start.config() {
        Ok(config) => {
            for warning in &config.warnings {
                findings.warn(CONFIGURATION, warning, "");
            }
            if config.warnings.is_empty() {
                findings.ok(CONFIGURATION, "it has no mistakes");
            }
            Some(config)
        }
        Err(mistakes) => {
            for mistake in mistakes.iter() {
                findings.problem(
                    CONFIGURATION,
                    mistake,
                    "mend it; the relay does not start with it",
                );
            }
            None
        }
    }
}

/// The key that the relay of this configuration has, where it has one already.
fn own_key(config: &Config) -> Option<NodePublic> {
    match &config.key {
        KeyPlan::Loaded { key, .. } => Some(key.public()),
        KeyPlan::Ephemeral | KeyPlan::Create { .. } => None,
    }
}

/// The hash by which clients know the certificate, where no authority vouches for it.
fn own_pin(config: &Config) -> Option<String> {
    match &config.tls {
        Tls::Files(files) => files.self_signed_pin(),
        Tls::Off | Tls::Create { .. } | Tls::Acme(_) => None,
    }
}
