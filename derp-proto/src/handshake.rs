//! The login, as types that exist only once a step is done. Bytes in, bytes out, no I/O.
//!
//! Server: [`Greeted`] → [`Claim`] (somebody says that it holds a key) → [`ClientHello`] (it has
//! proved it) → the answer. Client: [`ServerIdentity`] → [`AwaitServerInfo`] → [`ServerInfo`].

use std::ops::Range;

use crate::client_frame::ClientFrame;
use crate::error::{DecodeError, HandshakeError};
use crate::frame::{FrameHeader, FrameType, HEADER_LEN, KEY_LEN, MAGIC, NONCE_LEN};
use crate::info::{ClientInfo, ServerInfo};
use crate::key::{NodePrivate, NodePublic, SharedSecret};
use crate::sealed::{self, Nonce};
use crate::server_frame::ServerFrame;

/// Nonce and tag of a box.
const BOX_OVERHEAD: usize = NONCE_LEN + 16;
/// The longest greeting that a client takes (`derp/derp_client.go`).
const MAX_GREETING_LEN: usize = 1024;

/// A server that has sent its key and waits for the client's.
#[derive(Debug, Clone, Copy)]
pub struct Greeted {
    max_info_len: usize,
}

impl Greeted {
    /// Appends the greeting to `out`. The client's answer may have `max_info_len` bytes at most
    /// ([`crate::MAX_CLIENT_INFO_LEN`] by default).
    pub fn greet(server: &NodePublic, max_info_len: usize, out: &mut Vec<u8>) -> Self {
        ServerFrame::ServerKey(*server).encode(out);
        Self { max_info_len }
    }

    /// Looks for the ClientInfo frame at the front of `bytes`: `None` until it is whole, then
    /// the claim and how many bytes it took. What follows is the client's first frame.
    ///
    /// # Errors
    /// Another frame, or one that is too short or too long. By the header alone, where possible.
    pub fn read<'a>(&self, bytes: &'a [u8]) -> Result<Option<(Claim<'a>, usize)>, HandshakeError> {
        let limits = KEY_LEN + NONCE_LEN..self.max_info_len + 1;
        let Some(body) = whole_body(bytes, FrameType::CLIENT_INFO, limits)? else {
            return Ok(None);
        };
        let end = HEADER_LEN + body.len();
        match ClientFrame::parse(FrameType::CLIENT_INFO, body)? {
            ClientFrame::ClientInfo { key, sealed } => Ok(Some((Claim { key, sealed }, end))),
            _ => unreachable!("a ClientInfo frame parses as ClientInfo"),
        }
    }
}

/// A client that says which key it holds. Nothing is proved yet.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    key: NodePublic,
    sealed: &'a [u8],
}

impl Claim<'_> {
    /// The key that the client claims.
    #[must_use]
    pub const fn key(&self) -> NodePublic {
        self.key
    }

    /// Opens the box with the secret that the server shares with [`Self::key`], which proves the
    /// claim: nobody else could have sealed it.
    ///
    /// # Errors
    /// [`HandshakeError::BoxSealedByAnother`], or what is wrong with the information.
    pub fn open(&self, secret: SharedSecret) -> Result<ClientHello, HandshakeError> {
        self.key.check()?;
        let json = sealed::open(&secret, self.sealed).ok_or(HandshakeError::BoxSealedByAnother)?;
        let info = ClientInfo::from_json(&json)?;
        Ok(ClientHello {
            key: self.key,
            info,
            secret,
        })
    }
}

/// A client that has proved which key it holds, and is not admitted yet.
#[derive(Debug, Clone)]
pub struct ClientHello {
    key: NodePublic,
    info: ClientInfo,
    secret: SharedSecret,
}

impl ClientHello {
    /// The client's key.
    #[must_use]
    pub const fn key(&self) -> NodePublic {
        self.key
    }

    /// What the client says of itself.
    #[must_use]
    pub const fn info(&self) -> &ClientInfo {
        &self.info
    }

