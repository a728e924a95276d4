//! The relay behind real proxies, nginx and HAProxy, which share a port between it and a website.
//!
//! The configurations are those under `deploy/proxy`, with ports and paths of the test put in
//! place of theirs. Clients come from 127.0.0.2, so that their address and the proxy's are
//! different ones.

mod programs;
mod site;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::site::{Site, Tls};
use crate::builds;
use crate::interop::{Results, tell};
use crate::peers::Peers;
use crate::shell;

/// How many stories there are. A list that shrinks unseen would pass as well.
const STORIES: usize = 6;
/// How many cases of each client's list there are where TLS passes through, and where it is ended
/// by the proxy, which speaks its own HTTP to strange requests and shows its own certificate.
const GO_CASES: usize = 60;
const OUR_CASES: usize = 31;
const OUR_CASES_WITHOUT_FAST_START: usize = 30;
/// What two real tailscaled exchange, in bytes.
const E2E_BYTES: u64 = 20_000_000;
/// What clients come from.
const CLIENT_IP: &str = "127.0.0.2";

type Story = (&'static str, fn(&Tools) -> Result<String>);

/// What the stories need.
struct Tools {
    go: PathBuf,
    drivers: PathBuf,
    derper: PathBuf,
    no_namespaces: bool,
}

#[derive(Args)]
pub(crate) struct Options {
    /// Our relay as it was built elsewhere, instead of a release build.
    #[arg(long)]
    derper: Option<PathBuf>,
    /// Leaves out what needs root and network namespaces.
    #[arg(long)]
    no_namespaces: bool,
}

/// Builds what is needed and runs all stories.
pub(crate) fn run_alone(options: &Options) -> Result<()> {
    let peers = crate::peers::install()?;
    builds::release()?;
    let derper = builds::relay(options.derper.as_ref())?;
    tell(&run(&peers, derper, options.no_namespaces)?)
}

/// Runs all stories with `derper`, which is ours; names and results.
pub(crate) fn run(peers: &Peers, derper: PathBuf, no_namespaces: bool) -> Result<Results> {
    for (program, version) in [("nginx", "-v"), ("haproxy", "-v"), ("curl", "--version")] {
        ensure!(
            shell::works(program, &[version]),
            "{program} is missing: apt-get install nginx libnginx-mod-stream haproxy curl"
        );
    }
    let tools = Tools {
        go: peers.go.clone(),
        drivers: peers.drivers.clone(),
        derper,
        no_namespaces,
    };
    let stories: [Story; STORIES] = [
        ("nginx by name", nginx_without_header),
        ("nginx by name, PROXY v1", nginx),
        ("HAProxy by name, PROXY v2", haproxy),
        ("nginx ends TLS, Unix socket", nginx_http),
        ("HAProxy ends TLS", haproxy_http),
        ("two tailscaled, nginx by name", tailscaled),
    ];
    Ok(stories
        .into_iter()
        .map(|(name, story)| (format!("proxies: {name}"), story(&tools)))
        .collect())
}

/// Without a header it works as well, but everybody is the proxy.
fn nginx_without_header(tools: &Tools) -> Result<String> {
    let site = Site::new(tools)?;
    site.start_relay(
        "derper-passthrough.toml",
        &[
            ("proxy_protocol = \"required\"\n", ""),
            ("proxy_protocol_from = [\"127.0.0.1\"]\n", ""),
        ],
    )?;
    site.start_nginx(
        "nginx.conf",
        &[
            ("proxy_protocol on;", ""),
            (" ssl proxy_protocol;", " ssl;"),
            ("real_ip_header proxy_protocol;", ""),
        ],
    )?;
    site.website_sees("127.0.0.1")?;
    site.mesh_peer_sees(Tls::Relays, "127.0.0.1:")?;
    our_client(&site, Tls::Relays)
}

fn nginx(tools: &Tools) -> Result<String> {
    let site = Site::new(tools)?;
    site.start_relay("derper-passthrough.toml", &[])?;
    site.start_nginx("nginx.conf", &[])?;
    passes_through(tools, &site)
}

fn haproxy(tools: &Tools) -> Result<String> {
    let site = Site::new(tools)?;
    site.start_relay("derper-passthrough.toml", &[])?;
    site.start_website()?;
    site.start_haproxy("haproxy.cfg")?;
    let detail = passes_through(tools, &site)?;
    // HAProxy looks every two seconds whether the relay is there.
    site.wait_for_metric("derper_proxy_headers{outcome=\"local\"}")?;
    Ok(detail)
}

/// What both proxies do where they only look at the name: website and relay on one port, and
/// everybody's own address.
fn passes_through(tools: &Tools, site: &Site) -> Result<String> {
    site.website_sees(CLIENT_IP)?;
    site.mesh_peer_sees(Tls::Relays, &format!("{CLIENT_IP}:"))?;
    ensure!(
        site.relay_log()
            .contains(&format!("addr=Some({CLIENT_IP}:")),
        "the log does not tell the client's address:\n{}",
        site.relay_log()
    );
    site.port_80_is_passed_on()?;
    our_client(site, Tls::Relays)?;
    go_client(tools, site)
}

fn nginx_http(tools: &Tools) -> Result<String> {
    let site = Site::new(tools)?;
    site.start_relay("derper-http.toml", &[])?;
    site.start_nginx("nginx-http.conf", &[])?;
    ends_tls(&site)
}

fn haproxy_http(tools: &Tools) -> Result<String> {
    let site = Site::new(tools)?;
    site.start_relay("derper-http.toml", &[])?;
    site.start_haproxy("haproxy-http.cfg")?;
    ends_tls(&site)
}

fn ends_tls(site: &Site) -> Result<String> {
    // An HTTP header knows no port.
    site.mesh_peer_sees(Tls::Proxys, &format!("{CLIENT_IP}:0"))?;
    our_client(site, Tls::Proxys)
}

/// All of our client's cases through the proxy.
fn our_client(site: &Site, tls: Tls) -> Result<String> {
    let mut cases = Command::new(shell::release_dir().join("testbed-client-cases"));
    cases.args(["--host", site::RELAY, "--dial", "127.0.0.1"]);
    cases.args(["--port", &site.front().to_string()]);
    cases.arg("--mesh-key-file").arg(site.mesh_key_file());
    let expected = match tls {
        Tls::Relays => OUR_CASES,
        Tls::Proxys => {
            cases.arg("--no-fast-start");
            OUR_CASES_WITHOUT_FAST_START
        }
    };
    cases.args(["--expect-cases", &expected.to_string()]);
    all_pass(&mut cases).context("our client")?;
    Ok(format!("{expected} cases"))
}

/// All of Go's client's cases that are about the DERP port.
fn go_client(tools: &Tools, site: &Site) -> Result<String> {
    let mut cases = Command::new(tools.drivers.join("relaycases"));
    cases.args(["-host", site::RELAY, "-dial", "127.0.0.1", "-insecure"]);
    cases.args(["-port", &site.front().to_string()]);
    cases.arg("-mesh-key-file").arg(site.mesh_key_file());
    cases.args(["-expect-cases", &GO_CASES.to_string()]);
    all_pass(&mut cases).context("Go's client")?;
    Ok(format!("{} cases", GO_CASES + OUR_CASES))
}

/// Runs a list of cases, which prints a line for each.
fn all_pass(cases: &mut Command) -> Result<()> {
    let output = cases.output().context("a list of cases")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed: Vec<_> = text
        .lines()
        .filter(|line| line.contains("\"ok\":false"))
        .collect();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}\n{errors}", failed.join("\n"));
    Ok(())
}

