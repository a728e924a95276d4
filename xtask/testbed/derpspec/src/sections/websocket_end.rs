//! How WebSockets end: by a close frame, or by what breaks the protocol (RFC 6455).

use super::websocket::BODY;
use crate::case::{Case, must};
use crate::context::Cx;
use crate::fault::Fault;
use crate::frame::{self, PEER_GONE, PING, UNKNOWN, frame};
use crate::peer::Peer;
use crate::verdict::{Checked, Failure, same, shown};
use crate::websocket::{BINARY, CLOSE, CONTINUATION, FIN, TEXT, WS_PING, masked, unmasked};

const DERP: &str = "derp/derpserver/websocket.go";
const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
/// Another status, or no close frame at all.
const CLOSED: &[Fault] = &[
    Fault::FlipMessage(CLOSE, 1),
    Fault::RetypeMessage(CLOSE, WS_PING),
    Fault::LoseMessage(CLOSE),
];

pub(super) const CASES: &[Case] = &[
    must!(
        closed_by(FIN | TEXT, b"hello", 1003),
        "A text message ends the connection with 1003.",
        "net/wsconn/wsconn.go"
    )
    .red_by(CLOSED),
    must!(
        no_mask(),
        "A frame without a mask ends the connection.",
        "RFC 6455, 5.1"
    )
    .red_by(&[Fault::NoEnd]),
    must!(
        broken_by(&masked(0xc0 | BINARY, MASK, b"x")),
        "A reserved bit ends the connection.",
        "RFC 6455, 5.2"
    )
    .red_by(&[Fault::NoEnd]),
    must!(
        broken_by(&masked(FIN | 3, MASK, b"x")),
        "A reserved opcode ends the connection.",
        "RFC 6455, 5.2"
    )
    .red_by(&[Fault::NoEnd]),
    must!(
        broken_by(&masked(FIN | 11, MASK, b"x")),
        "A reserved control opcode ends the connection.",
        "RFC 6455, 5.2"
    )
    .red_by(&[Fault::NoEnd]),
    must!(
        broken_by(&masked(FIN | WS_PING, MASK, &[0; 126])),
        "A ping of 126 bytes ends the connection.",
        "RFC 6455, 5.5"
    )
    .red_by(&[Fault::NoEnd]),
    must!(
        broken_by(&masked(WS_PING, MASK, b"x")),
        "A ping in fragments ends the connection.",
        "RFC 6455, 5.5"
    )
    .red_by(&[Fault::NoEnd]),
    must!(
        broken_by(&masked(FIN | CONTINUATION, MASK, b"x")),
        "A continuation of nothing ends the connection.",
        "RFC 6455, 5.4"
    )
    .red_by(&[Fault::NoEnd]),
    must!(
        broken_by(&[masked(BINARY, MASK, b"x"), masked(FIN | BINARY, MASK, b"x")].concat()),
        "A new message between fragments ends the connection.",
        "RFC 6455, 5.4"
    )
    .red_by(&[Fault::NoEnd]),
    must!(
        broken_by(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        "A length of 64 bits ends the connection.",
        "RFC 6455, 5.2"
    )
    .red_by(&[Fault::NoEnd]),
    must!(
        broken_by(&masked(FIN | CLOSE, MASK, &[3])),
        "A close frame of one byte ends the connection.",
        "RFC 6455, 5.5.1"
    )
    .red_by(&[Fault::NoEnd]),
    must!(
        broken_by(&masked(FIN | CLOSE, MASK, &1005u16.to_be_bytes())),
        "A close frame with a status that is not for the wire ends the connection.",
        "RFC 6455, 7.4.1"
    )
    .red_by(&[Fault::NoEnd]),
    must!(
        close(&[3, 232]),
        "A close frame is answered with one, and the connection ends.",
        "RFC 6455, 5.5.1"
    )
    .red_by(&[
        Fault::LoseMessage(CLOSE),
        Fault::RetypeMessage(CLOSE, WS_PING),
        Fault::NoEnd,
    ]),
    must!(close(&[]), "So is one without a status.", "RFC 6455, 5.5.1").red_by(&[
        Fault::LoseMessage(CLOSE),
        Fault::RetypeMessage(CLOSE, WS_PING),
        Fault::NoEnd,
    ]),
    must!(
        leaves(),
        "Who closes has left: receivers are told.",
        "derp/derpserver/derpserver.go"
    )
    .red_by(&[Fault::LoseFrame(PEER_GONE)]),
    must!(
        fatal_frame(),
        "What ends a DERP connection closes the WebSocket.",
        DERP
    )
    .red_by(&[
        Fault::NoEnd,
        Fault::LoseMessage(CLOSE),
        Fault::RetypeMessage(CLOSE, WS_PING),
    ]),
    must!(
        too_long(),
        "A message of 1 MiB ends the connection with 1009.",
        "RFC 6455, 7.4.1"
    )
    .red_by(&[
        Fault::FlipMessage(CLOSE, 1),
        Fault::RetypeMessage(CLOSE, WS_PING),
    ]),
    must!(
        too_long_in_fragments(),
        "So it does in fragments.",
        "RFC 6455, 7.4.1"
    )
    .red_by(&[
        Fault::FlipMessage(CLOSE, 1),
        Fault::RetypeMessage(CLOSE, WS_PING),
    ]),
];

/// The server ends the connection with this status.
async fn is_closed_with(peer: &mut Peer, code: u16) -> Checked {
    let message = peer.conn.message().await?;
    same("first byte", message.first, FIN | CLOSE)?;
    same("status", message.close_code(), Some(code))
}

async fn closed_by(cx: &Cx, first: u8, payload: &[u8], code: u16) -> Checked {
    let mut peer = cx.browser().await?;
    peer.conn.send_raw(masked(first, MASK, payload)).await;
    is_closed_with(&mut peer, code).await
}

/// The connection ends; a close frame may come first, and what follows is no frame.
async fn breaks(peer: &mut Peer) -> Checked {
    loop {
        match peer.conn.message().await {
            Ok(message) if message.opcode() == CLOSE => {}
            Ok(message) => return Err(Failure::new("the end", shown(&message.payload))),
            Err(failure) if failure.seen.starts_with("the connection ended") => return Ok(()),
            Err(failure) => return Err(failure),
        }
    }
}

async fn broken_by(cx: &Cx, bytes: &[u8]) -> Checked {
    let mut peer = cx.browser().await?;
    peer.conn.send_raw(bytes).await;
    // A client that has no more to say lets the server finish its farewell.
    peer.conn.finish().await;
    breaks(&mut peer).await
}

async fn no_mask(cx: &Cx) -> Checked {
    let ping = unmasked(FIN | BINARY, &frame(PING, &[BODY]));
    broken_by(cx, &ping).await
}

async fn close(cx: &Cx, payload: &[u8]) -> Checked {
    let mut peer = cx.browser().await?;
    peer.conn.send_raw(masked(FIN | CLOSE, MASK, payload)).await;
    let message = peer.conn.message().await?;
    same("first byte", message.first, FIN | CLOSE)?;
    breaks(&mut peer).await
}

async fn leaves(cx: &Cx) -> Checked {
    let (mut a, mut b) = (cx.browser().await?, cx.peer().await?);
    a.reaches(&mut b, b"hello").await?;
    a.conn.send_raw(masked(FIN | CLOSE, MASK, &[3, 233])).await;
    b.expect_gone(&a.key, 0).await
}

async fn fatal_frame(cx: &Cx) -> Checked {
    let mut peer = cx.browser().await?;
    peer.send(frame(PING, &[b"short"])).await;
    let message = peer.conn.message().await?;
    same("first byte", message.first, FIN | CLOSE)?;
    // Whoever is told so answers in the same way, and servers may wait for that.
    peer.conn
        .send_raw(masked(FIN | CLOSE, MASK, &message.payload))
        .await;
    breaks(&mut peer).await
}

async fn too_long(cx: &Cx) -> Checked {
    let mut peer = cx.browser().await?;
    // Not all of it, so that the answer is not lost behind what would still be on its way; and of
    // what there is, nothing is wrong but the message's length.
    let announced: u32 = 1 << 20;
    let head = [
        &[FIN | BINARY, 0x80 | 127][..],
        &u64::from(announced).to_be_bytes(),
        &[0; 4],
        &frame::header(UNKNOWN, announced - 5),
        &[0; 33 << 10],
    ]
    .concat();
    peer.conn.send_raw(head).await;
    is_closed_with(&mut peer, 1009).await
}

async fn too_long_in_fragments(cx: &Cx) -> Checked {
    let mut peer = cx.browser().await?;
    // Frames that are skipped, so that nothing but the message's length is wrong.
    let part = frame(UNKNOWN, &[&[0; 8187]]);
    peer.conn.send_raw(masked(BINARY, MASK, &part)).await;
    for _ in 0..9 {
        peer.conn.send_raw(masked(CONTINUATION, MASK, &part)).await;
    }
    is_closed_with(&mut peer, 1009).await
}
