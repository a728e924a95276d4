//! The DERP wire format: frames, keys, boxes, handshakes and DERP maps.
//!
//! DERP relays packets between clients that are addressed by their Curve25519 public keys. After
//! TLS and an HTTP upgrade, both sides send *frames*, and the first three of them log the client
//! in:
//!
//! ```text
//!   client                                          server
//!     │                     ServerKey(server's key) │   in the clear, or in the TLS handshake
//!     │◄────────────────────────────────────────────┤   (see `http::META_CERT_NAME_PREFIX`)
//!     │ ClientInfo(client's key, box(JSON))         │   the box proves that the key is the
//!     ├────────────────────────────────────────────►│   client's
//!     │                       ServerInfo(box(JSON)) │   admitted
//!     │◄────────────────────────────────────────────┤
//!     │ SendPacket(to, packet)                      │
//!     ├────────────────────────────────────────────►│
//!     │                    RecvPacket(from, packet) │   same length: only type and key differ
//!     │◄────────────────────────────────────────────┤
//! ```
//!
//! # Layers
//!
//! 1. [`Scanner`] finds the next frame in a slice of bytes: its type, and where its body is. It
//!    copies nothing and allocates nothing, and judges a length by the header alone.
//! 2. [`ClientFrame`] and [`ServerFrame`], one enum per direction, borrow from that slice.
//! 3. [`FrameDecoder`] is the owned form of both: frames as reference-counted [`bytes::Bytes`].
//!
//! ```
//! use derp_proto::{ClientFrame, ClientSide, NodePublic, Scanned, Scanner};
//!
//! let dst = NodePublic::from_bytes([7; 32]);
//! let mut wire = Vec::new();
//! ClientFrame::SendPacket { dst, packet: b"hello" }.encode(&mut wire);
//!
//! let mut scanner = Scanner::<ClientSide>::new();
//! let Scanned::Frame { ty, body } = scanner.scan(&wire)? else { panic!("a whole frame is there") };
//! let frame = ClientFrame::parse(ty, &wire[body])?;
//! assert_eq!(frame, ClientFrame::SendPacket { dst, packet: b"hello" });
//! # Ok::<(), derp_proto::DecodeError>(())
//! ```
//!
//! # What is not here
//!
//! No I/O, no clock, no runtime, no randomness of its own: nonces and key material are handed in.

#![warn(clippy::indexing_slicing)]

mod client_frame;
mod decoder;
mod derp_map;
mod disco;
mod error;
mod frame;
pub mod go_json;
mod handshake;
pub mod http;
mod info;
mod key;
mod scan;
mod sealed;
mod server_frame;

pub use client_frame::ClientFrame;
pub use decoder::{FrameDecoder, OwnedFrame};
pub use derp_map::{DerpMap, DerpNode, DerpRegion, HomeParams, RegionId};
pub use disco::{DISCO_MIN_LEN, is_disco};
pub use error::{DecodeError, HandshakeError, InfoError, KeyError};
pub use frame::{
    FrameHeader, FrameType, HEADER_LEN, KEY_LEN, MAGIC, MAX_CLIENT_INFO_LEN, MAX_PACKET_LEN,
    MAX_PING_LEN, MAX_SKIPPED_LEN, NONCE_LEN, PROTOCOL_VERSION, PingData,
};
pub use handshake::{AwaitServerInfo, Claim, ClientHello, Greeted, ServerIdentity};
pub use info::{ClientInfo, ServerInfo};
pub use key::{MeshKey, NodePrivate, NodePublic, SharedSecret};
pub use scan::{ClientSide, Limit, Scanned, Scanner, ServerSide, Side};
pub use sealed::Nonce;
pub use server_frame::{PeerGoneReason, PeerPresent, PeerPresentFlags, ServerFrame};
