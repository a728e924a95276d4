//! Traffic keys: derived from a secret, numbered, and replaced by their successors.

use aws_lc_rs::aead::{self, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use rustls::ConnectionTrafficSecrets;
use zeroize::Zeroizing;

use super::record::RecordError;

/// The cipher suites that this record layer speaks: all that rustls negotiates for TLS 1.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Suite {
    pub(crate) fn of(suite: rustls::CipherSuite) -> Option<Self> {
        match suite {
            rustls::CipherSuite::TLS13_AES_128_GCM_SHA256 => Some(Self::Aes128Gcm),
            rustls::CipherSuite::TLS13_AES_256_GCM_SHA384 => Some(Self::Aes256Gcm),
            rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    fn aead(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }

    fn hkdf(self) -> hkdf::Algorithm {
        match self {
            Self::Aes128Gcm | Self::ChaCha20Poly1305 => hkdf::HKDF_SHA256,
            Self::Aes256Gcm => hkdf::HKDF_SHA384,
        }
    }
}

/// One direction's secret, the key made from it, and the number of the next record.
pub(crate) struct TrafficKey {
    suite: Suite,
    secret: Zeroizing<Vec<u8>>,
    key: LessSafeKey,
    iv: [u8; aead::NONCE_LEN],
    sequence: u64,
}

impl TrafficKey {
    /// The key of `secret`, whose next record is number `sequence`.
    pub(crate) fn new(
        suite: Suite,
        secret: Zeroizing<Vec<u8>>,
        sequence: u64,
    ) -> Result<Self, RecordError> {
        let mut key = Zeroizing::new([0; 32]);
        let key = &mut key[..suite.aead().key_len()];
        expand(suite, &secret, b"key", key)?;
        let mut iv = [0; aead::NONCE_LEN];
        expand(suite, &secret, b"iv", &mut iv)?;
        let key = UnboundKey::new(suite.aead(), key).map_err(|_| RecordError::Secrets)?;
        Ok(Self {
            suite,
            secret,
            key: LessSafeKey::new(key),
            iv,
            sequence,
        })
    }

    /// Whether this is the generation whose key rustls has: each has an IV of its own.
    pub(crate) fn is_in(&self, theirs: &ConnectionTrafficSecrets) -> bool {
        match theirs {
            ConnectionTrafficSecrets::Aes128Gcm { iv, .. }
            | ConnectionTrafficSecrets::Aes256Gcm { iv, .. }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { iv, .. } => iv.as_ref() == self.iv,
            _ => false,
        }
    }

    /// Goes on with the next generation's key (RFC 8446, section 7.2).
    pub(crate) fn update(&mut self) -> Result<(), RecordError> {
        let mut next = Zeroizing::new(vec![0; self.secret.len()]);
        expand(self.suite, &self.secret, b"traffic upd", &mut next)?;
        *self = Self::new(self.suite, next, 0)?;
        Ok(())
    }

    /// How many records this key has protected, or will have when the next one is.
    pub(crate) const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The cipher and the nonce of the next record, which is used up by this.
    pub(crate) fn next_nonce(&mut self) -> (&LessSafeKey, Nonce) {
        let mut nonce = self.iv;
        let number = self.sequence.to_be_bytes();
        for (byte, number) in nonce[4..].iter_mut().zip(number) {
            *byte ^= number;
        }
        self.sequence += 1;
        (&self.key, Nonce::assume_unique_for_key(nonce))
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446, section 7.1).
fn expand(suite: Suite, secret: &[u8], label: &[u8], out: &mut [u8]) -> Result<(), RecordError> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let length = u16::try_from(out.len())
        .map_err(|_| RecordError::Secrets)?
        .to_be_bytes();
    let label_length = [u8::try_from(6 + label.len()).map_err(|_| RecordError::Secrets)?];
    let info = [&length[..], &label_length[..], b"tls13 ", label, &[0]];
    let secret = hkdf::Prk::new_less_safe(suite.hkdf(), secret);
    let expanded = secret
        .expand(&info, Length(out.len()))
        .map_err(|_| RecordError::Secrets)?;
    expanded.fill(out).map_err(|_| RecordError::Secrets)
}
