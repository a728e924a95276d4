//! Does the relay's name lead anywhere, and to this machine?

use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::finding::Findings;
use super::outside::Outside;
use crate::host::Host;

const CHECK: &str = "name";

/// The addresses that clients try.
pub(super) async fn look(outside: &Outside, findings: &mut Findings) -> Vec<SocketAddr> {
    let name = match &outside.host {
        Host::Ip(ip) => {
            judge(&outside.host, &[*ip], is_own, outside.is_named, findings);
            return vec![SocketAddr::new(*ip, outside.port)];
        }
        Host::Name(name) => name.as_str(),
    };
    match tokio::net::lookup_host((name, outside.port)).await {
        Ok(found) => {
            let mut found: Vec<SocketAddr> = found.collect();
            found.dedup();
            let ips: Vec<IpAddr> = found.iter().map(|address| address.ip()).collect();
            judge(&outside.host, &ips, is_own, outside.is_named, findings);
            found
        }
        Err(err) => {
            findings.problem(
                CHECK,
                format!("{name} has no address: {err}"),
                "make an A or AAAA record for it that leads to this relay, or put the address into \
                 the DERP map (IPv4, IPv6), where clients look first",
            );
            Vec::new()
        }
    }
}

/// Whether the address is this machine's: only then can a socket have it.
pub(super) fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// Whether the whole internet can reach the address.
pub(super) fn is_global(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            !(ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_unspecified()
                || shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local())
        }
    }
}

fn judge(
    host: &Host,
    ips: &[IpAddr],
    is_own: impl Fn(IpAddr) -> bool,
    is_named: bool,
    findings: &mut Findings,
) {
    let list = ips.iter().map(ToString::to_string).collect::<Vec<_>>();
    let what = format!("{host} is at {}", list.join(", "));
    if ips.iter().all(|ip| ip.is_loopback()) {
        findings.warn(
            CHECK,
            format!("{what}, which is every machine's own"),
            "nodes on other machines need an address that leads here",
        );
    } else if !ips.iter().any(|ip| is_global(*ip)) {
        findings.warn(
            CHECK,
            format!("{what}, which is reached only from nearby"),
            "fine for nodes on this network; others need a public address",
        );
    } else if !is_named && !ips.iter().any(|ip| is_own(*ip)) {
        findings.warn(
            CHECK,
            format!("{what}, of which none is this machine's"),
            "right behind NAT, a proxy on another machine, or in a container; else the record \
             leads elsewhere",
        );
    } else {
        findings.ok(CHECK, what);
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn addresses_are_judged_by_who_reaches_them() {
        let cases: &[(&[&str], bool, bool, Level, &str)] = &[
            (&["192.0.2.1"], true, false, Level::Ok, "is at 192.0.2.1"),
            (
                &["192.0.2.1"],
                false,
                false,
                Level::Warning,
                "none is this machine's",
            ),
            (&["192.0.2.1"], false, true, Level::Ok, "is at 192.0.2.1"),
            (
                &["10.0.0.1", "fd00::1"],
                true,
                false,
                Level::Warning,
                "only from nearby",
            ),
            (
                &["100.64.0.1"],
                true,
                false,
                Level::Warning,
                "only from nearby",
            ),
            (
                &["127.0.0.1", "::1"],
                true,
                true,
                Level::Warning,
                "every machine's own",
            ),
            (
                &["10.0.0.1", "2001:db8::1"],
                true,
                false,
                Level::Ok,
                "10.0.0.1, 2001:db8::1",
            ),
        ];
        let host: Host = "derp.example.com".parse().unwrap();
        for &(ips, own, is_named, level, part) in cases {
            let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
            let mut findings = Findings::default();
            judge(&host, &ips, |_| own, is_named, &mut findings);
            let (found, what, _) = findings.only();
            assert_eq!(found, level, "{ips:?}");
            assert!(what.contains(part), "{what}");
        }
    }

    #[test]
    fn own_addresses_are_those_that_a_socket_can_have() {
        assert!(is_own("127.0.0.1".parse().unwrap()));
        // Set aside for documentation, so nobody's.
        assert!(!is_own("192.0.2.1".parse().unwrap()));
    }
}
