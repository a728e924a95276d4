//! TLS 1.3 records after the handshake, handled in place (RFC 8446, section 5).
//!
//! rustls does every handshake. Once it is done, and the client has logged in, the traffic
//! secrets are taken over, and each record is opened and sealed where it lies in a buffer: no
//! copy, no allocation, and about a hundred bytes per idle connection instead of rustls's seven
//! kilobytes. The ciphers are aws-lc's; nothing here computes but nonces and lengths.
//!
//! # Why a nonce is never used twice
//!
//! A nonce is the IV combined with a sequence number that belongs to the key
//! ([`keys::TrafficKey`]), starts where rustls stopped, and is incremented by the only function
//! that hands out nonces, before the cipher runs. Both live in one struct that can be neither
//! cloned nor rewound. The sealing side is reached only under the lock of its connection. The key
//! is replaced, and the number starts at zero, long before the number could wrap.

mod capture;
#[cfg(test)]
mod differential;
mod keys;
mod record;
mod writer;

pub(crate) use capture::{CapturedSecrets, SecretCapture};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use record::MAX_KEY_UPDATES;
pub(crate) use record::{Opened, Opener, RecordError, Sealer, record_len};
pub(crate) use writer::{RecordWriter, seal_behind};

/// Bytes of a record in front of its content: type, version, length.
pub(crate) const RECORD_HEADER: usize = 5;
/// Bytes of a record behind its content: the inner type and the cipher's tag.
pub(crate) const RECORD_TRAILER: usize = 1 + 16;
/// The most content that one record may have.
pub(crate) const MAX_CONTENT: usize = 1 << 14;
/// The longest record on the wire, its header included.
pub(crate) const MAX_RECORD: usize = RECORD_HEADER + MAX_CONTENT + 256;
