//! What can go wrong, one enum per boundary: a datagram as request, a datagram as response,
//! opening the server's socket, a probe.

use std::{io, net::SocketAddr};

/// Why a datagram is not a binding request that this server answers.
///
/// Each of these is met with silence on the wire; the variants exist for tests and tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Shorter than a header, top bits set, or without the magic cookie.
    #[error("not a STUN message")]
    NotStun,
    /// STUN, but a response, an indication or another method.
    #[error("message type {0:#06x} is not a binding request")]
    NotABindingRequest(u16),
    /// The header's length field does not describe this datagram.
    #[error("the header declares {declared} bytes of attributes, the datagram holds {actual}")]
    WrongLength {
        /// Bytes of attributes according to the header.
        declared: u16,
        /// Bytes that follow the header.
        actual: usize,
    },
    /// An attribute's header or value runs past the end of the message.
    #[error("an attribute runs past the end of the message")]
    MalformedAttribute,
    /// No SOFTWARE attribute with the value `tailnode`.
    #[error("no SOFTWARE attribute that names a Tailscale client")]
    MissingSoftware,
    /// The last attribute is not a FINGERPRINT of four bytes.
    #[error("the last attribute is not a FINGERPRINT")]
    MissingFingerprint,
    /// The FINGERPRINT does not match the bytes before it.
    #[error("the FINGERPRINT does not match the message")]
    WrongFingerprint,
}

/// Why a datagram is not a usable binding response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// Shorter than a header, top bits set, or without the magic cookie.
    #[error("not a STUN message")]
    NotStun,
    /// STUN, but not a binding success response: a request, an error, another method.
    #[error("message type {0:#06x} is not a binding success response")]
    NotASuccess(u16),
    /// The header declares more bytes than the datagram holds.
    #[error("the header declares {declared} bytes of attributes, the datagram holds {actual}")]
    Truncated {
        /// Bytes of attributes according to the header.
        declared: u16,
        /// Bytes that follow the header.
        actual: usize,
    },
    /// An attribute runs past the end, or an address attribute makes no address.
    #[error("an attribute is malformed")]
    MalformedAttribute,
    /// Neither XOR-MAPPED-ADDRESS nor MAPPED-ADDRESS is present.
    #[error("the response names no mapped address")]
    MissingAddress,
}

/// The server's socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open UDP socket {addr} for STUN")]
pub struct BindError {
    /// The address that was asked for.
    pub addr: SocketAddr,
    /// The operating system's reason.
    pub source: io::Error,
}

/// Why a probe brought no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// No local socket, or no randomness for a transaction id.
    #[error("cannot prepare a STUN probe")]
    Prepare(#[source] io::Error),
    /// The operating system would not send: typically no route, or no such address family.
    #[error("cannot send a STUN request to {server}")]
    Send {
        /// Where the request was going.
        server: SocketAddr,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The local socket failed while waiting.
    #[error("cannot receive a STUN response")]
    Receive(#[source] io::Error),
    /// The deadline passed without an answer that matched.
    #[error("no STUN answer from {server} to {requests} requests")]
    NoAnswer {
        /// Who was asked.
        server: SocketAddr,
        /// How many requests were sent.
        requests: u32,
        /// What was wrong with the last datagram that came from the server's own address, if any
        /// came: a server that answers badly is another fault than one that is silent.
        #[source]
        rejected: Option<ResponseError>,
    },
}
