//! Several connections with one key: who gets the packets (`derp/derpserver/derpserver.go`, the
//! policy by which the last writer is active).

use derp_proto::NodePrivate;

use crate::case::{Case, differs, must};
use crate::conn::Event;
use crate::context::{Cx, GRACE};
use crate::fault::Fault;
use crate::frame::{NOTE_PREFERRED, PEER_GONE, RECV_PACKET, SERVER_INFO, UNKNOWN, frame, new_key};
use crate::peer::Peer;
use crate::verdict::{Checked, Failure, Side};

const SERVER: &str = "derp/derpserver/derpserver.go";
const TO_ONE: &[Fault] = &[
    Fault::LoseFrame(RECV_PACKET),
    Fault::RepeatFrame(RECV_PACKET),
    Fault::EndAt(RECV_PACKET),
];

pub(super) const CASES: &[Case] = &[
    must!(
        both_admitted(),
        "A second connection with the key is admitted, and the first one stays.",
        SERVER
    )
    .red_by(&[Fault::EndAt(SERVER_INFO), Fault::LoseFrame(SERVER_INFO)]),
    must!(
        newest(),
        "The newest connection gets the packets, and no other.",
        SERVER
    )
    .red_by(TO_ONE),
    must!(newest_of_three(), "So it is with three.", SERVER).red_by(TO_ONE),
    must!(
        speaks(Speech::Ping),
        "The older one gets them once it has sent a ping.",
        SERVER
    )
    .red_by(TO_ONE),
    must!(
        speaks(Speech::Home),
        "The older one gets them once it has told its home.",
        SERVER
    )
    .red_by(TO_ONE),
    must!(
        speaks(Speech::Unknown),
        "The older one gets them once it has sent a frame of an unknown type.",
        SERVER
    )
    .red_by(TO_ONE),
    must!(
        speaks(Speech::Packet),
        "The older one gets them once it has sent a packet.",
        SERVER
    )
    .red_by(TO_ONE),
    must!(
        to_and_fro(),
        "Whoever spoke last gets them, as often as that changes.",
        SERVER
    )
    .red_by(TO_ONE),
    must!(
        newest_leaves(),
        "When the newest leaves, the remaining one gets them.",
        SERVER
    )
    .red_by(&[Fault::LoseFrame(RECV_PACKET)]),
    must!(
        speaker_leaves(),
        "When the one that spoke last leaves, who spoke before gets them.",
        SERVER
    )
    .red_by(&[Fault::LoseFrame(RECV_PACKET)]),
    must!(
        no_departure(),
        "As long as one remains, nobody is told that the key has gone.",
        SERVER
    )
    .red_by(&[Fault::ForgeFrame(PEER_GONE)]),
    must!(
        last_departure(),
        "When the last one leaves, receivers are told that the key has gone.",
        SERVER
    )
    .red_by(&[
        Fault::LoseFrame(PEER_GONE),
        Fault::FlipFrame(PEER_GONE, 32),
        Fault::RepeatFrame(PEER_GONE),
    ]),
    must!(
        to_itself(),
        "A packet to its own key comes to the connection that sent it.",
        SERVER
    )
    .red_by(TO_ONE),
    must!(
        seven_more(),
        "Eight connections may have the same key.",
        SERVER
    )
    .red_by(&[Fault::EndAt(SERVER_INFO)]),
    differs!(
        ninth(),
        "A ninth connection with the key ends the oldest, or not.",
        SERVER,
        derpkit: "ends it",
        reference: "does not",
        page: "At most 8 connections have the same key"
    )
    .red_by(&[Fault::NoEnd]),
];

#[derive(Clone, Copy)]
enum Speech {
    Ping,
    Home,
    Unknown,
    Packet,
}

/// Connections with the same key, in their order, and somebody who sends to them.
async fn duplicates<const N: usize>(cx: &Cx) -> Checked<(Peer, NodePrivate, [Peer; N])> {
    let private = new_key();
    let sender = cx.peer().await?;
    let mut peers = Vec::new();
    for _ in 0..N {
        peers.push(cx.peer_with(&private).await?);
    }
    let peers = peers
        .try_into()
        .unwrap_or_else(|_| unreachable!("there are as many"));
    Ok((sender, private, peers))
}

async fn both_admitted(cx: &Cx) -> Checked {
    let (_, _, [mut first, mut second]) = duplicates(cx).await?;
    first.is_undisturbed().await?;
    second.is_undisturbed().await
}

async fn newest(cx: &Cx) -> Checked {
    let (mut sender, _, [mut first, mut second]) = duplicates(cx).await?;
    sender.reaches(&mut second, b"for the newest").await?;
    sender.reaches(&mut second, b"again").await?;
    first.conn.stays_silent().await?;
    second.conn.stays_silent().await
}

async fn newest_of_three(cx: &Cx) -> Checked {
    let (mut sender, _, [mut first, mut second, mut third]) = duplicates(cx).await?;
    sender.reaches(&mut third, b"for the newest").await?;
    first.conn.stays_silent().await?;
    second.conn.stays_silent().await?;
    third.conn.stays_silent().await
}

