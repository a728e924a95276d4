//! What a server may send.
//!
//! Bodies grow over the years: what is there is read from the front, and tails are tolerated.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::BitOr;
use std::time::Duration;

use bytes::BufMut;

use crate::error::DecodeError;
use crate::frame::{FrameType, HEADER_LEN, KEY_LEN, MAGIC, PingData, header};
use crate::key::NodePublic;

/// A frame from a server to a client, borrowing from the bytes that hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerFrame<'a> {
    /// The greeting. After a fast start it may come when the client no longer waits for it.
    ServerKey(NodePublic),
    /// The client is admitted; nonce and box. See [`crate::AwaitServerInfo`].
    ServerInfo(&'a [u8]),
    /// A packet from `src`.
    RecvPacket {
        /// The sender.
        src: NodePublic,
        /// What it sent.
        packet: &'a [u8],
    },
    /// Nothing, once a minute, so that both sides know that the other is there.
    KeepAlive,
    /// A client that this client exchanged packets with cannot be reached here.
    PeerGone {
        /// Which client.
        key: NodePublic,
        /// Why.
        reason: PeerGoneReason,
    },
    /// A client connected. For watchers only.
    PeerPresent(PeerPresent),
    /// Send a pong with these bytes.
    Ping(PingData),
    /// The answer to a ping.
    Pong(PingData),
    /// A problem that the server wants the client's user to know, or none.
    Health(Cow<'a, str>),
    /// The server is about to restart.
    Restarting {
        /// When to reconnect.
        reconnect_in: Duration,
        /// For how long to try then, before going elsewhere.
        try_for: Duration,
    },
    /// Anything else; to be ignored.
    Unknown(FrameType),
}

/// Why a client cannot be reached. The set is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerGoneReason(pub u8);

impl PeerGoneReason {
    /// It was connected and left.
    pub const DISCONNECTED: Self = Self(0x00);
    /// It is not connected here.
    pub const NOT_HERE: Self = Self(0x01);
}

/// What kind of client connected. The set is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PeerPresentFlags(pub u8);

impl PeerPresentFlags {
    /// None of the others applies.
    pub const REGULAR: Self = Self(1);
    /// It holds the mesh key.
    pub const MESH_PEER: Self = Self(2);
    /// It says that it is a prober.
    pub const PROBER: Self = Self(4);
    /// It would rather have reached another node of the region.
    pub const NOT_IDEAL: Self = Self(8);

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for PeerPresentFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A client that connected, as a watcher learns of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerPresent {
    /// Its key.
    pub key: NodePublic,
    /// Where it connected from, where the server knows and says.
    pub addr: Option<SocketAddr>,
    /// What kind of client it is; zero from servers too old to say.
    pub flags: PeerPresentFlags,
}

impl PeerPresent {
    /// Key, address in IPv6 form, port, flags.
    const BODY_LEN: usize = KEY_LEN + 16 + 2 + 1;

    fn parse(body: &[u8]) -> Option<Self> {
        let (key, rest) = NodePublic::split_from(body)?;
        let Some((ip, rest)) = rest.split_first_chunk::<16>() else {
            return Some(Self {
                key,
                addr: None,
                flags: PeerPresentFlags::default(),
            });
        };
        let Some((port, rest)) = rest.split_first_chunk::<2>() else {
            return Some(Self {
                key,
                addr: None,
                flags: PeerPresentFlags::default(),
            });
        };
        let ip = Ipv6Addr::from(*ip);
        let addr = SocketAddr::new(IpAddr::V6(ip).to_canonical(), u16::from_be_bytes(*port));
        Some(Self {
            key,
            addr: (!ip.is_unspecified()).then_some(addr),
            flags: PeerPresentFlags(rest.first().copied().unwrap_or(0)),
        })
    }

    fn encode(&self, out: &mut impl BufMut) {
        out.put_slice(self.key.as_bytes());
        let (ip, port) = match self.addr {
            None => (Ipv6Addr::UNSPECIFIED, 0),
            Some(addr) => match addr.ip() {
                IpAddr::V4(ip) => (ip.to_ipv6_mapped(), addr.port()),
                IpAddr::V6(ip) => (ip, addr.port()),
            },
        };
        out.put_slice(&ip.octets());
        out.put_u16(port);
        out.put_u8(self.flags.0);
    }
}

impl<'a> ServerFrame<'a> {
    /// Reads the body of a frame of type `ty`.
    ///
    /// # Errors
    /// [`DecodeError::TooShort`] where the body lacks bytes that its type must have, and
    /// [`DecodeError::BadMagic`]. A client may skip such a frame and go on, as the Go client does.
    pub fn parse(ty: FrameType, body: &'a [u8]) -> Result<Self, DecodeError> {
        let short = |min| DecodeError::TooShort {
            ty,
            len: body.len(),
            min,
        };
        let key = |body| NodePublic::split_from(body);
        Ok(match ty {
            FrameType::SERVER_KEY => {
                let min = MAGIC.len() + KEY_LEN;
                let (magic, rest) = body.split_first_chunk().ok_or_else(|| short(min))?;
                if *magic != MAGIC {
                    return Err(DecodeError::BadMagic);
                }
                Self::ServerKey(key(rest).ok_or_else(|| short(min))?.0)
            }
            FrameType::SERVER_INFO => Self::ServerInfo(body),
            FrameType::RECV_PACKET => {
                let (src, packet) = key(body).ok_or_else(|| short(KEY_LEN))?;
                Self::RecvPacket { src, packet }
            }
            FrameType::KEEP_ALIVE => Self::KeepAlive,
            FrameType::PEER_GONE => {
                let (key, rest) = key(body).ok_or_else(|| short(KEY_LEN))?;
                // Older servers send no reason, and mean that it disconnected.
                let reason = PeerGoneReason(rest.first().copied().unwrap_or(0));
                Self::PeerGone { key, reason }
            }
            FrameType::PEER_PRESENT => {
                Self::PeerPresent(PeerPresent::parse(body).ok_or_else(|| short(KEY_LEN))?)
            }
            FrameType::PING => Self::Ping(*body.first_chunk().ok_or_else(|| short(8))?),
            FrameType::PONG => Self::Pong(*body.first_chunk().ok_or_else(|| short(8))?),
            FrameType::HEALTH => Self::Health(String::from_utf8_lossy(body)),
            FrameType::RESTARTING => {
                let (reconnect_in, rest) = body.split_first_chunk().ok_or_else(|| short(8))?;
                let try_for = rest.first_chunk().ok_or_else(|| short(8))?;
                let millis = |bytes| Duration::from_millis(u32::from_be_bytes(bytes).into());
                Self::Restarting {
                    reconnect_in: millis(*reconnect_in),
                    try_for: millis(*try_for),
                }
            }
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
            Self::ServerKey(_) => MAGIC.len() + KEY_LEN,
            Self::ServerInfo(sealed) => sealed.len(),
            Self::RecvPacket { packet, .. } => KEY_LEN + packet.len(),
            Self::KeepAlive | Self::Unknown(_) => 0,
            Self::PeerGone { .. } => KEY_LEN + 1,
            Self::PeerPresent(_) => PeerPresent::BODY_LEN,
            Self::Ping(_) | Self::Pong(_) | Self::Restarting { .. } => 8,
            Self::Health(problem) => problem.len(),
        }
    }

    fn frame_type(&self) -> FrameType {
        match self {
            Self::ServerKey(_) => FrameType::SERVER_KEY,
            Self::ServerInfo(_) => FrameType::SERVER_INFO,
            Self::RecvPacket { .. } => FrameType::RECV_PACKET,
            Self::KeepAlive => FrameType::KEEP_ALIVE,
            Self::PeerGone { .. } => FrameType::PEER_GONE,
            Self::PeerPresent(_) => FrameType::PEER_PRESENT,
            Self::Ping(_) => FrameType::PING,
            Self::Pong(_) => FrameType::PONG,
            Self::Health(_) => FrameType::HEALTH,
            Self::Restarting { .. } => FrameType::RESTARTING,
            Self::Unknown(ty) => *ty,
        }
    }

    /// Appends the whole frame to `out`. An unknown frame is written without a body.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_slice(&header(self.frame_type(), self.body_len()));
        match self {
            Self::ServerKey(key) => {
                out.put_slice(&MAGIC);
                out.put_slice(key.as_bytes());
            }
            Self::ServerInfo(sealed) => out.put_slice(sealed),
            Self::RecvPacket { src, packet } => {
                out.put_slice(src.as_bytes());
                out.put_slice(packet);
            }
            Self::KeepAlive | Self::Unknown(_) => {}
            Self::PeerGone { key, reason } => {
                out.put_slice(key.as_bytes());
                out.put_u8(reason.0);
            }
            Self::PeerPresent(present) => present.encode(out),
            Self::Ping(data) | Self::Pong(data) => out.put_slice(data),
            Self::Health(problem) => out.put_slice(problem.as_bytes()),
            Self::Restarting {
                reconnect_in,
                try_for,
            } => {
                let millis = |d: &Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
                out.put_u32(millis(reconnect_in));
                out.put_u32(millis(try_for));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_of_every_age_is_understood() {
        let key = NodePublic::from_bytes([7; 32]);
        let addr = "127.0.0.1:4242".parse().ok();
        let flags = PeerPresentFlags::PROBER | PeerPresentFlags::NOT_IDEAL;
        let mut wire = Vec::new();
        ServerFrame::PeerPresent(PeerPresent { key, addr, flags }).encode(&mut wire);
        let body = &wire[5..];
        assert_eq!(body.len(), 51);
        assert_eq!(
            &body[32..48],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1]
        );
        assert_eq!(body[50], 0x0c);

        let parse = |body| ServerFrame::parse(FrameType::PEER_PRESENT, body);
        let present = |addr, flags| Ok(ServerFrame::PeerPresent(PeerPresent { key, addr, flags }));
        let longer = [body, &[1, 2, 3]].concat();
        assert_eq!(parse(&longer), present(addr, flags));
        assert_eq!(parse(body), present(addr, flags));
        assert_eq!(parse(&body[..50]), present(addr, PeerPresentFlags(0)));
        assert_eq!(parse(&body[..32]), present(None, PeerPresentFlags(0)));
        assert!(parse(&body[..31]).is_err());
    }

    #[test]
    fn a_peer_gone_without_a_reason_means_disconnected() {
        let key = NodePublic::from_bytes([7; 32]);
        let parse = |body| ServerFrame::parse(FrameType::PEER_GONE, body);
        let gone = |reason| Ok(ServerFrame::PeerGone { key, reason });
        assert_eq!(parse(&[7; 32]), gone(PeerGoneReason::DISCONNECTED));
        assert_eq!(
            parse(&[&[7; 32][..], &[1, 9]].concat()),
            gone(PeerGoneReason::NOT_HERE)
        );
    }
}
