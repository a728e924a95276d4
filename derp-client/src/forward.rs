//! Packets for clients of another relay, encoded and ready to be written together.

use derp_proto::{ClientFrame, MAX_PACKET_LEN, NodePublic};

use crate::error::SendError;

/// Packets to forward, as whole frames; see
/// [`ClientWriter::forward_all`](crate::ClientWriter::forward_all).
#[derive(Debug, Default)]
pub struct ForwardBatch {
    frames: Vec<u8>,
    packets: usize,
}

impl ForwardBatch {
    /// Adds a packet that `src`, a client of this relay, sent to `dst`, a client of the other.
    ///
    /// # Errors
    /// [`SendError::TooLong`] for more than [`MAX_PACKET_LEN`] bytes.
    pub fn push(
        &mut self,
        src: NodePublic,
        dst: NodePublic,
        packet: &[u8],
    ) -> Result<(), SendError> {
        check_len(packet)?;
        ClientFrame::ForwardPacket { src, dst, packet }.encode(&mut self.frames);
        self.packets += 1;
        Ok(())
    }

    /// How many packets there are.
    #[must_use]
    pub const fn packets(&self) -> usize {
        self.packets
    }

    /// How many bytes they take on the wire, without TLS.
    #[must_use]
    pub const fn wire_len(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn frames(&self) -> &[u8] {
        &self.frames
    }
}

pub(crate) const fn check_len(packet: &[u8]) -> Result<(), SendError> {
    if packet.len() > MAX_PACKET_LEN {
        return Err(SendError::TooLong {
            len: packet.len(),
            max: MAX_PACKET_LEN,
        });
    }
    Ok(())
}
