//! From a request to a DERP connection: the slow start, the fast one, and what is neither
//! (`derp/derpserver/handler.go`).

use crate::case::{Case, Needs, differs, must};
use crate::conn::Conn;
use crate::context::Cx;
use crate::fault::Fault;
use crate::frame::{
    NOTE_PREFERRED, PONG, RECV_PACKET, SERVER_INFO, SERVER_KEY, client_info, frame, new_key, packet,
};
use crate::http::{request, status, upgrade};
use crate::peer::{Login, PLAIN_INFO};
use crate::verdict::{Checked, Failure, Side, ensure, same, same_bytes, shown};

const HANDLER: &str = "derp/derpserver/handler.go";
const CLIENT: &str = "derp/derphttp/derphttp_client.go";
const UPGRADED: &[Fault] = &[Fault::Head(" 101 ", " 200 "), Fault::EndAt(SERVER_KEY)];
/// derpkit refuses with one of these.
const OTHER_REFUSAL: &[Fault] = &[Fault::Head("HTTP/1.1 4", "HTTP/1.1 5"), Fault::NoResponse];

pub(super) const CASES: &[Case] = &[
    must!(
        response_bytes(),
        "A slow start is answered with status 101 and four headers, to the byte.",
        HANDLER
    )
    .red_by(&[
        Fault::Head("Derp-Version: 2", "Derp-Version: 3"),
        Fault::Head("Upgrade: DERP", "Upgrade: derp"),
        Fault::Head("Switching Protocols", "OK"),
        Fault::FlipFrame(SERVER_KEY, 20),
    ]),
    must!(
        greeting(),
        "The greeting follows: the magic and the key, in 40 bytes.",
        "derp/derp.go"
    )
    .red_by(&[
        Fault::FlipFrame(SERVER_KEY, 7),
        Fault::LengthenFrame(SERVER_KEY),
        Fault::LoseFrame(SERVER_KEY),
    ]),
    must!(
        same_key(),
        "All connections are greeted with the same key.",
        "derp/derp.go"
    )
    .red_by(&[Fault::EndAt(SERVER_KEY)]),
    must!(
        silent_after_greeting(),
        "Nothing follows the greeting before the client has answered.",
        "derp/derpserver/derpserver.go"
    )
    .red_by(&[
        Fault::ForgeFrame(SERVER_INFO),
        Fault::RepeatFrame(SERVER_KEY),
    ]),
    must!(
        with_upgrade("derp"),
        "`Upgrade: derp` is understood.",
        HANDLER
    )
    .red_by(UPGRADED),
    must!(
        with_upgrade("Derp"),
        "`Upgrade: Derp` is understood.",
        HANDLER
    )
    .red_by(UPGRADED),
    must!(
        with_upgrade("websocket"),
        "`Upgrade: websocket` without a subprotocol means plain DERP, as very old \
         clients ask for it.",
        "derp/derpserver/websocket.go"
    )
    .red_by(UPGRADED),
    must!(
        with_upgrade("WebSocket"),
        "So does `Upgrade: WebSocket`.",
        "derp/derpserver/websocket.go"
    )
    .red_by(UPGRADED),
    must!(
        without_connection(),
        "A missing `Connection` header is no obstacle.",
        HANDLER
    )
    .red_by(UPGRADED),
    must!(
        with_connection("keep-alive, Upgrade"),
        "`Connection` may name other things as well.",
        "RFC 9110, 7.6.1"
    )
    .red_by(UPGRADED),
    must!(with_path("/derp?x=y"), "A query does not matter.", HANDLER).red_by(UPGRADED),
    must!(
        with_headers("Ideal-Node: 1a\r\n"),
        "A client may say that it wanted another node.",
        HANDLER
    )
    .red_by(UPGRADED),
    must!(
        with_headers("Content-Length: 0\r\n"),
        "An empty body is none.",
        "RFC 9110, 8.6"
    )
    .red_by(UPGRADED),
    must!(
        fast_start_is_silent(),
        "A fast start is answered by the first frame, and no byte of HTTP.",
        HANDLER
    )
    .red_by(&[Fault::EndAt(SERVER_KEY), Fault::FlipFrame(SERVER_KEY, 0)]),
    must!(
        fast_start_at_once(),
        "What a client sends in one write with a fast start's request is not lost.",
        CLIENT
    )
    .red_by(&[
        Fault::LoseFrame(SERVER_INFO),
        Fault::LoseFrame(RECV_PACKET),
        Fault::FlipFrame(RECV_PACKET, 33),
    ]),
    must!(
        slow_start_at_once(),
        "What a client sends in one write with a slow start's request is not lost.",
        HANDLER
    )
    .red_by(&[
        Fault::LoseFrame(SERVER_INFO),
        Fault::LoseFrame(RECV_PACKET),
        Fault::Head(" 101 ", " 200 "),
    ]),
    must!(
        byte_by_byte(),
        "Request, login and packet may come byte by byte.",
        "derp/derp.go"
    )
    .red_by(&[
        Fault::LoseFrame(SERVER_INFO),
        Fault::FlipFrame(RECV_PACKET, 33),
    ]),
    must!(
        slow_start_for("0"),
        "A start is slow where `Derp-Fast-Start` is 0.",
        HANDLER
    )
    .red_by(UPGRADED),
    must!(
        slow_start_for("true"),
        "A start is slow where `Derp-Fast-Start` is true.",
        HANDLER
    )
    .red_by(UPGRADED),
    must!(
        slow_start_for("11"),
        "A start is slow where `Derp-Fast-Start` is 11.",
        HANDLER
    )
    .red_by(UPGRADED),
    must!(
        slow_start_for(""),
        "A start is slow where `Derp-Fast-Start` is empty.",
        HANDLER
    )
    .red_by(UPGRADED),
    must!(
        after_a_probe(),
        "A connection that was probed can still become a DERP connection.",
        "net/http of the reference's Go"
    )
    .red_by(&[Fault::Head(" 101 ", " 400 "), Fault::LoseFrame(PONG)]),
    must!(
        no_upgrade("GET"),
        "GET /derp without an upgrade is told what is missing, with status 426.",
        HANDLER
    )
    .red_by(&[
        Fault::Head(" 426 ", " 200 "),
        Fault::Body("DERP requires", "HTTP requires"),
    ]),
    must!(
        no_upgrade("POST"),
        "POST /derp without an upgrade is told the same.",
        HANDLER
    )
    .red_by(&[
        Fault::Head(" 426 ", " 200 "),
        Fault::Body("DERP requires", "HTTP requires"),
    ]),
    must!(
        other_upgrade(),
        "An upgrade to another protocol is told the same.",
        HANDLER
    )
    .red_by(&[Fault::Head(" 426 ", " 101 ")]),
    differs!(
        by_post(),
        "An upgrade by POST is refused or made.",
        HANDLER,
        derpkit: "405",
        reference: "101",
        page: "An upgrade by another method gets 405"
    )
    .red_by(OTHER_REFUSAL),
    differs!(
        by_http10(),
        "An upgrade by HTTP/1.0 is refused or made.",
        "RFC 9110, 7.8",
        derpkit: "426",
        reference: "101",
        page: "An upgrade by another method gets 405; by HTTP/1.0"
    )
    .red_by(&[Fault::Head(" 426 ", " 500 ")]),
    differs!(
        with_other_connection(),
        "An upgrade that `Connection` does not name is refused or made.",
        "RFC 9110, 7.8",
        derpkit: "426",
        reference: "101",
        page: "or with a `Connection` header that does not say so, 426"
    )
    .red_by(OTHER_REFUSAL),
    differs!(
        with_body("Content-Length: 5\r\n"),
        "An upgrade with a body is refused or made.",
        HANDLER,
        derpkit: "400",
        reference: "101",
        page: "with a body or with headers twice, 400"
    )
    .red_by(OTHER_REFUSAL),
    differs!(
        with_body("Transfer-Encoding: chunked\r\n"),
        "An upgrade with a body in chunks is refused or made.",
        HANDLER,
        derpkit: "400",
        reference: "101",
        page: "with a body or with headers twice, 400"
    )
    .red_by(OTHER_REFUSAL),
    differs!(
        with_body("Upgrade: h2c\r\n"),
        "Two `Upgrade` headers are refused, or the first is taken.",
        HANDLER,
        derpkit: "400",
        reference: "101",
        page: "with a body or with headers twice, 400"
    )
    .red_by(OTHER_REFUSAL),
    differs!(
        with_body("Derp-Fast-Start: 0\r\nDerp-Fast-Start: 1\r\n"),
        "Two `Derp-Fast-Start` headers are refused, or the first is taken.",
        HANDLER,
        derpkit: "400",
        reference: "101",
        page: "with a body or with headers twice, 400"
    )
    .red_by(OTHER_REFUSAL),
    must!(
        several_protocols(),
        "Several protocols in one `Upgrade` are told what is missing.",
        HANDLER
    )
    .red_by(&[Fault::Head(" 426 ", " 101 ")]),
    must!(
        two_hosts(),
        "An upgrade with two hosts is refused.",
        "RFC 9112, 3.2"
    )
    .red_by(&[Fault::Head(" 400 ", " 101 ")]),
    must!(
        silent_stranger(),
        "Who connects and sends no request is disconnected within 31 s.",
        "cmd/derper/derper.go"
    )
    .needs(Needs::SLOW)
    .red_by(&[Fault::NoEnd]),
];

