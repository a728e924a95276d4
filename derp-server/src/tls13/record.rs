//! Opening and sealing one record, in place.

use aws_lc_rs::aead::Aad;
use rustls::{CipherSuite, ConnectionTrafficSecrets, ContentType};
use thiserror::Error;
use zeroize::Zeroizing;

use super::keys::{Suite, TrafficKey};
use super::{MAX_CONTENT, MAX_RECORD, RECORD_HEADER, RECORD_TRAILER};

/// We update our sending key after this many records. AES-GCM is good for 2^24.5 full records
/// (RFC 8446, section 5.5).
const UPDATE_AFTER: u64 = 1 << 24;
/// More empty records in a row than any peer sends for a reason.
const MAX_EMPTY_RECORDS: u8 = 32;
/// Nobody updates keys more often than this many times without sending data between.
pub(crate) const MAX_KEY_UPDATES: u8 = 32;
const HANDSHAKE_KEY_UPDATE: u8 = 24;

/// What is wrong with a record. Each of these ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum RecordError {
    #[error("the secrets of the handshake cannot be used")]
    Secrets,
    #[error("not an encrypted record")]
    Unexpected,
    #[error("record too long")]
    TooLong,
    #[error("record does not decrypt")]
    Decrypt,
    #[error("handshake message other than a key update")]
    Handshake,
    #[error("too many empty records or key updates in a row")]
    Idle,
    #[error("alert {0}")]
    Alert(u8),
}

/// What an opened record was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    /// This many bytes of content, right behind the header.
    Data(usize),
    /// The peer goes on with its next key; where `true`, it asks us to do so as well.
    KeyUpdate(bool),
    /// The peer sends nothing more.
    Closed,
}

/// The length of the record at the front of `bytes`, its header included, once that is known.
pub(crate) fn record_len(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
    let Some(&[ty, _, _, high, low]) = bytes.first_chunk::<RECORD_HEADER>() else {
        return Ok(None);
    };
    if ty != u8::from(ContentType::ApplicationData) {
        return Err(RecordError::Unexpected);
    }
    let len = RECORD_HEADER + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_RECORD {
        return Err(RecordError::TooLong);
    }
    if len < RECORD_HEADER + RECORD_TRAILER {
        return Err(RecordError::Decrypt);
    }
    Ok(Some(len))
}

/// The receiving half of a connection.
pub(crate) struct Opener {
    key: TrafficKey,
    empty: u8,
    updates: u8,
}

impl Opener {
    pub(crate) fn new(
        suite: CipherSuite,
        secret: Zeroizing<Vec<u8>>,
        sequence: u64,
    ) -> Result<Self, RecordError> {
        let suite = Suite::of(suite).ok_or(RecordError::Secrets)?;
        Ok(Self {
            key: TrafficKey::new(suite, secret, sequence)?,
            empty: 0,
            updates: 0,
        })
    }

    /// Whether rustls would go on with the same key.
    pub(crate) fn has_key_of(&self, theirs: &ConnectionTrafficSecrets) -> bool {
        self.key.is_in(theirs)
    }

    /// Opens `record`, which is as long as [`record_len`] says.
    pub(crate) fn open(&mut self, record: &mut [u8]) -> Result<Opened, RecordError> {
        let (header, sealed) = record
            .split_first_chunk_mut::<RECORD_HEADER>()
            .ok_or(RecordError::Unexpected)?;
        let (key, nonce) = self.key.next_nonce();
        let inner = key
            .open_in_place(nonce, Aad::from(*header), sealed)
            .map_err(|_| RecordError::Decrypt)?;
        // Padding does not make a record's content longer than it may be (RFC 8446, section 5.4).
        if inner.len() > MAX_CONTENT + 1 {
            return Err(RecordError::TooLong);
        }
        // Padding is zeros behind the type; a record of nothing else has no type.
        let at = inner
            .iter()
            .rposition(|&byte| byte != 0)
            .ok_or(RecordError::Unexpected)?;
        let content = &inner[..at];
        match ContentType::from(inner[at]) {
            ContentType::ApplicationData if content.is_empty() => {
                self.empty += 1;
                if self.empty > MAX_EMPTY_RECORDS {
                    return Err(RecordError::Idle);
                }
                Ok(Opened::Data(0))
            }
            ContentType::ApplicationData => {
                (self.empty, self.updates) = (0, 0);
                Ok(Opened::Data(at))
            }
            ContentType::Handshake => {
                let &[HANDSHAKE_KEY_UPDATE, 0, 0, 1, request @ (0 | 1)] = content else {
                    return Err(RecordError::Handshake);
                };
                self.updates += 1;
                if self.updates > MAX_KEY_UPDATES {
                    return Err(RecordError::Idle);
                }
                self.key.update()?;
                Ok(Opened::KeyUpdate(request == 1))
            }
            // In TLS 1.3 each alert ends the connection, whatever level it claims.
            ContentType::Alert => match content {
                [_, 0] => Ok(Opened::Closed),
                [_, alert] => Err(RecordError::Alert(*alert)),
                _ => Err(RecordError::Unexpected),
            },
            _ => Err(RecordError::Unexpected),
        }
    }
}

