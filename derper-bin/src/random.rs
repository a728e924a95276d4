//! Randomness for what is made once: keys, serial numbers, the order of addresses.

use std::net::IpAddr;

use derp_proto::NodePrivate;
use zeroize::Zeroizing;

/// A new private key.
#[must_use]
pub(crate) fn private_key() -> NodePrivate {
    NodePrivate::from_random(*Zeroizing::new(bytes()))
}

/// A new certificate's serial number.
#[must_use]
pub(crate) fn serial() -> [u8; 16] {
    bytes()
}

/// Heads or tails.
pub(crate) fn coin() -> bool {
    let [byte] = bytes();
    byte & 1 == 1
}

/// The number of a question that nobody is to guess.
pub(crate) fn number() -> u16 {
    u16::from_be_bytes(bytes())
}

/// Puts the addresses in any order, each as likely as the others.
pub(crate) fn shuffle(addresses: &mut [IpAddr]) {
    for last in (1..addresses.len()).rev() {
        // The bias of a remainder of 64 bits by so few is beyond measuring.
        let random = u64::from_be_bytes(bytes());
        let other = usize::try_from(random % (last as u64 + 1)).unwrap_or_default();
        addresses.swap(last, other);
    }
}

fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without randomness nothing that the relay does would be safe.
    getrandom::fill(&mut bytes).expect("the system has random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_orders_come_up_and_nothing_gets_lost() {
        let sorted: Vec<IpAddr> = (1..=3).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        let mut orders = BTreeSet::new();
        for _ in 0..500 {
            let mut shuffled = sorted.clone();
            shuffle(&mut shuffled);
            orders.insert(shuffled.clone());
            shuffled.sort_unstable();
            assert_eq!(shuffled, sorted);
        }
        assert_eq!(orders.len(), 6);
    }
}
