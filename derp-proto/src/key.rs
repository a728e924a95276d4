//! Keys as values that cannot be confused with one another, and secrets that cannot be printed.
//!
//! Text forms are those of `types/key` of the reference: `nodekey:` and `privkey:` with 64
//! hexadecimal digits, and a mesh key as 64 digits alone.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::KeyError;
use crate::frame::KEY_LEN;

const PUBLIC_PREFIX: &str = "nodekey:";
const PRIVATE_PREFIX: &str = "privkey:";

/// A node's public key: its address on a relay.
///
/// `Display` is the full text form, `Debug` the short one that logs use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodePublic([u8; KEY_LEN]);

impl NodePublic {
    /// The key with these bytes. Any bytes are a legal address; see [`Self::check`].
    #[must_use]
    pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// The key at the front of `bytes` and what follows it, or `None` where fewer than 32 bytes
    /// are there.
    #[must_use]
    pub fn split_from(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (key, rest) = bytes.split_first_chunk()?;
        Some((Self(*key), rest))
    }

    /// The bytes of the key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The 64 hexadecimal digits without a prefix, as in HTTP headers and certificates.
    #[must_use]
    pub fn to_hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// Reads 64 hexadecimal digits without a prefix.
    ///
    /// # Errors
    /// [`KeyError::Hex`] for anything else.
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        decode_hex(text).map(Self)
    }

    /// The first five characters of the key's base64 form: enough to tell keys apart in a log.
    ///
    /// Empty for the zero key.
    #[must_use]
    pub fn short(&self) -> String {
        if self.is_zero() {
            return String::new();
        }
        BASE64.encode(&self.0).chars().take(5).collect()
    }

    /// Whether this is the value that stands for "no key".
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; KEY_LEN]
    }

    /// Refuses keys that no honest client holds: the zero key, points of low order, and
    /// encodings that are not canonical.
    ///
    /// # Errors
    /// Says which of these it is.
    pub fn check(&self) -> Result<(), KeyError> {
        if self.is_zero() {
            return Err(KeyError::Zero);
        }
        if !is_canonical(&self.0) {
            return Err(KeyError::NonCanonical);
        }
        if LOW_ORDER.contains(&self.0) {
            return Err(KeyError::LowOrder);
        }
        Ok(())
    }
}

/// The canonically encoded points of small order, zero excepted: 1, the two of order eight, and
/// p - 1. Their other encodings are not canonical.
const LOW_ORDER: [[u8; KEY_LEN]; 4] = [
    [
        1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0,
    ],
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4,
        0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49,
        0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef,
        0x5b, 0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f,
        0x11, 0x57,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0x7f,
    ],
];

/// Whether the little-endian number is below p = 2^255 - 19.
fn is_canonical(bytes: &[u8; KEY_LEN]) -> bool {
    let [low, middle @ .., high] = bytes;
    let may_reach_p = *high == 0x7f && middle.iter().all(|&byte| byte == 0xff);
    *high < 0x80 && !(may_reach_p && *low >= 0xed)
}

impl Hash for NodePublic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Without the length prefix of a slice: the length is always the same.
        state.write(&self.0);
    }
}

impl fmt::Display for NodePublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PUBLIC_PREFIX)?;
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for NodePublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.short())
    }
}

impl FromStr for NodePublic {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digits = text.strip_prefix(PUBLIC_PREFIX).ok_or(KeyError::Prefix {
            expected: PUBLIC_PREFIX,
        })?;
        Self::from_hex(digits)
    }
}

/// A node's private key, clamped, wiped when dropped, and impossible to print by accident.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct NodePrivate([u8; KEY_LEN]);

impl NodePrivate {
    /// Makes a key of 32 random bytes, clamping them as `types/key/util.go` does.
    #[must_use]
    pub fn from_random(random: [u8; KEY_LEN]) -> Self {
        let mut bytes = random;
        let [low, .., high] = &mut bytes;
        *low &= 0xf8;
        *high = (*high & 0x7f) | 0x40;
        Self(bytes)
    }

    /// Reads `privkey:` and 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`KeyError::Prefix`], [`KeyError::Hex`], or [`KeyError::Zero`] for a key that is none.
    pub fn from_secret_text(text: &str) -> Result<Self, KeyError> {
        let digits = text.strip_prefix(PRIVATE_PREFIX).ok_or(KeyError::Prefix {
            expected: PRIVATE_PREFIX,
        })?;
        let bytes = decode_hex(digits)?;
        if bytes == [0; KEY_LEN] {
            return Err(KeyError::Zero);
        }
        Ok(Self(bytes))
    }

