//! What test packets hold, so that nothing can be lost, doubled, swapped, cut or changed unseen.
//!
//! ```text
//!   0        8          16      20      24
//!   │ number │ sent, ns │ flow  │ length │ a piece of one long pattern, another for each packet
//! ```

use anyhow::{Context, Result, ensure};

/// The shortest packet that carries all that is checked.
pub(crate) const MIN_LEN: usize = 24;
/// The longest packet of a test: with keys and header it fits one record.
pub(crate) const MAX_LEN: usize = 16_000;
/// In how many places of the pattern a packet's piece may begin. Few, so that the pattern stays
/// in the nearest cache and takes no room there from the relay, which shares it.
const OFFSETS: u64 = 64;

/// The part of a packet that says which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Label {
    /// Which flow it belongs to.
    pub(crate) flow: u32,
    /// How many packets of the flow came before it.
    pub(crate) number: u64,
    /// When it was sent.
    pub(crate) sent: u64,
}

/// Writes packets and checks them.
#[derive(Debug)]
pub(crate) struct Packets {
    pattern: Vec<u8>,
    scratch: Vec<u8>,
}

impl Packets {
    pub(crate) fn new() -> Self {
        let len = MAX_LEN + usize::try_from(OFFSETS).expect("it is small");
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let pattern = (0..len)
            .map(|_| next_random(&mut state).to_le_bytes()[7])
            .collect();
        Self {
            pattern,
            scratch: Vec::with_capacity(MAX_LEN),
        }
    }

    /// The packet with this label, `len` bytes long.
    pub(crate) fn write(&mut self, label: Label, len: usize) -> &[u8] {
        let out = &mut self.scratch;
        out.clear();
        out.extend_from_slice(&label.number.to_le_bytes());
        out.extend_from_slice(&label.sent.to_le_bytes());
        out.extend_from_slice(&label.flow.to_le_bytes());
        let whole = u32::try_from(len).expect("arguments limit a packet's length");
        out.extend_from_slice(&whole.to_le_bytes());
        let offset = offset(label);
        out.extend_from_slice(&self.pattern[offset..offset + len - MIN_LEN]);
        out
    }

    /// The label of a packet that is exactly what [`Self::write`] made.
    pub(crate) fn check(&self, packet: &[u8]) -> Result<Label> {
        let (head, body) = packet
            .split_first_chunk::<MIN_LEN>()
            .context("a packet was cut")?;
        let number = |at: usize| {
            u64::from_le_bytes(
                head[at..at + 8]
                    .try_into()
                    .expect("eight of the head's bytes"),
            )
        };
        let half = |at: usize| {
            u32::from_le_bytes(
                head[at..at + 4]
                    .try_into()
                    .expect("four of the head's bytes"),
            )
        };
        let label = Label {
            number: number(0),
            sent: number(8),
            flow: half(16),
        };
        let len = usize::try_from(half(20))?;
        ensure!(
            len == packet.len(),
            "{label:?} has {} bytes, not {len}",
            packet.len()
        );
        ensure!(len <= MAX_LEN, "{label:?} is longer than any");
        let offset = offset(label);
        ensure!(
            body == &self.pattern[offset..offset + body.len()],
            "{label:?} was changed"
        );
        Ok(label)
    }
}

fn offset(label: Label) -> usize {
    let mixed = (label.number ^ (u64::from(label.flow) << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from(mixed % OFFSETS).expect("it is small")
}

/// The next number of xorshift64*: the same in every run, which makes runs alike.
pub(crate) fn next_random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: Label = Label {
        flow: 3,
        number: 77,
        sent: 123_456,
    };

    #[test]
    fn a_packet_tells_which_one_it_is() {
        let mut packets = Packets::new();
        for len in [MIN_LEN, 64, 1280, MAX_LEN] {
            let packet = packets.write(LABEL, len).to_vec();
            assert_eq!(
                (packets.check(&packet).unwrap(), packet.len()),
                (LABEL, len)
            );
        }
    }

    #[test]
    fn every_change_is_seen() {
        let mut packets = Packets::new();
        let packet = packets.write(LABEL, 100).to_vec();
        for at in 0..packet.len() {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            // Another label is another packet: its sender's flow tells that it is the wrong one.
            assert_ne!(packets.check(&changed).ok(), Some(LABEL), "byte {at}");
            assert!(packets.check(&packet[..at]).is_err(), "cut at {at}");
        }
    }
}
