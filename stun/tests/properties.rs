//! Properties of the pure parts under arbitrary, mutated and hand-signed input.
//!
//! The rule of what is answered is written down a second time here, as plainly as possible; the
//! two must agree on every datagram. The generator's seed is fixed: longer hunts are the fuzzer's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use derp_stun::{
    BindingRequest, BindingResponse, MAX_RESPONSE_LEN, Outcome, REQUEST_LEN, TxId, fingerprint,
    is_stun, respond,
};
use proptest::{collection::vec, prelude::*, test_runner::RngSeed};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1024,
        rng_seed: RngSeed::Fixed(3478),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_panics_and_noise_meets_silence(
        datagram in vec(any::<u8>(), 0..200),
        from in socket_addr(),
    ) {
        check_as_a_response(&datagram)?;
        check_against_the_rule(&datagram, from)?;
    }

    #[test]
    fn hand_signed_messages_are_answered_exactly_by_the_rule(
        datagram in hand_signed(),
        from in socket_addr(),
    ) {
        check_as_a_response(&datagram)?;
        check_against_the_rule(&datagram, from)?;
    }

    #[test]
    fn mutated_messages_are_answered_exactly_by_the_rule(
        datagram in hand_signed(),
        mutations in vec(mutation(), 1..4),
        from in socket_addr(),
    ) {
        let mut datagram = datagram;
        for mutation in mutations {
            mutation.apply(&mut datagram);
        }
        check_as_a_response(&datagram)?;
        check_against_the_rule(&datagram, from)?;
    }

    #[test]
    fn responses_and_indications_are_never_answered(
        kind in any::<u16>().prop_filter("a request", |kind| kind & 0x0110 != 0),
        txid in any::<[u8; 12]>(),
        from in socket_addr(),
    ) {
        let mut message = BindingRequest { txid: TxId::from_bytes(txid) }.encode();
        message[..2].copy_from_slice(&(kind & 0x3fff).to_be_bytes());
        sign(&mut message);
        prop_assert_eq!(answer(&message, from), None);
    }

    #[test]
    fn a_request_survives_the_round_trip(txid in any::<[u8; 12]>()) {
        let request = BindingRequest { txid: TxId::from_bytes(txid) };
        prop_assert_eq!(BindingRequest::parse(&request.encode()), Ok(request));
    }

    #[test]
    fn a_response_survives_the_round_trip_and_a_cut_is_noticed(
        txid in any::<[u8; 12]>(),
        mapped in socket_addr(),
    ) {
        let txid = TxId::from_bytes(txid);
        let mut out = [0; MAX_RESPONSE_LEN];
        let len = BindingResponse { txid, mapped }.encode(&mut out);
        let unwrapped = SocketAddr::new(mapped.ip().to_canonical(), mapped.port());
        prop_assert_eq!(
            BindingResponse::parse(&out[..len]),
            Ok(BindingResponse { txid, mapped: unwrapped })
        );
        for cut in 0..len {
            prop_assert!(BindingResponse::parse(&out[..cut]).is_err(), "cut to {}", cut);
        }
    }
}

#[test]
fn no_single_flipped_bit_of_a_request_goes_unnoticed() {
    let request = BindingRequest {
        txid: TxId::from_bytes([0x5a; 12]),
    };
    for bit in 0..REQUEST_LEN * 8 {
        let mut datagram = request.encode();
        datagram[bit / 8] ^= 1 << (bit % 8);
        let from = (Ipv4Addr::LOCALHOST, 1).into();
        assert_eq!(answer(&datagram, from), None, "bit {bit}");
    }
}

/// Whether a request with this content is to be answered, told without the crate's parser.
fn the_rule_says_answer(datagram: &[u8], from: SocketAddr) -> bool {
    let be = |at: usize| usize::from(u16::from_be_bytes([datagram[at], datagram[at + 1]]));
    if datagram.len() < REQUEST_LEN
        || from.port() == 0
        || datagram[..2] != [0, 1]
        || be(2) != datagram.len() - 20
        || datagram[4..8] != [0x21, 0x12, 0xa4, 0x42]
    {
        return false;
    }
    let mut at = 20;
    let mut last = 20;
    let mut tailnode = false;
    while at < datagram.len() {
        if at + 4 > datagram.len() {
            return false;
        }
        let end = at + 4 + be(at + 2);
        let padded_end = end.div_ceil(4) * 4;
        if padded_end > datagram.len() {
            return false;
        }
        tailnode |= be(at) == 0x8022 && datagram[at + 4..end] == *b"tailnode";
        last = at;
        at = padded_end;
    }
    let sum = crc32_bit_by_bit(&datagram[..datagram.len() - 8]) ^ 0x5354_554e;
    tailnode
        && last == datagram.len() - 8
        && be(last) == 0x8028
        && be(last + 2) == 4
        && datagram[last + 4..] == sum.to_be_bytes()
}

fn crc32_bit_by_bit(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for bit in 0..bytes.len() * 8 {
        let flip = (crc ^ u32::from(bytes[bit / 8] >> (bit % 8))) & 1;
        crc = (crc >> 1) ^ (0xedb8_8320 * flip);
    }
    !crc
}

