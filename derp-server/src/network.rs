//! Whether an address is in a network that an operator wrote down.

use std::net::IpAddr;

use ipnet::IpNet;

/// Whether one of `networks` has the address. An IPv4 address is one in IPv6 form too, on either
/// side: else `::ffff:10.0.0.1` would be somebody else than `10.0.0.1`.
pub(crate) fn contains(networks: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    networks
        .iter()
        .any(|network| canonical(*network).contains(&ip))
}

fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let (Some(addr), Some(len)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
    else {
        return network;
    };
    IpNet::new(addr.into(), len).unwrap_or(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_same_in_every_spelling_of_it() {
        let list = |text: &str| {
            text.split(' ')
                .map(|net| net.parse().unwrap())
                .collect::<Vec<IpNet>>()
        };
        let cases = [
            ("127.0.0.0/8", "127.0.0.1", true),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("::ffff:127.0.0.0/104", "127.9.9.9", true),
            ("::ffff:127.0.0.0/104", "::ffff:127.9.9.9", true),
            ("::ffff:127.0.0.0/104", "128.0.0.1", false),
            // These are other addresses, whatever they remind of.
            ("127.0.0.0/8", "::127.0.0.1", false),
            ("127.0.0.0/8", "64:ff9b::127.0.0.1", false),
            ("127.0.0.0/8", "2002:7f00:1::", false),
            ("127.0.0.0/8", "::1", false),
            ("::1/128", "127.0.0.1", false),
            ("::1/128", "::1", true),
            ("::/0", "192.0.2.1", false),
            ("::/0", "::ffff:192.0.2.1", false),
            ("0.0.0.0/0", "::ffff:192.0.2.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("10.0.0.0/8 192.0.2.7/32", "192.0.2.7", true),
            ("10.0.0.0/8 192.0.2.7/32", "192.0.2.8", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
        ];
        for (networks, ip, expected) in cases {
            let found = contains(&list(networks), ip.parse().unwrap());
            assert_eq!(found, expected, "{ip} in {networks}");
        }
        assert!(!contains(&[], IpAddr::from([127, 0, 0, 1])));
    }
}
