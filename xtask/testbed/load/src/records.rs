//! TLS 1.3 records with AES-128-GCM, once rustls has done the handshake.
//!
//! rustls's buffered records cost more than all the rest of the generator. What is not here: key
//! updates, which a server of a run as short as ours has no reason to send, other ciphers, and
//! records beyond what one frame of a test needs.

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use derp_proto::{KEY_LEN, NodePublic};
use rustls::{ClientConnection, ConnectionTrafficSecrets};

/// Content type, legacy version, length.
pub(crate) const RECORD_HEADER_LEN: usize = 5;
const TAG_LEN: usize = 16;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const NEW_SESSION_TICKET: u8 = 4;

/// Both directions of a connection.
#[derive(Debug)]
pub(crate) struct Records {
    tx: Direction,
    rx: Direction,
}

#[derive(Debug)]
struct Direction {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl Records {
    /// Takes over from rustls, which must hold no bytes of either direction any more.
    pub(crate) fn take_over(tls: ClientConnection) -> Result<Self> {
        let secrets = tls.dangerous_extract_secrets()?;
        Ok(Self {
            tx: Direction::new(secrets.tx)?,
            rx: Direction::new(secrets.rx)?,
        })
    }

    /// Those of a client of the bare relay. Everybody can know their keys.
    pub(crate) fn of_bare_client(key: &NodePublic) -> Result<Self> {
        let (up, down) = key.as_bytes().split_at(KEY_LEN / 2);
        Ok(Self {
            tx: Direction::known(up)?,
            rx: Direction::known(down)?,
        })
    }

    /// The other end of [`Self::of_bare_client`].
    pub(crate) fn of_bare_relay(key: &NodePublic) -> Result<Self> {
        let Self { tx, rx } = Self::of_bare_client(key)?;
        Ok(Self { tx: rx, rx: tx })
    }

    /// Appends a record to `out` that holds what `write` appends.
    pub(crate) fn seal(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = out.len();
        out.extend_from_slice(&[APPLICATION_DATA, 3, 3, 0, 0]);
        write(out);
        out.push(APPLICATION_DATA);
        let len = out.len() - start - RECORD_HEADER_LEN + TAG_LEN;
        let len = u16::try_from(len).expect("arguments limit a packet to what a record can hold");
        out[start + 3..start + RECORD_HEADER_LEN].copy_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&[0; TAG_LEN]);
        self.seal_again(&mut out[start..]);
    }

    /// Seals a whole record where it lies: one whose content was opened there, and may have been
    /// changed since.
    pub(crate) fn seal_again(&mut self, record: &mut [u8]) {
        let (header, rest) = record.split_at_mut(RECORD_HEADER_LEN);
        let (plain, place) = rest.split_at_mut(rest.len() - TAG_LEN);
        let nonce = self.tx.next_nonce();
        let tag = self
            .tx
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(&*header), plain)
            .expect("a record is within the cipher's limits");
        place.copy_from_slice(tag.as_ref());
    }

    /// The application data in a whole record, decrypted in place; none in a session ticket.
    pub(crate) fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<&'a [u8]> {
        let (header, sealed) = record.split_at_mut(RECORD_HEADER_LEN);
        if header[0] == CHANGE_CIPHER_SPEC {
            return Ok(&[]);
        }
        ensure!(
            header[0] == APPLICATION_DATA,
            "a record of type {} in the clear",
            header[0]
        );
        let nonce = self.rx.next_nonce();
        let plain = self
            .rx
            .key
            .open_in_place(nonce, Aad::from(&*header), sealed)
            .ok()
            .context("a record does not open")?;
        let end = plain
            .iter()
            .rposition(|&byte| byte != 0)
            .context("a record without a type")?;
        match plain[end] {
            APPLICATION_DATA => Ok(&plain[..end]),
            HANDSHAKE if plain[0] == NEW_SESSION_TICKET => Ok(&[]),
            HANDSHAKE => bail!(
                "a handshake message of type {} after the handshake",
                plain[0]
            ),
            ALERT => bail!("the server sent alert {:?}", &plain[..end]),
            other => bail!("a record of type {other}"),
        }
    }
}

impl Direction {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Result<Self> {
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            bail!("the server chose another cipher than the one that was offered");
        };
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref())
            .ok()
            .context("the key's length")?;
        let iv = iv.as_ref().try_into().context("the nonce's length")?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv,
            sequence,
        })
    }

    fn known(key: &[u8]) -> Result<Self> {
        let key = UnboundKey::new(&AES_128_GCM, key)
            .ok()
            .context("the key's length")?;
        Ok(Self {
            key: LessSafeKey::new(key),
            iv: [0; NONCE_LEN],
            sequence: 0,
        })
    }

    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        for (byte, number) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= number;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The length of the record at the front of `bytes`, its header included, once that is known.
pub(crate) fn record_len(bytes: &[u8]) -> Option<usize> {
    let &[_, _, _, high, low] = bytes.first_chunk::<RECORD_HEADER_LEN>()?;
    Some(RECORD_HEADER_LEN + usize::from(u16::from_be_bytes([high, low])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direction() -> Direction {
        let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).unwrap();
        Direction {
            key: LessSafeKey::new(key),
            iv: [9; NONCE_LEN],
            sequence: 0,
        }
    }

    /// Both directions have the same keys: what it seals, it opens.
    fn mirror() -> Records {
        Records {
            tx: direction(),
            rx: direction(),
        }
    }

    fn sealed(records: &mut Records, plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        records.seal(&mut out, |out| out.extend_from_slice(plain));
        out
    }

    #[test]
    fn records_open_in_their_order_and_in_no_other() {
        let mut records = mirror();
        let mut first = sealed(&mut records, b"first");
        let mut second = sealed(&mut records, b"second\0\0");
        assert_eq!(record_len(&first), Some(first.len()));
        assert_eq!(records.open(&mut first).unwrap(), b"first");
        assert_eq!(records.open(&mut second).unwrap(), b"second\0\0");

        let mut records = mirror();
        sealed(&mut records, b"first");
        let mut second = sealed(&mut records, b"second");
        assert!(records.open(&mut second).is_err());
    }

    #[test]
    fn what_was_opened_is_sealed_again_where_it_lies() {
        let key = NodePublic::from_bytes([5; KEY_LEN]);
        let mut client = Records::of_bare_client(&key).unwrap();
        let mut relay = Records::of_bare_relay(&key).unwrap();
        let mut record = sealed(&mut client, b"up and down");
        let len = relay.open(&mut record).unwrap().len();
        record[RECORD_HEADER_LEN..RECORD_HEADER_LEN + len].copy_from_slice(b"changed now");
        relay.seal_again(&mut record);
        assert_eq!(client.open(&mut record).unwrap(), b"changed now");
    }

    #[test]
    fn a_changed_record_does_not_open() {
        for at in [0, 4, RECORD_HEADER_LEN, 20] {
            let mut records = mirror();
            let mut record = sealed(&mut records, b"a frame");
            record[at] ^= 1;
            assert!(records.open(&mut record).is_err(), "byte {at}");
        }
    }
}
