//! DERP frames by hand: any type with any length and any body, right or wrong.

use crypto_box::aead::Aead;
use crypto_box::{PublicKey, SalsaBox, SecretKey};
use derp_proto::{FrameType, NodePrivate, NodePublic};

pub(crate) const SERVER_KEY: u8 = FrameType::SERVER_KEY.0;
pub(crate) const CLIENT_INFO: u8 = FrameType::CLIENT_INFO.0;
pub(crate) const SERVER_INFO: u8 = FrameType::SERVER_INFO.0;
pub(crate) const SEND_PACKET: u8 = FrameType::SEND_PACKET.0;
pub(crate) const RECV_PACKET: u8 = FrameType::RECV_PACKET.0;
pub(crate) const KEEP_ALIVE: u8 = FrameType::KEEP_ALIVE.0;
pub(crate) const NOTE_PREFERRED: u8 = FrameType::NOTE_PREFERRED.0;
pub(crate) const PEER_GONE: u8 = FrameType::PEER_GONE.0;
pub(crate) const PEER_PRESENT: u8 = FrameType::PEER_PRESENT.0;
pub(crate) const FORWARD_PACKET: u8 = FrameType::FORWARD_PACKET.0;
pub(crate) const WATCH_CONNS: u8 = FrameType::WATCH_CONNS.0;
pub(crate) const CLOSE_PEER: u8 = FrameType::CLOSE_PEER.0;
pub(crate) const PING: u8 = FrameType::PING.0;
pub(crate) const PONG: u8 = FrameType::PONG.0;
pub(crate) const HEALTH: u8 = FrameType::HEALTH.0;
pub(crate) const RESTARTING: u8 = FrameType::RESTARTING.0;
/// A type that nobody has given a meaning.
pub(crate) const UNKNOWN: u8 = 0x77;

/// The largest packet (`derp/derp.go`).
pub(crate) const MAX_PACKET: usize = 64 << 10;

/// The type and length of a frame, whatever follows.
pub(crate) fn header(ty: u8, len: u32) -> Vec<u8> {
    [&[ty][..], &len.to_be_bytes()].concat()
}

/// A frame with these parts as its body.
pub(crate) fn frame(ty: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let len = u32::try_from(body.len()).expect("a body of a case fits into a length");
    [header(ty, len), body].concat()
}

/// A packet for `to`.
pub(crate) fn packet(to: &NodePublic, data: &[u8]) -> Vec<u8> {
    frame(SEND_PACKET, &[to.as_bytes(), data])
}

/// A packet of `from`, whom another relay serves, for `to`.
pub(crate) fn forwarded(from: &NodePublic, to: &NodePublic, data: &[u8]) -> Vec<u8> {
    frame(FORWARD_PACKET, &[from.as_bytes(), to.as_bytes(), data])
}

/// The shortest packet that looks like disco: the magic, a key and a nonce.
pub(crate) fn disco() -> Vec<u8> {
    [&b"TS\xf0\x9f\x92\xac"[..], &[0x42; 56]].concat()
}

/// A login frame: `claimed`, and `info` in a box of `private` for `server`.
pub(crate) fn client_info(
    claimed: &NodePublic,
    private: &NodePrivate,
    server: &NodePublic,
    info: &[u8],
) -> Vec<u8> {
    let sealed = seal(private, server, info);
    frame(CLIENT_INFO, &[claimed.as_bytes(), &sealed])
}

/// Nonce and NaCl box, as another implementation than derpkit's makes them.
pub(crate) fn seal(private: &NodePrivate, to: &NodePublic, plain: &[u8]) -> Vec<u8> {
    let nonce: [u8; 24] = random();
    let boxed = salsa_box(private, to)
        .encrypt(&nonce.into(), plain)
        .expect("a message that fits into memory");
    [&nonce[..], &boxed].concat()
}

/// What is in a nonce and box, or `None` where it does not open.
pub(crate) fn open(private: &NodePrivate, from: &NodePublic, sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, boxed) = sealed.split_first_chunk::<24>()?;
    salsa_box(private, from).decrypt(nonce.into(), boxed).ok()
}

fn salsa_box(private: &NodePrivate, peer: &NodePublic) -> SalsaBox {
    let theirs = PublicKey::from(*peer.as_bytes());
    SalsaBox::new(&theirs, &SecretKey::from(*private.expose_secret_bytes()))
}

/// A key that nobody has used.
pub(crate) fn new_key() -> NodePrivate {
    NodePrivate::from_random(random())
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes
}
