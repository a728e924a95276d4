use proptest::prelude::*;

use super::*;

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&V2_SIGNATURE[..], &[command, family], &len, rest].concat()
}

/// 192.0.2.7:1000 to 198.51.100.1:443.
const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x03, 0xe8, 0x01, 0xbb];

fn v6(source: &str) -> Vec<u8> {
    let source: Ipv6Addr = source.parse().unwrap();
    let destination: Ipv6Addr = "2001:db8::1".parse().unwrap();
    [
        &source.octets()[..],
        &destination.octets(),
        &[0x03, 0xe8, 0x01, 0xbb],
    ]
    .concat()
}

fn client(addr: &str) -> Header {
    Header::Client(addr.parse().unwrap())
}

/// Headers, and what they say.
fn good() -> Vec<(Vec<u8>, Header)> {
    let with = |tlvs: &[u8]| v2(0x21, 0x11, &[&V4[..], tlvs].concat());
    let mut summed = with(&[3, 0, 4, 0, 0, 0, 0]);
    let at = summed.len() - 4;
    let sum = crc32c(&summed, at..at + 4);
    summed[at..].copy_from_slice(&sum.to_be_bytes());
    let text = |line: &str| line.as_bytes().to_vec();
    vec![
        (
            text("PROXY TCP4 192.0.2.7 198.51.100.1 1000 443\r\n"),
            client("192.0.2.7:1000"),
        ),
        (
            text("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"),
            client("0.0.0.0:0"),
        ),
        // The specification's longest lines (section 2.1).
        (
            text("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
            client("255.255.255.255:65535"),
        ),
        (
            text(
                "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            ),
            client("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ),
        (text("PROXY TCP6 :: :: 0 0\r\n"), client("[::]:0")),
        (
            text("PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 1000 443\r\n"),
            client("192.0.2.7:1000"),
        ),
        (text("PROXY UNKNOWN\r\n"), Header::Unknown),
        (
            text(
                "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            ),
            Header::Unknown,
        ),
        (v2(0x21, 0x11, &V4), client("192.0.2.7:1000")),
        (
            v2(0x21, 0x21, &v6("2001:db8::7")),
            client("[2001:db8::7]:1000"),
        ),
        (
            v2(0x21, 0x21, &v6("::ffff:192.0.2.7")),
            client("192.0.2.7:1000"),
        ),
        // ALPN, authority, padding, and one that nobody knows.
        (
            with(b"\x01\0\x02h2\x02\0\x01a\x04\0\0\xee\0\x03abc"),
            client("192.0.2.7:1000"),
        ),
        (summed, client("192.0.2.7:1000")),
        (v2(0x21, 0x12, &V4), Header::Unknown),
        (v2(0x21, 0x31, &[0; 216]), Header::Unknown),
        (v2(0x21, 0x00, b""), Header::Unknown),
        (v2(0x21, 0x00, b"whatever"), Header::Unknown),
        (v2(0x20, 0x00, b""), Header::Local),
        (v2(0x20, 0x11, &V4), Header::Local),
        (v2(0x20, 0xff, b"whatever"), Header::Local),
        (v2(0x20, 0x00, &[0; MAX_V2_LEN - 16]), Header::Local),
    ]
}

#[test]
fn headers_say_where_a_connection_comes_from() {
    for (bytes, expected) in good() {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(read(&bytes), Ok(Progress::Complete(expected)), "{text:?}");
    }
}

/// What is asked for is never beyond the header, so a client's first byte stays in the socket.
#[test]
fn each_part_of_a_header_asks_for_no_more_than_the_header() {
    for (bytes, _) in good() {
        for len in 0..bytes.len() {
            let Ok(Progress::Needs(more)) = read(&bytes[..len]) else {
                panic!("{len} bytes of {:?}", String::from_utf8_lossy(&bytes));
            };
            assert!(more > 0 && len + more <= bytes.len(), "{more} after {len}");
        }
    }
}

#[test]
fn what_is_no_header_is_refused() {
    use ProxyHeaderError::{Checksum, Malformed, Missing, TooLong};
    let line = |text: &str| text.as_bytes().to_vec();
    let with = |tlvs: &[u8]| v2(0x21, 0x11, &[&V4[..], tlvs].concat());
    let cases = [
        (line("GET / HTTP/1.1\r\n\r\n"), Missing),
        (vec![22, 3, 1], Missing),
        (line("proxy TCP4"), Missing),
        (line("PROXY\t"), Missing),
        (line("\r\n\r\n\0\r\nQUIT\r"), Missing),
        (line("PROXY UNKNOW\r\n"), Malformed),
        (line("PROXY UNKNOWNS\r\n"), Malformed),
        (
            line("PROXY TCP4 192.0.2.7 198.51.100.1 1000\r\n"),
            Malformed,
        ),
        (
            line("PROXY TCP4 192.0.2.7 198.51.100.1 1000 443 \r\n"),
            Malformed,
        ),
        (
            line("PROXY TCP4  192.0.2.7 198.51.100.1 1000 443\r\n"),
            Malformed,
        ),
        (
            line("PROXY TCP4 192.0.2.7 198.51.100.1 1000 443\n"),
            Malformed,
        ),
        (
            line("PROXY TCP4 192.0.2.7 198.51.100.1 01000 443\r\n"),
            Malformed,
        ),
        (
            line("PROXY TCP4 192.0.2.7 198.51.100.1 +100 443\r\n"),
            Malformed,
        ),
        (
            line("PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n"),
            Malformed,
        ),
        (
            line("PROXY TCP4 2001:db8::7 2001:db8::1 1000 443\r\n"),
            Malformed,
        ),
        (
            line("PROXY TCP6 192.0.2.7 198.51.100.1 1000 443\r\n"),
            Malformed,
        ),
        (
            line("PROXY TCP4 192.0.2.007 198.51.100.1 1000 443\r\n"),
            Malformed,
        ),
        (
            line("PROXY UDP4 192.0.2.7 198.51.100.1 1000 443\r\n"),
            Malformed,
        ),
        (
            line(&format!("PROXY UNKNOWN {}\r\n", "x".repeat(92))),
            TooLong,
        ),
        (line(&format!("PROXY UNKNOWN {}", "x".repeat(92))), TooLong),
        // A byte sooner it was that already, if it came so.
        (
            line(&format!("PROXY UNKNOWN {}\n", "x".repeat(92))),
            TooLong,
        ),
        // Version 1 and 3; a command that there is not.
        (v2(0x11, 0x11, &V4), Malformed),
        (v2(0x31, 0x11, &V4), Malformed),
        (v2(0x22, 0x11, &V4), Malformed),
        (v2(0x21, 0x10, &V4), Malformed),
        (v2(0x21, 0x41, &V4), Malformed),
        (v2(0x21, 0x11, &V4[..11]), Malformed),
        (v2(0x21, 0x21, &V4), Malformed),
        (v2(0x21, 0x11, &[0; MAX_V2_LEN - 15]), TooLong),
        (with(&[4, 0]), Malformed),
        (with(&[4, 0, 2, 0]), Malformed),
        (with(&[3, 0, 3, 0, 0, 0]), Malformed),
        (with(&[3, 0, 4, 0, 0, 0, 1]), Checksum),
    ];
    for (bytes, expected) in cases {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(read(&bytes), Err(expected), "{text:?}");
    }
}

/// RFC 9260 gives the polynomial; this is its customary check value.
#[test]
fn the_checksum_is_crc_32c() {
    assert_eq!(crc32c(b"123456789", 0..0), 0xe306_9283);
    assert_eq!(crc32c(b"12xx56789", 2..4), crc32c(b"12\0\x0056789", 0..0));
}

proptest! {
    /// However a stranger goes on, the reader stops at the bound, and what it has refused or
    /// taken it would not have taken sooner.
    #[test]
    fn any_bytes_are_read_in_bounds(
        start in prop_oneof![
            Just(V1_START.to_vec()), Just(b"PROXY TCP4 ".to_vec()), Just(b"PROXY TCP6 ".to_vec()),
            Just(b"PROXY UNKNOWN".to_vec()), Just(v2(0x21, 0x11, b"")[..14].to_vec()),
            Just(v2(0x20, 0x21, b"")[..14].to_vec()), Just(Vec::new()),
        ],
        rest in prop_oneof![
            prop::collection::vec(any::<u8>(), 600),
            prop::collection::vec(prop::sample::select(&b"0123456789abcdef.: \r\n"[..]), 600),
        ],
        step in 1usize..9,
    ) {
        let wire = [start, rest].concat();
        let mut len = 0;
        while let Ok(Progress::Needs(more)) = read(&wire[..len]) {
            len += more.min(step);
            prop_assert!(len <= MAX_V2_LEN);
        }
    }
}
