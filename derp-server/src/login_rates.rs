//! How often one may try to log in: buckets for networks and for keys, in tables of a fixed size.
//!
//! Strangers choose keys, and have more addresses than any table has rows. So a table never grows:
//! a newcomer without a row gets that of whoever has taken the least lately, to whom it makes the
//! least difference. Whoever is over the limit keeps its row, and stays over it.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use ahash::RandomState;
use derp_verify::ConnMeta;

use crate::rate_limit::TokenBucket;

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LoginRate {
    /// Times a second.
    pub per_second: f64,
    /// How many times at once.
    pub burst: f64,
}

/// Rows that one key may have; of these it has at most one.
const WAYS: usize = 4;
/// How many sets of rows there are: with [`WAYS`], the table's size.
const SETS: usize = 1024;

/// Buckets by key: at most `SETS * WAYS` of them, 320 KiB for addresses and keys alike.
#[derive(Debug)]
pub(crate) struct LoginRates<K> {
    /// Empty until somebody takes from it.
    rows: Vec<Option<(K, TokenBucket)>>,
    /// The limit of the buckets.
    rate: LoginRate,
    /// With a secret: else strangers would choose whose rows they take.
    hasher: RandomState,
}

impl<K: Hash + Eq + Copy> LoginRates<K> {
    pub(crate) fn new() -> Self {
        Self {
            rows: Vec::new(),
            rate: LoginRate {
                per_second: 0.0,
                burst: 0.0,
            },
            hasher: RandomState::new(),
        }
    }

    /// Whether `key` may once more, at this rate. A change of the rate forgets what was taken.
    pub(crate) fn take(&mut self, key: K, rate: LoginRate, now: Instant) -> bool {
        if self.rate != rate {
            self.rate = rate;
            self.rows.clear();
        }
        self.rows.resize_with(SETS * WAYS, || None);
        let hash = self.hasher.hash_one(key);
        let at = usize::try_from(hash % SETS as u64).expect("a small number") * WAYS;
        let set = &mut self.rows[at..at + WAYS];
        let own = set
            .iter()
            .position(|row| row.as_ref().is_some_and(|(k, _)| *k == key));
        let row = own.unwrap_or_else(|| {
            let left = |row: &Option<(K, TokenBucket)>| {
                row.as_ref()
                    .map_or(f64::INFINITY, |(_, bucket)| bucket.left_at(now))
            };
            (0..WAYS)
                .max_by(|a, b| left(&set[*a]).total_cmp(&left(&set[*b])))
                .expect("a set has rows")
        });
        if own.is_none() {
            set[row] = Some((key, TokenBucket::new(rate.per_second, rate.burst, now)));
        }
        let (_, bucket) = set[row].as_mut().expect("it was just made or found");
        bucket.take(1.0, now).is_ok()
    }
}

/// The network that a connection is counted for, unless it comes from where many may stand behind
/// one address of ours: this machine, a private network, or a proxy that speaks for its clients.
pub(crate) fn network_of(conn: &ConnMeta, is_trusted_proxy: bool) -> Option<IpAddr> {
    // Whom a PROXY header names is a client, wherever it is.
    if let Some(client) = conn.proxy_peer {
        return Some(prefix(client.ip()));
    }
    let ip = conn.socket_peer?.ip().to_canonical();
    (!is_trusted_proxy && !is_private(ip)).then(|| prefix(ip))
}

/// An IPv4 address, or the 64 bits of an IPv6 address that tell networks apart.
fn prefix(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let network = u128::from(ip) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(network))
        }
        ip => ip,
    }
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            // The last are shared by customers of a provider (RFC 6598), and are tailnets'.
            let is_shared = a == 100 && b & 0xc0 == 64;
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || is_shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: LoginRate = LoginRate {
        per_second: 1.0,
        burst: 3.0,
    };

    fn taken(rates: &mut LoginRates<u32>, key: u32, times: usize, now: Instant) -> usize {
        (0..times).filter(|_| rates.take(key, RATE, now)).count()
    }

    #[test]
    fn each_has_its_own_share() {
        let (mut rates, start) = (LoginRates::new(), crate::clock::now());
        assert_eq!(taken(&mut rates, 1, 5, start), 3);
        assert_eq!(taken(&mut rates, 2, 5, start), 3);
        assert_eq!(taken(&mut rates, 1, 5, start + Duration::from_secs(2)), 2);
    }

    #[test]
    fn a_crowd_takes_no_room_and_frees_nobody() {
        let (mut rates, start) = (LoginRates::new(), crate::clock::now());
        assert_eq!(taken(&mut rates, 0, 5, start), 3);
        // Each of the crowd comes once.
        for key in 1..100_000 {
            assert!(rates.take(key, RATE, start));
        }
        assert_eq!(rates.rows.len(), SETS * WAYS);
        assert_eq!(taken(&mut rates, 0, 5, start), 0, "it has kept its row");
    }

    #[test]
    fn another_rate_counts_from_then_on() {
        let (mut rates, start) = (LoginRates::new(), crate::clock::now());
        assert_eq!(taken(&mut rates, 1, 5, start), 3);
        let more = LoginRate {
            per_second: 1.0,
            burst: 5.0,
        };
        assert_eq!((0..9).filter(|_| rates.take(1, more, start)).count(), 5);
    }

    #[test]
    fn who_is_counted_for_which_network() {
        let cases = [
            ("192.0.2.7:1", "", false, "192.0.2.7"),
            ("[::ffff:192.0.2.7]:1", "", false, "192.0.2.7"),
            ("[2001:db8:1:2:3:4:5:6]:1", "", false, "2001:db8:1:2::"),
            ("127.0.0.1:1", "", false, ""),
            ("[::1]:1", "", false, ""),
            ("10.1.2.3:1", "", false, ""),
            ("172.31.0.1:1", "", false, ""),
            ("169.254.0.1:1", "", false, ""),
            ("100.64.0.1:1", "", false, ""),
            ("100.128.0.1:1", "", false, "100.128.0.1"),
            ("[fd00::1]:1", "", false, ""),
            ("[fe80::1]:1", "", false, ""),
            ("192.0.2.7:1", "", true, ""),
            ("127.0.0.1:1", "192.0.2.7:1", false, "192.0.2.7"),
            ("127.0.0.1:1", "10.1.2.3:1", false, "10.1.2.3"),
            ("", "10.1.2.3:1", false, "10.1.2.3"),
            ("", "", false, ""),
        ];
        for (socket, proxy, is_trusted, expected) in cases {
            let mut conn = ConnMeta::default();
            conn.socket_peer = socket.parse().ok();
            conn.proxy_peer = proxy.parse().ok();
            let network = network_of(&conn, is_trusted);
            assert_eq!(network, expected.parse().ok(), "{socket} {proxy}");
        }
    }
}
