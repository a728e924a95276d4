use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [0x11, 0xa2, 0x5b, 0xf0];

/// A client's frame, with whatever header bytes the test wants.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut wire = vec![first];
    match payload.len() {
        len @ 0..126 => wire.push(MASKED | u8::try_from(len).unwrap()),
        len @ 126..0x1_0000 => {
            wire.push(MASKED | 126);
            wire.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            wire.push(MASKED | 127);
            wire.extend((len as u64).to_be_bytes());
        }
    }
    wire.extend(MASK);
    wire.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    wire
}

/// What a client said, as values.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Bytes(Vec<u8>),
    Ping(Vec<u8>),
    Close(Option<u16>),
}

/// Decodes `wire` as it arrives in `pieces`, with `max_payload` bytes at a time.
fn decode(
    wire: &[u8],
    mut pieces: impl Iterator<Item = usize>,
    max_payload: usize,
) -> Result<Vec<Said>, (Vec<Said>, Fault)> {
    let mut decoder = Decoder::default();
    let mut said = Vec::new();
    let mut input = Vec::new();
    let mut rest = wire;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(pieces.next().unwrap_or(1).clamp(1, rest.len()));
        rest = later;
        input.extend_from_slice(piece);
        loop {
            let decoded = match decoder.decode(&mut input, max_payload) {
                Ok(decoded) => decoded,
                Err(fault) => return Err((said, fault)),
            };
            let event = decoded.event.map(|event| match event {
                Event::Payload(range) => Said::Bytes(input[range].to_vec()),
                Event::Ping(range) => Said::Ping(input[range].to_vec()),
                Event::Close(code) => Said::Close(code.map(|code| code.0)),
            });
            input.drain(..decoded.consumed);
            match (event, said.last_mut()) {
                (None, _) => break,
                (Some(Said::Bytes(more)), Some(Said::Bytes(bytes))) => bytes.extend(more),
                (Some(event), _) => said.push(event),
            }
        }
        assert!(
            input.len() < 14 + MAX_CONTROL_LEN,
            "{} bytes are kept",
            input.len()
        );
    }
    Ok(said)
}

fn whole(wire: &[u8]) -> Result<Vec<Said>, Fault> {
    decode(wire, std::iter::once(wire.len()), usize::MAX).map_err(|(_, fault)| fault)
}

#[test]
fn the_examples_of_the_rfc_are_understood() {
    // RFC 6455, 5.7, with opcode 2 for 1.
    let hello = [
        0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    assert_eq!(whole(&hello), Ok(vec![Said::Bytes(b"Hello".to_vec())]));
    let ping = [
        0x89, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
    ];
    assert_eq!(whole(&ping), Ok(vec![Said::Ping(b"Hello".to_vec())]));
}

#[test]
fn fragments_are_one_stream_with_pings_between_them() {
    let wire = [
        frame(0x02, b"one "),
        frame(0x89, b"p"),
        frame(0x00, b""),
        frame(0x00, b"message"),
        frame(0x8a, b"nobody asked"),
        frame(0x80, b"."),
        frame(0x82, b""),
        frame(0x82, b" Another."),
        frame(0x88, b"\x03\xe8bye"),
    ];
    let expected = vec![
        Said::Bytes(b"one ".to_vec()),
        Said::Ping(b"p".to_vec()),
        Said::Bytes(b"message. Another.".to_vec()),
        Said::Close(Some(1000)),
    ];
    assert_eq!(whole(&wire.concat()), Ok(expected));
}

#[test]
fn what_the_rfc_forbids_is_a_protocol_error() {
    let protocol = |wire: &[u8]| match whole(wire) {
        Err(Fault::Protocol(what)) => what,
        other => panic!("{other:?} of {wire:?}"),
    };
    for bit in [0x40, 0x20, 0x10] {
        assert_eq!(protocol(&frame(0x82 | bit, b"")), "reserved bit set");
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert_eq!(protocol(&frame(0x80 | opcode, b"")), "unknown opcode");
    }
    assert_eq!(protocol(&[0x82, 0x01]), "frame without a mask");
    assert_eq!(protocol(&frame(0x80, b"x")), "continuation of nothing");
    let nested = [frame(0x02, b"x"), frame(0x82, b"y")].concat();
    assert_eq!(protocol(&nested), "message inside of a message");
    for opcode in [0x08, 0x09, 0x0a] {
        assert_eq!(protocol(&frame(opcode, b"")), "fragmented control frame");
        assert_eq!(
            protocol(&frame(0x80 | opcode, &[0; 126])),
            "control frame too long"
        );
    }
    for header in [
        &[0x82, 0xfe, 0, 125, 0, 0, 0, 0][..],
        &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0],
        &[0x82, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(protocol(header), "length in an illegal form");
    }
    assert_eq!(protocol(&frame(0x88, b"\x03")), "half a close code");
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535] {
        assert_eq!(
            protocol(&frame(0x88, &code.to_be_bytes())),
            "illegal close code"
        );
    }
}

#[test]
fn every_fault_has_its_close_code() {
    assert_eq!(whole(&frame(0x81, b"text")), Err(Fault::Text));
    assert_eq!(
        whole(&frame(0x88, b"\x03\xe8\xff")),
        Err(Fault::CloseReason)
    );
    let code = |fault: Fault| fault.close_code().0;
    assert_eq!(code(Fault::Protocol("")), 1002);
    assert_eq!(code(Fault::Text), 1003);
    assert_eq!(code(Fault::CloseReason), 1007);
    assert_eq!(code(Fault::TooLong), 1009);
}

