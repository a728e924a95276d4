//! The heads of requests: what is one, what is none, and what could be read in two ways.

use crate::case::{Case, differs, must};
use crate::context::Cx;
use crate::fault::Fault;
use crate::http::{Response, request, upgrade};
use crate::verdict::{Checked, Failure, Side, ensure, same, shown};

const GO: &str = "net/http of the reference's Go";
const NO_400: &[Fault] = &[Fault::Head(" 400 ", " 200 ")];
const REFUSED: &[Fault] = &[
    Fault::Head(" 400 ", " 200 "),
    Fault::Head(" 400 ", " 101 "),
    Fault::NoResponse,
];

pub(super) const CASES: &[Case] = &[
    must!(
        byte_by_byte(),
        "A head may come byte by byte.",
        "RFC 9112, 2.2"
    )
    .red_by(&[Fault::Head(" 200 ", " 400 ")]),
    must!(
        names_without_case(),
        "Names of headers have no case.",
        "RFC 9110, 5.1"
    )
    .red_by(&[Fault::Head(" 101 ", " 426 ")]),
    must!(
        unknown_headers(),
        "Unknown headers are ignored.",
        "RFC 9110, 5.1"
    )
    .red_by(&[Fault::Head(" 101 ", " 400 ")]),
    must!(long(7 << 10), "A head of 7 KiB is read.", GO).red_by(&[Fault::Head(" 200 ", " 431 ")]),
    differs!(
        too_long(9 << 10),
        "A head of 9 KiB is refused or read.",
        GO,
        derpkit: "431",
        reference: "read",
        page: "A request head has at most 8 KiB and 64 headers"
    )
    .red_by(&[Fault::Head(" 431 ", " 400 ")]),
    must!(endless(), "A head of 2 MiB is refused.", GO).red_by(&[Fault::Head(" 431 ", " 200 ")]),
    must!(many(60), "A head of 60 headers is read.", GO).red_by(&[Fault::Head(" 200 ", " 431 ")]),
    differs!(
        too_many(80),
        "A head of 80 headers is refused or read.",
        GO,
        derpkit: "431",
        reference: "read",
        page: "A request head has at most 8 KiB and 64 headers"
    )
    .red_by(&[Fault::Head(" 431 ", " 400 ")]),
    differs!(
        bare_line_feeds(),
        "Lines that end in LF alone are refused or read.",
        "RFC 9112, 2.2",
        derpkit: "400",
        reference: "read",
        page: "lines end in CRLF"
    )
    .red_by(&[Fault::Head(" 400 ", " 403 ")]),
    must!(
        raw("GET /derp/probe HTTP/1.1\r\n\r\n", 400),
        "HTTP/1.1 without `Host` is refused.",
        "RFC 9112, 3.2"
    )
    .red_by(NO_400),
    must!(
        raw(
            "GET /derp/probe HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            400
        ),
        "Two `Host` headers are refused.",
        "RFC 9112, 3.2"
    )
    .red_by(NO_400),
    must!(
        raw("GET /derp/probe HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        "A `Host` that names no host is refused.",
        "RFC 9112, 3.2"
    )
    .red_by(NO_400),
    must!(
        raw("GET /derp/probe HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        "A space in front of a header's colon is refused.",
        "RFC 9112, 5.1"
    )
    .red_by(NO_400),
    must!(
        raw(
            "GET /derp/probe HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
            400
        ),
        "A header without a colon is refused.",
        "RFC 9112, 5"
    )
    .red_by(NO_400),
    must!(
        raw(
            "GET /derp/probe HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
            400
        ),
        "A header with a zero byte is refused.",
        "RFC 9110, 5.5"
    )
    .red_by(NO_400),
    must!(
        raw("GET  HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        "A request without a target is refused.",
        "RFC 9112, 3"
    )
    .red_by(NO_400),
    must!(
        raw("GET /derp/probe\r\nHost: a\r\n\r\n", 400),
        "A request without a version is refused.",
        "RFC 9112, 3"
    )
    .red_by(NO_400),
    must!(
        refused("\x01\x00\x00\x00\x28DERP\r\n\r\n"),
        "A DERP frame in place of a request is refused.",
        "derp/derpserver/handler.go"
    )
    .red_by(REFUSED),
    must!(
        refused("SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        "Another protocol's greeting is refused.",
        "RFC 9112, 3"
    )
    .red_by(REFUSED),
    must!(
        refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        "The preface of HTTP/2 is refused.",
        "RFC 9113, 3.4"
    )
    .red_by(&[Fault::Head(" 505 ", " 200 "), Fault::NoResponse]),
    must!(
        refused("GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
        "A later version than HTTP/1.1 is refused.",
        "RFC 9110, 15.6.6"
    )
    .red_by(&[Fault::Head(" 505 ", " 200 "), Fault::NoResponse]),
    must!(
        refused("POST /derp/probe HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n"),
        "A length that is no number is refused.",
        "RFC 9112, 6.3"
    )
    .red_by(REFUSED),
    must!(
        refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
        "Two lengths of a body are refused.",
        "RFC 9112, 6.3"
    )
    .red_by(REFUSED),
    differs!(
        two_framings(),
        "A body with a length and in chunks is refused or read in chunks.",
        "RFC 9112, 6.1",
        derpkit: "400",
        reference: "read",
        page: "A length beside `Transfer-Encoding` is refused."
    )
    .red_by(&[Fault::Head(" 400 ", " 500 ")]),
    must!(
        absolute_target(),
        "A target may name scheme and host, as proxies' clients do.",
        "RFC 9112, 3.2.2"
    )
    .red_by(&[Fault::Head(" 200 ", " 400 ")]),
    must!(
        http10_page(),
        "HTTP/1.0 is answered, and its connection ends.",
        "RFC 9112, 9.3"
    )
    .red_by(&[Fault::NoEnd, Fault::Head(" 200 ", " 505 ")]),
];

/// Sends `bytes` on a connection of its own.
async fn answer(cx: &Cx, bytes: impl AsRef<[u8]>) -> Checked<Response> {
    let mut conn = cx.open().await?;
    conn.send(bytes).await;
    conn.response("GET").await
}

fn probe_with(cx: &Cx, headers: &str) -> String {
    request(cx.target(), "GET", "/derp/probe", headers)
}

async fn byte_by_byte(cx: &Cx) -> Checked {
    let mut conn = cx.open().await?;
    conn.drip(probe_with(cx, "Accept: */*\r\n")).await;
    same("status", conn.response("GET").await?.status(), 200)
}

async fn names_without_case(cx: &Cx) -> Checked {
    let request = upgrade(cx.target(), "");
    for request in [
        request.replace("Upgrade:", "uPGRADE:"),
        request.replace("Host:", "HOST:"),
    ] {
        let mut conn = cx.open().await?;
        conn.send(request).await;
        same("status", crate::http::status(&conn.head().await?), 101)?;
        conn.greeting(cx).await?;
    }
    Ok(())
}

async fn unknown_headers(cx: &Cx) -> Checked {
    let mut conn = cx.open().await?;
    let headers = "X-Forwarded-For: 192.0.2.1\r\nVia: 1.1 proxy\r\nCookie: a=b\r\nX-Derp: 1\r\n";
    conn.send(upgrade(cx.target(), headers)).await;
    same("status", crate::http::status(&conn.head().await?), 101)?;
    conn.greeting(cx).await.map(|_| ())
}

fn with_filler(cx: &Cx, len: usize) -> String {
    let empty = probe_with(cx, "X: \r\n").len();
    probe_with(cx, &format!("X: {}\r\n", "x".repeat(len - empty)))
}

async fn long(cx: &Cx, len: usize) -> Checked {
    same(
        "status",
        answer(cx, with_filler(cx, len)).await?.status(),
        200,
    )
}

/// Refused with 431, or read.
fn limit(status: u16) -> Checked<Side> {
    match status {
        431 => Ok(Side::Derpkit),
        200 => Ok(Side::Reference),
        other => Err(Failure::new("status 431 or 200", format!("{other}"))),
    }
}

async fn too_long(cx: &Cx, len: usize) -> Checked<Side> {
    limit(answer(cx, with_filler(cx, len)).await?.status())
}

async fn endless(cx: &Cx) -> Checked {
    // Whoever refuses it early has its answer lost where the rest is still on its way.
    let mut conn = cx.open().await?;
    conn.send(with_filler(cx, 2 << 20)).await;
    match conn.response("GET").await {
        Ok(response) => same("status", response.status(), 431),
        Err(failure) if failure.seen.starts_with("the connection ended") => Ok(()),
        Err(failure) => Err(failure),
    }
}

async fn many(cx: &Cx, count: usize) -> Checked {
    let request = probe_with(cx, &"X: y\r\n".repeat(count - 1));
    same("status", answer(cx, request).await?.status(), 200)
}

async fn too_many(cx: &Cx, count: usize) -> Checked<Side> {
    let request = probe_with(cx, &"X: y\r\n".repeat(count - 1));
    limit(answer(cx, request).await?.status())
}

/// Refused with 400, or read.
fn strictness(status: u16) -> Checked<Side> {
    match status {
        400 => Ok(Side::Derpkit),
        200 | 101 | 405 => Ok(Side::Reference),
        other => Err(Failure::new("status 400 or 200", format!("{other}"))),
    }
}

async fn bare_line_feeds(cx: &Cx) -> Checked<Side> {
    let request = probe_with(cx, "").replace("\r\n", "\n");
    strictness(answer(cx, request).await?.status())
}

async fn raw(cx: &Cx, bytes: &str, status: u16) -> Checked {
    same("status", answer(cx, bytes).await?.status(), status)
}

async fn refused(cx: &Cx, bytes: &str) -> Checked {
    match answer(cx, bytes).await {
        Ok(response) => ensure(
            matches!(response.status(), 400..=599),
            "a refusal",
            shown(response.head.as_bytes()),
        ),
        Err(failure) if failure.seen == "the connection ended" => Ok(()),
        Err(failure) => Err(failure),
    }
}

async fn two_framings(cx: &Cx) -> Checked<Side> {
    let headers = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    let request = request(cx.target(), "POST", "/derp/probe", headers);
    strictness(answer(cx, request + "0\r\n\r\n").await?.status())
}

async fn absolute_target(cx: &Cx) -> Checked {
    let host = cx.target().host_header();
    let request = format!("GET http://{host}/derp/probe HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let response = answer(cx, request).await?;
    same("status", response.status(), 200)?;
    let origin = response.header("Access-Control-Allow-Origin");
    same("origins", origin, Some("*"))
}

async fn http10_page(cx: &Cx) -> Checked {
    let mut conn = cx.open().await?;
    conn.send("GET /derp/probe HTTP/1.0\r\n\r\n").await;
    same("status", conn.response("GET").await?.status(), 200)?;
    conn.rest().await.map(|_| ())
}