/// The sending half of a connection.
pub(crate) struct Sealer {
    key: TrafficKey,
    update_after: u64,
}

impl Sealer {
    pub(crate) fn new(
        suite: CipherSuite,
        secret: Zeroizing<Vec<u8>>,
        sequence: u64,
    ) -> Result<Self, RecordError> {
        let suite = Suite::of(suite).ok_or(RecordError::Secrets)?;
        Ok(Self {
            key: TrafficKey::new(suite, secret, sequence)?,
            update_after: UPDATE_AFTER,
        })
    }

    /// Whether rustls would go on with the same key.
    pub(crate) fn has_key_of(&self, theirs: &ConnectionTrafficSecrets) -> bool {
        self.key.is_in(theirs)
    }

    /// Makes [`Self::key_update`] due, because the peer asks for it.
    pub(crate) const fn want_key_update(&mut self) {
        self.update_after = 0;
    }

    /// Whether [`Self::key_update`] is due before the next record.
    pub(crate) const fn wants_key_update(&self) -> bool {
        self.key.sequence() >= self.update_after
    }

    /// Seals a record of application data in place: `record` is the content, with
    /// [`RECORD_HEADER`] bytes in front of it and [`RECORD_TRAILER`] behind it that are
    /// overwritten.
    pub(crate) fn seal(&mut self, record: &mut [u8]) {
        self.seal_as(ContentType::ApplicationData, record);
    }

    /// Appends the record that announces our next key, and goes on with that.
    pub(crate) fn key_update(&mut self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        // We never ask the peer for an update: its key is its own business.
        self.append(
            ContentType::Handshake,
            &[HANDSHAKE_KEY_UPDATE, 0, 0, 1, 0],
            out,
        );
        self.update_after = UPDATE_AFTER;
        self.key.update()
    }

    /// Appends the record that says we send nothing more.
    pub(crate) fn close_notify(&mut self, out: &mut Vec<u8>) {
        self.append(ContentType::Alert, &[1, 0], out);
    }

    fn append(&mut self, ty: ContentType, content: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + RECORD_HEADER, 0);
        out.extend_from_slice(content);
        out.resize(out.len() + RECORD_TRAILER, 0);
        self.seal_as(ty, &mut out[start..]);
    }

    /// The same for a record of any type.
    pub(crate) fn seal_as(&mut self, ty: ContentType, record: &mut [u8]) {
        let (header, rest) = record
            .split_first_chunk_mut::<RECORD_HEADER>()
            .expect("callers leave room for the header");
        let (inner, tag) = rest
            .split_last_chunk_mut::<{ RECORD_TRAILER - 1 }>()
            .expect("callers leave room for the trailer");
        *inner.last_mut().expect("callers leave room for the type") = ty.into();
        let len = u16::try_from(inner.len() + tag.len())
            .expect("callers keep to the longest record")
            .to_be_bytes();
        *header = [ContentType::ApplicationData.into(), 3, 3, len[0], len[1]];
        let (key, nonce) = self.key.next_nonce();
        let sealed = key
            .seal_in_place_separate_tag(nonce, Aad::from(*header), inner)
            .expect("a record is far shorter than what the cipher takes");
        tag.copy_from_slice(sealed.as_ref());
    }
}

macro_rules! opaque {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}(record {})", stringify!($name), self.key.sequence())
            }
        }
    )*};
}

opaque!(Opener, Sealer);

#[cfg(test)]
mod tests {
    use super::*;

    const SUITES: [CipherSuite; 3] = [
        CipherSuite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    ];

    fn pair(suite: CipherSuite) -> (Sealer, Opener) {
        let len = if suite == CipherSuite::TLS13_AES_256_GCM_SHA384 {
            48
        } else {
            32
        };
        let secret = || Zeroizing::new((0..len).collect::<Vec<u8>>());
        (
            Sealer::new(suite, secret(), 0).unwrap(),
            Opener::new(suite, secret(), 0).unwrap(),
        )
    }

    fn framed(content: &[u8]) -> Vec<u8> {
        [&[0; RECORD_HEADER], content, &[0; RECORD_TRAILER]].concat()
    }

    #[test]
    fn what_is_sealed_in_place_opens_in_place() {
        for suite in SUITES {
            let (mut sealer, mut opener) = pair(suite);
            for content in [&b"first"[..], &[7; MAX_CONTENT], b""] {
                let mut record = framed(content);
                sealer.seal(&mut record);
                assert_eq!(record_len(&record), Ok(Some(record.len())));
                assert_eq!(opener.open(&mut record), Ok(Opened::Data(content.len())));
                assert_eq!(&record[RECORD_HEADER..][..content.len()], content);
            }
        }
    }

