//! Who may see the pages under `/debug/`: the rule of `tsweb/tsweb.go` (`AllowDebugAccess`).
//!
//! A pure function of the request's facts; reading variables and files is the program's affair.
//! The rule trusts addresses. A reverse proxy makes every request come from its own address, so
//! whatever was forwarded is refused, whoever it says it is from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

/// Tailscale's IPv4 addresses (carrier-grade NAT space).
const TAILSCALE_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
/// A part of them that ChromeOS uses for its own virtual machines.
const CHROMEOS_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 115, 92, 0), 23);
/// Tailscale's IPv6 addresses.
const TAILSCALE_V6: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0), 48);

/// Who may see the debug pages, besides this machine and the tailnet.
#[derive(Clone, Default)]
pub struct DebugAccess {
    /// One more address (`TS_ALLOW_DEBUG_IP`).
    pub allowed_ip: Option<IpAddr>,
    /// More networks (`TS_DEBUG_TRUSTED_CIDRS`); see [`parse_cidrs`].
    pub trusted: Vec<IpNet>,
    /// The secret that opens the pages from anywhere (content of `TS_DEBUG_KEY_PATH`, trimmed).
    /// An empty one opens nothing.
    pub key: Option<Zeroizing<String>>,
}

impl fmt::Debug for DebugAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DebugAccess")
            .field("allowed_ip", &self.allowed_ip)
            .field("trusted", &self.trusted)
            .field("key", &self.key.as_ref().map(|_| "redacted"))
            .finish()
    }
}

/// What the rule looks at in a request.
#[derive(Debug, Clone, Copy)]
pub struct DebugRequest<'a> {
    /// The address at the other end of the connection.
    pub remote: IpAddr,
    /// Whether the method is GET.
    pub is_get: bool,
    /// The query parameter `debugkey`, decoded.
    pub debug_key: Option<&'a str>,
    /// Whether there is an `X-Forwarded-For` header, whatever it says.
    pub forwarded: bool,
}

impl DebugAccess {
    /// Whether the requester may see the pages.
    #[must_use]
    pub fn allows(&self, request: &DebugRequest<'_>) -> bool {
        if request.is_get && self.opens(request.debug_key) {
            return true;
        }
        if request.forwarded {
            return false;
        }
        let remote = request.remote.to_canonical();
        remote.is_loopback()
            || is_tailscale(remote)
            || self
                .allowed_ip
                .is_some_and(|allowed| allowed.to_canonical() == remote)
            || self.trusted.iter().any(|network| network.contains(&remote))
    }

    fn opens(&self, offered: Option<&str>) -> bool {
        let (Some(key), Some(offered)) = (&self.key, offered) else {
            return false;
        };
        !key.is_empty() && bool::from(key.as_bytes().ct_eq(offered.as_bytes()))
    }
}

/// Whether the address is one of a tailnet's. `ip` is canonical.
fn is_tailscale(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => TAILSCALE_V4.contains(&ip) && !CHROMEOS_V4.contains(&ip),
        IpAddr::V6(ip) => TAILSCALE_V6.contains(&ip),
    }
}

/// An entry of a list of networks that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not a network; write it like 10.0.0.0/8 or fd00::/8")]
pub struct CidrError(pub String);

