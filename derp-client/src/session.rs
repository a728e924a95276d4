//! What the frames of a server mean to a client that has logged in. Pure: frames in, decisions
//! out.

use bytes::Bytes;
use derp_proto::{AwaitServerInfo, KEY_LEN, OwnedFrame, PingData, ServerFrame, ServerInfo};

use crate::error::RecvError;
use crate::received::Received;

/// The most of a health message that is passed on, in characters.
const MAX_HEALTH_LEN: usize = 1024;

/// What is to be done about a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is the caller's.
    Deliver(Received),
    /// It is answered with a pong.
    Pong(PingData),
    /// Nothing: it is of no use, or too short to be.
    Skip,
}

/// A connection from the login on.
#[derive(Debug)]
pub(crate) struct Session {
    login: AwaitServerInfo,
    admitted: bool,
}

impl Session {
    pub(crate) const fn new(login: AwaitServerInfo) -> Self {
        Self {
            login,
            admitted: false,
        }
    }

    /// Whether the server has admitted the client.
    pub(crate) const fn is_admitted(&self) -> bool {
        self.admitted
    }

    /// Decides about one frame.
    ///
    /// Nothing but ServerInfo is believed before that: only it proves that the server holds its
    /// key. The greeting may come here after a fast start, and is nothing new then.
    pub(crate) fn on_frame(&mut self, frame: &OwnedFrame) -> Result<Step, RecvError> {
        let Ok(parsed) = frame.as_server() else {
            tracing::debug!(ty = ?frame.ty, len = frame.body.len(), "skipped a frame that is too short");
            return Ok(Step::Skip);
        };
        let received = match parsed {
            ServerFrame::ServerKey(_) | ServerFrame::Unknown(_) => return Ok(Step::Skip),
            ServerFrame::ServerInfo(sealed) => {
                let info: ServerInfo = self.login.open(sealed)?;
                self.admitted = true;
                Received::ServerInfo(info)
            }
            _ if !self.admitted => return Err(RecvError::OutOfTurn(frame.ty)),
            ServerFrame::Ping(data) => return Ok(Step::Pong(data)),
            ServerFrame::RecvPacket { src, .. } => Received::Packet {
                src,
                packet: packet_of(&frame.body),
            },
            ServerFrame::KeepAlive => Received::KeepAlive,
            ServerFrame::PeerGone { key, reason } => Received::PeerGone { key, reason },
            ServerFrame::PeerPresent(present) => Received::PeerPresent(present),
            ServerFrame::Pong(data) => Received::Pong(data),
            ServerFrame::Health(problem) => Received::Health(health_of(&problem)),
            ServerFrame::Restarting {
                reconnect_in,
                try_for,
            } => Received::Restarting {
                reconnect_in,
                try_for,
            },
        };
        Ok(Step::Deliver(received))
    }
}

/// The packet in a RecvPacket frame that parsed, without a copy.
fn packet_of(body: &Bytes) -> Bytes {
    body.slice(KEY_LEN..)
}

