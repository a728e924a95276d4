//! Can the address be ours that a STUN server says we have?
//!
//! Clients tell each other these addresses. One that is wrong is worse than none: whoever uses it
//! sends into the void. Between us and the server there may be NAT of ours, so that an address of a
//! private network cannot be compared; what can be said all the same is said here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// An address that cannot be ours.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReportedFault {
    /// Nobody has such an address.
    #[error("the server says that it was asked by {0}, which is nobody's address")]
    Nonsense(SocketAddr),
    /// It is of another family than the one by which the server was asked.
    #[error(
        "the server was asked over {asked_over} and says that it was by {reported}; something in \
             front of it translates addresses"
    )]
    Family {
        /// `IPv4` or `IPv6`.
        asked_over: &'static str,
        /// What it says.
        reported: SocketAddr,
    },
    /// Nothing is between us and the server that could have changed it.
    #[error(
        "the server says that it was asked by {reported}, and it was {own}; something in front \
             of it changes where packets come from, such as a load balancer or a container's port \
             forwarding"
    )]
    NotOurs {
        /// What it says.
        reported: SocketAddr,
        /// What it should say.
        own: SocketAddr,
    },
    /// The server is on the Internet, and the address is of some network behind it.
    #[error(
        "the server {server} is on the Internet and says that it was asked by {reported}, which is \
             an address of a private network; something in front of it changes where packets come \
             from, such as a load balancer or a container's port forwarding"
    )]
    Private {
        /// Who was asked.
        server: SocketAddr,
        /// What it says.
        reported: SocketAddr,
    },
}

/// Checks what `server` reported to whom the system would let ask it from `own`.
pub(super) fn check(
    server: SocketAddr,
    own: SocketAddr,
    reported: SocketAddr,
) -> Result<(), ReportedFault> {
    let ip = reported.ip().to_canonical();
    let is_broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    if ip.is_unspecified() || ip.is_multicast() || is_broadcast || reported.port() == 0 {
        return Err(ReportedFault::Nonsense(reported));
    }
    let server_ip = server.ip().to_canonical();
    if ip.is_ipv4() != server_ip.is_ipv4() {
        let asked_over = if server_ip.is_ipv4() { "IPv4" } else { "IPv6" };
        return Err(ReportedFault::Family {
            asked_over,
            reported,
        });
    }
    let own_ip = own.ip().to_canonical();
    // Packets to this machine itself go through nothing.
    if server_ip.is_loopback() {
        let is_ours = ip == own_ip && reported.port() == own.port();
        return if is_ours {
            Ok(())
        } else {
            Err(ReportedFault::NotOurs { reported, own })
        };
    }
    // Whoever has an address of the Internet is not behind NAT that would change it.
    if is_public(own_ip) && ip != own_ip {
        return Err(ReportedFault::NotOurs { reported, own });
    }
    if is_public(server_ip) && !is_public(ip) && ip != own_ip {
        return Err(ReportedFault::Private { server, reported });
    }
    Ok(())
}

/// Whether the address is one of the Internet, and not of some network's own.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let is_shared = a == 100 && (64..128).contains(&b);
            let is_benchmark = a == 198 && (18..20).contains(&b);
            !(a == 0
                || a >= 224
                || is_shared
                || is_benchmark
                || v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_documentation())
        }
        IpAddr::V6(v6) => is_global_unicast(v6),
    }
}

/// 2000::/3, without what is kept for documentation (RFC 4291, RFC 3849).
fn is_global_unicast(v6: Ipv6Addr) -> bool {
    let [first, second, ..] = v6.segments();
    first & 0xe000 == 0x2000 && (first, second) != (0x2001, 0x0db8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a report, as one letter, or `-` where it is good.
    fn verdict(server: &str, own: &str, reported: &str) -> char {
        let [server, own, reported] = [server, own, reported].map(|addr| addr.parse().unwrap());
        match check(server, own, reported) {
            Ok(()) => '-',
            Err(ReportedFault::Nonsense(_)) => 'n',
            Err(ReportedFault::Family { .. }) => 'f',
            Err(ReportedFault::NotOurs { .. }) => 'o',
            Err(ReportedFault::Private { .. }) => 'p',
        }
    }

    #[test]
    fn an_address_is_ours_or_may_be() {
        let public = "8.8.8.8:3478";
        for (server, own, reported, expected) in [
            // On this machine, where nothing changes addresses.
            ("127.0.0.1:3478", "127.0.0.1:5", "127.0.0.1:5", '-'),
            ("127.0.0.1:3478", "127.0.0.1:5", "127.0.0.1:6", 'o'),
            ("[::1]:3478", "[::1]:5", "[::1]:5", '-'),
            // Behind NAT of ours.
            (public, "192.168.1.2:5", "9.9.9.9:60000", '-'),
            (public, "100.64.3.4:5", "9.9.9.9:60000", '-'),
            // With an address of our own.
            (public, "9.9.9.9:5", "9.9.9.9:5", '-'),
            (public, "9.9.9.9:5", "7.7.7.7:5", 'o'),
            ("[2600::1]:3478", "[2600::2]:5", "[2600::3]:5", 'o'),
            // Behind the server's proxy.
            (public, "192.168.1.2:5", "172.17.0.1:5", 'p'),
            ("[2600::1]:3478", "[fd00::2]:5", "[fd00::1]:5", 'p'),
            // In the server's own network.
            (public, "10.0.0.2:5", "10.0.0.2:5", '-'),
            ("10.0.0.1:3478", "10.0.0.2:5", "10.0.0.2:5", '-'),
            // Nobody's.
            (public, "9.9.9.9:5", "0.0.0.0:5", 'n'),
            (public, "9.9.9.9:5", "9.9.9.9:0", 'n'),
            (public, "9.9.9.9:5", "224.0.0.1:5", 'n'),
            (public, "9.9.9.9:5", "255.255.255.255:5", 'n'),
            (public, "9.9.9.9:5", "[2600::1]:5", 'f'),
            ("[2600::1]:3478", "[2600::2]:5", "9.9.9.9:5", 'f'),
        ] {
            assert_eq!(
                verdict(server, own, reported),
                expected,
                "{server} {own} {reported}"
            );
        }
    }
}
