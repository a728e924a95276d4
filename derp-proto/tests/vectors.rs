//! Golden bytes: what the reference implementation's own library makes of fixed keys and a fixed
//! nonce. They were recorded once, with that library, and are never made anew with our encoder.

use std::borrow::Cow;
use std::time::Duration;

use bytes::BufMut;
use data_encoding::HEXLOWER;
use derp_proto::{
    Claim, ClientFrame, ClientInfo, ClientSide, FrameHeader, FrameType, Greeted, HandshakeError,
    KeyError, MAX_CLIENT_INFO_LEN, MeshKey, NodePrivate, NodePublic, Nonce, PeerGoneReason,
    PeerPresent, PeerPresentFlags, Scanned, Scanner, ServerFrame, ServerIdentity, ServerInfo,
};

const SERVER_PRIV: &str =
    "privkey:1011111111111111111111111111111111111111111111111111111111111151";
const SERVER_PUB: &str = "7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13";
const CLIENT_PRIV: &str =
    "privkey:2022222222222222222222222222222222222222222222222222222222222262";
const CLIENT_PUB: &str = "0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20";
const NONCE: Nonce = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
];

const SERVER_KEY_FRAME: &str = "0100000028 44455250f09f9491
    7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13";
const CLIENT_INFO_FRAME: &str = "0200000068
    0faa684ed28867b97f4a6a2dee5df8ce974e76b7018e3f22a1c4cf2678570f20
    000102030405060708090a0b0c0d0e0f1011121314151617
    a858a062bb55fbd0e565bf952225b5e220ae6ff32ce093a7548f0f9efd7331db
    8b94711fe4546f1ed0d738121d94abe3";
const SERVER_INFO_FRAME: &str = "0300000035
    000102030405060708090a0b0c0d0e0f1011121314151617
    a9f96672359ffb53a9a765041e0e895820ae6ff32ce093a7548f0f9eac";

#[test]
fn random_bytes_become_the_keys_that_the_reference_makes_of_them() {
    let table = [
        (0x11, SERVER_PRIV, SERVER_PUB, "[e06Qm]"),
        (0x22, CLIENT_PRIV, CLIENT_PUB, "[D6poT]"),
    ];
    for (byte, private_text, public_hex, short) in table {
        let private = NodePrivate::from_random([byte; 32]);
        assert_eq!(*private.to_secret_text(), private_text);
        let public = private.public();
        assert_eq!(public.to_hex(), public_hex);
        assert_eq!(public.to_string(), format!("nodekey:{public_hex}"));
        assert_eq!(format!("{public:?}"), short);
    }
}

/// The clamping of `types/key/util.go`, on bytes that show each of its bits.
#[test]
fn a_new_private_key_is_clamped() {
    let clamped = |random| *NodePrivate::from_random(random).expose_secret_bytes();
    let mut ones = [0xff; 32];
    (ones[0], ones[31]) = (0xf8, 0x7f);
    assert_eq!(clamped([0xff; 32]), ones);
    let mut zeros = [0; 32];
    zeros[31] = 0x40;
    assert_eq!(clamped([0; 32]), zeros);
}

#[test]
fn sample_keys_of_the_reference_read_and_write_alike() {
    let private = "privkey:40ab1b58e9076c7a4d9d07291f5edf9d1aa017eb949624ba683317f48a640369";
    let public = "nodekey:50d20b455ecf12bc453f83c2cfdb2a24925d06cf2598dcaa54e91af82ce9f765";
    let key = NodePrivate::from_secret_text(private).unwrap();
    assert_eq!(
        HEXLOWER.encode(key.expose_secret_bytes()),
        private["privkey:".len()..]
    );
    assert_eq!(*key.to_secret_text(), private);
    let key: NodePublic = public.parse().unwrap();
    assert_eq!(HEXLOWER.encode(key.as_bytes()), public["nodekey:".len()..]);
    assert_eq!(key.to_string(), public);
}

