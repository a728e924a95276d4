//! What all frames share: the type, the header, and the limits of the protocol.

use std::fmt;

/// Length of a frame header: a type byte and a big-endian `u32` length.
pub const HEADER_LEN: usize = 5;
/// Length of a public key.
pub const KEY_LEN: usize = 32;
/// Length of the nonce in front of a box.
pub const NONCE_LEN: usize = 24;
/// The longest relayed packet, in bytes, keys not counted (`derp/derp.go`, `MaxPacketSize`).
pub const MAX_PACKET_LEN: usize = 64 << 10;
/// The longest body of a ClientInfo frame that a server of ours takes by default, in bytes.
///
/// Real ones are under 300 bytes; the Go server takes up to 256 KiB from strangers.
pub const MAX_CLIENT_INFO_LEN: usize = 16 << 10;
/// The longest body of a frame of an unknown type that is skipped, in bytes; a longer one is an
/// error. The Go client has the same limit for all frames (`derp/derp_client.go`).
pub const MAX_SKIPPED_LEN: usize = 1 << 20;
/// The longest body of a ping that a server answers (`derp/derpserver/derpserver.go`).
pub const MAX_PING_LEN: usize = 1000;
/// The protocol version that both sides have spoken since 2020.
pub const PROTOCOL_VERSION: u8 = 2;
/// The first bytes of the body of a ServerKey frame: `DERP🔑`.
pub const MAGIC: [u8; 8] = *b"DERP\xf0\x9f\x94\x91";

/// The part of a ping that the pong repeats.
pub type PingData = [u8; 8];

/// The type of a frame.
///
/// The set is open: values without a constant here are legal on the wire, and are skipped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameType(pub u8);

macro_rules! frame_types {
    ($($(#[$doc:meta])* $name:ident, $label:literal = $value:literal;)*) => {
        impl FrameType {
            $($(#[$doc])* pub const $name: Self = Self($value);)*
        }

        impl fmt::Debug for FrameType {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $($value => f.write_str($label),)*
                    other => write!(f, "Unknown({other:#04x})"),
                }
            }
        }
    };
}

frame_types! {
    /// Server: magic, key, and bytes for the future.
    SERVER_KEY, "ServerKey" = 0x01;
    /// Client: key, nonce, box of JSON.
    CLIENT_INFO, "ClientInfo" = 0x02;
    /// Server: nonce, box of JSON.
    SERVER_INFO, "ServerInfo" = 0x03;
    /// Client: destination key, packet.
    SEND_PACKET, "SendPacket" = 0x04;
    /// Server: source key, packet.
    RECV_PACKET, "RecvPacket" = 0x05;
    /// Server: nothing.
    KEEP_ALIVE, "KeepAlive" = 0x06;
    /// Client: one byte, whether this is its home.
    NOTE_PREFERRED, "NotePreferred" = 0x07;
    /// Server: key, reason.
    PEER_GONE, "PeerGone" = 0x08;
    /// Server, to watchers: key, address, port, flags.
    PEER_PRESENT, "PeerPresent" = 0x09;
    /// Mesh client: source key, destination key, packet.
    FORWARD_PACKET, "ForwardPacket" = 0x0a;
    /// Mesh client: nothing.
    WATCH_CONNS, "WatchConns" = 0x10;
    /// Mesh client: key.
    CLOSE_PEER, "ClosePeer" = 0x11;
    /// Both: eight bytes or more.
    PING, "Ping" = 0x12;
    /// Both: the ping's first eight bytes.
    PONG, "Pong" = 0x13;
    /// Server: text, empty when all is well again.
    HEALTH, "Health" = 0x14;
    /// Server: two durations in milliseconds.
    RESTARTING, "Restarting" = 0x15;
}

/// The five bytes in front of each frame's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The frame's type.
    pub ty: FrameType,
    /// Length of the body in bytes, the header not counted.
    pub len: u32,
}

impl FrameHeader {
    /// Reads a header from the front of `bytes`, or `None` where fewer than five are there.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [ty, len @ ..] = bytes.first_chunk::<HEADER_LEN>()?;
        Some(Self {
            ty: FrameType(*ty),
            len: u32::from_be_bytes(*len),
        })
    }

    /// The header as it stands on the wire.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        let [a, b, c, d] = self.len.to_be_bytes();
        [self.ty.0, a, b, c, d]
    }
}

/// The header of a body of `len` bytes.
///
/// Every body that this crate encodes is far below 4 GiB.
pub(crate) fn header(ty: FrameType, len: usize) -> [u8; HEADER_LEN] {
    let len = u32::try_from(len).expect("no frame of ours is longer than a packet and two keys");
    FrameHeader { ty, len }.to_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_a_type_and_a_big_endian_length_without_a_cap() {
        let table = [
            ([0x04, 0, 0, 4, 0], FrameType::SEND_PACKET, 1024),
            ([0x06, 0, 0, 0, 0], FrameType::KEEP_ALIVE, 0),
            (
                [0x05, 0xff, 0xff, 0xff, 0xff],
                FrameType::RECV_PACKET,
                u32::MAX,
            ),
        ];
        for (bytes, ty, len) in table {
            assert_eq!(FrameHeader::parse(&bytes), Some(FrameHeader { ty, len }));
            assert_eq!(FrameHeader { ty, len }.to_bytes(), bytes);
        }
        assert_eq!(FrameHeader::parse(&[4, 0, 0, 0]), None);
    }

    #[test]
    fn an_unknown_type_is_an_ordinary_value() {
        assert_eq!(format!("{:?}", FrameType(0x77)), "Unknown(0x77)");
        assert_eq!(format!("{:?}", FrameType::PEER_GONE), "PeerGone");
    }
}
