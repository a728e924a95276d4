//! Who is told when a client leaves (`derp/derpserver/derpserver.go`).

use crate::case::{Case, differs, must};
use crate::conn::Event;
use crate::context::{Cx, GRACE};
use crate::fault::Fault;
use crate::frame::{PEER_GONE, PONG, UNKNOWN, frame, new_key};
use crate::peer::Peer;
use crate::verdict::{Checked, Failure, Side, same};

const SERVER: &str = "derp/derpserver/derpserver.go";
const GONE: &[Fault] = &[
    Fault::LoseFrame(PEER_GONE),
    Fault::RepeatFrame(PEER_GONE),
    Fault::FlipFrame(PEER_GONE, 0),
    Fault::FlipFrame(PEER_GONE, 32),
    Fault::ShortenFrame(PEER_GONE),
    Fault::LengthenFrame(PEER_GONE),
];

pub(super) const CASES: &[Case] = &[
    must!(
        receiver_is_told(),
        "Who received something from a client is told when it leaves, once.",
        SERVER
    )
    .red_by(GONE),
    must!(
        told_after_silence(),
        "However long it is silent before.",
        SERVER
    )
    .red_by(&[Fault::LoseFrame(PEER_GONE)]),
    must!(
        after_a_reset(),
        "A client that vanishes has left as well.",
        SERVER
    )
    .red_by(GONE),
    must!(
        after_a_fault(),
        "A client that is cut off has left as well.",
        SERVER
    )
    .red_by(GONE),
    must!(after_an_empty_packet(), "An empty packet counts.", SERVER).red_by(GONE),
    must!(each_receiver(), "Each receiver is told.", SERVER).red_by(&[Fault::LoseFrame(PEER_GONE)]),
    must!(each_sender(), "A receiver is told of each sender.", SERVER)
        .red_by(&[Fault::LoseFrame(PEER_GONE), Fault::RepeatFrame(PEER_GONE)]),
    must!(
        sender_is_not_told(),
        "A sender is not told that its receiver has left.",
        SERVER
    )
    .red_by(&[Fault::ForgeFrame(PEER_GONE), Fault::EndAt(PONG)]),
    must!(
        stranger_is_not_told(),
        "Who received nothing is not told.",
        SERVER
    )
    .red_by(&[Fault::ForgeFrame(PEER_GONE), Fault::EndAt(PONG)]),
    must!(
        no_news_of_oneself(),
        "A client is not told of its own earlier connection.",
        SERVER
    )
    .red_by(&[Fault::ForgeFrame(PEER_GONE), Fault::EndAt(PONG)]),
    differs!(
        second_departure(),
        "Of a second departure receivers are told, or not.",
        SERVER,
        derpkit: "told",
        reference: "not told",
        page: "PeerGone comes each time a sender leaves that has sent something since it came."
    )
    .red_by(&[Fault::LoseLater(PEER_GONE)]),
];

/// Two of whom the first has sent to the second.
async fn acquainted(cx: &Cx) -> Checked<(Peer, Peer)> {
    let (mut a, mut b) = (cx.peer().await?, cx.peer().await?);
    a.reaches(&mut b, b"hello").await?;
    Ok((a, b))
}

/// Ends a connection; the server has noticed when this returns.
async fn leave(mut peer: Peer) -> Checked {
    peer.conn.finish().await;
    peer.is_cut_off().await
}

async fn receiver_is_told(cx: &Cx) -> Checked {
    let (a, mut b) = acquainted(cx).await?;
    let key = a.key;
    leave(a).await?;
    b.expect_gone(&key, 0).await?;
    b.is_undisturbed().await
}

async fn told_after_silence(cx: &Cx) -> Checked {
    let (a, mut b) = acquainted(cx).await?;
    tokio::time::sleep(2 * GRACE).await;
    let key = a.key;
    drop(a);
    b.expect_gone(&key, 0).await
}

async fn after_a_reset(cx: &Cx) -> Checked {
    let (a, mut b) = acquainted(cx).await?;
    let key = a.key;
    let reset = a.conn.tcp().set_zero_linger();
    reset.map_err(|err| Failure::new("a reset", err.to_string()))?;
    drop(a);
    b.expect_gone(&key, 0).await?;
    b.is_undisturbed().await
}

async fn after_a_fault(cx: &Cx) -> Checked {
    let (mut a, mut b) = acquainted(cx).await?;
    a.send(frame(crate::frame::PING, &[b"short"])).await;
    a.is_cut_off().await?;
    b.expect_gone(&a.key, 0).await?;
    b.is_undisturbed().await
}

async fn after_an_empty_packet(cx: &Cx) -> Checked {
    let (mut a, mut b) = (cx.peer().await?, cx.peer().await?);
    a.reaches(&mut b, b"").await?;
    let key = a.key;
    leave(a).await?;
    b.expect_gone(&key, 0).await?;
    b.is_undisturbed().await
}

async fn each_receiver(cx: &Cx) -> Checked {
    let (mut a, mut b) = acquainted(cx).await?;
    let mut c = cx.peer().await?;
    a.reaches(&mut c, b"hello").await?;
    let key = a.key;
    leave(a).await?;
    b.expect_gone(&key, 0).await?;
    c.expect_gone(&key, 0).await
}

async fn each_sender(cx: &Cx) -> Checked {
    let (a, mut b) = acquainted(cx).await?;
    let mut c = cx.peer().await?;
    c.reaches(&mut b, b"hello").await?;
    for peer in [a, c] {
        let key = peer.key;
        leave(peer).await?;
        b.expect_gone(&key, 0).await?;
    }
    b.is_undisturbed().await
}

async fn sender_is_not_told(cx: &Cx) -> Checked {
    let (mut a, b) = acquainted(cx).await?;
    leave(b).await?;
    tokio::time::sleep(GRACE / 3).await;
    a.is_undisturbed().await
}

async fn stranger_is_not_told(cx: &Cx) -> Checked {
    let mut stranger = cx.peer().await?;
    let (a, b) = acquainted(cx).await?;
    stranger.send(frame(UNKNOWN, &[])).await;
    let key = a.key;
    leave(a).await?;
    let mut b = b;
    b.expect_gone(&key, 0).await?;
    leave(b).await?;
    tokio::time::sleep(GRACE / 3).await;
    stranger.is_undisturbed().await
}

async fn no_news_of_oneself(cx: &Cx) -> Checked {
    let private = new_key();
    let key = private.public();
    let mut first = cx.peer_with(&private).await?;
    first.send_packet(&key, b"to myself").await;
    first.expect_packet(&key, b"to myself").await?;
    let mut second = cx.peer_with(&private).await?;
    leave(first).await?;
    tokio::time::sleep(GRACE / 3).await;
    second.is_undisturbed().await
}

async fn second_departure(cx: &Cx) -> Checked<Side> {
    let private = new_key();
    let key = private.public();
    let mut b = cx.peer().await?;
    for round in 0..2 {
        let mut a = cx.peer_with(&private).await?;
        a.reaches(&mut b, b"hello").await?;
        leave(a).await?;
        if round == 0 {
            b.expect_gone(&key, 0).await?;
        }
    }
    match b.conn.event(2 * GRACE).await {
        None => Ok(Side::Reference),
        Some(Event::Frame(PEER_GONE, body)) => {
            same("PeerGone with", body, [&key.as_bytes()[..], &[0]].concat())?;
            Ok(Side::Derpkit)
        }
        Some(event) => Err(Failure::new("PeerGone, or nothing", event.told())),
    }
}
