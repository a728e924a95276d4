//! `derper quickstart`: a relay without root, domain or certificate authority.
//!
//! It is no mode of its own, only a set of values for what the operator leaves open: TLS on a high
//! port with a certificate that the relay makes itself, and no port 80. Flags, variables and a
//! file still override each of them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use crate::settings::{ADDRESS, HOSTNAME, HTTP_PORT, STUN_PORT, Setting, TLS_MODE};
use crate::sources::{Given, Origin, Values};

/// The subcommand's name.
pub const NAME: &str = "quickstart";

/// The values, with `host` for the relay's name or address if it is known.
#[must_use]
pub fn preset(host: Option<String>) -> Values {
    let given = |text: &str| Given {
        text: text.to_owned(),
        origin: Origin::Preset(NAME),
    };
    let value = |setting: &Setting, text: &str| (setting.key, given(text));
    let mut values = Values::from([
        value(&ADDRESS, ":8443"),
        value(&HTTP_PORT, "-1"),
        value(&STUN_PORT, "3478"),
        value(&TLS_MODE, "self-signed"),
    ]);
    values.extend(host.map(|host| value(&HOSTNAME, &host)));
    values
}

/// This machine's own address on the way to the internet: what a relay without a name is called.
///
/// Nothing is sent; the kernel only says which address it would send from.
///
/// # Errors
/// There is no way to the internet.
pub fn own_address() -> io::Result<IpAddr> {
    // Documentation addresses (RFC 5737, RFC 3849), which no machine's own network has.
    let towards = |from: IpAddr, to: IpAddr| {
        let socket = UdpSocket::bind((from, 0))?;
        socket.connect((to, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    let v4 = towards(
        Ipv4Addr::UNSPECIFIED.into(),
        Ipv4Addr::new(192, 0, 2, 1).into(),
    );
    v4.or_else(|_: io::Error| {
        towards(
            Ipv6Addr::UNSPECIFIED.into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        )
    })
}

/// Whether only machines nearby can reach the address.
#[must_use]
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // The last is carrier-grade NAT (RFC 6598).
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || (a == 100 && b & 0xc0 == 64)
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_only_neighbours_reach_are_known() {
        for ip in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "100.64.0.1",
            "100.127.0.1",
            "fd00::1",
            "::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_private(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "192.0.2.1",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "2001:db8::1",
        ] {
            assert!(!is_private(ip.parse().unwrap()), "{ip}");
        }
    }
}
