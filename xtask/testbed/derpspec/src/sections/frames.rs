//! Frames of every type, with every length, cut anywhere (`derp/derp.go`,
//! `derp/derpserver/derpserver.go`).

use std::time::Duration;

use crate::case::{Case, Needs, differs, must};
use crate::conn::Event;
use crate::context::{Cx, GRACE};
use crate::fault::Fault;
use crate::frame::{
    CLOSE_PEER, FORWARD_PACKET, HEALTH, KEEP_ALIVE, MAX_PACKET, NOTE_PREFERRED, PEER_GONE,
    PEER_PRESENT, PING, PONG, RECV_PACKET, RESTARTING, SEND_PACKET, SERVER_INFO, SERVER_KEY,
    UNKNOWN, WATCH_CONNS, forwarded, frame, header, packet, random,
};
use crate::verdict::{Checked, Failure, Side, ensure};

const SERVER: &str = "derp/derpserver/derpserver.go";
const ENDED: &[Fault] = &[Fault::NoEnd];
const LIVES: &[Fault] = &[Fault::EndAt(PONG), Fault::ForgeFrame(PONG)];

pub(super) const CASES: &[Case] = &[
    must!(
        skipped(UNKNOWN, 0),
        "An unknown frame without a body is skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped(UNKNOWN, 100),
        "An unknown frame is skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped(UNKNOWN, 70_000),
        "An unknown frame that is longer than any packet is skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped(UNKNOWN, 1 << 20),
        "An unknown frame of 1 MiB is skipped.",
        SERVER
    )
    .red_by(LIVES),
    differs!(
        longer_unknown(),
        "An unknown frame of more than 1 MiB ends the connection, or is skipped.",
        SERVER,
        derpkit: "ends it",
        reference: "skipped",
        page: "Frames of unknown types are skipped up to 1 MiB; longer ones close the connection."
    )
    .red_by(ENDED),
    must!(
        all_unknown(),
        "Frames of all unassigned types are skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped(SERVER_KEY, 40),
        "ServerKey from a client is skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped(SERVER_INFO, 60),
        "ServerInfo from a client is skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped(RECV_PACKET, 60),
        "RecvPacket from a client is skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped(KEEP_ALIVE, 0),
        "KeepAlive from a client is skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped(KEEP_ALIVE, 9),
        "KeepAlive with a body is skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped(PEER_GONE, 33),
        "PeerGone from a client is skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped(PEER_PRESENT, 51),
        "PeerPresent from a client is skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped(PONG, 8),
        "A pong that nobody asked for is skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped(PONG, 0),
        "A pong without a body is skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped(HEALTH, 3),
        "Health from a client is skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped(RESTARTING, 8),
        "Restarting from a client is skipped.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        fatal(SEND_PACKET, 0),
        "SendPacket without a body ends the connection.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        fatal(SEND_PACKET, 31),
        "SendPacket with less than a key ends the connection.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        fatal_start(SEND_PACKET, 32 + 65_536 + 1),
        "A packet of 65,537 bytes ends the connection before it has come.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        fatal_start(SEND_PACKET, u32::MAX),
        "A packet of 4 GiB ends the connection before it has come.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        skipped_value(NOTE_PREFERRED, &[0]),
        "NotePreferred with 0 is taken.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped_value(NOTE_PREFERRED, &[1]),
        "NotePreferred with 1 is taken.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        skipped_value(NOTE_PREFERRED, &[255]),
        "NotePreferred with 255 is taken.",
        SERVER
    )
    .red_by(LIVES),
    must!(
        fatal(NOTE_PREFERRED, 0),
        "NotePreferred without a body ends the connection.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        fatal(NOTE_PREFERRED, 2),
        "NotePreferred with two bytes ends the connection.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        fatal(PING, 0),
        "A ping without a body ends the connection.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        fatal(PING, 7),
        "A ping of 7 bytes ends the connection.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        fatal_header(PING, 1001),
        "A ping of 1001 bytes ends the connection, by its header.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        fatal(WATCH_CONNS, 0),
        "WatchConns without the mesh key ends the connection.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        fatal(WATCH_CONNS, 1),
        "WatchConns with a body ends the connection.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        fatal(CLOSE_PEER, 32),
        "ClosePeer without the mesh key ends the connection.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        fatal(FORWARD_PACKET, 70),
        "ForwardPacket without the mesh key ends the connection.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        no_harm(),
        "What ends a connection for want of the mesh key has no other effect.",
        SERVER
    )
    .red_by(&[
        Fault::NoEnd,
        Fault::EndAt(PONG),
        Fault::ForgeFrame(RECV_PACKET),
    ]),
    must!(byte_by_byte(), "Frames may come byte by byte.", SERVER)
        .red_by(&[Fault::FlipFrame(RECV_PACKET, 33), Fault::LoseFrame(PONG)]),
    must!(
        cut_everywhere(),
        "Two frames may be cut at every byte.",
        SERVER
    )
    .red_by(&[Fault::FlipFrame(RECV_PACKET, 33), Fault::LoseFrame(PONG)]),
    must!(
        many_in_a_write(),
        "Many frames may come in one write.",
        SERVER
    )
    .red_by(&[
        Fault::LoseFrame(RECV_PACKET),
        Fault::RepeatFrame(RECV_PACKET),
    ]),
    must!(
        in_front_of_a_fault(),
        "What comes in front of a frame that ends the connection counts.",
        SERVER
    )
    .red_by(&[Fault::LoseFrame(RECV_PACKET), Fault::NoEnd]),
    must!(
        half_a_packet(),
        "Who leaves in the middle of a packet has not sent it.",
        SERVER
    )
    .red_by(&[Fault::ForgeFrame(RECV_PACKET), Fault::EndAt(PONG)]),
    must!(
        half_a_header(),
        "Who leaves in the middle of a header disturbs nobody.",
        SERVER
    )
    .red_by(&[Fault::ForgeFrame(RECV_PACKET), Fault::EndAt(PONG)]),
    must!(
        end_of_stream(),
        "A client that ends its half of the connection is disconnected.",
        SERVER
    )
    .red_by(ENDED),
    differs!(
        large_by_header(),
        "Of a packet that is too large, the header is enough, or the key is waited for.",
        SERVER,
        derpkit: "the header is enough",
        reference: "the key is waited for",
        page: "A packet that is too large ends the connection when its header has come."
    )
    .red_by(ENDED),
    differs!(
        unfinished(),
        "A frame that is begun and not finished ends the connection, or is waited for.",
        SERVER,
        derpkit: "ends it after 10 s and some",
        reference: "waited for",
        page: "A frame that was begun must come whole within 10 s"
    )
    .needs(Needs::SLOW)
    .red_by(&[Fault::NoEnd]),
];