    /// Appends the frame that admits the client to `out`.
    pub fn answer(&self, nonce: Nonce, info: &ServerInfo, out: &mut Vec<u8>) {
        let mut boxed = Vec::with_capacity(128);
        sealed::seal(&self.secret, nonce, &info.to_json(), &mut boxed);
        ServerFrame::ServerInfo(&boxed).encode(out);
    }
}

/// A server whose key the client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerIdentity {
    key: NodePublic,
}

impl ServerIdentity {
    /// A server whose key is known from elsewhere, as from its meta certificate.
    #[must_use]
    pub const fn known(key: NodePublic) -> Self {
        Self { key }
    }

    /// Looks for the greeting at the front of `bytes`: `None` until it is whole, then the server
    /// and how many bytes it took.
    ///
    /// # Errors
    /// Another frame, one without the magic, or one that is too short or too long.
    pub fn read(bytes: &[u8]) -> Result<Option<(Self, usize)>, HandshakeError> {
        let limits = MAGIC.len() + KEY_LEN..MAX_GREETING_LEN + 1;
        let Some(body) = whole_body(bytes, FrameType::SERVER_KEY, limits)? else {
            return Ok(None);
        };
        match ServerFrame::parse(FrameType::SERVER_KEY, body)? {
            ServerFrame::ServerKey(key) => Ok(Some((Self { key }, HEADER_LEN + body.len()))),
            _ => unreachable!("a ServerKey frame parses as ServerKey"),
        }
    }

    /// The server's key.
    #[must_use]
    pub const fn key(&self) -> NodePublic {
        self.key
    }

    /// Appends the client's ClientInfo frame to `out`.
    ///
    /// # Errors
    /// Where the server's key is unusable: a hostile server's.
    pub fn hello(
        &self,
        client: &NodePrivate,
        info: &ClientInfo,
        nonce: Nonce,
        out: &mut Vec<u8>,
    ) -> Result<AwaitServerInfo, HandshakeError> {
        let secret = client.shared_secret(&self.key)?;
        let mut boxed = Vec::with_capacity(256);
        sealed::seal(&secret, nonce, &info.to_json(), &mut boxed);
        ClientFrame::ClientInfo {
            key: client.public(),
            sealed: &boxed,
        }
        .encode(out);
        Ok(AwaitServerInfo { secret })
    }
}

/// A client that has logged in and waits to be admitted. It may send packets already.
#[derive(Debug, Clone)]
pub struct AwaitServerInfo {
    secret: SharedSecret,
}

impl AwaitServerInfo {
    /// Opens the body of a ServerInfo frame ([`ServerFrame::ServerInfo`]): the server holds the
    /// key that it greeted with, and admits the client.
    ///
    /// # Errors
    /// [`HandshakeError::BoxSealedByAnother`], or what is wrong with the information.
    pub fn open(&self, sealed: &[u8]) -> Result<ServerInfo, HandshakeError> {
        let json = sealed::open(&self.secret, sealed).ok_or(HandshakeError::BoxSealedByAnother)?;
        Ok(ServerInfo::from_json(&json)?)
    }
}

/// The body at the front of `bytes`, which must be a frame of this type and of a legal length;
/// `None` until it is whole.
fn whole_body(
    bytes: &[u8],
    expected: FrameType,
    lengths: Range<usize>,
) -> Result<Option<&[u8]>, HandshakeError> {
    if let Some(&got) = bytes.first()
        && got != expected.0
    {
        return Err(HandshakeError::UnexpectedFrame {
            expected,
            got: FrameType(got),
        });
    }
    let Some(FrameHeader { ty, len }) = FrameHeader::parse(bytes) else {
        return Ok(None);
    };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len < lengths.start {
        return Err(DecodeError::TooShort {
            ty,
            len,
            min: lengths.start,
        }
        .into());
    }
    if len >= lengths.end {
        return Err(DecodeError::TooLong {
            ty,
            len,
            max: lengths.end - 1,
        }
        .into());
    }
    Ok(bytes.get(HEADER_LEN..HEADER_LEN + len))
}