    /// The text form for a key file. Named so that every use can be found.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let digits = Zeroizing::new(HEXLOWER.encode(&self.0));
        Zeroizing::new(format!("{PRIVATE_PREFIX}{}", *digits))
    }

    /// The bytes of the key, for a cipher provider. Named so that every use can be found.
    #[must_use]
    pub const fn expose_secret_bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> NodePublic {
        let secret = x25519_dalek::StaticSecret::from(self.0);
        NodePublic(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }

    /// The secret that this node shares with `peer`.
    ///
    /// # Errors
    /// Where `peer` is not a usable key; see [`NodePublic::check`].
    pub fn shared_secret(&self, peer: &NodePublic) -> Result<SharedSecret, KeyError> {
        peer.check()?;
        let secret = x25519_dalek::StaticSecret::from(self.0);
        let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(peer.0));
        SharedSecret::from_x25519(shared.to_bytes())
    }
}

impl fmt::Debug for NodePrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodePrivate(redacted)")
    }
}

/// What X25519 made of one side's private and the other side's public key.
///
/// A server that has a faster X25519 than this crate's computes it there.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SharedSecret([u8; KEY_LEN]);

impl SharedSecret {
    /// Takes the output of X25519.
    ///
    /// # Errors
    /// [`KeyError::LowOrder`] for the all-zero secret, which anybody can compute.
    pub fn from_x25519(mut bytes: [u8; KEY_LEN]) -> Result<Self, KeyError> {
        if bool::from(bytes.ct_eq(&[0; KEY_LEN])) {
            return Err(KeyError::LowOrder);
        }
        let secret = Self(bytes);
        bytes.zeroize();
        Ok(secret)
    }

    pub(crate) const fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedSecret(redacted)")
    }
}

/// The secret that the relays of one region share.
///
/// It can be compared, in constant time, and sealed into a client's hello, and nothing else:
/// there is no `==` and no way to print it by accident. There is no "zero mesh key"; use
/// `Option`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MeshKey([u8; KEY_LEN]);

impl MeshKey {
    /// Reads 64 hexadecimal digits of either case, with white space around them.
    ///
    /// # Errors
    /// [`KeyError::Hex`] for anything else, [`KeyError::Zero`] for the value that Go treats as
    /// "no key".
    pub fn from_secret_text(text: &str) -> Result<Self, KeyError> {
        let bytes = decode_hex(text.trim())?;
        if bytes == [0; KEY_LEN] {
            return Err(KeyError::Zero);
        }
        Ok(Self(bytes))
    }

    /// The 64 lowercase digits. Named so that every use can be found.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        Zeroizing::new(HEXLOWER.encode(&self.0))
    }

    /// Whether both are the same key, in time that does not depend on where they differ.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MeshKey(redacted)")
    }
}