/// Sends a request, and returns the head of the answer.
async fn head_of(cx: &Cx, request: impl AsRef<[u8]>) -> Checked<(Conn, String)> {
    let mut conn = cx.open().await?;
    conn.send(request).await;
    let head = conn.head().await?;
    Ok((conn, head))
}

/// A request that leads to a connection on which the server greets.
async fn is_upgraded(cx: &Cx, request: impl AsRef<[u8]>) -> Checked {
    let (mut conn, head) = head_of(cx, request).await?;
    same("status", status(&head), 101)?;
    conn.greeting(cx).await.map(|_| ())
}

async fn response_bytes(cx: &Cx) -> Checked {
    let (mut conn, head) = head_of(cx, upgrade(cx.target(), "")).await?;
    let key = conn.greeting(cx).await?.to_hex();
    let expected = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\
         Derp-Version: 2\r\nDerp-Public-Key: {key}\r\n\r\n"
    );
    same("response", head, expected)
}

async fn greeting(cx: &Cx) -> Checked {
    let (mut conn, _) = head_of(cx, upgrade(cx.target(), "")).await?;
    let body = conn.expect(cx, SERVER_KEY).await?;
    same("length of the greeting", body.len(), 40)?;
    same_bytes("magic", &body[..8], b"DERP\xf0\x9f\x94\x91")
}

