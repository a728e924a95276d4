//! NaCl boxes as DERP lays them out: nonce, then tag and ciphertext.
//!
//! The box is built from a computed shared secret rather than from a key pair, so that a server
//! may compute that secret with whatever X25519 it has.

use crypto_secretbox::aead::{Aead, KeyInit};
use crypto_secretbox::{XSalsa20Poly1305, cipher::consts::U10};
use zeroize::Zeroize;

use crate::frame::NONCE_LEN;
use crate::key::SharedSecret;

/// 24 random bytes, never used twice with the same pair of keys.
pub type Nonce = [u8; NONCE_LEN];

/// Appends nonce and box of `plain` to `out`: 40 bytes more than `plain` has.
pub(crate) fn seal(secret: &SharedSecret, nonce: Nonce, plain: &[u8], out: &mut Vec<u8>) {
    let boxed = cipher(secret)
        .encrypt(&nonce.into(), plain)
        .expect("XSalsa20-Poly1305 takes any message that fits into memory");
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&boxed);
}

/// Opens what [`seal`] laid down, or `None` where it was not made with this secret.
pub(crate) fn open(secret: &SharedSecret, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, boxed) = sealed.split_first_chunk::<NONCE_LEN>()?;
    cipher(secret).decrypt(nonce.into(), boxed).ok()
}

fn cipher(secret: &SharedSecret) -> XSalsa20Poly1305 {
    // NaCl's crypto_box hashes the curve's output with HSalsa20 before it is a cipher key.
    let mut key = salsa20::hsalsa::<U10>(secret.bytes().into(), &[0; 16].into());
    let cipher = XSalsa20Poly1305::new(&key);
    key.zeroize();
    cipher
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::NodePrivate;

    #[test]
    fn our_boxes_are_nacl_boxes() {
        let (alice, bob) = (
            NodePrivate::from_random([1; 32]),
            NodePrivate::from_random([2; 32]),
        );
        let secret = alice.shared_secret(&bob.public()).unwrap();
        let mut ours = Vec::new();
        seal(&secret, [9; 24], b"a message", &mut ours);

        let theirs = crypto_box::SalsaBox::new(
            &crypto_box::PublicKey::from(*alice.public().as_bytes()),
            &crypto_box::SecretKey::from(*bob.expose_secret_bytes()),
        );
        let opened = theirs.decrypt(&[9; 24].into(), &ours[24..]).unwrap();
        assert_eq!(opened, b"a message");
        assert_eq!(open(&secret, &ours).as_deref(), Some(&b"a message"[..]));
        assert_eq!(ours.len(), 9 + 40);
    }

    #[test]
    fn a_changed_box_does_not_open() {
        let (alice, bob) = (
            NodePrivate::from_random([1; 32]),
            NodePrivate::from_random([2; 32]),
        );
        let secret = alice.shared_secret(&bob.public()).unwrap();
        let mut sealed = Vec::new();
        seal(&secret, [9; 24], b"a message", &mut sealed);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open(&secret, &changed), None, "byte {at}");
            assert_eq!(open(&secret, &sealed[..at]), None, "cut at {at}");
        }
    }
}
