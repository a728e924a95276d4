//! Pings of clients, and keep-alives of the server (`derp/derpserver/derpserver.go`).

use std::time::Duration;

use tokio::time::Instant;

use crate::case::{Case, Needs, must};
use crate::conn::Event;
use crate::context::Cx;
use crate::fault::Fault;
use crate::frame::{KEEP_ALIVE, PING, PONG, RECV_PACKET, frame, new_key, packet, random};
use crate::verdict::{Checked, Failure, ensure, same};

const SERVER: &str = "derp/derpserver/derpserver.go";
const PONGED: &[Fault] = &[
    Fault::LoseFrame(PONG),
    Fault::FlipFrame(PONG, 7),
    Fault::LengthenFrame(PONG),
    Fault::ShortenFrame(PONG),
];

pub(super) const CASES: &[Case] = &[
    must!(ping(8), "A ping of 8 bytes is answered with them.", SERVER).red_by(PONGED),
    must!(
        ping(9),
        "A ping of 9 bytes is answered with the first 8.",
        SERVER
    )
    .red_by(PONGED),
    must!(
        ping(1000),
        "A ping of 1000 bytes is answered with the first 8.",
        SERVER
    )
    .red_by(PONGED),
    must!(zeros(), "A ping of zeros is answered.", SERVER).red_by(PONGED),
    must!(
        one_by_one(),
        "Each of many pings that wait for each other is answered.",
        SERVER
    )
    .red_by(PONGED),
    must!(
        at_once(),
        "Of many pings at once, at least one is answered, and each at most once.",
        SERVER
    )
    .red_by(&[Fault::LoseFrame(PONG), Fault::FlipFrame(PONG, 0)]),
    must!(
        under_traffic(),
        "A ping is answered while packets come.",
        SERVER
    )
    .red_by(&[Fault::LoseFrame(PONG)]),
    must!(
        without_reading(),
        "Who sends pings and does not read is no danger to others.",
        SERVER
    )
    .red_by(&[Fault::LoseFrame(RECV_PACKET)]),
    must!(
        stays(),
        "A client that says nothing stays connected.",
        SERVER
    )
    .red_by(&[Fault::EndAt(PONG), Fault::ForgeFrame(PING)]),
    must!(
        keep_alive(),
        "Within 60 to 65 s there is an empty KeepAlive.",
        SERVER
    )
    .needs(Needs::SLOW)
    .red_by(&[
        Fault::LoseFrame(KEEP_ALIVE),
        Fault::LengthenFrame(KEEP_ALIVE),
    ]),
    must!(
        stuck(),
        "A client that takes nothing of what waits for it is disconnected.",
        SERVER
    )
    .needs(Needs::SLOW)
    .red_by(&[Fault::NoEnd]),
];

async fn ping(cx: &Cx, len: usize) -> Checked {
    let mut peer = cx.peer().await?;
    let data: Vec<u8> = (1..=255).cycle().take(len).collect();
    peer.send(frame(PING, &[&data])).await;
    peer.expect_frame(PONG, &data[..8]).await?;
    peer.is_undisturbed().await
}

async fn zeros(cx: &Cx) -> Checked {
    let mut peer = cx.peer().await?;
    peer.send(frame(PING, &[&[0; 8]])).await;
    peer.expect_frame(PONG, &[0; 8]).await
}

async fn one_by_one(cx: &Cx) -> Checked {
    let mut peer = cx.peer().await?;
    for _ in 0..50 {
        peer.ping().await?;
    }
    Ok(())
}

async fn at_once(cx: &Cx) -> Checked {
    let mut peer = cx.peer().await?;
    let pings: Vec<u8> = (0..20).flat_map(|n| frame(PING, &[&[n; 8]])).collect();
    peer.send(pings).await;
    let mut next = 0;
    // One more marks the end; it may be dropped as well, while another waits.
    let end: [u8; 8] = random();
    loop {
        match peer.conn.event(Duration::from_millis(100)).await {
            Some(Event::Frame(PONG, data)) if data == end => break,
            Some(Event::Frame(PONG, data)) => {
                let number = data.first().copied().unwrap_or_default();
                same("pong", data, vec![number; 8])?;
                ensure(
                    number >= next,
                    "pongs in their order, each once",
                    format!("{number}"),
                )?;
                next = number + 1;
            }
            Some(other) => return Err(Failure::new("pongs", other.told())),
            None => {
                ensure(next > 0, "a pong", "none")?;
                peer.send(frame(PING, &[&end])).await;
                peer.expect_frame(PONG, &end).await?;
                break;
            }
        }
    }
    Ok(())
}

async fn under_traffic(cx: &Cx) -> Checked {
    let (mut a, mut b) = (cx.peer().await?, cx.peer().await?);
    let data: [u8; 8] = random();
    a.send(packet(&b.key, b"traffic").repeat(30)).await;
    b.send(frame(PING, &[&data])).await;
    a.send(packet(&b.key, b"traffic").repeat(30)).await;
    loop {
        match b.next().await? {
            (PONG, seen) => return same("pong", seen, data.to_vec()),
            (RECV_PACKET, _) => {}
            (ty, body) => {
                return Err(Failure::new(
                    "packets and a pong",
                    Event::Frame(ty, body).told(),
                ));
            }
        }
    }
}

async fn without_reading(cx: &Cx) -> Checked {
    let (mut a, mut b) = (cx.peer().await?, cx.peer().await?);
    let mut rude = cx.peer().await?;
    rude.send(frame(PING, &[b"pingpong"]).repeat(5000)).await;
    a.reaches(&mut b, b"as always").await
}

async fn stays(cx: &Cx) -> Checked {
    let mut peer = cx.peer().await?;
    match peer.conn.event(Duration::from_millis(700)).await {
        None => peer.ping().await,
        Some(event) => Err(Failure::new("nothing", event.told())),
    }
}

async fn keep_alive(cx: &Cx) -> Checked {
    let mut peer = cx.peer().await?;
    let begin = Instant::now();
    match peer.conn.event(Duration::from_secs(75)).await {
        Some(Event::Frame(KEEP_ALIVE, body)) => {
            same("its length", body.len(), 0)?;
            let took = begin.elapsed().as_secs();
            ensure((58..=67).contains(&took), "60 to 65 s", format!("{took} s"))
        }
        Some(event) => Err(Failure::new("a keep-alive", event.told())),
        None => Err(Failure::new("a keep-alive", "nothing")),
    }
}

/// The server notices while it has something to write, so it is kept supplied.
async fn stuck(cx: &Cx) -> Checked {
    let private = new_key();
    let mut sender = cx.peer().await?;
    let mut stuck = cx.peer_with(&private).await?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(12) {
        sender.send_packet(&private.public(), &[7; 60_000]).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What was under way is still read; then there must be an end, and not the latest packets.
    loop {
        match stuck.conn.event(Duration::from_secs(2)).await {
            Some(Event::End(_)) => return sender.ping().await,
            Some(Event::Frame(..)) => {}
            None => return Err(Failure::new("the connection's end", "it is open")),
        }
    }
}