fn decode_hex(text: &str) -> Result<[u8; KEY_LEN], KeyError> {
    if text.len() != 2 * KEY_LEN {
        return Err(KeyError::Hex);
    }
    let mut bytes = [0; KEY_LEN];
    match HEXLOWER_PERMISSIVE.decode_mut(text.as_bytes(), &mut bytes) {
        Ok(_) => Ok(bytes),
        Err(_) => Err(KeyError::Hex),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRIV: &str = "privkey:40ab1b58e9076c7a4d9d07291f5edf9d1aa017eb949624ba683317f48a640369";
    const PUB: &str = "nodekey:50d20b455ecf12bc453f83c2cfdb2a24925d06cf2598dcaa54e91af82ce9f765";

    #[test]
    fn key_text_survives_a_round_trip() {
        let public: NodePublic = PUB.parse().unwrap();
        assert_eq!(public.to_string(), PUB);
        let private = NodePrivate::from_secret_text(PRIV).unwrap();
        assert_eq!(*private.to_secret_text(), PRIV);
        let upper = PUB.to_uppercase().replace("NODEKEY:", "nodekey:");
        assert_eq!(upper.parse(), Ok(public));
    }

    #[test]
    fn key_text_must_be_exact() {
        let digits = PUB.strip_prefix("nodekey:").unwrap();
        let table = [
            (
                digits.to_owned(),
                KeyError::Prefix {
                    expected: "nodekey:",
                },
            ),
            (format!("nodekey:{}", &digits[1..]), KeyError::Hex),
            (format!("nodekey:{digits}0"), KeyError::Hex),
            (format!("nodekey:g{}", &digits[1..]), KeyError::Hex),
            (
                format!(" {PUB}"),
                KeyError::Prefix {
                    expected: "nodekey:",
                },
            ),
            (format!("nodekey:{}é", &digits[2..]), KeyError::Hex),
        ];
        for (text, error) in table {
            assert_eq!(text.parse::<NodePublic>(), Err(error), "{text}");
        }
        let zero = format!("privkey:{}", "0".repeat(64));
        assert_eq!(
            NodePrivate::from_secret_text(&zero).err(),
            Some(KeyError::Zero)
        );
    }

    #[test]
    fn the_public_half_and_the_short_form_match_the_reference() {
        let server = NodePrivate::from_random([0x11; 32]);
        assert_eq!(
            server.public().to_hex(),
            "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13"
        );
        assert_eq!(format!("{:?}", server.public()), "[e06Qm]");
        let client = NodePrivate::from_random([0x22; 32]);
        assert_eq!(format!("{:?}", client.public()), "[D6poT]");
        assert_eq!(NodePublic::from_bytes([0; 32]).short(), "");
    }

    #[test]
    fn mesh_keys_are_64_digits_with_space_around() {
        let digits = "6d529e9d4ef632d22d4a4214cb49da8f1ba1b72697061fb24e312984c35ec8d8";
        let key = MeshKey::from_secret_text(digits).unwrap();
        for text in [
            format!("  {digits}  "),
            digits.to_uppercase(),
            format!("{digits}\n"),
        ] {
            assert!(MeshKey::from_secret_text(&text).unwrap().ct_eq(&key));
        }
        assert_eq!(*key.to_secret_text(), digits);
        for bad in ["badf00d", "", &digits[..16], &format!("{digits}0")] {
            assert_eq!(
                MeshKey::from_secret_text(bad).err(),
                Some(KeyError::Hex),
                "{bad}"
            );
        }
        let zero = "0".repeat(64);
        assert_eq!(MeshKey::from_secret_text(&zero).err(), Some(KeyError::Zero));
        for bit in 0..256 {
            let mut other = key.clone();
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!other.ct_eq(&key));
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let private = NodePrivate::from_secret_text(PRIV).unwrap();
        let mesh = MeshKey::from_secret_text(&"0123456789abcdef".repeat(4)).unwrap();
        let shared = SharedSecret([7; 32]);
        assert_eq!(
            format!("{private:?} {mesh:?} {shared:?}"),
            "NodePrivate(redacted) MeshKey(redacted) SharedSecret(redacted)"
        );
    }

    #[test]
    fn keys_that_nobody_can_hold_are_refused() {
        let le = |text: &str| NodePublic::from_hex(text).unwrap();
        let ff = |low: &str, high: &str| le(&format!("{low}{}{high}", "ff".repeat(30)));
        let table = [
            (le(&"0".repeat(64)), KeyError::Zero),
            (le(&format!("01{}", "0".repeat(62))), KeyError::LowOrder),
            (ff("ec", "7f"), KeyError::LowOrder),
            (ff("ed", "7f"), KeyError::NonCanonical), // p, another 0
            (ff("ee", "7f"), KeyError::NonCanonical), // p + 1, another 1
            (ff("ff", "7f"), KeyError::NonCanonical), // 2^255 - 1
            (ff("ff", "ff"), KeyError::NonCanonical),
            (le(&format!("{}80", "0".repeat(62))), KeyError::NonCanonical), // 0, top bit set
            (
                le(&format!("01{}80", "0".repeat(60))),
                KeyError::NonCanonical,
            ),
        ];
        for (key, error) in table {
            assert_eq!(key.check(), Err(error), "{key}");
        }
        let private = NodePrivate::from_random([0x22; 32]);
        for bytes in LOW_ORDER {
            assert_eq!(NodePublic(bytes).check(), Err(KeyError::LowOrder));
            // The list is right: each of them leads to the secret that everybody knows.
            let point = x25519_dalek::PublicKey::from(bytes);
            let secret = x25519_dalek::StaticSecret::from(private.0);
            assert!(!secret.diffie_hellman(&point).was_contributory());
        }
        assert_eq!(private.public().check(), Ok(()));
        assert_eq!(ff("eb", "7f").check(), Ok(()));
    }
}