/// The connection lives on, and nothing is sent for it.
async fn skipped(cx: &Cx, ty: u8, len: usize) -> Checked {
    skipped_value(cx, ty, &vec![0x55; len]).await
}

async fn skipped_value(cx: &Cx, ty: u8, body: &[u8]) -> Checked {
    let mut peer = cx.peer().await?;
    peer.send(frame(ty, &[body])).await;
    peer.is_undisturbed().await
}

async fn longer_unknown(cx: &Cx) -> Checked<Side> {
    let mut peer = cx.peer().await?;
    peer.send(header(UNKNOWN, (1 << 20) + 1)).await;
    match peer.conn.event(2 * GRACE).await {
        Some(Event::End(_)) => return Ok(Side::Derpkit),
        Some(frame) => return Err(Failure::new("the end, or nothing", frame.told())),
        None => {}
    }
    peer.send(vec![0; (1 << 20) + 1]).await;
    peer.is_undisturbed().await?;
    Ok(Side::Reference)
}

async fn all_unknown(cx: &Cx) -> Checked {
    let mut peer = cx.peer().await?;
    let types = [0].into_iter().chain(0x0b..=0x0f).chain(0x16..=0xff);
    let frames: Vec<u8> = types.flat_map(|ty| frame(ty, &[b"abc"])).collect();
    peer.send(frames).await;
    peer.is_undisturbed().await
}

async fn fatal(cx: &Cx, ty: u8, len: usize) -> Checked {
    let mut peer = cx.peer().await?;
    peer.send(frame(ty, &[&vec![0x55; len]])).await;
    peer.is_cut_off().await
}

async fn fatal_header(cx: &Cx, ty: u8, len: u32) -> Checked {
    let mut peer = cx.peer().await?;
    peer.send(header(ty, len)).await;
    peer.is_cut_off().await
}

/// As much as it takes to know that a packet is too large: its header and a key.
async fn fatal_start(cx: &Cx, ty: u8, len: u32) -> Checked {
    let mut peer = cx.peer().await?;
    peer.send([header(ty, len), vec![0x55; 32]].concat()).await;
    peer.is_cut_off().await
}

