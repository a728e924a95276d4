//! Random bytes from the system, for nonces, pings and masks.

/// This many random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the cipher provider does not run without randomness");
    bytes
}
