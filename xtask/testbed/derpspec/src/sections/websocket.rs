//! DERP in WebSocket messages (`derp/derpserver/websocket.go`, RFC 6455). How WebSockets end is
//! another section.

use crate::case::{Case, differs, must};
use crate::conn::{Conn, Event};
use crate::context::Cx;
use crate::fault::Fault;
use crate::frame::{MAX_PACKET, PING, PONG, RECV_PACKET, SERVER_KEY, UNKNOWN, frame, packet};
use crate::http::{self, header, status};
use crate::peer::Peer;
use crate::verdict::{Checked, Failure, Side, ensure, same, same_bytes};
use crate::websocket::{BINARY, CONTINUATION, FIN, TEXT, WS_PING, WS_PONG, accept, masked};

const DERP: &str = "derp/derpserver/websocket.go";
const UPGRADED: &[Fault] = &[Fault::Head(" 101 ", " 200 "), Fault::EndAt(SERVER_KEY)];
const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
const PONGED: &[Fault] = &[
    Fault::LoseMessage(WS_PONG),
    Fault::FlipMessage(WS_PONG, 0),
    Fault::RetypeMessage(WS_PONG, WS_PING),
];
const SERVED: &[Fault] = &[Fault::LoseFrame(PONG), Fault::FlipFrame(PONG, 0)];

