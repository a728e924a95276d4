//! Every frame of both enums, encoded and decoded.

mod support;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use derp_proto::{
    ClientFrame, FrameType, NodePublic, PeerGoneReason, PeerPresent, PeerPresentFlags, ServerFrame,
};
use proptest::collection::vec;
use proptest::prelude::*;
use support::{survives_as_client, survives_as_server};

proptest! {
    #[test]
    fn client_frames_survive_a_round_trip(parts in parts()) {
        for frame in parts.client_frames() {
            survives_as_client(&frame);
        }
    }

    #[test]
    fn server_frames_survive_a_round_trip(parts in parts()) {
        for frame in parts.server_frames() {
            survives_as_server(&frame);
        }
    }
}

/// What frames are made of.
#[derive(Debug)]
struct Parts {
    key: NodePublic,
    other_key: NodePublic,
    payload: Vec<u8>,
    data: [u8; 8],
    byte: u8,
    flag: bool,
    text: String,
    addr: Option<SocketAddr>,
    millis: [u32; 2],
    unknown: FrameType,
}

fn parts() -> impl Strategy<Value = Parts> {
    let key = || any::<[u8; 32]>().prop_map(NodePublic::from_bytes);
    let payload = prop_oneof![9 => vec(any::<u8>(), 0..300), 1 => vec(any::<u8>(), 65_536)];
    let unknown = prop_oneof![Just(0), 0x0b..=0x0f_u8, 0x16..=0xff_u8].prop_map(FrameType);
    let misc = (
        any::<[u8; 8]>(),
        any::<u8>(),
        any::<bool>(),
        any::<[u32; 2]>(),
    );
    (
        key(),
        key(),
        payload,
        misc,
        any::<String>(),
        addr(),
        unknown,
    )
        .prop_map(
            |(key, other_key, payload, (data, byte, flag, millis), text, addr, unknown)| Parts {
                key,
                other_key,
                payload,
                data,
                byte,
                flag,
                text,
                addr,
                millis,
                unknown,
            },
        )
}

/// Addresses as a server has them: IPv4 ones as such, and never the unspecified one of IPv6,
/// which on the wire stands for none.
fn addr() -> impl Strategy<Value = Option<SocketAddr>> {
    let v4 = any::<([u8; 4], u16)>().prop_map(SocketAddr::from);
    let v6 =
        (0x2000..0x4000_u16, any::<[u16; 7]>(), any::<u16>()).prop_map(|(first, rest, port)| {
            let [a, b, c, d, e, f, g] = rest;
            SocketAddr::from(([first, a, b, c, d, e, f, g], port))
        });
    prop_oneof![Just(None), v4.prop_map(Some), v6.prop_map(Some)]
}

impl Parts {
    fn client_frames(&self) -> [ClientFrame<'_>; 9] {
        let packet = self.payload.as_slice();
        [
            ClientFrame::ClientInfo {
                key: self.key,
                sealed: packet,
            },
            ClientFrame::SendPacket {
                dst: self.key,
                packet,
            },
            ClientFrame::ForwardPacket {
                src: self.key,
                dst: self.other_key,
                packet,
            },
            ClientFrame::NotePreferred(self.flag),
            ClientFrame::WatchConns,
            ClientFrame::ClosePeer(self.key),
            ClientFrame::Ping(self.data),
            ClientFrame::Pong(self.data),
            ClientFrame::Unknown(self.unknown),
        ]
    }

    fn server_frames(&self) -> [ServerFrame<'_>; 11] {
        let [reconnect_in, try_for] = self.millis.map(|ms| Duration::from_millis(ms.into()));
        let flags = PeerPresentFlags(self.byte);
        [
            ServerFrame::ServerKey(self.key),
            ServerFrame::ServerInfo(&self.payload),
            ServerFrame::RecvPacket {
                src: self.key,
                packet: &self.payload,
            },
            ServerFrame::KeepAlive,
            ServerFrame::PeerGone {
                key: self.key,
                reason: PeerGoneReason(self.byte),
            },
            ServerFrame::PeerPresent(PeerPresent {
                key: self.key,
                addr: self.addr,
                flags,
            }),
            ServerFrame::Ping(self.data),
            ServerFrame::Pong(self.data),
            ServerFrame::Health(Cow::Borrowed(&self.text)),
            ServerFrame::Restarting {
                reconnect_in,
                try_for,
            },
            ServerFrame::Unknown(self.unknown),
        ]
    }
}
