//! Golden bytes: those of the reference library (`net/stun/stun_test.go` and messages it made),
//! and the sample messages of RFC 5769. None of them comes from this crate's own encoder.

use std::net::SocketAddr;

use derp_stun::{
    AddrFamily, BindingRequest, BindingResponse, MAX_RESPONSE_LEN, Outcome, REQUEST_LEN,
    RequestError, ResponseError, TxId, fingerprint, is_stun, respond,
};

/// Bytes from hex; spaces are for the reader.
fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex digits"))
        .collect()
}

fn txid(text: &str) -> TxId {
    TxId::from_bytes(hex(text).try_into().expect("twelve bytes"))
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// What the server sends for `request`, empty for silence.
fn answer(request: &[u8], from: &str) -> (Outcome, Vec<u8>) {
    let mut out = [0; MAX_RESPONSE_LEN];
    let outcome = respond(request, addr(from), &mut out);
    let len = match outcome {
        Outcome::Success { len, .. } => len,
        Outcome::NotStun(_) | Outcome::NoReturnPort => 0,
    };
    (outcome, out[..len].to_vec())
}

const COUNTING: &str = "000102030405060708090a0b";

/// Made by the reference library with the transaction id [`COUNTING`].
const REQUEST: &str = "00010014 2112a442 000102030405060708090a0b
     80220008 7461696c6e6f6465 80280004 8aabad90";

#[test]
fn a_request_is_the_references_to_the_byte() {
    let request = BindingRequest {
        txid: txid(COUNTING),
    };
    assert_eq!(request.encode().to_vec(), hex(REQUEST));
    assert_eq!(BindingRequest::parse(&hex(REQUEST)), Ok(request));
}

#[test]
fn the_software_attribute_stands_at_offset_20() {
    let request = BindingRequest {
        txid: txid("ffeeddccbbaa998877665544"),
    };
    let bytes = request.encode();
    assert_eq!(bytes.len(), REQUEST_LEN);
    assert_eq!(bytes[20..22], [0x80, 0x22]);
    assert_eq!(&bytes[24..32], b"tailnode");
    assert_eq!(BindingRequest::parse(&bytes), Ok(request));
}

#[test]
fn answers_are_the_references_to_the_byte() {
    let v4 = "0101000c 2112a442 000102030405060708090a0b 00200008 0001a147e112a643";
    let v6 = "01010018 2112a442 000102030405060708090a0b
              00200014 0002a147 0113a9fa1235547b041424344c5c6c7c";
    for (from, family, expected) in [
        ("192.0.2.1:32853", AddrFamily::Ipv4, v4),
        // The reference would answer this one with 44 bytes of family 2.
        ("[::ffff:192.0.2.1]:32853", AddrFamily::Ipv4, v4),
        (
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
            AddrFamily::Ipv6,
            v6,
        ),
    ] {
        let expected = hex(expected);
        let len = expected.len();
        assert_eq!(
            answer(&hex(REQUEST), from),
            (Outcome::Success { family, len }, expected),
            "{from}"
        );
    }
}

#[test]
fn stun_is_told_from_other_datagrams() {
    let zeros = "00000000 00000000 000000000000000000000000";
    let stun = "00000000 2112a442 000000000000000000000000";
    for (datagram, expected) in [
        ("", false),
        (zeros, false),
        (&stun[..stun.len() - 2], false),
        (stun, true),
        (&format!("{stun}000000"), true),
        (&format!("f0{}", &stun[2..]), false),
        (&format!("40{}", &stun[2..]), false),
        (&format!("20{}", &stun[2..]), true),
    ] {
        assert_eq!(is_stun(&hex(datagram)), expected, "{datagram:?}");
    }
}

#[test]
fn responses_survive_the_round_trip() {
    for mapped in ["1.2.3.4:254", "1.2.3.4:257", "[1::4]:254", "[1::4]:257"] {
        let response = BindingResponse {
            txid: txid(COUNTING),
            mapped: addr(mapped),
        };
        let mut out = [0; MAX_RESPONSE_LEN];
        let len = response.encode(&mut out);
        assert_eq!(BindingResponse::parse(&out[..len]), Ok(response));
    }
}

#[test]
fn responses_of_other_servers_are_understood() {
    let cases = [
        (
            "0101000c2112a4422360b11e3ec68ffa93e08007 002000080001c7866957856f",
            "72.69.33.45:59028",
        ),
        (
            "0101000c2112a442f9f121cbde7d7c75923ce271 002000080001c7876957856f",
            "72.69.33.45:59029",
        ),
        // XOR-MAPPED-ADDRESS under its old number, after MAPPED-ADDRESS and others.
        (
            "010100442112a442482eb64715e8b28eaead6444 00010008 0001e4ab4845212d
             000400080001 2710d90a4498 000500080001 2711d9747a8a 802000080001c5b96957856f
             80220010566f766964612e6f726720302e393600",
            "72.69.33.45:58539",
        ),
        // Only MAPPED-ADDRESS.
        (
            "010100242112a4427e57966829f444609d1deaa6 000100080001e9d34845212d
             0004000800010d964d48a9d4 0005000800010d974d48a9d5",
            "72.69.33.45:59859",
        ),
        // Eight more bytes than the header declares.
        (
            "010100242112a442ebc2d36ef471217c4f3e308e 8022000a656e64706f696e7465720000
             002000080001ce665e12a443 80280004b699bb02 010100242112a442",
            "127.0.0.1:61300",
        ),
        (
            "010100482112a44206f56685d28af3e69ce341e2
             00010014000290ce260200d1b4cfc10038b231fffeef96f6
             802b001400020d962604a880000200d10000000000c57001
             002000140002b1dc0710a493b23aa785ea38c219620cd714",
            "[2602:d1:b4cf:c100:38b2:31ff:feef:96f6]:37070",
        ),
        // SOFTWARE of one byte and of three, both padded to four.
        (
            "010100142112a442ebc2d36ef471217c4f3e308e 8022000161000000 002000080001ce665e12a443",
            "127.0.0.1:61300",
        ),
        (
            "010100142112a442ebc2d36ef471217c4f3e308e 8022000361626300 002000080001ce665e12a443",
            "127.0.0.1:61300",
        ),
        // IPv4 in IPv6 clothes.
        (
            "010100182112a4424fd5d202dcb37d31fc773306
             002000140002cd3d2112a4424fd5d202dcb382ce2dc3fcc7",
            "209.180.207.193:60463",
        ),
    ];
    for (packet, mapped) in cases {
        let packet = hex(packet);
        let expected = BindingResponse {
            txid: TxId::from_bytes(packet[8..20].try_into().expect("twelve bytes")),
            mapped: addr(mapped),
        };
        assert_eq!(BindingResponse::parse(&packet), Ok(expected), "{mapped}");
    }
}

#[test]
fn the_first_hidden_address_wins_over_plain_ones_and_later_ones() {
    // MAPPED-ADDRESS 10.0.0.1:1, as a meddling router leaves it; then 192.0.2.1:32853 hidden;
    // then 192.0.2.2:32853 under the old number.
    let packet = "01010024 2112a442 000102030405060708090a0b 00010008 000100010a000001
         00200008 0001a147e112a643 80200008 0001a147e112a640";
    let expected = BindingResponse {
        txid: txid(COUNTING),
        mapped: addr("192.0.2.1:32853"),
    };
    assert_eq!(BindingResponse::parse(&hex(packet)), Ok(expected));
}

#[test]
fn unusable_responses_are_refused_with_the_reason() {
    let cases = [
        ("0101", ResponseError::NotStun),
        (REQUEST, ResponseError::NotASuccess(0x0001)),
        // An error response, 420.
        (
            "01110008 2112a442 000102030405060708090a0b 00090004 00000414",
            ResponseError::NotASuccess(0x0111),
        ),
        (
            "0101000d 2112a442 000102030405060708090a0b 00200008 0001a147e112a643",
            ResponseError::Truncated {
                declared: 13,
                actual: 12,
            },
        ),
        (
            "01010000 2112a442 000102030405060708090a0b 00200008 0001a147e112a643",
            ResponseError::MissingAddress,
        ),
        // A value that overruns; an IPv4 address of three bytes; an unknown family.
        (
            "0101000c 2112a442 000102030405060708090a0b 00200009 0001a147e112a643",
            ResponseError::MalformedAttribute,
        ),
        (
            "0101000c 2112a442 000102030405060708090a0b 00200007 0001a147e112a643",
            ResponseError::MalformedAttribute,
        ),
        (
            "0101000c 2112a442 000102030405060708090a0b 00200008 0003a147e112a643",
            ResponseError::MalformedAttribute,
        ),
    ];
    for (packet, error) in cases {
        assert_eq!(BindingResponse::parse(&hex(packet)), Err(error), "{packet}");
    }
}

/// A request of type `kind` with these attributes and a FINGERPRINT that fits.
fn signed(kind: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(attributes.len() + 8).expect("a short list");
    let mut message = [kind.to_be_bytes(), length.to_be_bytes()].concat();
    message.extend(hex("2112a442"));
    message.extend(hex(COUNTING));
    message.extend(attributes);
    let sum = fingerprint(&message);
    message.extend(hex("80280004"));
    message.extend(sum.to_be_bytes());
    message
}

#[test]
fn requests_that_break_a_rule_meet_silence() {
    let tailnode = hex("80220008 7461696c6e6f6465");
    let good = signed(1, &tailnode);
    assert_eq!(good, hex(REQUEST));

    let mut wrong_length = signed(1, &tailnode);
    wrong_length[3] = 0x18;
    let sum = fingerprint(&wrong_length[..32]);
    wrong_length[36..].copy_from_slice(&sum.to_be_bytes());

    let software_last = [&good[..3], &[0x20], &good[4..], &tailnode[..]].concat();
    let without_fingerprint = [&good[..3], &[12], &good[4..32]].concat();
    let wide_fingerprint = hex("00010018 2112a442 000102030405060708090a0b
         80220008 7461696c6e6f6465 80280008 8aabad90 00000000");

    let cases = [
        (vec![], RequestError::NotStun),
        (
            signed(0x0011, &tailnode),
            RequestError::NotABindingRequest(0x0011),
        ),
        (
            signed(0x0101, &tailnode),
            RequestError::NotABindingRequest(0x0101),
        ),
        (
            signed(0x0111, &tailnode),
            RequestError::NotABindingRequest(0x0111),
        ),
        (
            signed(0x0003, &tailnode),
            RequestError::NotABindingRequest(0x0003),
        ),
        // The reference answers this one.
        (
            wrong_length,
            RequestError::WrongLength {
                declared: 24,
                actual: 20,
            },
        ),
        (
            [&good[..], &[0; 4]].concat(),
            RequestError::WrongLength {
                declared: 20,
                actual: 24,
            },
        ),
        (
            good[..36].to_vec(),
            RequestError::WrongLength {
                declared: 20,
                actual: 16,
            },
        ),
        (
            signed(1, &hex("80220040 7461696c6e6f6465")),
            RequestError::MalformedAttribute,
        ),
        (signed(1, &[]), RequestError::MissingSoftware),
        (
            signed(1, &hex("80220008 5461696c6e6f6465")),
            RequestError::MissingSoftware,
        ),
        (
            signed(1, &hex("80220009 7461696c6e6f6465 32000000")),
            RequestError::MissingSoftware,
        ),
        (
            signed(1, &hex("80220007 7461696c6e6f6465")),
            RequestError::MissingSoftware,
        ),
        (
            signed(1, &hex("80230008 7461696c6e6f6465")),
            RequestError::MissingSoftware,
        ),
        (without_fingerprint, RequestError::MissingFingerprint),
        (software_last, RequestError::MissingFingerprint),
        (wide_fingerprint, RequestError::MissingFingerprint),
        (
            hex(&REQUEST.replace("8aabad90", "8aabad91")),
            RequestError::WrongFingerprint,
        ),
    ];
    for (datagram, error) in cases {
        assert_eq!(
            answer(&datagram, "192.0.2.1:1"),
            (Outcome::NotStun(error), vec![]),
            "{error}"
        );
    }
}

#[test]
fn attributes_that_mean_nothing_to_us_are_tolerated_before_the_fingerprint() {
    // PRIORITY before, SOFTWARE of somebody else after: one `tailnode` is enough.
    let attributes = hex("00240004 6e0001ff 80220008 7461696c6e6f6465 80220001 78000000");
    let (outcome, bytes) = answer(&signed(1, &attributes), "192.0.2.1:32853");
    let family = AddrFamily::Ipv4;
    assert_eq!(outcome, Outcome::Success { family, len: 32 });
    assert_eq!(bytes, answer(&hex(REQUEST), "192.0.2.1:32853").1);
}

/// RFC 5769 §2.1: a request with SOFTWARE, PRIORITY, ICE-CONTROLLED, USERNAME,
/// MESSAGE-INTEGRITY and FINGERPRINT.
const RFC5769_REQUEST: &str = "00010058 2112a442 b7e7a701bc34d686fa87dfae
     80220010 5354554e207465737420636c69656e74 00240004 6e0001ff
     80290008 932ff9b151263b36 00060009 6576746a3a68367659202020
     00080014 9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2 80280004 e57a3bcf";

/// RFC 5769 §2.2: a response to it over IPv4.
const RFC5769_IPV4: &str = "0101003c 2112a442 b7e7a701bc34d686fa87dfae
     8022000b 7465737420766563746f7220 00200008 0001a147e112a643
     00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004 c07d4c96";

/// RFC 5769 §2.3: a response to it over IPv6.
const RFC5769_IPV6: &str = "01010048 2112a442 b7e7a701bc34d686fa87dfae
     8022000b 7465737420766563746f7220 00200014 0002a147 0113a9faa5d3f179bc25f4b5bed2b9d9
     00080014 a382954e4be67bf11784c97c8292c275bfe3ed41 80280004 c8fb0b4c";

/// RFC 5769 §2.4: a request with long-term credentials and no FINGERPRINT.
const RFC5769_LONG_TERM: &str = "00010060 2112a442 78ad3433c6ad72c029da412e
     00060012 e3839ee38388e383aae38383e382afe382b90000
     0015001c 662f2f3439396b39353464364f4c33346f4c394653547679363473 41
     0014000b 6578616d706c652e6f726700
     00080014 f67024656dd64a3e02b8e0712e85c9a28ca89666";

#[test]
fn the_fingerprints_of_rfc_5769_are_right() {
    for message in [RFC5769_REQUEST, RFC5769_IPV4, RFC5769_IPV6] {
        let message = hex(message);
        let (covered, attribute) = message.split_at(message.len() - 8);
        assert_eq!(attribute[4..], fingerprint(covered).to_be_bytes());
    }
}

#[test]
fn the_addresses_of_rfc_5769_are_read() {
    for (message, mapped) in [
        (RFC5769_IPV4, "192.0.2.1:32853"),
        (RFC5769_IPV6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    ] {
        let expected = BindingResponse {
            txid: txid("b7e7a701bc34d686fa87dfae"),
            mapped: addr(mapped),
        };
        assert_eq!(BindingResponse::parse(&hex(message)), Ok(expected));
    }
}

#[test]
fn the_requests_of_rfc_5769_are_well_formed_and_not_for_us() {
    for request in [RFC5769_REQUEST, RFC5769_LONG_TERM] {
        assert_eq!(
            BindingRequest::parse(&hex(request)),
            Err(RequestError::MissingSoftware)
        );
    }
}