/// A ServerInfo frame has room for a box at least.
const _: () = assert!(BOX_OVERHEAD == 40);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_CLIENT_INFO_LEN;
    use crate::error::KeyError;

    fn keys() -> (NodePrivate, NodePrivate) {
        (
            NodePrivate::from_random([0x11; 32]),
            NodePrivate::from_random([0x22; 32]),
        )
    }

    #[test]
    fn both_sides_agree() {
        let (server, client) = keys();
        let mut wire = Vec::new();
        let greeted = Greeted::greet(&server.public(), MAX_CLIENT_INFO_LEN, &mut wire);
        let (identity, end) = ServerIdentity::read(&wire).unwrap().unwrap();
        assert_eq!((identity.key(), end), (server.public(), wire.len()));

        let mut wire = Vec::new();
        let wait = identity
            .hello(&client, &ClientInfo::plain(), [1; 24], &mut wire)
            .unwrap();
        wire.extend_from_slice(b"the first frame");
        let (claim, end) = greeted.read(&wire).unwrap().unwrap();
        assert_eq!(&wire[end..], b"the first frame");
        let hello = claim
            .open(server.shared_secret(&claim.key()).unwrap())
            .unwrap();
        assert_eq!((hello.key(), hello.info().version), (client.public(), 2));

        let mut wire = Vec::new();
        hello.answer([2; 24], &ServerInfo::plain(), &mut wire);
        let ServerFrame::ServerInfo(sealed) =
            ServerFrame::parse(FrameType::SERVER_INFO, &wire[5..]).unwrap()
        else {
            panic!("the answer is a ServerInfo frame");
        };
        assert_eq!(wait.open(sealed), Ok(ServerInfo::plain()));
    }

    #[test]
    fn a_first_frame_is_refused_as_early_as_it_can_be() {
        let greeted = Greeted {
            max_info_len: MAX_CLIENT_INFO_LEN,
        };
        let unexpected = HandshakeError::UnexpectedFrame {
            expected: FrameType::CLIENT_INFO,
            got: FrameType(b'G'),
        };
        assert_eq!(greeted.read(b"G").unwrap_err(), unexpected);
        let read = |len: u32| {
            let header = FrameHeader {
                ty: FrameType::CLIENT_INFO,
                len,
            }
            .to_bytes();
            greeted.read(&header).map(|claim| claim.is_some())
        };
        let too = |len, ok| assert_eq!(read(len).is_ok(), ok, "{len}");
        too(55, false);
        too(56, true);
        too(16 << 10, true);
        too((16 << 10) + 1, false);
        too(u32::MAX, false);
    }

    #[test]
    fn a_box_proves_the_key_it_was_sealed_with() {
        let (server, client) = keys();
        let other = NodePrivate::from_random([0x33; 32]);
        let mut wire = Vec::new();
        let identity = ServerIdentity::known(server.public());
        identity
            .hello(&client, &ClientInfo::plain(), [1; 24], &mut wire)
            .unwrap();
        // Somebody claims another's key with a box of its own.
        wire[5..37].copy_from_slice(other.public().as_bytes());
        let greeted = Greeted {
            max_info_len: MAX_CLIENT_INFO_LEN,
        };
        let (claim, _) = greeted.read(&wire).unwrap().unwrap();
        let secret = server.shared_secret(&claim.key()).unwrap();
        assert_eq!(
            claim.open(secret).unwrap_err(),
            HandshakeError::BoxSealedByAnother
        );
    }

    #[test]
    fn a_hostile_servers_key_is_refused() {
        let (_, client) = keys();
        let identity = ServerIdentity::known(NodePublic::from_bytes([0; 32]));
        let refused = identity.hello(&client, &ClientInfo::plain(), [1; 24], &mut Vec::new());
        assert_eq!(refused.unwrap_err(), HandshakeError::Key(KeyError::Zero));
    }
}