/// Two real nodes exchange a file by the usual ports, in a network namespace that is the relay's.
fn tailscaled(tools: &Tools) -> Result<String> {
    if tools.no_namespaces {
        return Ok("left out".to_owned());
    }
    let site = Site::new(tools)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/proxies/behind_nginx.sh");
    let toml = site.for_namespace("derper-passthrough.toml")?;
    let nginx = site.for_namespace("nginx.conf")?;
    let relay = format!(
        "sh {} {} {} {}",
        script.display(),
        tools.derper.display(),
        toml.display(),
        nginx.display()
    );
    let mut command = Command::new(tools.drivers.join("e2e"));
    command.arg("-bin").arg(&tools.go);
    command.args(["-bytes", &E2E_BYTES.to_string()]);
    command.args(["-relay-host", site::RELAY, "-relay-cmd", &relay]);
    let output = command.output().context("e2e")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}");
    let report: serde_json::Value = serde_json::from_str(&text)?;
    let seen = site.relay_log();
    for node in ["10.77.1.2", "10.77.2.2"] {
        ensure!(
            seen.contains(&format!("addr=Some({node}:")),
            "the log does not tell the address of {node}:\n{seen}"
        );
    }
    Ok(format!("{} Mbit/s", report["transfer"]["mbit_per_s"]))
}