#[test]
fn the_zero_key_is_zero_and_has_no_short_form() {
    let zero = NodePublic::from_bytes([0; 32]);
    assert!(zero.is_zero());
    assert_eq!(
        (zero.short().as_str(), zero.check()),
        ("", Err(KeyError::Zero))
    );
    assert_eq!(zero.to_string(), format!("nodekey:{}", "0".repeat(64)));
}

#[test]
fn a_raw_key_is_read_from_the_front_of_whatever_is_there() {
    let bytes: Vec<u8> = (0..40).collect();
    let key = NodePublic::from_bytes(bytes[..32].try_into().unwrap());
    assert_eq!(NodePublic::split_from(&bytes), Some((key, &bytes[32..])));
    assert_eq!(NodePublic::split_from(&bytes[..32]), Some((key, &[][..])));
    assert_eq!(NodePublic::split_from(&bytes[..31]), None);
    assert_eq!(NodePublic::split_from(&[]), None);
}

#[test]
fn mesh_keys_are_read_as_the_reference_reads_them() {
    let digits = "0123456789".repeat(7)[..64].to_owned();
    let lower = "0123456789abcdef".repeat(4);
    let table = [
        (digits.clone(), Some(digits)),
        (lower.clone(), Some(lower.clone())),
        (lower.to_uppercase(), Some(lower.clone())),
        (format!("  {lower}  "), Some(lower.clone())),
        (lower[..16].to_owned(), None),
        (format!("{lower}0"), None),
        ("badf00d".to_owned(), None),
    ];
    for (text, printed) in table {
        let key = MeshKey::from_secret_text(&text);
        let read = key.map(|key| key.to_secret_text().to_string());
        assert_eq!(read, printed.ok_or(KeyError::Hex), "{text:?}");
    }
}

#[test]
fn headers_are_written_alike_wherever_the_output_has_room() {
    let table = [
        ("0400000400", FrameType::SEND_PACKET, 1024),
        ("0600000000", FrameType::KEEP_ALIVE, 0),
        ("05ffffffff", FrameType::RECV_PACKET, u32::MAX),
    ];
    for (bytes, ty, len) in table {
        let header = FrameHeader { ty, len };
        assert_eq!(header.to_bytes(), hex(bytes)[..]);
        assert_eq!(FrameHeader::parse(&hex(bytes)), Some(header));
    }
    // Eight bytes of which four are used, then more.
    let ping = ClientFrame::Ping([1, 2, 3, 4, 5, 6, 7, 8]);
    let (mut first, mut second) = ([0xee; 8], [0xee; 16]);
    ping.encode(&mut (&mut first[4..]).chain_mut(&mut second[..]));
    let whole = [&first[..], &second[..]].concat();
    assert_eq!(whole[4..17], hex("1200000008 0102030405060708"));
    assert_eq!(
        (&whole[..4], &whole[17..]),
        (&[0xee; 4][..], &[0xee; 7][..])
    );
}

#[test]
fn the_greeting_is_the_references() {
    let mut wire = Vec::new();
    let _greeted = Greeted::greet(&server().public(), MAX_CLIENT_INFO_LEN, &mut wire);
    assert_eq!(wire, hex(SERVER_KEY_FRAME));

    let known = ServerIdentity::known(server().public());
    assert_eq!(ServerIdentity::read(&wire), Ok(Some((known, 45))));
    // Bytes for the future.
    let mut longer = wire.clone();
    longer[4] = 0x2a;
    longer.extend([0xaa, 0xbb, 0x06]);
    assert_eq!(ServerIdentity::read(&longer), Ok(Some((known, 47))));
}

#[test]
fn the_clients_hello_is_the_references() {
    assert_eq!(
        ClientInfo::plain().to_json(),
        br#"{"version":2,"CanAckPings":true}"#
    );
    let mut wire = Vec::new();
    ServerIdentity::known(server().public())
        .hello(&client(), &ClientInfo::plain(), NONCE, &mut wire)
        .unwrap();
    assert_eq!(wire, hex(CLIENT_INFO_FRAME));
}

