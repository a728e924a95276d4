//! A DERP map's entry for the relay, against what is there.
//!
//! The map is read from a file or a URL, as JSON: a map itself, what `tailscale debug derp-map`
//! prints, or a policy file with `derpMap` in it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail, ensure};
use derp_client::{ServerUrl, Target};
use derp_proto::http::CERT_PIN_PREFIX;
use derp_proto::{DerpMap, DerpNode};
use serde_json::Value;

use super::certificate::Seen;
use super::exchange;
use super::finding::{Findings, Level};
use super::login;
use super::outside::Outside;
use crate::host::Host;

const CHECK: &str = "map";
/// The regions that Tailscale leaves to its users.
const USERS: std::ops::RangeInclusive<i64> = 900..=999;

/// Reads the map at `place`, a path or a URL.
pub(super) async fn read(place: &str, findings: &mut Findings) -> Option<DerpMap> {
    let text = match place.split_once("://") {
        Some(("http" | "https", _)) => fetch(place).await,
        Some(("file", path)) => std::fs::read_to_string(path).context("cannot read it"),
        _ => std::fs::read_to_string(place).context("cannot read it"),
    };
    match text.and_then(|text| parse(&text)) {
        Ok(map) => Some(map),
        Err(err) => {
            findings.problem(
                CHECK,
                format!("{place}: {err:#}"),
                "give a DERP map in JSON, without comments: tailscale debug derp-map prints the one \
                 that a node has",
            );
            None
        }
    }
}

async fn fetch(place: &str) -> anyhow::Result<String> {
    let url: ServerUrl = place.parse()?;
    let outside = Outside {
        host: url.host().to_string().parse()?,
        port: url.port(),
        is_tls: url.is_tls(),
        stun_port: None,
        wants_port_80: false,
        pin: None,
        is_named: true,
    };
    let addresses: Vec<SocketAddr> = match &outside.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, url.port())],
        Host::Name(name) => tokio::net::lookup_host((name.as_str(), url.port()))
            .await?
            .collect(),
    };
    let answer = exchange::ask(&outside, &addresses, url.path(), None).await?;
    ensure!(answer.status.is_success(), "it answers {}", answer.status);
    Ok(String::from_utf8(answer.body.to_vec())?)
}

fn parse(text: &str) -> anyhow::Result<DerpMap> {
    let mut value: Value = serde_json::from_str(text).context("it is no JSON")?;
    if let Some(map) = value.get_mut("derpMap") {
        value = map.take();
    }
    if value.get("Regions").is_none() {
        bail!("it is no DERP map: it has no Regions");
    }
    serde_json::from_value(value).context("it is no DERP map")
}

/// The nodes of the map that lead to the relay.
pub(super) fn entries(
    map: Option<&DerpMap>,
    outside: &Outside,
    findings: &mut Findings,
) -> Vec<DerpNode> {
    let Some(map) = map else { return Vec::new() };
    let host = outside.host.to_string();
    let host = host.trim_end_matches('.');
    let nodes = || {
        let regions = map.regions.values().flatten();
        regions.flat_map(|region| region.nodes.iter())
    };
    let is_meant = |node: &&DerpNode| {
        [&node.host_name, &node.ipv4, &node.ipv6]
            .into_iter()
            .any(|known| known.trim_end_matches('.').eq_ignore_ascii_case(host))
    };
    let found: Vec<DerpNode> = nodes().filter(is_meant).cloned().collect();
    if found.is_empty() {
        let hosts: Vec<&str> = nodes()
            .map(|node| node.host_name.as_str())
            .take(10)
            .collect();
        findings.problem(
            CHECK,
            format!(
                "no node has the host {host}; there are: {}",
                hosts.join(", ")
            ),
            "add what derper derpmap prints, or give the relay the name that the map has",
        );
    }
    found
}

/// Compares an entry with what was found, and tries it.
pub(super) async fn compare(
    node: &DerpNode,
    outside: &Outside,
    addresses: &[SocketAddr],
    seen: Option<&Seen>,
    findings: &mut Findings,
) {
    let before = findings.problems();
    for (level, what, remedy) in differences(node, outside, addresses, seen) {
        findings.note(CHECK, level, format!("{}: {what}", node.name), remedy);
    }
    if findings.problems() > before {
        return;
    }
    // The whole way, by the rules of clients.
    match login::reach(&Target::Node(node.clone())).await {
        Ok(()) => findings.ok(
            CHECK,
            format!("{}: clients reach the relay by it", node.name),
        ),
        Err(what) => findings.problem(
            CHECK,
            format!(
                "{}: clients do not reach the relay by it: {what}",
                node.name
            ),
            "compare its HostName, DERPPort and CertName with the findings above",
        ),
    }
}