async fn same_key(cx: &Cx) -> Checked {
    let (_, first) = cx.greeted(&Login::new()).await?;
    let (_, second) = cx.greeted(&Login::new()).await?;
    same("key", second, first)
}

async fn silent_after_greeting(cx: &Cx) -> Checked {
    let (mut conn, _) = cx.greeted(&Login::new()).await?;
    conn.stays_silent().await
}

async fn with_upgrade(cx: &Cx, value: &str) -> Checked {
    let request = upgrade(cx.target(), "");
    let value = format!("Upgrade: {value}\r\n");
    is_upgraded(cx, request.replace("Upgrade: DERP\r\n", &value)).await
}

async fn without_connection(cx: &Cx) -> Checked {
    let request = upgrade(cx.target(), "");
    is_upgraded(cx, request.replace("Connection: Upgrade\r\n", "")).await
}

async fn with_connection(cx: &Cx, value: &str) -> Checked {
    let request = upgrade(cx.target(), "");
    let value = format!("Connection: {value}\r\n");
    is_upgraded(cx, request.replace("Connection: Upgrade\r\n", &value)).await
}

async fn with_path(cx: &Cx, path: &str) -> Checked {
    let request = upgrade(cx.target(), "");
    is_upgraded(cx, request.replacen("/derp", path, 1)).await
}

async fn with_headers(cx: &Cx, headers: &str) -> Checked {
    is_upgraded(cx, upgrade(cx.target(), headers)).await
}

async fn fast_start_is_silent(cx: &Cx) -> Checked {
    let mut conn = cx.open().await?;
    conn.send(upgrade(cx.target(), "Derp-Fast-Start: 1\r\n"))
        .await;
    let body = conn.expect(cx, SERVER_KEY).await?;
    same_bytes("magic", &body[..8], b"DERP\xf0\x9f\x94\x91")
}

/// Sends everything from the request to a packet to itself, and sees that all was understood.
async fn all_at_once(cx: &Cx, headers: &str, drips: bool) -> Checked {
    let (_, server) = cx.greeted(&Login::new()).await?;
    let private = new_key();
    let key = private.public();
    let bytes = [
        upgrade(cx.target(), headers).into_bytes(),
        client_info(&key, &private, &server, PLAIN_INFO.as_bytes()),
        frame(NOTE_PREFERRED, &[&[1]]),
        packet(&key, b"right behind"),
    ]
    .concat();
    let mut conn = cx.open().await?;
    if drips {
        conn.drip(bytes).await;
    } else {
        conn.send(bytes).await;
    }
    if headers.is_empty() {
        same("status", status(&conn.head().await?), 101)?;
    }
    conn.greeting(cx).await?;
    conn.admitted(cx, &private, &server).await?;
    let received = conn.expect(cx, RECV_PACKET).await?;
    let expected = [&key.as_bytes()[..], b"right behind"].concat();
    same_bytes("packet", &received, &expected)
}