pub(super) const CASES: &[Case] = &[
    must!(
        accept_key(),
        "`Sec-WebSocket-Accept` is the hash of the key.",
        "RFC 6455, 4.2.2"
    )
    .red_by(&[
        Fault::Head("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "dGhlIHNhbXBsZSBub25jZQ=="),
        Fault::Head(" 101 ", " 200 "),
    ]),
    must!(subprotocol(), "The subprotocol `derp` is agreed on.", DERP)
        .red_by(&[Fault::Head("rotocol: derp", "rotocol: chat")]),
    must!(
        no_extensions(),
        "No extension is agreed on, though compression is offered.",
        DERP
    )
    .red_by(&[Fault::Head(
        "Connection",
        "Sec-WebSocket-Extensions: permessage-deflate\r\nConnection",
    )]),
    must!(
        upgraded_with("Origin: https://a.example\r\n"),
        "Any origin is welcome.",
        DERP
    )
    .red_by(UPGRADED),
    must!(
        upgraded_with("Derp-Fast-Start: 1\r\n"),
        "There is no fast start.",
        DERP
    )
    .red_by(UPGRADED),
    must!(
        upgraded_by("Connection: Upgrade", "Connection: keep-alive, Upgrade"),
        "`Connection` may name other things as well, as Firefox does.",
        "RFC 6455, 4.2.1"
    )
    .red_by(UPGRADED),
    must!(
        upgraded_by("Protocol: derp", "Protocol: chat, derp"),
        "Other subprotocols may be offered as well.",
        "RFC 6455, 4.2.1"
    )
    .red_by(UPGRADED),
    must!(
        first_message(),
        "The greeting is a whole binary message without a mask.",
        "RFC 6455, 5.1"
    )
    .red_by(&[
        Fault::RetypeMessage(BINARY, TEXT),
        Fault::MessageBit(0x0080),
        Fault::MessageBit(0x4000),
        Fault::MessageBit(0x8000),
    ]),
    must!(
        browsers(),
        "Two browsers exchange packets of all sizes.",
        DERP
    )
    .red_by(&[
        Fault::FlipFrame(RECV_PACKET, 33),
        Fault::LoseMessage(BINARY),
    ]),
    must!(
        browser_and_client(),
        "A browser and another client exchange packets.",
        DERP
    )
    .red_by(&[Fault::FlipFrame(RECV_PACKET, 33)]),
    must!(
        large_packets(),
        "A packet of 65,536 bytes reaches a browser.",
        DERP
    )
    .red_by(&[Fault::FlipFrame(RECV_PACKET, 33)]),
    must!(
        cut_frames(),
        "Frames may be cut into messages anywhere.",
        "net/wsconn/wsconn.go"
    )
    .red_by(SERVED),
    must!(
        frames_together(),
        "Several frames may be in one message.",
        "net/wsconn/wsconn.go"
    )
    .red_by(&[Fault::LoseFrame(RECV_PACKET)]),
    must!(
        empty_message(),
        "An empty message means nothing.",
        "net/wsconn/wsconn.go"
    )
    .red_by(SERVED),
    must!(
        fragments(),
        "A message may come in fragments.",
        "RFC 6455, 5.4"
    )
    .red_by(SERVED),
    must!(
        ping_between_fragments(),
        "Pings may come between fragments.",
        "RFC 6455, 5.4"
    )
    .red_by(PONGED),
    must!(ping(b""), "An empty ping is answered.", "RFC 6455, 5.5.2").red_by(&[
        Fault::LoseMessage(WS_PONG),
        Fault::RetypeMessage(WS_PONG, WS_PING),
    ]),
    must!(
        ping(&[0x5a; 125]),
        "A ping of 125 bytes is answered with them.",
        "RFC 6455, 5.5.2"
    )
    .red_by(PONGED),
    must!(
        pong(),
        "A pong that nobody asked for is ignored.",
        "RFC 6455, 5.5.3"
    )
    .red_by(SERVED),
    must!(all_masks(), "Any mask will do.", "RFC 6455, 5.3").red_by(SERVED),
    must!(
        byte_by_byte(),
        "A message may come byte by byte.",
        "RFC 6455, 5.2"
    )
    .red_by(SERVED),
    must!(message(32 << 10), "A message of 32 KiB is taken.", DERP).red_by(SERVED),
    differs!(
        longer_message(),
        "A message of 60 KiB is taken or ends the connection.",
        DERP,
        derpkit: "taken",
        reference: "1009",
        page: "A message from a client has at most 72 KiB."
    )
    .red_by(&[Fault::LoseFrame(PONG)]),
    differs!(
        other_subprotocol(),
        "A subprotocol that only contains the word `derp` is plain DERP, or refused.",
        DERP,
        derpkit: "plain DERP",
        reference: "refused with 1008",
        page: "The subprotocol must be the word `derp`; with another the request is a plain \
         upgrade."
    )
    .red_by(&[Fault::Head(" 101 ", " 400 ")]),
    differs!(
        other_version(),
        "Another version than 13 is refused, and the response names 13.",
        "RFC 6455, 4.4",
        derpkit: "426",
        reference: "400",
        page: "Another version of WebSocket than 13 is refused with 426."
    )
    .red_by(&[Fault::Head(" 426 ", " 101 ")]),
    must!(
        refused(""),
        "A missing key is refused with 400.",
        "RFC 6455, 4.2.1"
    )
    .red_by(&[Fault::Head(" 400 ", " 101 ")]),
    must!(
        refused("Sec-WebSocket-Key: c2hvcnQ=\r\n"),
        "A key that is not of 16 bytes is refused with 400.",
        "RFC 6455, 4.2.1"
    )
    .red_by(&[Fault::Head(" 400 ", " 101 ")]),
];

async fn head_of(cx: &Cx, request: String) -> Checked<(Conn, String)> {
    let mut conn = cx.open().await?;
    conn.send(request).await;
    let head = conn.head().await?;
    Ok((conn, head))
}

async fn accept_key(cx: &Cx) -> Checked {
    let (_, head) = head_of(cx, http::websocket(cx.target(), "")).await?;
    same("status", status(&head), 101)?;
    let expected = accept(http::WEBSOCKET_KEY);
    let seen = header(&head, "Sec-WebSocket-Accept");
    same("hash", seen, Some(expected.as_str()))
}

async fn subprotocol(cx: &Cx) -> Checked {
    let (_, head) = head_of(cx, http::websocket(cx.target(), "")).await?;
    let seen = header(&head, "Sec-WebSocket-Protocol");
    same("subprotocol", seen, Some("derp"))
}

async fn no_extensions(cx: &Cx) -> Checked {
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let (_, head) = head_of(cx, http::websocket(cx.target(), offer)).await?;
    same(
        "extensions",
        header(&head, "Sec-WebSocket-Extensions"),
        None,
    )
}

/// A request that is answered with an upgrade and a greeting in a message.
async fn is_upgraded(cx: &Cx, request: String) -> Checked {
    let (mut conn, head) = head_of(cx, request).await?;
    same("status", status(&head), 101)?;
    conn.speak_websocket();
    conn.greeting(cx).await.map(|_| ())
}

async fn upgraded_with(cx: &Cx, headers: &str) -> Checked {
    is_upgraded(cx, http::websocket(cx.target(), headers)).await
}

async fn upgraded_by(cx: &Cx, from: &str, to: &str) -> Checked {
    is_upgraded(cx, http::websocket(cx.target(), "").replace(from, to)).await
}

async fn first_message(cx: &Cx) -> Checked {
    let (mut conn, _) = head_of(cx, http::websocket(cx.target(), "")).await?;
    conn.speak_websocket();
    let message = conn.message().await?;
    same("first byte", message.first, FIN | BINARY)?;
    ensure(!message.is_masked, "no mask", "one")?;
    same_bytes("payload", &message.payload[..1], &[SERVER_KEY])
}

/// Packets of sizes around those of the frames' lengths, both ways.
async fn exchange(a: &mut Peer, b: &mut Peer) -> Checked {
    for len in [0, 1, 80, 88, 89, 125, 126, 1280, 4059, 32_000] {
        let data = vec![0x5a; len];
        a.reaches(b, &data).await?;
        b.reaches(a, &data).await?;
    }
    Ok(())
}

async fn browsers(cx: &Cx) -> Checked {
    let (mut a, mut b) = (cx.browser().await?, cx.browser().await?);
    exchange(&mut a, &mut b).await?;
    a.ping().await
}

async fn browser_and_client(cx: &Cx) -> Checked {
    let (mut a, mut b) = (cx.browser().await?, cx.peer().await?);
    exchange(&mut a, &mut b).await
}

async fn large_packets(cx: &Cx) -> Checked {
    let (mut a, mut b) = (cx.peer().await?, cx.browser().await?);
    a.reaches(&mut b, &[0x77; MAX_PACKET]).await
}

pub(super) const BODY: &[u8] = b"pingpong";

async fn cut_frames(cx: &Cx) -> Checked {
    let mut peer = cx.browser().await?;
    let ping = frame(PING, &[BODY]);
    for at in 1..ping.len() {
        peer.send(&ping[..at]).await;
        peer.send(&ping[at..]).await;
        peer.expect_frame(PONG, BODY).await?;
    }
    Ok(())
}

async fn frames_together(cx: &Cx) -> Checked {
    let mut peer = cx.browser().await?;
    let key = peer.key;
    peer.send(packet(&key, b"to myself").repeat(3)).await;
    for _ in 0..3 {
        peer.expect_packet(&key, b"to myself").await?;
    }
    Ok(())
}

async fn empty_message(cx: &Cx) -> Checked {
    let mut peer = cx.browser().await?;
    peer.send(b"").await;
    peer.ping().await
}

/// The parts as fragments of one message.
fn in_fragments(parts: &[&[u8]]) -> Vec<Vec<u8>> {
    let last = parts.len() - 1;
    let frames = parts.iter().enumerate().map(|(n, part)| {
        let opcode = if n == 0 { BINARY } else { CONTINUATION };
        masked(opcode | if n == last { FIN } else { 0 }, MASK, part)
    });
    frames.collect()
}

async fn fragments(cx: &Cx) -> Checked {
    let mut peer = cx.browser().await?;
    let ping = frame(PING, &[BODY]);
    for fragment in in_fragments(&[&ping[..1], b"", &ping[1..7], &ping[7..]]) {
        peer.conn.send_raw(fragment).await;
    }
    peer.expect_frame(PONG, BODY).await
}

async fn ping_between_fragments(cx: &Cx) -> Checked {
    let mut peer = cx.browser().await?;
    let ping = frame(PING, &[BODY]);
    let fragments = in_fragments(&[&ping[..4], &ping[4..]]);
    peer.conn.send_raw(&fragments[0]).await;
    peer.conn
        .send_raw(masked(FIN | WS_PING, MASK, b"between"))
        .await;
    is_ponged(&mut peer, b"between").await?;
    peer.conn.send_raw(&fragments[1]).await;
    peer.expect_frame(PONG, BODY).await
}

async fn is_ponged(peer: &mut Peer, payload: &[u8]) -> Checked {
    let message = peer.conn.message().await?;
    same("first byte", message.first, FIN | WS_PONG)?;
    same_bytes("payload", &message.payload, payload)
}

async fn ping(cx: &Cx, payload: &[u8]) -> Checked {
    let mut peer = cx.browser().await?;
    peer.conn
        .send_raw(masked(FIN | WS_PING, MASK, payload))
        .await;
    is_ponged(&mut peer, payload).await?;
    peer.ping().await
}

async fn pong(cx: &Cx) -> Checked {
    let mut peer = cx.browser().await?;
    peer.conn
        .send_raw(masked(FIN | WS_PONG, MASK, b"unasked"))
        .await;
    peer.ping().await
}

async fn all_masks(cx: &Cx) -> Checked {
    let mut peer = cx.browser().await?;
    for mask in [[0; 4], [0xff; 4], MASK, [0, 0, 0, 1]] {
        let ping = frame(PING, &[BODY]);
        peer.conn.send_raw(masked(FIN | BINARY, mask, &ping)).await;
        peer.expect_frame(PONG, BODY).await?;
    }
    Ok(())
}

async fn byte_by_byte(cx: &Cx) -> Checked {
    let mut peer = cx.browser().await?;
    for byte in masked(FIN | BINARY, MASK, &frame(PING, &[BODY])) {
        peer.conn.send_raw([byte]).await;
    }
    peer.expect_frame(PONG, BODY).await
}

/// A message of this size: a frame that is skipped, and a ping.
fn long_message(len: usize) -> Vec<u8> {
    let ping = frame(PING, &[BODY]);
    let skipped = vec![0; len - ping.len() - 5];
    [frame(UNKNOWN, &[&skipped]), ping].concat()
}

async fn message(cx: &Cx, len: usize) -> Checked {
    let mut peer = cx.browser().await?;
    peer.send(long_message(len)).await;
    peer.expect_frame(PONG, BODY).await
}

async fn longer_message(cx: &Cx) -> Checked<Side> {
    let mut peer = cx.browser().await?;
    peer.send(long_message(60 << 10)).await;
    match peer.conn.event(cx.patience()).await {
        Some(Event::Frame(PONG, body)) if body == BODY => Ok(Side::Derpkit),
        Some(Event::End(how)) if how.contains("1009") => Ok(Side::Reference),
        Some(event) => Err(Failure::new("a pong, or status 1009", event.told())),
        None => Err(Failure::new("a pong, or status 1009", "nothing")),
    }
}

async fn other_subprotocol(cx: &Cx) -> Checked<Side> {
    let request = http::websocket(cx.target(), "").replace("Protocol: derp", "Protocol: xderp");
    let (mut conn, head) = head_of(cx, request).await?;
    same("status", status(&head), 101)?;
    if header(&head, "Sec-WebSocket-Accept").is_none() {
        conn.greeting(cx).await?;
        return Ok(Side::Derpkit);
    }
    conn.speak_websocket();
    let message = conn.message().await?;
    same("status", message.close_code(), Some(1008))?;
    Ok(Side::Reference)
}

async fn other_version(cx: &Cx) -> Checked<Side> {
    let request = http::websocket(cx.target(), "").replace("Version: 13", "Version: 8");
    let (_, head) = head_of(cx, request).await?;
    same(
        "version",
        header(&head, "Sec-WebSocket-Version"),
        Some("13"),
    )?;
    match status(&head) {
        426 => Ok(Side::Derpkit),
        400 => Ok(Side::Reference),
        other => Err(Failure::new("status 426 or 400", format!("{other}"))),
    }
}

async fn refused(cx: &Cx, key_line: &str) -> Checked {
    let key = format!("Sec-WebSocket-Key: {}\r\n", http::WEBSOCKET_KEY);
    let request = http::websocket(cx.target(), "").replace(&key, key_line);
    let (_, head) = head_of(cx, request).await?;
    same("status", status(&head), 400)
}