    #[test]
    fn a_changed_or_repeated_record_does_not_open() {
        for suite in SUITES {
            let (mut sealer, _) = pair(suite);
            let mut record = framed(b"content");
            sealer.seal(&mut record);
            for at in 0..record.len() {
                let (_, mut opener) = pair(suite);
                let mut changed = record.clone();
                changed[at] ^= 1;
                assert_eq!(
                    opener.open(&mut changed),
                    Err(RecordError::Decrypt),
                    "byte {at}"
                );
            }
            let (_, mut opener) = pair(suite);
            assert!(opener.open(&mut record.clone()).is_ok());
            assert_eq!(opener.open(&mut record), Err(RecordError::Decrypt));
        }
    }

    #[test]
    fn keys_are_updated_both_ways() {
        for suite in SUITES {
            let (mut sealer, mut opener) = pair(suite);
            for n in 0..10_u8 {
                let mut out = Vec::new();
                if n % 2 == 0 {
                    sealer.want_key_update();
                }
                if sealer.wants_key_update() {
                    sealer.key_update(&mut out).unwrap();
                    assert_eq!(opener.open(&mut out), Ok(Opened::KeyUpdate(false)));
                }
                let mut record = framed(&[n]);
                sealer.seal(&mut record);
                assert_eq!(opener.open(&mut record), Ok(Opened::Data(1)));
            }
            assert_eq!(sealer.key.sequence(), 2);
        }
    }

    #[test]
    fn alerts_end_the_connection() {
        let (mut sealer, mut opener) = pair(SUITES[0]);
        let mut out = Vec::new();
        sealer.close_notify(&mut out);
        assert_eq!(opener.open(&mut out), Ok(Opened::Closed));
        let mut out = Vec::new();
        sealer.append(ContentType::Alert, &[2, 40], &mut out);
        assert_eq!(opener.open(&mut out), Err(RecordError::Alert(40)));
    }

    #[test]
    fn what_has_no_place_after_the_handshake_is_refused() {
        let content: [(ContentType, &[u8], RecordError); 5] = [
            (
                ContentType::Handshake,
                &[1, 0, 0, 0],
                RecordError::Handshake,
            ),
            (
                ContentType::Handshake,
                &[24, 0, 0, 1, 2],
                RecordError::Handshake,
            ),
            (
                ContentType::Handshake,
                &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0],
                RecordError::Handshake,
            ),
            (ContentType::ChangeCipherSpec, &[1], RecordError::Unexpected),
            (ContentType::Alert, &[1], RecordError::Unexpected),
        ];
        for (ty, content, error) in content {
            let (mut sealer, mut opener) = pair(SUITES[0]);
            let mut out = Vec::new();
            sealer.append(ty, content, &mut out);
            assert_eq!(opener.open(&mut out), Err(error), "{ty:?} {content:?}");
        }
        assert_eq!(record_len(&[22, 3, 3, 0, 40]), Err(RecordError::Unexpected));
        assert_eq!(record_len(&[23, 3, 3, 0x41, 1]), Err(RecordError::TooLong));
        assert_eq!(record_len(&[23, 3, 3, 0, 16]), Err(RecordError::Decrypt));
        assert_eq!(record_len(&[23, 3, 3, 0]), Ok(None));
    }

    #[test]
    fn padding_does_not_stretch_a_record() {
        for (padding, opened) in [
            (0, Ok(Opened::Data(7))),
            (MAX_CONTENT - 7, Ok(Opened::Data(7))),
            (MAX_CONTENT - 6, Err(RecordError::TooLong)),
        ] {
            let (mut sealer, mut opener) = pair(SUITES[0]);
            let inner = [&b"content\x17"[..], &vec![0; padding]].concat();
            // What `seal` writes behind the content is the last byte of the padding.
            let mut record = framed(&inner[..inner.len() - 1]);
            let ty = if padding == 0 { 23 } else { 0 };
            sealer.seal_as(ContentType::from(ty), &mut record);
            assert_eq!(opener.open(&mut record), opened, "{padding} bytes");
        }
    }

    #[test]
    fn empty_records_and_key_updates_without_end_are_refused() {
        let (mut sealer, mut opener) = pair(SUITES[0]);
        let last = (0..=MAX_EMPTY_RECORDS).map(|_| {
            let mut record = framed(b"");
            sealer.seal(&mut record);
            opener.open(&mut record)
        });
        assert_eq!(last.last(), Some(Err(RecordError::Idle)));
        let (mut sealer, mut opener) = pair(SUITES[0]);
        let last = (0..=MAX_KEY_UPDATES).map(|_| {
            let mut out = Vec::new();
            sealer.key_update(&mut out).unwrap();
            opener.open(&mut out)
        });
        assert_eq!(last.last(), Some(Err(RecordError::Idle)));
    }
}
