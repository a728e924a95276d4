//! What a client may send.

use bytes::BufMut;

use crate::error::DecodeError;
use crate::frame::{FrameType, HEADER_LEN, KEY_LEN, PingData, header};
use crate::key::NodePublic;

/// A frame from a client to a server, borrowing from the bytes that hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientFrame<'a> {
    /// The first frame: who the client is, and the proof. See [`crate::Greeted`].
    ClientInfo {
        /// The key that the client claims.
        key: NodePublic,
        /// Nonce and box.
        sealed: &'a [u8],
    },
    /// Relay `packet` to `dst`.
    SendPacket {
        /// The receiver.
        dst: NodePublic,
        /// At most [`crate::MAX_PACKET_LEN`] bytes.
        packet: &'a [u8],
    },
    /// Relay `packet`, which another relay of the region received, to `dst`. For mesh peers only.
    ForwardPacket {
        /// The client that sent the packet to the other relay.
        src: NodePublic,
        /// The receiver.
        dst: NodePublic,
        /// At most [`crate::MAX_PACKET_LEN`] bytes.
        packet: &'a [u8],
    },
    /// Whether the client calls this relay its home.
    NotePreferred(bool),
    /// Report clients that come and go. For mesh peers only.
    WatchConns,
    /// Close all connections of a client. For mesh peers only.
    ClosePeer(NodePublic),
    /// Send a pong with these bytes.
    Ping(PingData),
    /// The answer to a ping.
    Pong(PingData),
    /// Anything else; to be ignored.
    Unknown(FrameType),
}

impl<'a> ClientFrame<'a> {
    /// Reads the body of a frame of type `ty`.
    ///
    /// # Errors
    /// [`DecodeError::TooShort`] where the body lacks bytes that its type must have. Bytes beyond
    /// those are ignored: limits are [`crate::Scanner`]'s to enforce.
    pub fn parse(ty: FrameType, body: &'a [u8]) -> Result<Self, DecodeError> {
        let short = |min| DecodeError::TooShort {
            ty,
            len: body.len(),
            min,
        };
        let key = |body| NodePublic::split_from(body);
        Ok(match ty {
            FrameType::CLIENT_INFO => {
                let (key, sealed) = key(body).ok_or_else(|| short(KEY_LEN))?;
                Self::ClientInfo { key, sealed }
            }
            FrameType::SEND_PACKET => {
                let (dst, packet) = key(body).ok_or_else(|| short(KEY_LEN))?;
                Self::SendPacket { dst, packet }
            }
            FrameType::FORWARD_PACKET => {
                let (src, rest) = key(body).ok_or_else(|| short(2 * KEY_LEN))?;
                let (dst, packet) = key(rest).ok_or_else(|| short(2 * KEY_LEN))?;
                Self::ForwardPacket { src, dst, packet }
            }
            FrameType::NOTE_PREFERRED => {
                Self::NotePreferred(*body.first().ok_or_else(|| short(1))? != 0)
            }
            FrameType::WATCH_CONNS => Self::WatchConns,
            FrameType::CLOSE_PEER => Self::ClosePeer(key(body).ok_or_else(|| short(KEY_LEN))?.0),
            FrameType::PING => Self::Ping(*body.first_chunk().ok_or_else(|| short(8))?),
            FrameType::PONG => Self::Pong(*body.first_chunk().ok_or_else(|| short(8))?),
            other => Self::Unknown(other),
        })
    }

    /// The length of the whole frame on the wire, in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        HEADER_LEN + self.body_len()
    }

    fn body_len(&self) -> usize {
        match self {
            Self::ClientInfo { sealed, .. } => KEY_LEN + sealed.len(),
            Self::SendPacket { packet, .. } => KEY_LEN + packet.len(),
            Self::ForwardPacket { packet, .. } => 2 * KEY_LEN + packet.len(),
            Self::NotePreferred(_) => 1,
            Self::WatchConns | Self::Unknown(_) => 0,
            Self::ClosePeer(_) => KEY_LEN,
            Self::Ping(_) | Self::Pong(_) => 8,
        }
    }

    fn frame_type(&self) -> FrameType {
        match self {
            Self::ClientInfo { .. } => FrameType::CLIENT_INFO,
            Self::SendPacket { .. } => FrameType::SEND_PACKET,
            Self::ForwardPacket { .. } => FrameType::FORWARD_PACKET,
            Self::NotePreferred(_) => FrameType::NOTE_PREFERRED,
            Self::WatchConns => FrameType::WATCH_CONNS,
            Self::ClosePeer(_) => FrameType::CLOSE_PEER,
            Self::Ping(_) => FrameType::PING,
            Self::Pong(_) => FrameType::PONG,
            Self::Unknown(ty) => *ty,
        }
    }

    /// Appends the whole frame to `out`. An unknown frame is written without a body.
    ///
    /// The caller keeps packets within [`crate::MAX_PACKET_LEN`]: servers close the connection
    /// of a client that sends longer ones.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_slice(&header(self.frame_type(), self.body_len()));
        match self {
            Self::ClientInfo { key, sealed } => {
                out.put_slice(key.as_bytes());
                out.put_slice(sealed);
            }
            Self::SendPacket { dst, packet } => {
                out.put_slice(dst.as_bytes());
                out.put_slice(packet);
            }
            Self::ForwardPacket { src, dst, packet } => {
                out.put_slice(src.as_bytes());
                out.put_slice(dst.as_bytes());
                out.put_slice(packet);
            }
            Self::NotePreferred(home) => out.put_u8(u8::from(*home)),
            Self::WatchConns | Self::Unknown(_) => {}
            Self::ClosePeer(key) => out.put_slice(key.as_bytes()),
            Self::Ping(data) | Self::Pong(data) => out.put_slice(data),
        }
    }
}