async fn speaks(cx: &Cx, speech: Speech) -> Checked {
    let (mut sender, _, [mut first, mut second]) = duplicates(cx).await?;
    match speech {
        Speech::Ping => first.ping().await?,
        Speech::Packet => first.reaches(&mut sender, b"I am here").await?,
        Speech::Home => first.send(frame(NOTE_PREFERRED, &[&[1]])).await,
        Speech::Unknown => first.send(frame(UNKNOWN, &[b"x"])).await,
    }
    if matches!(speech, Speech::Home | Speech::Unknown) {
        // Nothing tells when the server has seen it, so ask until it has.
        wait_for(cx, &mut sender, &mut first, &mut second).await?;
    }
    sender.reaches(&mut first, b"for who speaks").await?;
    second.conn.stays_silent().await?;
    first.conn.stays_silent().await
}

/// Sends to the key until `to` gets it; `other` may get some before.
async fn wait_for(cx: &Cx, sender: &mut Peer, to: &mut Peer, other: &mut Peer) -> Checked {
    let begin = tokio::time::Instant::now();
    while begin.elapsed() < cx.patience() {
        sender.send_packet(&to.key, b"who?").await;
        match to.conn.event(GRACE / 3).await {
            Some(Event::Frame(RECV_PACKET, _)) => {
                while other.conn.event(GRACE / 3).await.is_some() {}
                return Ok(());
            }
            Some(event) => return Err(Failure::new("a packet", event.told())),
            None => {}
        }
    }
    Err(Failure::new("packets for who spoke last", "none"))
}

async fn to_and_fro(cx: &Cx) -> Checked {
    let (mut sender, _, [mut first, mut second]) = duplicates(cx).await?;
    for _ in 0..3 {
        first.ping().await?;
        sender.reaches(&mut first, b"first").await?;
        second.ping().await?;
        sender.reaches(&mut second, b"second").await?;
    }
    first.conn.stays_silent().await?;
    second.conn.stays_silent().await
}

/// Ends a connection; the server has noticed when this returns.
async fn leave(mut peer: Peer) -> Checked {
    peer.conn.finish().await;
    peer.is_cut_off().await
}

async fn newest_leaves(cx: &Cx) -> Checked {
    let (mut sender, _, [mut first, second]) = duplicates(cx).await?;
    leave(second).await?;
    await_packets(cx, &mut sender, &mut first).await
}

async fn speaker_leaves(cx: &Cx) -> Checked {
    let (mut sender, _, [mut first, mut second, third]) = duplicates(cx).await?;
    second.ping().await?;
    first.ping().await?;
    second.ping().await?;
    first.ping().await?;
    leave(first).await?;
    await_packets(cx, &mut sender, &mut second).await?;
    drop(third);
    Ok(())
}

/// Sends to the key until `to` gets it: the server ends a connection before it forgets it.
async fn await_packets(cx: &Cx, sender: &mut Peer, to: &mut Peer) -> Checked {
    let begin = tokio::time::Instant::now();
    while begin.elapsed() < cx.patience() {
        sender.send_packet(&to.key, b"anybody?").await;
        match to.conn.event(GRACE / 3).await {
            Some(Event::Frame(RECV_PACKET, _)) => return Ok(()),
            Some(event) => return Err(Failure::new("a packet", event.told())),
            None => {}
        }
    }
    Err(Failure::new("packets for who remains", "none"))
}

async fn no_departure(cx: &Cx) -> Checked {
    let (mut receiver, _, [mut first, mut second]) = duplicates(cx).await?;
    first.reaches(&mut receiver, b"one").await?;
    second.reaches(&mut receiver, b"two").await?;
    leave(first).await?;
    tokio::time::sleep(GRACE / 3).await;
    receiver.is_undisturbed().await
}

async fn last_departure(cx: &Cx) -> Checked {
    let (mut receiver, private, [mut first, mut second]) = duplicates(cx).await?;
    first.reaches(&mut receiver, b"one").await?;
    second.reaches(&mut receiver, b"two").await?;
    leave(first).await?;
    leave(second).await?;
    receiver.expect_gone(&private.public(), 0).await?;
    receiver.is_undisturbed().await
}

async fn to_itself(cx: &Cx) -> Checked {
    let (_, private, [mut first, mut second]) = duplicates(cx).await?;
    let key = private.public();
    first.send_packet(&key, b"mine").await;
    first.expect_packet(&key, b"mine").await?;
    second.conn.stays_silent().await?;
    first.conn.stays_silent().await
}

async fn seven_more(cx: &Cx) -> Checked {
    let (mut sender, _, mut peers) = duplicates::<8>(cx).await?;
    sender.reaches(&mut peers[7], b"for the newest").await?;
    peers[0].ping().await
}

async fn ninth(cx: &Cx) -> Checked<Side> {
    let (_, _, mut peers) = duplicates::<9>(cx).await?;
    let side = match peers[0].conn.event(2 * GRACE).await {
        Some(Event::End(_)) => Side::Derpkit,
        None => Side::Reference,
        Some(frame) => return Err(Failure::new("the end, or nothing", frame.told())),
    };
    peers[1].ping().await?;
    peers[8].ping().await?;
    Ok(side)
}