/// Reads a comma-separated list of networks; spaces around entries and empty entries are ignored.
///
/// # Errors
/// The first entry that is no network.
pub fn parse_cidrs(list: &str) -> Result<Vec<IpNet>, CidrError> {
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .map(|entry| entry.parse().map_err(|_| CidrError(entry.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(remote: &str) -> DebugRequest<'static> {
        let remote = remote.parse().unwrap();
        DebugRequest {
            remote,
            is_get: true,
            debug_key: None,
            forwarded: false,
        }
    }

    #[test]
    fn this_machine_and_the_tailnet_may_look() {
        let access = DebugAccess::default();
        let cases = [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("100.100.100.100", true),
            ("::ffff:100.100.100.100", true),
            ("100.64.0.0", true),
            ("100.127.255.255", true),
            ("100.63.255.255", false),
            ("100.128.0.0", false),
            ("100.115.91.255", true),
            ("100.115.92.0", false),
            ("100.115.93.255", false),
            ("::ffff:100.115.92.7", false),
            ("100.115.94.0", true),
            ("fd7a:115c:a1e0::1", true),
            ("fd7a:115c:a1e0:ffff:ffff:ffff:ffff:ffff", true),
            ("fd7a:115c:a1e1::1", false),
            ("8.8.8.8", false),
            ("10.0.0.1", false),
            ("192.168.1.1", false),
            ("2001:db8::1", false),
        ];
        for (remote, allowed) in cases {
            assert_eq!(access.allows(&from(remote)), allowed, "{remote}");
        }
    }

    #[test]
    fn whatever_was_forwarded_is_refused() {
        let access = DebugAccess {
            allowed_ip: Some("192.0.2.1".parse().unwrap()),
            trusted: parse_cidrs("198.51.100.0/24").unwrap(),
            key: None,
        };
        for remote in ["127.0.0.1", "100.100.100.100", "192.0.2.1", "198.51.100.7"] {
            assert!(access.allows(&from(remote)), "{remote}");
            assert!(
                !access.allows(&DebugRequest {
                    forwarded: true,
                    ..from(remote)
                }),
                "{remote}"
            );
        }
    }

    #[test]
    fn one_more_address_may_be_allowed() {
        let allowed_ip = Some("::ffff:192.0.2.1".parse().unwrap());
        let access = DebugAccess {
            allowed_ip,
            ..DebugAccess::default()
        };
        assert!(access.allows(&from("192.0.2.1")));
        assert!(!access.allows(&from("192.0.2.2")));
    }

    #[test]
    fn the_key_opens_from_anywhere_on_a_get() {
        let key = |key: &str| DebugAccess {
            key: Some(Zeroizing::new(key.to_owned())),
            ..DebugAccess::default()
        };
        let with = |debug_key| DebugRequest {
            debug_key,
            ..from("8.8.8.8")
        };
        assert!(key("sesame").allows(&with(Some("sesame"))));
        assert!(key("sesame").allows(&DebugRequest {
            forwarded: true,
            ..with(Some("sesame"))
        }));
        assert!(!key("sesame").allows(&DebugRequest {
            is_get: false,
            ..with(Some("sesame"))
        }));
        for wrong in [
            None,
            Some(""),
            Some("sesam"),
            Some("sesamee"),
            Some("SESAME"),
        ] {
            assert!(!key("sesame").allows(&with(wrong)), "{wrong:?}");
        }
        // An empty key file must not let everybody in who sends an empty key.
        assert!(!key("").allows(&with(Some(""))));
    }

    #[test]
    fn lists_of_networks_are_read_as_the_reference_reads_them() {
        let inside = ["10.1.2.3", "192.168.1.50", "fd00::1", "::ffff:10.1.2.3"];
        let outside = ["192.168.2.1", "172.16.0.1", "8.8.8.8", "fe80::1"];
        for list in [
            "10.0.0.0/8,192.168.1.0/24,fd00::/8",
            " 10.0.0.0/8 , 192.168.1.0/24,\tfd00::/8 ",
            "10.0.0.0/8,192.168.1.0/24,fd00::/8,",
        ] {
            let trusted = parse_cidrs(list).unwrap();
            let access = DebugAccess {
                trusted,
                ..DebugAccess::default()
            };
            for remote in inside {
                assert!(access.allows(&from(remote)), "{remote} {list}");
            }
            for remote in outside {
                assert!(!access.allows(&from(remote)), "{remote} {list}");
            }
        }
        assert_eq!(parse_cidrs("").unwrap(), []);
        assert_eq!(
            parse_cidrs("10.0.0.0/8,10.0.0.0/33")
                .unwrap_err()
                .to_string(),
            "\"10.0.0.0/33\" is not a network; write it like 10.0.0.0/8 or fd00::/8"
        );
        assert_eq!(
            parse_cidrs("10.0.0.1"),
            Err(CidrError("10.0.0.1".to_owned()))
        );
    }

    #[test]
    fn the_key_does_not_print() {
        let access = DebugAccess {
            key: Some(Zeroizing::new("sesame".to_owned())),
            ..DebugAccess::default()
        };
        assert!(!format!("{access:?}").contains("sesame"));
    }
}