#[test]
fn the_references_hello_proves_the_clients_key() {
    let wire = hex(CLIENT_INFO_FRAME);
    let greeted = Greeted::greet(&server().public(), MAX_CLIENT_INFO_LEN, &mut Vec::new());
    let (claim, end) = greeted.read(&wire).unwrap().unwrap();
    assert_eq!((claim.key(), end), (client().public(), wire.len()));

    let hello = open(&claim, &server()).unwrap();
    assert_eq!(hello.key(), client().public());
    let info = hello.info();
    assert_eq!(
        (info.version, info.can_ack_pings, info.is_prober),
        (2, true, false)
    );
    assert!(info.mesh_key.is_none() && info.app_name.is_empty());

    let mut answer = Vec::new();
    hello.answer(NONCE, &ServerInfo::plain(), &mut answer);
    assert_eq!(answer, hex(SERVER_INFO_FRAME));

    let stranger = NodePrivate::from_random([0x33; 32]);
    assert_eq!(
        open(&claim, &stranger).unwrap_err(),
        HandshakeError::BoxSealedByAnother
    );
}

#[test]
fn the_references_answer_admits_the_client() {
    let wait = ServerIdentity::known(server().public())
        .hello(&client(), &ClientInfo::plain(), NONCE, &mut Vec::new())
        .unwrap();
    let wire = hex(SERVER_INFO_FRAME);
    let sealed = ServerFrame::ServerInfo(&wire[5..]);
    assert_eq!(
        ServerFrame::parse(FrameType::SERVER_INFO, &wire[5..]),
        Ok(sealed)
    );
    assert_eq!(wait.open(&wire[5..]), Ok(ServerInfo::plain()));
}

#[test]
fn what_a_client_sends_has_the_references_bytes() {
    let data = [1, 2, 3, 4, 5, 6, 7, 8];
    let (src, dst) = (server().public(), client().public());
    let table = [
        (
            ClientFrame::Ping(data),
            "1200000008 0102030405060708".to_owned(),
        ),
        (
            ClientFrame::Pong(data),
            "1300000008 0102030405060708".to_owned(),
        ),
        (ClientFrame::NotePreferred(true), "0700000001 01".to_owned()),
        (
            ClientFrame::NotePreferred(false),
            "0700000001 00".to_owned(),
        ),
        (ClientFrame::WatchConns, "1000000000".to_owned()),
        (
            ClientFrame::ClosePeer(dst),
            format!("1100000020 {CLIENT_PUB}"),
        ),
        (
            ClientFrame::SendPacket {
                dst,
                packet: b"hello",
            },
            format!("0400000025 {CLIENT_PUB} 68656c6c6f"),
        ),
        (
            ClientFrame::ForwardPacket {
                src,
                dst,
                packet: b"",
            },
            format!("0a00000040 {SERVER_PUB} {CLIENT_PUB}"),
        ),
    ];
    for (frame, bytes) in table {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        assert_eq!(wire, hex(&bytes), "{frame:?}");
        assert_eq!(frame.encoded_len(), wire.len(), "{frame:?}");
        assert_eq!(
            ClientFrame::parse(FrameType(wire[0]), &wire[5..]),
            Ok(frame)
        );
    }
}

