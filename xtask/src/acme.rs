//! Certificates from a real ACME authority: Pebble, Let's Encrypt's test server.
//!
//! Each case starts an authority and a relay with a new directory, and asks Go's client what it
//! thinks of the certificate. Pebble forgets everything when it ends, its root included, which
//! makes its outages worse than real ones.

mod authority;
mod relay;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::authority::{Authority, Binding};
use self::relay::{NAME, Settings, Subject};
use crate::builds;
use crate::interop::{Results, tell};
use crate::peers::Peers;

/// How many cases there are. A list that shrinks unseen would pass as well.
const CASES: usize = 6;
/// For whatever is not a matter of the certificate's life.
const SOON: Duration = Duration::from_secs(30);

type Case = (&'static str, fn(&Tools) -> Result<String>);

/// What the cases need.
struct Tools {
    pebble: authority::Programs,
    drivers: PathBuf,
    derper: PathBuf,
}

#[derive(Args)]
pub(crate) struct Options {
    /// Our relay as it was built elsewhere, instead of a release build.
    #[arg(long)]
    derper: Option<PathBuf>,
}

/// Builds what is needed and runs all cases.
pub(crate) fn run_alone(options: &Options) -> Result<()> {
    let peers = crate::peers::install()?;
    let derper = builds::relay(options.derper.as_ref())?;
    tell(&run(&peers, derper)?)
}

/// Installs what is missing for the cases.
pub(crate) fn install() -> Result<()> {
    authority::install().map(drop)
}

/// Runs all cases against `derper`, which is ours; names and results.
pub(crate) fn run(peers: &Peers, derper: PathBuf) -> Result<Results> {
    let tools = Tools {
        pebble: authority::install()?,
        drivers: peers.drivers.clone(),
        derper,
    };
    let cases: [Case; CASES] = [
        ("tls-alpn-01", by_tls),
        ("http-01", by_http),
        ("certificate for an address", for_an_address),
        ("external account binding", with_binding),
        ("renewal, with a client connected", renewal),
        ("the authority is out", outage),
    ];
    Ok(cases
        .into_iter()
        .map(|(name, case)| (format!("ACME: {name}"), case(&tools)))
        .collect())
}

/// What every successful order leads to: Go's client accepts the certificate and starts fast.
fn by_tls(tools: &Tools) -> Result<String> {
    let authority = Authority::start(tools, Binding::Free)?;
    let settings = Settings {
        http: false,
        ..Settings::default()
    };
    let relay = relay::start(tools, &authority, &settings)?;
    relay.wait_for("a new certificate", 1, SOON)?;
    let checked = authority.log();
    ensure!(checked.contains("set VALID"), "{checked}");
    relay.go_client(tools, &authority, Subject::Name)
}

fn by_http(tools: &Tools) -> Result<String> {
    let authority = Authority::start(tools, Binding::Free)?;
    let settings = Settings {
        challenges: "\"http-01\"",
        ..Settings::default()
    };
    let relay = relay::start(tools, &authority, &settings)?;
    relay.wait_for("a new certificate", 1, SOON)?;
    relay.go_client(tools, &authority, Subject::Name)
}

fn for_an_address(tools: &Tools) -> Result<String> {
    let authority = Authority::start(tools, Binding::Free)?;
    let settings = Settings {
        ip_certs: true,
        ..Settings::default()
    };
    let relay = relay::start(tools, &authority, &settings)?;
    // The name is ordered for at the start; the address when the first client comes there.
    relay.wait_for("a new certificate", 1, SOON)?;
    relay.go_client(tools, &authority, Subject::Name)?;
    relay.wait_for("a new certificate", 2, SOON)?;
    relay.go_client(tools, &authority, Subject::Address)
}

fn with_binding(tools: &Tools) -> Result<String> {
    let authority = Authority::start(tools, Binding::Required)?;
    let without = relay::start(tools, &authority, &Settings::default())?;
    without.wait_for("externalAccountRequired", 1, SOON)?;
    drop(without);
    let settings = Settings {
        binding: true,
        ..Settings::default()
    };
    let relay = relay::start(tools, &authority, &settings)?;
    relay.wait_for("a new certificate", 1, SOON)?;
    relay.go_client(tools, &authority, Subject::Name)
}

fn renewal(tools: &Tools) -> Result<String> {
    let authority = Authority::start(tools, Binding::Free)?;
    let relay = relay::start(tools, &authority, &Settings::brief())?;
    relay.wait_for("a new certificate", 1, SOON)?;
    let mut client = relay.connect(tools, &authority)?;
    let first = relay.kept()?;
    relay.wait_for("a new certificate", 2, SOON * 2)?;
    let second = relay.kept()?;
    ensure!(first != second, "the same certificate was kept again");
    client
        .ping()
        .context("a client that connected before the renewal")?;
    relay.go_client(tools, &authority, Subject::Name)
}

/// The certificate is served while the authority is out, and after a restart; when the authority
/// is back, and knows the account no more, there is a new one.
fn outage(tools: &Tools) -> Result<String> {
    let mut authority = Authority::start(tools, Binding::Free)?;
    let mut relay = relay::start(tools, &authority, &Settings::brief())?;
    relay.wait_for("a new certificate", 1, SOON)?;
    let root = authority.root(tools)?;
    authority.stop();
    relay.go_client_trusting(tools, &root, Subject::Name)?;
    relay.wait_for("no new certificate: cannot ask", 1, SOON * 2)?;

    relay.restart()?;
    // It may have expired by now, and is served as long as there is no other.
    relay.shown(tools, NAME).context("after a restart")?;
    relay.wait_for("the last order failed, before a restart", 1, SOON)?;

    authority.start_again(tools)?;
    relay.hang_up()?;
    // The first attempt finds that the account is gone, if the account is still in memory.
    relay.wait_for("a new ACME account", 1, SOON * 5)?;
    relay.wait_for("a new certificate", 1, SOON)?;
    relay.go_client(tools, &authority, Subject::Name)
}