#[test]
fn closing_codes_that_a_peer_may_send_are_kept() {
    assert_eq!(whole(&frame(0x88, b"")), Ok(vec![Said::Close(None)]));
    for code in [1000_u16, 1001, 1003, 1007, 1011, 3000, 4999] {
        assert_eq!(
            whole(&frame(0x88, &code.to_be_bytes())),
            Ok(vec![Said::Close(Some(code))])
        );
    }
}

#[test]
fn a_message_has_a_limit_whatever_its_frames() {
    let longest = vec![7; MAX_MESSAGE_LEN];
    assert_eq!(
        whole(&frame(0x82, &longest)),
        Ok(vec![Said::Bytes(longest.clone())])
    );
    assert_eq!(
        whole(&frame(0x82, &vec![7; MAX_MESSAGE_LEN + 1])),
        Err(Fault::TooLong)
    );

    let exactly = [frame(0x02, &longest[1..]), frame(0x80, b"x")].concat();
    assert_eq!(whole(&exactly).unwrap().len(), 1);
    let over = [frame(0x02, &longest[1..]), frame(0x80, b"xy")].concat();
    assert_eq!(whole(&over), Err(Fault::TooLong));
    // The next message begins to count anew.
    let two = [frame(0x82, &longest), frame(0x82, &longest)].concat();
    assert_eq!(whole(&two).unwrap().len(), 1);
}

#[test]
fn a_length_is_judged_by_its_header_alone() {
    let header = [0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(whole(&header), Err(Fault::TooLong));
    assert_eq!(whole(&header[..9]), Ok(vec![]));
}

#[test]
fn headers_of_the_servers_frames_are_as_short_as_they_can_be() {
    let header = |len| FrameHeader::new(Opcode::Binary, len).as_bytes().to_vec();
    assert_eq!(header(0), [0x82, 0]);
    assert_eq!(header(125), [0x82, 125]);
    assert_eq!(header(126), [0x82, 126, 0, 126]);
    assert_eq!(header(MAX_OUTBOUND_LEN), [0x82, 126, 0x80, 0]);
    assert_eq!(FrameHeader::new(Opcode::Pong, 3).as_bytes(), [0x8a, 3]);
    assert_eq!(
        close_frame(CloseCode::MESSAGE_TOO_BIG),
        [0x88, 2, 0x03, 0xf1]
    );
}

/// Frames of one or several messages, and the bytes that they carry.
fn messages() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let payload = prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => proptest::collection::vec(any::<u8>(), 120..300),
        1 => (65_000_usize..66_000).prop_map(|len| vec![0x5a; len]),
    ];
    let fragments = proptest::collection::vec((payload, any::<bool>()), 1..4);
    proptest::collection::vec(fragments, 1..4).prop_map(|messages| {
        let (mut wire, mut bytes) = (Vec::new(), Vec::new());
        for fragments in messages {
            let last = fragments.len() - 1;
            let mut len = 0;
            for (index, (mut payload, ping)) in fragments.into_iter().enumerate() {
                payload.truncate(MAX_MESSAGE_LEN - len);
                len += payload.len();
                if ping {
                    wire.extend(frame(0x89, &payload[..payload.len().min(MAX_CONTROL_LEN)]));
                }
                let opcode = if index == 0 { 0x02 } else { 0x00 };
                let fin = if index == last { FIN } else { 0 };
                wire.extend(frame(fin | opcode, &payload));
                bytes.extend(payload);
            }
        }
        (wire, bytes)
    })
}

proptest! {
    #[test]
    fn however_a_stream_is_cut_its_bytes_are_the_same(
        (wire, expected) in messages(),
        pieces in proptest::collection::vec(
            prop_oneof![1_usize..4, 1_usize..200, 1_usize..70_000], 1..50),
        max_payload in prop_oneof![1_usize..5, Just(usize::MAX)],
    ) {
        let pieces = pieces.into_iter().cycle();
        let said = decode(&wire, pieces, max_payload).map_err(|(_, fault)| fault).unwrap();
        let bytes: Vec<u8> = said
            .into_iter()
            .filter_map(|said| match said {
                Said::Bytes(bytes) => Some(bytes),
                _ => None,
            })
            .flatten()
            .collect();
        prop_assert!(bytes == expected);
    }

    #[test]
    fn no_bytes_make_it_panic_and_no_cut_changes_the_fault(
        mut wire in proptest::collection::vec(any::<u8>(), 0..200),
        starts_well in any::<bool>(),
        pieces in proptest::collection::vec(1_usize..20, 1..50),
    ) {
        if starts_well {
            wire.splice(0..0, frame(0x02, b"hello"));
        }
        let at_once = decode(&wire, std::iter::once(wire.len()), usize::MAX);
        let in_pieces = decode(&wire, pieces.into_iter().cycle(), 3);
        prop_assert_eq!(at_once, in_pieces);
    }

    #[test]
    fn a_valid_frame_that_is_perturbed_makes_nothing_panic(
        (mut wire, _) in messages(),
        at in any::<proptest::sample::Index>(),
        with in any::<u8>(),
    ) {
        let at = at.index(wire.len());
        wire[at] = with;
        let _said = whole(&wire);
    }
}