/// What the server says is wrong, fit to be shown: nobody wants a megabyte of it, or its control
/// characters.
fn health_of(problem: &str) -> Option<String> {
    let shown: String = problem
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_HEALTH_LEN)
        .collect();
    (!problem.is_empty()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::BytesMut;
    use derp_proto::{
        ClientInfo, DecodeError, FrameDecoder, FrameType, HandshakeError, NodePrivate, NodePublic,
        PeerGoneReason, PeerPresent, PeerPresentFlags, ServerIdentity, ServerSide,
    };
    use proptest::prelude::*;

    use super::*;

    const PEER: NodePublic = NodePublic::from_bytes([7; 32]);

    fn session() -> Session {
        let (server, client) = (
            NodePrivate::from_random([1; 32]),
            NodePrivate::from_random([2; 32]),
        );
        let identity = ServerIdentity::known(server.public());
        let login = identity.hello(&client, &ClientInfo::plain(), [3; 24], &mut Vec::new());
        Session::new(login.unwrap())
    }

    fn admitted() -> Session {
        Session {
            admitted: true,
            ..session()
        }
    }

    fn frame(ty: FrameType, body: &[u8]) -> OwnedFrame {
        OwnedFrame {
            ty,
            body: Bytes::copy_from_slice(body),
        }
    }

    fn encoded(frame: &ServerFrame<'_>) -> OwnedFrame {
        let mut wire = BytesMut::new();
        frame.encode(&mut wire);
        FrameDecoder::<ServerSide>::new()
            .decode(&mut wire)
            .unwrap()
            .unwrap()
    }

    #[test]
    fn frames_are_delivered_as_what_they_mean() {
        let present = PeerPresent {
            key: PEER,
            addr: "192.0.2.1:4".parse().ok(),
            flags: PeerPresentFlags::REGULAR,
        };
        let reason = PeerGoneReason::NOT_HERE;
        let (reconnect_in, try_for) = (Duration::from_millis(1), Duration::from_millis(2));
        let ping = [1, 2, 3, 4, 5, 6, 7, 8];
        let packet = Bytes::from_static(b"packet");
        let deliver = Step::Deliver;
        let table = [
            (
                ServerFrame::RecvPacket {
                    src: PEER,
                    packet: b"packet",
                },
                deliver(Received::Packet { src: PEER, packet }),
            ),
            (
                ServerFrame::RecvPacket {
                    src: PEER,
                    packet: b"",
                },
                deliver(Received::Packet {
                    src: PEER,
                    packet: Bytes::new(),
                }),
            ),
            (
                ServerFrame::PeerGone { key: PEER, reason },
                deliver(Received::PeerGone { key: PEER, reason }),
            ),
            (
                ServerFrame::PeerPresent(present),
                deliver(Received::PeerPresent(present)),
            ),
            (ServerFrame::Ping(ping), Step::Pong(ping)),
            (ServerFrame::Pong(ping), deliver(Received::Pong(ping))),
            (
                ServerFrame::Health("BAD".into()),
                deliver(Received::Health(Some("BAD".into()))),
            ),
            (
                ServerFrame::Health("".into()),
                deliver(Received::Health(None)),
            ),
            (
                ServerFrame::Restarting {
                    reconnect_in,
                    try_for,
                },
                deliver(Received::Restarting {
                    reconnect_in,
                    try_for,
                }),
            ),
            (ServerFrame::KeepAlive, deliver(Received::KeepAlive)),
            (ServerFrame::ServerKey(PEER), Step::Skip),
        ];
        for (sent, expected) in table {
            assert_eq!(
                admitted().on_frame(&encoded(&sent)).unwrap(),
                expected,
                "{sent:?}"
            );
        }
    }

    #[test]
    fn known_frames_that_are_too_short_are_skipped() {
        let table = [
            (FrameType::RECV_PACKET, 31),
            (FrameType::PEER_GONE, 31),
            (FrameType::PEER_PRESENT, 31),
            (FrameType::PING, 7),
            (FrameType::PONG, 7),
            (FrameType::RESTARTING, 7),
            (FrameType::SERVER_KEY, 39),
        ];
        for (ty, len) in table {
            for mut session in [session(), admitted()] {
                let step = session.on_frame(&frame(ty, &vec![0; len])).unwrap();
                assert_eq!(step, Step::Skip, "{ty:?}");
            }
        }
        let unknown = frame(FrameType(0x77), b"");
        assert_eq!(admitted().on_frame(&unknown).unwrap(), Step::Skip);
    }

    #[test]
    fn nothing_is_believed_before_the_server_has_proved_its_key() {
        let early = session().on_frame(&encoded(&ServerFrame::KeepAlive));
        assert!(matches!(
            early,
            Err(RecvError::OutOfTurn(FrameType::KEEP_ALIVE))
        ));
        let greeting = encoded(&ServerFrame::ServerKey(PEER));
        assert_eq!(session().on_frame(&greeting).unwrap(), Step::Skip);

        for forged in [&[0; 64][..], b"", &[0; 39]] {
            let forged = session().on_frame(&frame(FrameType::SERVER_INFO, forged));
            let not_it = HandshakeError::BoxSealedByAnother;
            assert!(matches!(forged, Err(RecvError::ServerInfo(err)) if err == not_it));
        }
    }

    #[test]
    fn a_health_message_is_cut_and_cleaned() {
        let long = format!("\x1b[31m{}", "x".repeat(1 << 20));
        let step = admitted()
            .on_frame(&frame(FrameType::HEALTH, long.as_bytes()))
            .unwrap();
        let Step::Deliver(Received::Health(Some(text))) = step else {
            panic!("{step:?}")
        };
        assert!(text.starts_with("[31mxxx") && text.len() == MAX_HEALTH_LEN);
        // A problem that cannot be shown is a problem still.
        let step = admitted()
            .on_frame(&frame(FrameType::HEALTH, b"\0"))
            .unwrap();
        assert_eq!(step, Step::Deliver(Received::Health(Some(String::new()))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            reads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20),
            types in proptest::collection::vec(0..0x18_u8, 0..20),
            is_admitted: bool,
        ) {
            let mut session = Session { admitted: is_admitted, ..session() };
            for (body, ty) in reads.iter().zip(types) {
                drop(session.on_frame(&frame(FrameType(ty), body)));
            }
        }
    }

    #[test]
    fn the_codec_refuses_what_is_too_long_before_it_is_here() {
        let mut wire = BytesMut::from(&[5, 0x00, 0x10, 0x00, 0x01][..]);
        let err = FrameDecoder::<ServerSide>::new()
            .decode(&mut wire)
            .unwrap_err();
        assert!(matches!(err, DecodeError::TooLong { max: 0x10_0000, .. }));
    }
}