async fn large_by_header(cx: &Cx) -> Checked<Side> {
    let mut peer = cx.peer().await?;
    peer.send(header(SEND_PACKET, 32 + 65_536 + 1)).await;
    match peer.conn.event(2 * GRACE).await {
        Some(Event::End(_)) => Ok(Side::Derpkit),
        Some(frame) => Err(Failure::new("the end, or nothing", frame.told())),
        None => Ok(Side::Reference),
    }
}

async fn no_harm(cx: &Cx) -> Checked {
    let mut victim = cx.peer().await?;
    let key = victim.key;
    for frame in [
        frame(CLOSE_PEER, &[key.as_bytes()]),
        forwarded(&random_key(), &key, b"forged"),
    ] {
        let mut peer = cx.peer().await?;
        peer.send(frame).await;
        peer.is_cut_off().await?;
    }
    victim.is_undisturbed().await
}

fn random_key() -> derp_proto::NodePublic {
    crate::frame::new_key().public()
}

async fn byte_by_byte(cx: &Cx) -> Checked {
    let (mut a, mut b) = (cx.peer().await?, cx.peer().await?);
    a.conn.drip(packet(&b.key, b"drop by drop")).await;
    b.expect_packet(&a.key, b"drop by drop").await?;
    a.conn.drip(frame(PING, &[b"pingpong"])).await;
    a.expect_frame(PONG, b"pingpong").await
}

async fn cut_everywhere(cx: &Cx) -> Checked {
    let (mut a, mut b) = (cx.peer().await?, cx.peer().await?);
    let len = [packet(&b.key, b"a packet"), frame(PING, &[b"pingpong"])]
        .concat()
        .len();
    for at in 1..len {
        let data: [u8; 8] = random();
        let frames = [packet(&b.key, &data), frame(PING, &[&data])].concat();
        let (front, back) = frames.split_at(at);
        a.send(front).await;
        a.send(back).await;
        a.expect_frame(PONG, &data).await?;
        b.expect_packet(&a.key, &data).await?;
    }
    Ok(())
}

async fn many_in_a_write(cx: &Cx) -> Checked {
    let (mut a, mut b) = (cx.peer().await?, cx.peer().await?);
    // As many as wait for a client that does not read.
    let texts: Vec<String> = (0..32).map(|n| format!("packet {n}")).collect();
    let frames: Vec<u8> = texts
        .iter()
        .flat_map(|text| [packet(&b.key, text.as_bytes()), frame(UNKNOWN, &[b"x"])].concat())
        .collect();
    a.send(frames).await;
    for text in texts {
        b.expect_packet(&a.key, text.as_bytes()).await?;
    }
    b.is_undisturbed().await
}

async fn in_front_of_a_fault(cx: &Cx) -> Checked {
    let (mut a, mut b) = (cx.peer().await?, cx.peer().await?);
    let frames = [packet(&b.key, b"last words"), frame(PING, &[b"short"])].concat();
    a.send(frames).await;
    a.is_cut_off().await?;
    b.expect_packet(&a.key, b"last words").await
}

async fn half_a_packet(cx: &Cx) -> Checked {
    let (mut a, mut b) = (cx.peer().await?, cx.peer().await?);
    let whole = packet(&b.key, &[7; MAX_PACKET]);
    a.send(&whole[..whole.len() - 1]).await;
    a.conn.finish().await;
    a.is_cut_off().await?;
    b.is_undisturbed().await
}

async fn half_a_header(cx: &Cx) -> Checked {
    let (mut a, mut b) = (cx.peer().await?, cx.peer().await?);
    a.send(&header(SEND_PACKET, 40)[..3]).await;
    a.conn.finish().await;
    a.is_cut_off().await?;
    b.is_undisturbed().await
}

async fn end_of_stream(cx: &Cx) -> Checked {
    let mut peer = cx.peer().await?;
    peer.conn.finish().await;
    peer.is_cut_off().await
}

async fn unfinished(cx: &Cx) -> Checked<Side> {
    let mut peer = cx.peer().await?;
    peer.send(header(PING, 8)).await;
    let begin = tokio::time::Instant::now();
    match peer.conn.event(Duration::from_secs(14)).await {
        None => {
            peer.send(b"pingpong").await;
            peer.expect_frame(PONG, b"pingpong").await?;
            Ok(Side::Reference)
        }
        Some(Event::End(_)) => {
            let took = begin.elapsed();
            ensure(
                took > Duration::from_secs(9),
                "10 s or more",
                format!("{took:?}"),
            )?;
            Ok(Side::Derpkit)
        }
        Some(frame) => Err(Failure::new("the end, or nothing", frame.told())),
    }
}