#[test]
fn what_a_server_sends_has_the_references_bytes() {
    let data = [1, 2, 3, 4, 5, 6, 7, 8];
    let key = client().public();
    let millis = Duration::from_millis;
    let prober = PeerPresentFlags::PROBER | PeerPresentFlags::NOT_IDEAL;
    let present = |addr: &str, flags| {
        ServerFrame::PeerPresent(PeerPresent {
            key,
            addr: addr.parse().ok(),
            flags,
        })
    };
    let table = [
        (ServerFrame::KeepAlive, "0600000000".to_owned()),
        (
            ServerFrame::Ping(data),
            "1200000008 0102030405060708".to_owned(),
        ),
        (
            ServerFrame::Pong(data),
            "1300000008 0102030405060708".to_owned(),
        ),
        (
            ServerFrame::Health(Cow::Borrowed("BAD")),
            "1400000003 424144".to_owned(),
        ),
        (
            ServerFrame::Health(Cow::Borrowed("")),
            "1400000000".to_owned(),
        ),
        (
            ServerFrame::Restarting {
                reconnect_in: millis(1),
                try_for: millis(2),
            },
            "1500000008 00000001 00000002".to_owned(),
        ),
        (
            ServerFrame::RecvPacket {
                src: key,
                packet: b"hello",
            },
            format!("0500000025 {CLIENT_PUB} 68656c6c6f"),
        ),
        (
            ServerFrame::PeerGone {
                key,
                reason: PeerGoneReason::NOT_HERE,
            },
            format!("0800000021 {CLIENT_PUB} 01"),
        ),
        (
            present("127.0.0.1:4242", prober),
            format!("0900000033 {CLIENT_PUB} 00000000000000000000ffff7f000001 1092 0c"),
        ),
        (
            present("[2001:db8::1]:443", PeerPresentFlags::MESH_PEER),
            format!("0900000033 {CLIENT_PUB} 20010db8000000000000000000000001 01bb 02"),
        ),
        (
            present("not an address", PeerPresentFlags::REGULAR),
            format!("0900000033 {CLIENT_PUB} {} 0000 01", "00".repeat(16)),
        ),
    ];
    for (frame, bytes) in table {
        let mut wire = Vec::new();
        frame.encode(&mut wire);
        assert_eq!(wire, hex(&bytes), "{frame:?}");
        assert_eq!(frame.encoded_len(), wire.len(), "{frame:?}");
        assert_eq!(
            ServerFrame::parse(FrameType(wire[0]), &wire[5..]),
            Ok(frame)
        );
    }
}

#[test]
fn a_relayed_packet_differs_in_type_and_key_alone() {
    let (src, dst) = (client().public(), server().public());
    let mut sent = Vec::new();
    ClientFrame::SendPacket {
        dst,
        packet: &[7; 1000],
    }
    .encode(&mut sent);
    let scanned = Scanner::<ClientSide>::new().scan(&sent).unwrap();
    assert_eq!(
        scanned,
        Scanned::Frame {
            ty: FrameType::SEND_PACKET,
            body: 5..1037
        }
    );

    sent[0] = FrameType::RECV_PACKET.0;
    sent[5..37].copy_from_slice(src.as_bytes());
    let mut received = Vec::new();
    ServerFrame::RecvPacket {
        src,
        packet: &[7; 1000],
    }
    .encode(&mut received);
    assert_eq!(sent, received);
}

#[test]
fn a_time_that_does_not_fit_is_the_longest_that_does() {
    let forever = ServerFrame::Restarting {
        reconnect_in: Duration::MAX,
        try_for: Duration::ZERO,
    };
    let mut wire = Vec::new();
    forever.encode(&mut wire);
    assert_eq!(wire, hex("1500000008 ffffffff 00000000"));
}

fn server() -> NodePrivate {
    NodePrivate::from_secret_text(SERVER_PRIV).expect("the server's key is a key")
}

fn client() -> NodePrivate {
    NodePrivate::from_secret_text(CLIENT_PRIV).expect("the client's key is a key")
}

fn open(
    claim: &Claim<'_>,
    server: &NodePrivate,
) -> Result<derp_proto::ClientHello, HandshakeError> {
    claim.open(server.shared_secret(&claim.key())?)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    HEXLOWER
        .decode(digits.as_bytes())
        .expect("the vectors are hexadecimal")
}
