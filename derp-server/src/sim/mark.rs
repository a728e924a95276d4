//! Packets that say where they come from and where they belong, so that whoever gets one can tell
//! whether it should.

use crate::packet::PacketKind;

/// What a packet says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Mark {
    /// Which session sent it.
    pub(super) session: u32,
    /// How many this session sent before.
    pub(super) number: u32,
    pub(super) src: u8,
    pub(super) dst: u8,
    pub(super) is_disco: bool,
}

const DISCO: &[u8; 6] = b"TS\xf0\x9f\x92\xac";
const OTHER: &[u8; 6] = b"packet";
/// The shortest message of path discovery.
const MIN_DISCO: usize = 62;
const HEAD: usize = 6 + 4 + 4 + 1 + 1;

impl Mark {
    /// A packet of `len` bytes, or of as many more as it needs.
    pub(super) fn packet(&self, len: usize) -> Vec<u8> {
        let magic = if self.is_disco { DISCO } else { OTHER };
        let mut packet = magic.to_vec();
        packet.extend_from_slice(&self.session.to_le_bytes());
        packet.extend_from_slice(&self.number.to_le_bytes());
        packet.extend_from_slice(&[self.src, self.dst]);
        let min = if self.is_disco { MIN_DISCO } else { HEAD };
        packet.resize(len.max(min), self.filler());
        packet
    }

    /// What `packet` says of itself; all of it must be there, unchanged.
    pub(super) fn of(packet: &[u8]) -> Self {
        let (head, filler) = packet.split_at(HEAD);
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let mark = Self {
            session: word(6),
            number: word(10),
            src: head[14],
            dst: head[15],
            is_disco: PacketKind::of(packet) == PacketKind::Disco,
        };
        assert!(head.starts_with(if mark.is_disco { DISCO } else { OTHER }));
        // All bytes are alike: what is behind the first is what is before the last.
        let is_whole = filler.first().is_none_or(|byte| *byte == mark.filler())
            && filler
                .get(1..)
                .is_none_or(|later| later == &filler[..later.len()]);
        assert!(is_whole, "{mark:?} is not what was sent");
        mark
    }

    const fn filler(&self) -> u8 {
        self.number.to_le_bytes()[0] ^ self.session.to_le_bytes()[0]
    }
}