fn differences(
    node: &DerpNode,
    outside: &Outside,
    addresses: &[SocketAddr],
    seen: Option<&Seen>,
) -> Vec<(Level, String, String)> {
    let mut found = Vec::new();
    let mut problem = |what: String, remedy: String| found.push((Level::Problem, what, remedy));
    if node.derp_port() != Some(outside.port) {
        problem(
            format!(
                "DERPPort is {}, and the relay is on {}",
                node.derp_port, outside.port
            ),
            format!("set DERPPort to {}", outside.port),
        );
    }
    if node.stun_port() != outside.stun_port {
        let (there, remedy) = match outside.stun_port {
            Some(port) => (format!("on {port}"), format!("set STUNPort to {port}")),
            None => ("off".to_owned(), "set STUNPort to -1".to_owned()),
        };
        problem(
            format!("STUNPort is {}, and STUN is {there}", node.stun_port),
            remedy,
        );
    }
    if node.stun_only {
        problem(
            "STUNOnly is set, so nobody uses the relay".to_owned(),
            "remove STUNOnly".to_owned(),
        );
    }
    for (text, field) in [(&node.ipv4, "IPv4"), (&node.ipv6, "IPv6")] {
        let Ok(ip) = text.parse::<IpAddr>() else {
            continue;
        };
        let known = addresses.iter().map(|address| address.ip().to_canonical());
        if !addresses.is_empty() && !known.into_iter().any(|known| known == ip) {
            found.push((
                Level::Warning,
                format!("{field} is {ip}, and the name leads elsewhere"),
                format!("clients use {field} before DNS: correct it, or leave it out"),
            ));
        }
    }
    if node.insecure_for_tests {
        found.push((
            Level::Warning,
            "InsecureForTests is set, so anybody can pretend to be the relay".to_owned(),
            "remove it; a certificate without an authority is pinned by CertName".to_owned(),
        ));
    }
    if let Some(seen) = seen {
        if node.cert_name.starts_with(CERT_PIN_PREFIX) && node.cert_name != seen.pin {
            found.push((
                Level::Problem,
                format!(
                    "CertName pins {}, and the certificate is {}",
                    node.cert_name, seen.pin
                ),
                format!("set CertName to {}", seen.pin),
            ));
        } else if node.cert_name.is_empty() && !seen.is_trusted && !node.insecure_for_tests {
            found.push((
                Level::Problem,
                "CertName is empty, and no authority vouches for the certificate".to_owned(),
                format!("set CertName to {}", seen.pin),
            ));
        }
    }
    if !USERS.contains(&node.region_id) {
        found.push((
            Level::Warning,
            format!("its region is {}", node.region_id),
            "Tailscale leaves 900 to 999 to its users; another number may replace a region of \
             theirs (with Headscale alone any will do)"
                .to_owned(),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &str = "sha256-raw:00ff";

    fn outside() -> Outside {
        Outside {
            host: "derp.example.com".parse().unwrap(),
            port: 443,
            is_tls: true,
            stun_port: Some(3478),
            wants_port_80: false,
            pin: None,
            is_named: true,
        }
    }

    fn node() -> DerpNode {
        DerpNode {
            name: "900a".to_owned(),
            region_id: 900,
            host_name: "derp.example.com".to_owned(),
            ..DerpNode::default()
        }
    }

    #[test]
    fn an_entry_is_compared_field_by_field() {
        let addresses = ["192.0.2.1:443".parse().unwrap()];
        let told = |node: &DerpNode, outside: &Outside, is_trusted| {
            let seen = Seen {
                pin: PIN.to_owned(),
                is_trusted,
            };
            let found = differences(node, outside, &addresses, Some(&seen));
            let found = found.into_iter().map(|(level, what, remedy)| {
                assert!(!remedy.is_empty());
                (level, what)
            });
            found.collect::<Vec<_>>()
        };
        assert_eq!(told(&node(), &outside(), true), []);
        type Change = fn(&mut DerpNode, &mut Outside);
        let cases: &[(Change, bool, Level, &str)] = &[
            (
                |node, _| node.derp_port = 8443,
                true,
                Level::Problem,
                "DERPPort is 8443",
            ),
            (
                |node, _| node.stun_port = -1,
                true,
                Level::Problem,
                "STUN is on 3478",
            ),
            (
                |_, relay| relay.stun_port = None,
                true,
                Level::Problem,
                "STUN is off",
            ),
            (
                |node, _| node.stun_only = true,
                true,
                Level::Problem,
                "STUNOnly",
            ),
            (
                |node, _| node.ipv4 = "192.0.2.9".to_owned(),
                true,
                Level::Warning,
                "elsewhere",
            ),
            (
                |node, _| node.insecure_for_tests = true,
                false,
                Level::Warning,
                "pretend",
            ),
            (
                |node, _| node.cert_name = "sha256-raw:11".to_owned(),
                false,
                Level::Problem,
                "pins",
            ),
            (|_, _| {}, false, Level::Problem, "CertName is empty"),
            (
                |node, _| node.region_id = 1,
                true,
                Level::Warning,
                "its region is 1",
            ),
        ];
        for (change, is_trusted, level, part) in cases {
            let (mut node, mut outside) = (node(), outside());
            change(&mut node, &mut outside);
            let found = told(&node, &outside, *is_trusted);
            assert_eq!(found.len(), 1, "{part}: {found:?}");
            assert_eq!(found[0].0, *level, "{part}");
            assert!(found[0].1.contains(part), "{found:?}");
        }
        let mut pinned = node();
        pinned.cert_name = PIN.to_owned();
        pinned.ipv4 = "none".to_owned();
        assert_eq!(told(&pinned, &outside(), false), []);
    }

    #[test]
    fn maps_come_in_several_forms_and_lead_to_the_relay_by_its_host() {
        let map = r#"{"Regions":{"900":{"RegionID":900,"Nodes":[
            {"Name":"900a","RegionID":900,"HostName":"DERP.example.com"},
            {"Name":"900b","RegionID":900,"HostName":"other.example.com"}]},"1":null}}"#;
        for text in [map.to_owned(), format!("{{\"derpMap\":{map}}}")] {
            let map = parse(&text).unwrap();
            let mut findings = Findings::default();
            let found = entries(Some(&map), &outside(), &mut findings);
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].name.as_str(), findings.problems()), ("900a", 0));
            let mut elsewhere = outside();
            elsewhere.host = "192.0.2.1".parse().unwrap();
            assert_eq!(entries(Some(&map), &elsewhere, &mut findings), []);
            let (level, what, _) = findings.only();
            assert_eq!(level, Level::Problem);
            assert!(
                what.ends_with("DERP.example.com, other.example.com"),
                "{what}"
            );
        }
        for text in ["", "[]", "{}", "{\"Regions\":[]}"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