/// The response to `datagram`, if there is one.
fn answer(datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    let mut out = [0; MAX_RESPONSE_LEN];
    match respond(datagram, from, &mut out) {
        Outcome::Success { len, .. } => Some(out[..len].to_vec()),
        Outcome::NotStun(_) | Outcome::NoReturnPort => None,
    }
}

fn check_as_a_response(datagram: &[u8]) -> Result<(), TestCaseError> {
    let Ok(response) = BindingResponse::parse(datagram) else {
        return Ok(());
    };
    prop_assert!(is_stun(datagram));
    prop_assert_eq!(response.txid.as_bytes(), &datagram[8..20]);
    prop_assert_eq!(response.mapped.ip(), response.mapped.ip().to_canonical());
    Ok(())
}

fn check_against_the_rule(datagram: &[u8], from: SocketAddr) -> Result<(), TestCaseError> {
    let answer = answer(datagram, from);
    prop_assert_eq!(answer.is_some(), the_rule_says_answer(datagram, from));
    let Some(answer) = answer else {
        return Ok(());
    };
    let unwrapped = SocketAddr::new(from.ip().to_canonical(), from.port());
    let (len, family) = if unwrapped.is_ipv4() {
        (32, 1)
    } else {
        (44, 2)
    };
    prop_assert_eq!((answer.len(), answer[25]), (len, family));
    // An attacker who sends n bytes gets no more than n reflected, plus 4 over IPv6.
    let surplus = if family == 1 { 0 } else { 4 };
    prop_assert!(answer.len() <= datagram.len() + surplus);
    let txid = TxId::from_bytes(datagram[8..20].try_into().expect("twelve bytes"));
    prop_assert_eq!(
        BindingResponse::parse(&answer),
        Ok(BindingResponse {
            txid,
            mapped: unwrapped
        })
    );
    Ok(())
}

fn socket_addr() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<Ipv4Addr>().prop_map(IpAddr::V4),
        any::<Ipv6Addr>().prop_map(IpAddr::V6),
        any::<Ipv4Addr>().prop_map(|v4| IpAddr::V6(v4.to_ipv6_mapped())),
    ];
    let port = prop_oneof![9 => any::<u16>(), 1 => Just(0)];
    (ip, port).prop_map(SocketAddr::from)
}

/// A message of a few attributes, mostly a request of ours, with a FINGERPRINT that fits.
fn hand_signed() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![4 => Just(0x0001_u16), 1 => Just(0x0101), 1 => any::<u16>()];
    let attribute = prop_oneof![
        4 => Just((0x8022_u16, b"tailnode".to_vec())),
        1 => Just((0x8022, b"tailnodes".to_vec())),
        1 => Just((0x0020, vec![0, 1, 2, 3, 4, 5, 6, 7])),
        1 => Just((0x8028, vec![0; 4])),
        2 => (any::<u16>(), vec(any::<u8>(), 0..12)),
    ];
    (kind, any::<[u8; 12]>(), vec(attribute, 0..4)).prop_map(|(kind, txid, attributes)| {
        let mut message = kind.to_be_bytes().to_vec();
        message.extend([0, 0, 0x21, 0x12, 0xa4, 0x42]);
        message.extend(txid);
        for (kind, value) in attributes {
            let length = u16::try_from(value.len()).expect("a short value");
            message.extend(kind.to_be_bytes());
            message.extend(length.to_be_bytes());
            message.extend(value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        message.extend([0x80, 0x28, 0, 4, 0, 0, 0, 0]);
        let length = u16::try_from(message.len() - 20).expect("a short message");
        message[2..4].copy_from_slice(&length.to_be_bytes());
        sign(&mut message);
        message
    })
}

/// Makes the last four bytes the FINGERPRINT of what stands before its attribute.
fn sign(message: &mut [u8]) {
    let Some(covered) = message.len().checked_sub(8) else {
        return;
    };
    let sum = fingerprint(&message[..covered]);
    message[covered + 4..].copy_from_slice(&sum.to_be_bytes());
}

#[derive(Debug, Clone)]
enum Mutation {
    Set {
        at: usize,
        byte: u8,
    },
    Cut {
        len: usize,
    },
    Extend {
        bytes: Vec<u8>,
    },
    Sign,
    /// Keeps the length field honest, so that the rules behind it are reached.
    FixLength,
}

impl Mutation {
    fn apply(self, datagram: &mut Vec<u8>) {
        match self {
            Self::Set { at, byte } => {
                if let Some(slot) = datagram.get_mut(at) {
                    *slot = byte;
                }
            }
            Self::Cut { len } => datagram.truncate(len),
            Self::Extend { bytes } => datagram.extend(bytes),
            Self::Sign => sign(datagram),
            Self::FixLength => {
                if let Some(length) = datagram.len().checked_sub(20) {
                    let length = u16::try_from(length).expect("a short message");
                    datagram[2..4].copy_from_slice(&length.to_be_bytes());
                }
            }
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        (0..80_usize, any::<u8>()).prop_map(|(at, byte)| Mutation::Set { at, byte }),
        (0..80_usize).prop_map(|len| Mutation::Cut { len }),
        vec(any::<u8>(), 1..16).prop_map(|bytes| Mutation::Extend { bytes }),
        Just(Mutation::Sign),
        Just(Mutation::FixLength),
    ]
}
