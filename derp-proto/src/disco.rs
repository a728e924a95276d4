//! Which packets are path discovery messages: they have a lane and a counter of their own.
//!
//! Nothing else in this project looks into a relayed packet.

/// The shortest disco message: magic, sender's key, nonce (`disco/disco.go`).
pub const DISCO_MIN_LEN: usize = 6 + 32 + 24;

const MAGIC: &[u8] = b"TS\xf0\x9f\x92\xac";

/// Whether `packet` looks like a disco message: long enough, and starting with `TS💬`.
#[must_use]
pub fn is_disco(packet: &[u8]) -> bool {
    packet.len() >= DISCO_MIN_LEN && packet.starts_with(MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disco_needs_the_magic_and_the_length() {
        let mut packet = [0; DISCO_MIN_LEN];
        assert!(!is_disco(&packet));
        packet[..6].copy_from_slice(MAGIC);
        assert!(is_disco(&packet));
        assert!(!is_disco(&packet[..DISCO_MIN_LEN - 1]));
    }
}
