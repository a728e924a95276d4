//! What can be wrong with bytes from a peer or with text from an operator.

use thiserror::Error;

use crate::frame::FrameType;

/// A frame that breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The header announces a body longer than its type may have.
    #[error("{ty:?} frame of {len} bytes is longer than the {max} allowed")]
    TooLong {
        /// The frame's type.
        ty: FrameType,
        /// The announced length in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The header announces a body shorter than its type must have.
    #[error("{ty:?} frame of {len} bytes is shorter than the {min} required")]
    TooShort {
        /// The frame's type.
        ty: FrameType,
        /// The announced length in bytes.
        len: usize,
        /// The limit in bytes.
        min: usize,
    },
    /// A ServerKey frame does not begin with the protocol's magic bytes.
    #[error("ServerKey frame without the DERP magic")]
    BadMagic,
}

/// A login that failed; the remedy is the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// Another frame came where the handshake wants its own.
    #[error("expected a {expected:?} frame, got {got:?}")]
    UnexpectedFrame {
        /// The frame that is due.
        expected: FrameType,
        /// The frame that came.
        got: FrameType,
    },
    /// The frame itself is broken.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The peer's public key is one that nobody can hold.
    #[error("the peer's key is unusable")]
    Key(#[from] KeyError),
    /// The box does not open: the peer does not hold the key that it claims, or means another
    /// server.
    #[error("the box does not open with the claimed key")]
    BoxSealedByAnother,
    /// The box opens, and what is inside is not what it must be.
    #[error("the information in the box is invalid")]
    Info(#[from] InfoError),
}

/// JSON in a box that does not follow Go's rules for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InfoError {
    /// Not JSON, not an object, or a field of the wrong type.
    #[error("not the expected JSON")]
    Json,
    /// A mesh key that is not 64 hexadecimal digits.
    #[error("invalid mesh key")]
    MeshKey,
}

/// A key that cannot be read or must not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text lacks the prefix that says what kind of key it is.
    #[error("key text must begin with {expected:?}")]
    Prefix {
        /// The prefix that is due.
        expected: &'static str,
    },
    /// Not exactly 64 hexadecimal digits (after the prefix).
    #[error("key must be exactly 64 hexadecimal digits")]
    Hex,
    /// All bytes are zero: the value that stands for "no key".
    #[error("key is all zero")]
    Zero,
    /// A point of small order: with it, anybody can compute the shared secret.
    #[error("key is a point of low order")]
    LowOrder,
    /// Not the canonical encoding of a point (at least 2^255 - 19, or with the top bit set).
    #[error("key is not canonically encoded")]
    NonCanonical,
}
