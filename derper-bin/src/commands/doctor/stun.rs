//! Does STUN answer, and does it tell clients where they are?
//!
//! Behind Docker's own network a relay may see everybody as the bridge's address. It answers then,
//! and all seems well, and no two nodes find a direct path.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use derp_stun::{ProbeOptions, ProbeReport, probe};

use super::finding::Findings;
use super::name::{is_global, is_own};
use super::outside::Outside;
use crate::problem::chain;

const CHECK: &str = "stun";
const PATIENCE: Duration = Duration::from_secs(3);

/// A round trip, and what this machine knows of itself.
struct Heard {
    asked: SocketAddr,
    answered_by: SocketAddr,
    mapped: IpAddr,
    /// This machine's address on the way there.
    local: Option<IpAddr>,
    /// Whether the relay is on this machine.
    is_own: bool,
    rtt: Duration,
}

pub(super) async fn look(outside: &Outside, addresses: &[SocketAddr], findings: &mut Findings) {
    let Some(port) = outside.stun_port else {
        findings.warn(
            CHECK,
            "the relay has no STUN",
            "set STUNPort to -1 in the DERP map; without STUN clients take it for slow",
        );
        return;
    };
    for address in addresses {
        let asked = SocketAddr::new(address.ip().to_canonical(), port);
        match probe(asked, ProbeOptions::within(PATIENCE)).await {
            Ok(report) => judge(&Heard::of(asked, &report), findings),
            Err(err) => findings.problem(
                CHECK,
                format!("UDP {asked} does not answer: {}", chain(&err)),
                "open the UDP port in every firewall on the way: no proxy passes it on, and cloud \
                 firewalls list UDP apart from TCP; behind a proxy set stun.address = \"::\"",
            ),
        }
    }
}

impl Heard {
    fn of(asked: SocketAddr, report: &ProbeReport) -> Self {
        Self {
            asked,
            answered_by: report.answered_by,
            mapped: report.mapped.ip().to_canonical(),
            local: local_towards(asked),
            is_own: is_own(asked.ip()),
            rtt: report.rtt,
        }
    }
}

/// The address by which this machine goes there. Nothing is sent.
fn local_towards(there: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if there.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(there).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn judge(heard: &Heard, findings: &mut Findings) {
    let Heard {
        asked,
        answered_by,
        mapped,
        local,
        is_own,
        rtt,
    } = heard;
    if answered_by != asked {
        findings.problem(
            CHECK,
            format!("{asked} was asked, and {answered_by} answered"),
            "clients behind NAT never get such answers: address translation on the relay's machine \
             changes the source of what it sends",
        );
        return;
    }
    let what = format!(
        "{asked} sees this machine as {mapped}, in {} ms",
        rtt.as_millis()
    );
    if *local == Some(*mapped) || is_global(*mapped) {
        findings.ok(CHECK, what);
        return;
    }
    let remedy = "the relay sees the address of something between, such as Docker's bridge \
                  (172.17.0.1), and tells it to everybody: run the container with --network host, \
                  or publish the UDP port without docker-proxy (\"userland-proxy\": false)";
    if is_global(asked.ip()) && !is_own {
        findings.problem(CHECK, what, remedy);
    } else {
        // Docker does so to its own machine in any case.
        findings.warn(
            CHECK,
            format!("{what}, which is not its own address"),
            format!("look from a machine that is farther away, with derper doctor --url; there: {remedy}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn a_bridge_between_shows_in_the_address() {
        let (ok, warning, problem) = (Level::Ok, Level::Warning, Level::Problem);
        // Asked, from, seen as, whether the relay is here.
        for (asked, local, mapped, is_own, level) in [
            // Over the internet, behind NAT.
            ("203.0.113.1", "192.168.1.5", "198.51.100.7", false, ok),
            // Over the internet, without NAT.
            ("203.0.113.1", "198.51.100.7", "198.51.100.7", false, ok),
            // The trap.
            ("203.0.113.1", "192.168.1.5", "172.17.0.1", false, problem),
            ("203.0.113.1", "198.51.100.7", "172.17.0.1", false, problem),
            // On the relay's machine.
            ("127.0.0.1", "127.0.0.1", "127.0.0.1", true, ok),
            ("127.0.0.1", "127.0.0.1", "172.17.0.1", true, warning),
            ("203.0.113.1", "203.0.113.1", "172.17.0.1", true, warning),
            // In a private network.
            ("10.0.0.1", "10.0.0.2", "10.0.0.2", false, ok),
            ("10.0.0.1", "10.0.0.2", "172.17.0.1", false, warning),
        ] {
            let asked = SocketAddr::new(asked.parse().unwrap(), 3478);
            let heard = Heard {
                asked,
                answered_by: asked,
                mapped: mapped.parse().unwrap(),
                local: local.parse().ok(),
                is_own,
                rtt: Duration::from_millis(7),
            };
            let mut findings = Findings::default();
            judge(&heard, &mut findings);
            assert_eq!(
                findings.only().0,
                level,
                "{asked} {local} {mapped} {is_own}"
            );
        }
    }

    #[test]
    fn an_answer_from_elsewhere_reaches_nobody_behind_nat() {
        let heard = Heard {
            asked: "203.0.113.1:3478".parse().unwrap(),
            answered_by: "203.0.113.2:3478".parse().unwrap(),
            mapped: "198.51.100.7".parse().unwrap(),
            local: None,
            is_own: false,
            rtt: Duration::ZERO,
        };
        let mut findings = Findings::default();
        judge(&heard, &mut findings);
        assert_eq!(findings.only().0, Level::Problem);
    }
}
