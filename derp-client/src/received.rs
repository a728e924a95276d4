//! What a client receives, in a form that it can keep.

use std::time::Duration;

use bytes::Bytes;
use derp_proto::{NodePublic, PeerGoneReason, PeerPresent, PingData, ServerInfo};

/// Something that a server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// The client is admitted; always the first thing that is received. A limit that the server
    /// asks for is kept to from here on.
    ServerInfo(ServerInfo),
    /// A packet.
    Packet {
        /// Who sent it.
        src: NodePublic,
        /// What was sent. It shares the memory of what was read with it, some KiB; a packet that
        /// is kept for long is better copied.
        packet: Bytes,
    },
    /// A client that this one sent packets to, or received packets from, cannot be reached here.
    PeerGone {
        /// Which client.
        key: NodePublic,
        /// Why.
        reason: PeerGoneReason,
    },
    /// A client connected; for those that asked for it with
    /// [`watch_conns`](crate::ClientWriter::watch_conns). A client with several connections is
    /// told of several times, and is gone once.
    PeerPresent(PeerPresent),
    /// A pong that [`ping`](crate::ClientWriter::ping) doesn't wait for.
    Pong(PingData),
    /// A problem that the user should know of, or none any more.
    Health(Option<String>),
    /// The server is about to restart.
    Restarting {
        /// When to reconnect.
        reconnect_in: Duration,
        /// For how long to try then, before going elsewhere.
        try_for: Duration,
    },
    /// The server is still there.
    KeepAlive,
}