async fn fast_start_at_once(cx: &Cx) -> Checked {
    all_at_once(cx, "Derp-Fast-Start: 1\r\n", false).await
}

async fn slow_start_at_once(cx: &Cx) -> Checked {
    all_at_once(cx, "", false).await
}

async fn byte_by_byte(cx: &Cx) -> Checked {
    all_at_once(cx, "Derp-Fast-Start: 1\r\n", true).await
}

async fn slow_start_for(cx: &Cx, value: &str) -> Checked {
    let header = format!("Derp-Fast-Start: {value}\r\n");
    is_upgraded(cx, upgrade(cx.target(), &header)).await
}

async fn after_a_probe(cx: &Cx) -> Checked {
    let mut conn = cx.open().await?;
    conn.send(request(cx.target(), "GET", "/derp/probe", ""))
        .await;
    same(
        "status of the probe",
        conn.response("GET").await?.status(),
        200,
    )?;
    conn.send(upgrade(cx.target(), "")).await;
    same("status", status(&conn.head().await?), 101)?;
    let server = conn.greeting(cx).await?;
    let private = new_key();
    conn.send(client_info(
        &private.public(),
        &private,
        &server,
        PLAIN_INFO.as_bytes(),
    ))
    .await;
    conn.admitted(cx, &private, &server).await?;
    conn.send(frame(crate::frame::PING, &[b"pingpong"])).await;
    same_bytes("pong", &conn.expect(cx, PONG).await?, b"pingpong")
}

/// Answered with 426, and with what is missing.
async fn needs_upgrade(cx: &Cx, request: String) -> Checked {
    let mut conn = cx.open().await?;
    conn.send(request).await;
    let response = conn.response("GET").await?;
    same("status", response.status(), 426)?;
    same_bytes(
        "body",
        &response.body,
        b"DERP requires connection upgrade\n",
    )
}

async fn no_upgrade(cx: &Cx, method: &str) -> Checked {
    needs_upgrade(cx, request(cx.target(), method, "/derp", "")).await
}

async fn other_upgrade(cx: &Cx) -> Checked {
    let headers = "Connection: Upgrade\r\nUpgrade: h2c\r\n";
    needs_upgrade(cx, request(cx.target(), "GET", "/derp", headers)).await
}

async fn several_protocols(cx: &Cx) -> Checked {
    let headers = "Connection: Upgrade\r\nUpgrade: DERP, websocket\r\n";
    needs_upgrade(cx, request(cx.target(), "GET", "/derp", headers)).await
}

/// Refused with `refusal`, or upgraded.
async fn refused_or_upgraded(cx: &Cx, request: String, refusal: u16) -> Checked<Side> {
    let (mut conn, head) = head_of(cx, request).await?;
    match status(&head) {
        101 => {
            conn.greeting(cx).await?;
            Ok(Side::Reference)
        }
        seen if seen == refusal => Ok(Side::Derpkit),
        _ => Err(Failure::new(
            format!("status {refusal} or 101"),
            shown(head.as_bytes()),
        )),
    }
}

async fn by_post(cx: &Cx) -> Checked<Side> {
    let request = upgrade(cx.target(), "").replacen("GET", "POST", 1);
    refused_or_upgraded(cx, request, 405).await
}

async fn by_http10(cx: &Cx) -> Checked<Side> {
    let request = upgrade(cx.target(), "").replacen("HTTP/1.1", "HTTP/1.0", 1);
    refused_or_upgraded(cx, request, 426).await
}

async fn with_other_connection(cx: &Cx) -> Checked<Side> {
    let request = upgrade(cx.target(), "").replace("Connection: Upgrade", "Connection: close");
    refused_or_upgraded(cx, request, 426).await
}

async fn with_body(cx: &Cx, headers: &str) -> Checked<Side> {
    refused_or_upgraded(cx, upgrade(cx.target(), headers), 400).await
}

async fn two_hosts(cx: &Cx) -> Checked {
    let (_, head) = head_of(cx, upgrade(cx.target(), "Host: other.example\r\n")).await?;
    same("status", status(&head), 400)
}

async fn silent_stranger(cx: &Cx) -> Checked {
    let mut conn = cx.open().await?;
    let how = conn.ends_within(std::time::Duration::from_secs(31)).await?;
    ensure(!how.contains("in the middle"), "no byte", how)
}
