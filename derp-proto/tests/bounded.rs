//! Memory is spent on bytes that arrived, never on bytes that are announced: a header costs five
//! bytes whatever length it claims.

use bytes::BytesMut;
use derp_proto::{
    ClientSide, FrameDecoder, FrameHeader, FrameType, HEADER_LEN, MAX_SKIPPED_LEN, OwnedFrame,
    ServerSide, Side,
};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_servers_buffer_grows_with_what_clients_send(claims in claims(), read in 1..2000_usize) {
        holds_no_more_than_arrived::<ClientSide>(&claims, read);
    }

    #[test]
    fn a_clients_buffer_grows_with_what_servers_send(claims in claims(), read in 1..2000_usize) {
        holds_no_more_than_arrived::<ServerSide>(&claims, read);
    }
}

#[test]
fn a_header_alone_reserves_nothing() {
    let table = [
        (FrameType::SEND_PACKET, 65_568),
        (FrameType::FORWARD_PACKET, 65_600),
        (FrameType(0x77), 1_048_576),
    ];
    for (ty, len) in table {
        let header = FrameHeader { ty, len }.to_bytes();
        let mut buf = BytesMut::from(&header[..]);
        let decoded = FrameDecoder::<ClientSide>::new().decode(&mut buf);
        assert_eq!(decoded, Ok(None), "{ty:?}");
        assert!(
            buf.capacity() <= HEADER_LEN,
            "{ty:?}: {} bytes",
            buf.capacity()
        );
    }
}

#[test]
fn a_skipped_body_is_dropped_as_it_arrives() {
    let len = u32::try_from(MAX_SKIPPED_LEN).expect("a limit is a length");
    let ty = FrameType(0x77);
    let mut decoder = FrameDecoder::<ClientSide>::new();
    let mut buf = BytesMut::from(&FrameHeader { ty, len }.to_bytes()[..]);
    for _ in 0..MAX_SKIPPED_LEN / 4096 {
        assert_eq!(decoder.decode(&mut buf), Ok(None));
        assert!(buf.is_empty(), "{} bytes are kept", buf.len());
        buf.extend_from_slice(&[0; 4096]);
        assert!(
            buf.capacity() <= 8192,
            "{} bytes are reserved",
            buf.capacity()
        );
    }
    let skipped = OwnedFrame {
        ty,
        body: bytes::Bytes::new(),
    };
    assert_eq!(decoder.decode(&mut buf), Ok(Some(skipped)));
    assert!(buf.is_empty());
}

/// What a peer says of a frame, and what it sends of it before it goes on or stops.
#[derive(Debug)]
struct Claim {
    ty: FrameType,
    announced: u32,
    sent: usize,
}

fn claims() -> impl Strategy<Value = Vec<Claim>> {
    let known = prop_oneof![0x01..=0x0a_u8, 0x10..=0x15_u8];
    let ty = prop_oneof![3 => known, 1 => any::<u8>()].prop_map(FrameType);
    let announced = prop_oneof![0..300_u32, 0..70_000_u32, 0..=1_048_576_u32, any::<u32>()];
    let claim = (ty, announced, 0..3000_usize);
    vec(
        claim.prop_map(|(ty, announced, sent)| Claim {
            ty,
            announced,
            sent,
        }),
        1..8,
    )
}

fn holds_no_more_than_arrived<S: Side>(claims: &[Claim], read_size: usize) {
    let sent: Vec<u8> = claims
        .iter()
        .flat_map(
            |Claim {
                 ty,
                 announced,
                 sent,
             }| {
                let header = FrameHeader {
                    ty: *ty,
                    len: *announced,
                }
                .to_bytes();
                header.into_iter().chain(std::iter::repeat_n(0xaa, *sent))
            },
        )
        .collect();

    let (mut decoder, mut buf) = (FrameDecoder::<S>::new(), BytesMut::new());
    let mut received = 0;
    for read in sent.chunks(read_size) {
        buf.extend_from_slice(read);
        received += read.len();
        loop {
            let decoded = decoder.decode(&mut buf);
            let bound = 2 * received + 8192;
            assert!(
                buf.capacity() <= bound,
                "{} of {bound} bytes",
                buf.capacity()
            );
            match decoded {
                Ok(Some(frame)) => assert!(frame.body.len() <= received),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}
