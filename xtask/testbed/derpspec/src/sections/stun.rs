//! STUN, as clients use it to learn their address (`net/stun/stun.go`, RFC 8489).

use std::net::SocketAddr;

use crate::case::{Case, Needs, differs, must};
use crate::context::Cx;
use crate::datagram::{Datagram, FINGERPRINT, SOFTWARE, TAILNODE};
use crate::fault::Fault;
use crate::verdict::{Checked, Failure, Side, ensure, same, same_bytes, shown};

const STUN: &str = "net/stun/stun.go";
const ANSWERED: &[Fault] = &[Fault::LoseDatagram];
const SILENT: &[Fault] = &[Fault::AnswerDatagram, Fault::LoseDatagram];

macro_rules! is_ignored {
    ($name:ident: $datagram:expr) => {
        async fn $name(cx: &Cx) -> Checked {
            is_ignored(cx, &$datagram).await
        }
    };
}

pub(super) const CASES: &[Case] = &[
    must!(
        header(),
        "A request is answered with a success response: type, cookie, transaction.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(&[
        Fault::LoseDatagram,
        Fault::FlipDatagram(1),
        Fault::FlipDatagram(4),
        Fault::FlipDatagram(19),
    ]),
    must!(
        length(),
        "The response's length is that of its attributes.",
        "RFC 8489, 5"
    )
    .needs(Needs::STUN4)
    .red_by(&[Fault::FlipDatagram(3), Fault::LengthenDatagram]),
    must!(
        one_attribute(),
        "The response has one attribute, XOR-MAPPED-ADDRESS: no SOFTWARE, no FINGERPRINT.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(&[
        Fault::FlipDatagram(21),
        Fault::FlipDatagram(20),
        Fault::LengthenDatagram,
    ]),
    must!(
        address(true),
        "An IPv4 client is told its address and port.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(&[Fault::FlipDatagram(27), Fault::FlipDatagram(26)]),
    must!(
        address(false),
        "An IPv6 client is told its address and port, in 44 bytes.",
        STUN
    )
    .needs(Needs::STUN6)
    .red_by(&[
        Fault::FlipDatagram(27),
        Fault::FlipDatagram(43),
        Fault::FlipDatagram(25),
    ]),
    differs!(
        family(),
        "An IPv4 client is told an IPv4 address in 32 bytes, or a mapped one in 44.",
        STUN,
        derpkit: "32 bytes",
        reference: "44 bytes, where the socket is for both families",
        page: "IPv4 clients are told their address as family 1, in 32 bytes."
    )
    .needs(Needs::STUN4.and(Needs::STUN6))
    .red_by(&[Fault::FlipDatagram(25), Fault::LengthenDatagram]),
    must!(
        from_where_it_was_asked(),
        "The response comes from where the request went.",
        "RFC 8489, 6.3.1"
    )
    .needs(Needs::STUN4)
    .red_by(ANSWERED),
    differs!(
        second_address(),
        "So it does where the host has several addresses, or not.",
        "RFC 8489, 6.3.1",
        derpkit: "so it does",
        reference: "from another address",
        page: "The answer comes from the address that was asked."
    )
    .needs(Needs::STUN4_TWICE)
    .red_by(ANSWERED),
    must!(
        again(),
        "A request that is repeated is answered again.",
        "RFC 8489, 6.3.1"
    )
    .needs(Needs::STUN4)
    .red_by(ANSWERED),
    must!(
        many(),
        "Each of 50 requests is answered, with its own transaction.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(&[Fault::LoseDatagram, Fault::FlipDatagram(12)]),
    must!(
        answered_with_more(),
        "Further attributes in front of FINGERPRINT do not matter.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(ANSWERED),
    must!(
        answered_with_less_in_front(),
        "Nor do they in front of SOFTWARE.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(ANSWERED),
    must!(
        answered_with_odd_length(),
        "Values of attributes are padded to four bytes.",
        "RFC 8489, 14"
    )
    .needs(Needs::STUN4)
    .red_by(ANSWERED),
    must!(
        answered_at_kilobyte(),
        "A request of 1 KiB is answered.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(ANSWERED),
    must!(
        no_fingerprint(),
        "A request without FINGERPRINT is ignored.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    must!(
        wrong_fingerprint(),
        "A request with a wrong FINGERPRINT is ignored.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    must!(
        early_fingerprint(),
        "A request with FINGERPRINT in front of another attribute is ignored.",
        "RFC 8489, 14.7"
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    must!(
        short_fingerprint(),
        "A request with a FINGERPRINT of two bytes is ignored.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    must!(
        no_software(),
        "A request without SOFTWARE is ignored.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    must!(
        other_software(),
        "A request of other SOFTWARE is ignored.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    must!(
        longer_software(),
        "A request of SOFTWARE that only begins as clients' is ignored.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    must!(
        other_method(),
        "A request of another method is ignored.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    must!(indication(), "An indication is ignored.", "RFC 8489, 6.3.2")
        .needs(Needs::STUN4)
        .red_by(SILENT),
    must!(
        response(),
        "A response is ignored, so that servers do not answer each other.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    must!(error_response(), "An error response is ignored.", STUN)
        .needs(Needs::STUN4)
        .red_by(SILENT),
    must!(
        other_cookie(),
        "A datagram with another cookie is ignored.",
        "RFC 8489, 5"
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    must!(
        high_bits(),
        "A datagram with one of its first two bits set is ignored.",
        "RFC 8489, 5"
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    must!(bare_header(), "A header alone is ignored.", STUN)
        .needs(Needs::STUN4)
        .red_by(SILENT),
    must!(short_header(), "Half a header is ignored.", STUN)
        .needs(Needs::STUN4)
        .red_by(SILENT),
    must!(empty(), "An empty datagram is ignored.", STUN)
        .needs(Needs::STUN4)
        .red_by(SILENT),
    must!(
        trailing(),
        "A request with four bytes behind it is ignored.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    must!(cut(), "A request that is cut short is ignored.", STUN)
        .needs(Needs::STUN4)
        .red_by(SILENT),
    must!(
        overrun(),
        "A request with an attribute that is longer than the rest is ignored.",
        STUN
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    must!(noise(), "What is no STUN is ignored.", STUN)
        .needs(Needs::STUN4)
        .red_by(SILENT),
    differs!(
        wrong_length(-4),
        "A request with a header's length that is too short is ignored or answered.",
        "RFC 8489, 5",
        derpkit: "ignored",
        reference: "answered",
        page: "The header's length must be that of the datagram."
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    differs!(
        wrong_length(4),
        "A request with a header's length that is too long is ignored or answered.",
        "RFC 8489, 5",
        derpkit: "ignored",
        reference: "answered",
        page: "The header's length must be that of the datagram."
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
    differs!(
        huge(),
        "A request of more than 4 KiB is ignored or answered.",
        STUN,
        derpkit: "ignored",
        reference: "answered",
        page: "Datagrams beyond 4 KiB are not requests."
    )
    .needs(Needs::STUN4)
    .red_by(SILENT),
];

async fn header(cx: &Cx) -> Checked {
    let socket = cx.stun(true, 0).await?;
    let request = Datagram::request();
    let (answer, _) = socket.ask(&request).await?;
    ensure(answer.len() >= 20, "a header", shown(&answer))?;
    same_bytes("type", &answer[..2], &[1, 1])?;
    same_bytes("cookie", &answer[4..8], &[0x21, 0x12, 0xa4, 0x42])?;
    same_bytes("transaction", &answer[8..20], &request.transaction)
}

async fn length(cx: &Cx) -> Checked {
    let (answer, _) = cx.stun(true, 0).await?.ask(&Datagram::request()).await?;
    let len = answer.get(2..4).and_then(|len| len.first_chunk());
    let len = len.map(|len| usize::from(u16::from_be_bytes(*len)));
    same("length", len, Some(answer.len() - 20))
}

async fn one_attribute(cx: &Cx) -> Checked {
    let (answer, _) = cx.stun(true, 0).await?.ask(&Datagram::request()).await?;
    let Some([a, b, c, d]) = answer.get(20..24) else {
        return Err(Failure::new("an attribute", shown(&answer)));
    };
    same("type", [*a, *b], [0, 0x20])?;
    let len = usize::from(u16::from_be_bytes([*c, *d]));
    same("length of the only attribute", 24 + len, answer.len())
}

/// An address as a socket for both families sees it.
fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(v4) => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
        SocketAddr::V6(_) => addr,
    }
}

async fn address(cx: &Cx, is_ipv4: bool) -> Checked {
    let socket = cx.stun(is_ipv4, 0).await?;
    let request = Datagram::request();
    let (answer, _) = socket.ask(&request).await?;
    let own = request.response(socket.addr);
    // Which form an IPv4 address has is another case.
    if is_ipv4 && answer == request.response(mapped(socket.addr)) {
        return Ok(());
    }
    same_bytes("response", &answer, &own)
}

async fn family(cx: &Cx) -> Checked<Side> {
    let socket = cx.stun(true, 0).await?;
    let request = Datagram::request();
    let (answer, _) = socket.ask(&request).await?;
    if answer == request.response(mapped(socket.addr)) {
        return Ok(Side::Reference);
    }
    same_bytes("response", &answer, &request.response(socket.addr))?;
    Ok(Side::Derpkit)
}

async fn from_where_it_was_asked(cx: &Cx) -> Checked {
    let socket = cx.stun(true, 0).await?;
    let (_, from) = socket.ask(&Datagram::request()).await?;
    same("address", from, socket.server)
}

async fn second_address(cx: &Cx) -> Checked<Side> {
    let socket = cx.stun(true, 1).await?;
    let (_, from) = socket.ask(&Datagram::request()).await?;
    if from == socket.server {
        return Ok(Side::Derpkit);
    }
    same("port", from.port(), socket.server.port())?;
    Ok(Side::Reference)
}

async fn again(cx: &Cx) -> Checked {
    let socket = cx.stun(true, 0).await?;
    let request = Datagram::request();
    let (first, _) = socket.ask(&request).await?;
    let (second, _) = socket.ask(&request).await?;
    same_bytes("response", &second, &first)
}

async fn many(cx: &Cx) -> Checked {
    let socket = cx.stun(true, 0).await?;
    for _ in 0..50 {
        let request = Datagram::request();
        let (answer, _) = socket.ask(&request).await?;
        same_bytes(
            "transaction",
            answer.get(8..20).unwrap_or_default(),
            &request.transaction,
        )?;
    }
    Ok(())
}

async fn is_answered(cx: &Cx, request: Datagram) -> Checked {
    let (answer, _) = cx.stun(true, 0).await?.ask(&request).await?;
    let seen = answer.get(8..20).unwrap_or_default();
    same_bytes("transaction", seen, &request.transaction)
}

/// Attributes that nobody has to know have the highest bit.
const OPTIONAL: u16 = 0x8030;

async fn answered_with_more(cx: &Cx) -> Checked {
    let request = Datagram::new(1)
        .with(SOFTWARE, TAILNODE)
        .with(OPTIONAL, b"more");
    is_answered(cx, request.with_fingerprint()).await
}

async fn answered_with_less_in_front(cx: &Cx) -> Checked {
    let request = Datagram::new(1)
        .with(OPTIONAL, b"more")
        .with(SOFTWARE, TAILNODE);
    is_answered(cx, request.with_fingerprint()).await
}

async fn answered_with_odd_length(cx: &Cx) -> Checked {
    let request = Datagram::new(1)
        .with(SOFTWARE, TAILNODE)
        .with(OPTIONAL, b"odd!!");
    is_answered(cx, request.with_fingerprint()).await
}

async fn answered_at_kilobyte(cx: &Cx) -> Checked {
    let request = Datagram::new(1)
        .with(SOFTWARE, TAILNODE)
        .with(OPTIONAL, &[7; 980]);
    is_answered(cx, request.with_fingerprint()).await
}

async fn is_ignored(cx: &Cx, datagram: &Datagram) -> Checked {
    let is_answered = cx.stun(true, 0).await?.answers(datagram).await?;
    ensure(!is_answered, "no answer", "one")
}

is_ignored!(no_fingerprint: Datagram::new(1).with(SOFTWARE, TAILNODE));
is_ignored!(wrong_fingerprint: Datagram::request().flipped(39));
is_ignored!(early_fingerprint: Datagram::new(1).with_fingerprint().with(SOFTWARE, TAILNODE));
is_ignored!(short_fingerprint: Datagram::new(1).with(SOFTWARE, TAILNODE).with(FINGERPRINT, &[0; 2]));
is_ignored!(no_software: Datagram::new(1).with_fingerprint());
is_ignored!(other_software: Datagram::new(1).with(SOFTWARE, b"Tailnode").with_fingerprint());
is_ignored!(longer_software: Datagram::new(1).with(SOFTWARE, b"tailnode2").with_fingerprint());
is_ignored!(other_method: Datagram::new(3).with(SOFTWARE, TAILNODE).with_fingerprint());
is_ignored!(indication: Datagram::new(0x0011).with(SOFTWARE, TAILNODE).with_fingerprint());
is_ignored!(response: Datagram::new(0x0101).with(SOFTWARE, TAILNODE).with_fingerprint());
is_ignored!(error_response: Datagram::new(0x0111).with(SOFTWARE, TAILNODE).with_fingerprint());
is_ignored!(other_cookie: cookie_changed());
is_ignored!(high_bits: Datagram::new(0x8001).with(SOFTWARE, TAILNODE).with_fingerprint());
is_ignored!(bare_header: Datagram::new(1));
is_ignored!(short_header: Datagram::request().cut(10));
is_ignored!(empty: Datagram::request().cut(0));
is_ignored!(trailing: Datagram::request().followed_by(&[0; 4]));
is_ignored!(cut: Datagram::request().cut(38));
is_ignored!(overrun: overrunning());
is_ignored!(noise: Datagram::new(1).cut(0).followed_by(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));

/// Right in all else, with a fingerprint over the wrong cookie.
fn cookie_changed() -> Datagram {
    let changed = Datagram::new(1).flipped(4);
    changed.with(SOFTWARE, TAILNODE).with_fingerprint()
}

/// An attribute in front of the fingerprint that says it has 255 bytes more.
fn overrunning() -> Datagram {
    let mut datagram = Datagram::new(1)
        .with(SOFTWARE, TAILNODE)
        .with(OPTIONAL, b"more");
    datagram.bytes[34] = 1;
    datagram.with_fingerprint()
}

/// Ignored, or answered.
async fn either(cx: &Cx, datagram: &Datagram) -> Checked<Side> {
    let is_answered = cx.stun(true, 0).await?.answers(datagram).await?;
    Ok(if is_answered {
        Side::Reference
    } else {
        Side::Derpkit
    })
}

async fn wrong_length(cx: &Cx, extra: i16) -> Checked<Side> {
    let request = Datagram::new(1).with(SOFTWARE, TAILNODE);
    either(cx, &request.with_fingerprint_and_length(extra)).await
}

async fn huge(cx: &Cx) -> Checked<Side> {
    let request = Datagram::new(1)
        .with(SOFTWARE, TAILNODE)
        .with(OPTIONAL, &[7; 4200]);
    either(cx, &request.with_fingerprint()).await
}
