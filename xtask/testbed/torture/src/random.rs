//! Random numbers: true ones for keys, repeatable ones for attacks.

use std::net::Ipv4Addr;

use derp_proto::NodePrivate;

/// `N` bytes that nobody can guess.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

/// A client's key.
pub(crate) fn key() -> NodePrivate {
    NodePrivate::from_random(bytes())
}

/// Repeatable numbers (xorshift64*), so that a stream that hurt can be sent again.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub(crate) const fn new(seed: u64) -> Self {
        // Zero would stay zero, and small seeds would be alike at first.
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub(crate) const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, which is not zero.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 16).map_or(0, |n| n % limit)
    }

    /// One of 256.
    pub(crate) const fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }

    /// True once in `n` times.
    pub(crate) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// `len` bytes.
    pub(crate) fn fill(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }

    /// One of `all`.
    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// An address of this machine, one of sixteen million.
    pub(crate) fn loopback(&mut self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.byte(), self.byte(), self.byte().clamp(1, 254))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_falls_the_same_way_and_another_does_not() {
        let fall = |seed| {
            let mut dice = Dice::new(seed);
            (0..8).map(|_| dice.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(fall(7), fall(7));
        assert_ne!(fall(7), fall(8));
        assert_ne!(fall(0), fall(1));
    }
}
