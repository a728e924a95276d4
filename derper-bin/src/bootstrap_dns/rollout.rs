//! To whom an unpublished name is told while its rollout is under way.
//!
//! Who asks is drawn for by its address, so that it gets the same answer each time; and as the
//! reference draws, so that the relays of a fleet agree: Go's PCG-DXSM (`math/rand/v2`), seeded
//! with the address.

use std::net::{IpAddr, Ipv6Addr};

const MULTIPLIER: u128 = 2_549_297_995_355_413_924 << 64 | 4_865_540_595_714_422_341;
const INCREMENT: u128 = 6_364_136_223_846_793_005 << 64 | 1_442_695_040_888_963_407;
const CHEAP_MULTIPLIER: u64 = 0xda94_2042_e4dd_58b5;

/// Reads what a TXT record says: a whole number from 0 to 100.
#[must_use]
pub fn parse(text: &str) -> Option<u8> {
    text.parse().ok().filter(|percent| *percent <= 100)
}

/// Whether whoever asks from `from` is told, where `percent` of all are. `coin` decides on this
/// machine itself, on which everybody has the same address.
#[must_use]
pub fn admits(percent: u8, from: Option<IpAddr>, coin: impl FnOnce() -> bool) -> bool {
    match (percent, from) {
        (0, _) => false,
        (100.., _) => true,
        (_, None) => false,
        (_, Some(ip)) if ip.to_canonical().is_loopback() => coin(),
        (percent, Some(ip)) => f64::from(percent) / 100.0 > draw(ip),
    }
}

/// A number from 0 to 1, the same for an address each time.
fn draw(ip: IpAddr) -> f64 {
    let ip: Ipv6Addr = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let (high, low) = halves(u128::from_le_bytes(ip.octets()));
    // The first half of the address is the high one.
    let seed = u128::from(low) << 64 | u128::from(high);
    let state = seed.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
    let (mut high, low) = halves(state);
    high ^= high >> 32;
    high = high.wrapping_mul(CHEAP_MULTIPLIER);
    high ^= high >> 48;
    high = high.wrapping_mul(low | 1);
    // As many bits as such a number holds exactly.
    let bits = high & ((1 << 53) - 1);
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
    let numerator = bits as f64;
    numerator / (1_u64 << 53) as f64
}

fn halves(number: u128) -> (u64, u64) {
    let low = number & u128::from(u64::MAX);
    let half = |part: u128| u64::try_from(part).unwrap_or_default();
    (half(number >> 64), half(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_draw_what_they_draw_at_the_reference() {
        // As Go 1.26 draws.
        for (ip, drawn) in [
            ("192.0.2.1", 0.941_244_425_610_748_6),
            ("198.51.100.77", 0.231_233_735_446_771_84),
            ("8.8.8.8", 0.350_326_906_433_519_05),
            ("2001:db8::1", 0.173_650_744_259_874_26),
            ("fd7a:115c:a1e0::1", 0.599_420_438_188_912),
            ("::", 0.999_927_582_480_283_4),
            ("255.255.255.255", 0.868_737_431_644_319_9),
        ] {
            let ip = ip.parse().unwrap();
            assert!((draw(ip) - drawn).abs() < f64::EPSILON, "{ip}");
            let percent = |percent| admits(percent, Some(ip), || unreachable!());
            assert!(!percent(0) && percent(100));
            // Just below what it drew, and just above.
            let least = (1..=100).find(|p| f64::from(*p) / 100.0 > drawn).unwrap();
            assert!(percent(least) && !percent(least - 1), "{ip}");
        }
    }

    #[test]
    fn nobody_without_an_address_is_drawn_for_and_this_machine_tosses_a_coin() {
        for (percent, ip, coin, expected) in [
            (50, None, true, false),
            (100, None, false, true),
            (0, Some("127.0.0.1"), true, false),
            (50, Some("127.0.0.1"), true, true),
            (50, Some("::1"), false, false),
            (50, Some("::ffff:127.0.0.1"), true, true),
        ] {
            let ip: Option<&str> = ip;
            let from = ip.map(|ip| ip.parse().unwrap());
            assert_eq!(admits(percent, from, || coin), expected, "{percent} {ip:?}");
        }
    }

    #[test]
    fn a_rollout_is_a_whole_number_of_percents() {
        for (text, percent) in [
            ("0", Some(0)),
            ("100", Some(100)),
            ("007", Some(7)),
            ("101", None),
            ("-1", None),
            ("1.5", None),
            ("50%", None),
            ("", None),
        ] {
            assert_eq!(parse(text), percent, "{text}");
        }
    }
}
