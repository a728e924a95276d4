//! Packets from one client to another (`derp/derpserver/derpserver.go`).

use std::time::Duration;

use derp_proto::NodePublic;

use crate::case::{Case, must};
use crate::context::Cx;
use crate::fault::Fault;
use crate::frame::{MAX_PACKET, PEER_GONE, PONG, RECV_PACKET, disco, new_key, packet};
use crate::peer::{Login, Peer};
use crate::verdict::{Checked, Failure, ensure, same};

const SERVER: &str = "derp/derpserver/derpserver.go";
const FLIPPED: &[Fault] = &[
    Fault::LoseFrame(RECV_PACKET),
    Fault::FlipFrame(RECV_PACKET, 0),
    Fault::LengthenFrame(RECV_PACKET),
    Fault::ShortenFrame(RECV_PACKET),
];
const ARRIVED: &[Fault] = &[
    Fault::LoseFrame(RECV_PACKET),
    Fault::FlipFrame(RECV_PACKET, 3),
];
const DISTURBED: &[Fault] = &[Fault::ForgeFrame(PEER_GONE), Fault::EndAt(PONG)];

pub(super) const CASES: &[Case] = &[
    must!(
        both_ways(),
        "A packet arrives with its sender's key, and so does the answer.",
        SERVER
    )
    .red_by(FLIPPED),
    must!(arrives(&[]), "An empty packet arrives.", SERVER).red_by(ARRIVED),
    must!(arrives(&[0]), "A packet of a zero byte arrives.", SERVER).red_by(ARRIVED),
    must!(
        arrives(&[0x5a; MAX_PACKET]),
        "A packet of 65,536 bytes arrives.",
        "derp/derp.go"
    )
    .red_by(ARRIVED),
    must!(all_bytes(), "All bytes arrive as they are.", SERVER)
        .red_by(&[Fault::FlipFrame(RECV_PACKET, 200)]),
    must!(to_oneself(), "A packet to oneself comes back.", SERVER).red_by(ARRIVED),
    must!(
        many_sizes(),
        "Packets of many sizes arrive in their order.",
        SERVER
    )
    .red_by(&[
        Fault::RepeatFrame(RECV_PACKET),
        Fault::FlipFrame(RECV_PACKET, 100),
    ]),
    must!(
        looks_like_frames(),
        "A packet that looks like frames is a packet.",
        SERVER
    )
    .red_by(ARRIVED),
    must!(only_to_its_receiver(), "Nobody else gets it.", SERVER)
        .red_by(&[Fault::ForgeFrame(RECV_PACKET)]),
    must!(
        in_flight(),
        "30 packets of 64 KiB in flight arrive without a loss, as bandwidth is measured.",
        "prober/derp.go"
    )
    .red_by(&[Fault::FlipFrame(RECV_PACKET, 33)]),
    must!(
        two_senders(),
        "What two send to one arrives, each one's in its order.",
        SERVER
    )
    .red_by(&[
        Fault::RepeatFrame(RECV_PACKET),
        Fault::LoseFrame(RECV_PACKET),
    ]),
    must!(
        disco_and_data(),
        "Disco packets and others arrive beside each other.",
        SERVER
    )
    .red_by(ARRIVED),
    must!(
        to_nobody(b"hello"),
        "A packet to a key that is not there is dropped without a word.",
        SERVER
    )
    .red_by(DISTURBED),
    must!(to_nobody(&[]), "So is an empty one.", SERVER).red_by(DISTURBED),
    must!(
        almost_disco(),
        "So is one that is a byte too short for disco.",
        "disco/disco.go"
    )
    .red_by(DISTURBED),
    must!(
        to_zero(),
        "A packet to the zero key is dropped without a word.",
        SERVER
    )
    .red_by(DISTURBED),
    must!(
        to_the_server(),
        "A packet to the server's own key is dropped without a word.",
        SERVER
    )
    .red_by(DISTURBED),
    must!(
        disco_to_nobody(),
        "A disco packet to a key that is not there is answered: PeerGone, not here.",
        SERVER
    )
    .red_by(&[
        Fault::LoseFrame(PEER_GONE),
        Fault::FlipFrame(PEER_GONE, 32),
        Fault::FlipFrame(PEER_GONE, 0),
        Fault::ShortenFrame(PEER_GONE),
        Fault::LengthenFrame(PEER_GONE),
    ]),
    must!(
        three_answers(),
        "Of five such packets at once, three are answered.",
        SERVER
    )
    .red_by(&[Fault::RepeatFrame(PEER_GONE), Fault::LoseFrame(PEER_GONE)]),
    must!(
        an_answer_a_second(),
        "A second later, another one is answered.",
        SERVER
    )
    .red_by(&[Fault::RepeatFrame(PEER_GONE), Fault::LoseFrame(PEER_GONE)]),
    must!(
        answers_by_connection(),
        "Other connections' answers do not count.",
        SERVER
    )
    .red_by(&[Fault::LoseFrame(PEER_GONE)]),
    must!(
        after_departure(),
        "A packet to one who has left is dropped, and one to who came back arrives.",
        SERVER
    )
    .red_by(&[
        Fault::ForgeFrame(RECV_PACKET),
        Fault::LoseFrame(RECV_PACKET),
    ]),
    must!(
        slow_receiver(),
        "Who does not read holds up nobody else.",
        SERVER
    )
    .red_by(&[Fault::LoseFrame(RECV_PACKET), Fault::LoseFrame(PONG)]),
    must!(
        newest_survive(),
        "For who does not read, the newest packets are kept, and a sender is not told.",
        SERVER
    )
    .red_by(&[
        Fault::LoseFrame(RECV_PACKET),
        Fault::RepeatFrame(RECV_PACKET),
        Fault::ForgeFrame(PEER_GONE),
    ]),
];

async fn pair(cx: &Cx) -> Checked<(Peer, Peer)> {
    Ok((cx.peer().await?, cx.peer().await?))
}

async fn both_ways(cx: &Cx) -> Checked {
    let (mut a, mut b) = pair(cx).await?;
    a.reaches(&mut b, b"question").await?;
    b.reaches(&mut a, b"answer").await?;
    a.is_undisturbed().await?;
    b.is_undisturbed().await
}

async fn arrives(cx: &Cx, data: &[u8]) -> Checked {
    let (mut a, mut b) = pair(cx).await?;
    a.reaches(&mut b, data).await
}

async fn all_bytes(cx: &Cx) -> Checked {
    let data: Vec<u8> = (0..=255).collect();
    arrives(cx, &data).await
}

async fn to_oneself(cx: &Cx) -> Checked {
    let mut peer = cx.peer().await?;
    let key = peer.key;
    peer.send_packet(&key, b"note to self").await;
    peer.expect_packet(&key, b"note to self").await
}

async fn many_sizes(cx: &Cx) -> Checked {
    let (mut a, mut b) = pair(cx).await?;
    for len in [
        1, 31, 32, 33, 61, 62, 63, 1199, 1280, 1500, 2043, 4059, 4096, 16_379, 16_384, 60_000,
    ] {
        a.reaches(&mut b, &vec![u8::try_from(len % 251).expect("a rest"); len])
            .await?;
    }
    Ok(())
}

async fn looks_like_frames(cx: &Cx) -> Checked {
    let inner = packet(&new_key().public(), b"inner");
    arrives(cx, &inner.repeat(3)).await
}

async fn only_to_its_receiver(cx: &Cx) -> Checked {
    let (mut a, mut b) = pair(cx).await?;
    let mut stranger = cx.peer().await?;
    a.reaches(&mut b, b"between us").await?;
    stranger.is_undisturbed().await?;
    a.is_undisturbed().await
}

async fn in_flight(cx: &Cx) -> Checked {
    let (mut a, mut b) = pair(cx).await?;
    let (from, to) = (a.key, b.key);
    let sending = async {
        for n in 0..30 {
            a.send_packet(&to, &[n; MAX_PACKET]).await;
        }
        Ok(())
    };
    let receiving = async {
        for n in 0..30 {
            b.expect_packet(&from, &[n; MAX_PACKET]).await?;
        }
        Ok(())
    };
    tokio::try_join!(sending, receiving).map(|_| ())
}

async fn two_senders(cx: &Cx) -> Checked {
    let (mut a, mut b) = pair(cx).await?;
    let mut c = cx.peer().await?;
    for n in 0..10 {
        a.send_packet(&c.key, &[n]).await;
        b.send_packet(&c.key, &[n]).await;
    }
    let mut seen = [Vec::new(), Vec::new()];
    for _ in 0..20 {
        let (ty, body) = c.next().await?;
        same("frame", ty, RECV_PACKET)?;
        let sender = usize::from(!body.starts_with(a.key.as_bytes()));
        seen[sender].extend_from_slice(&body[32..]);
    }
    let order: Vec<u8> = (0..10).collect();
    same("packets of both", seen, [order.clone(), order])?;
    c.is_undisturbed().await
}

async fn disco_and_data(cx: &Cx) -> Checked {
    let (mut a, mut b) = pair(cx).await?;
    a.reaches(&mut b, &disco()).await?;
    a.reaches(&mut b, b"data").await?;
    a.reaches(&mut b, &[disco(), vec![7; 100]].concat()).await
}

async fn dropped(cx: &Cx, to: &NodePublic, data: &[u8]) -> Checked {
    let mut peer = cx.peer().await?;
    peer.send_packet(to, data).await;
    peer.is_undisturbed().await
}

async fn to_nobody(cx: &Cx, data: &[u8]) -> Checked {
    dropped(cx, &new_key().public(), data).await
}

async fn almost_disco(cx: &Cx) -> Checked {
    let data = disco();
    to_nobody(cx, &data[..data.len() - 1]).await
}

async fn to_zero(cx: &Cx) -> Checked {
    dropped(cx, &NodePublic::from_bytes([0; 32]), b"hello").await
}

async fn to_the_server(cx: &Cx) -> Checked {
    let (_, server) = cx.greeted(&Login::new()).await?;
    dropped(cx, &server, b"hello").await
}

async fn disco_to_nobody(cx: &Cx) -> Checked {
    let mut peer = cx.peer().await?;
    let nobody = new_key().public();
    peer.send_packet(&nobody, &disco()).await;
    peer.expect_gone(&nobody, 1).await?;
    peer.conn.stays_silent().await
}

/// Sends `count` disco packets to nobody, of which `expected` are answered.
async fn answered(peer: &mut Peer, count: usize, expected: usize) -> Checked {
    let nobody = new_key().public();
    let begin = tokio::time::Instant::now();
    peer.send(packet(&nobody, &disco()).repeat(count)).await;
    for _ in 0..expected {
        peer.expect_gone(&nobody, 1).await?;
    }
    // A second that passes allows one more, and so much time a busy machine may take.
    match peer.conn.stays_silent().await {
        Err(_) if begin.elapsed() > Duration::from_millis(900) => Ok(()),
        silence => silence,
    }
}

async fn three_answers(cx: &Cx) -> Checked {
    let mut peer = cx.peer().await?;
    answered(&mut peer, 5, 3).await
}

async fn an_answer_a_second(cx: &Cx) -> Checked {
    let mut peer = cx.peer().await?;
    answered(&mut peer, 5, 3).await?;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    answered(&mut peer, 1, 1).await
}

async fn answers_by_connection(cx: &Cx) -> Checked {
    let (mut a, mut b) = pair(cx).await?;
    answered(&mut a, 5, 3).await?;
    answered(&mut b, 5, 3).await
}

async fn after_departure(cx: &Cx) -> Checked {
    let private = new_key();
    let mut a = cx.peer().await?;
    let mut b = cx.peer_with(&private).await?;
    a.reaches(&mut b, b"here").await?;
    b.conn.finish().await;
    b.is_cut_off().await?;
    drop(b);
    a.send_packet(&private.public(), b"gone").await;
    a.is_undisturbed().await?;
    let mut b = cx.peer_with(&private).await?;
    b.is_undisturbed().await?;
    a.reaches(&mut b, b"here again").await
}

/// Fills what lies between the server and a client that does not read.
async fn flood(from: &mut Peer, to: &NodePublic, count: u32) {
    for n in 0..count {
        let mut data = vec![0x77; MAX_PACKET];
        data[..4].copy_from_slice(&n.to_be_bytes());
        from.send_packet(to, &data).await;
    }
}

async fn slow_receiver(cx: &Cx) -> Checked {
    let (mut a, mut b) = pair(cx).await?;
    let sleeper = cx.peer().await?;
    flood(&mut a, &sleeper.key, 150).await;
    a.reaches(&mut b, b"in time").await?;
    a.ping().await
}

async fn newest_survive(cx: &Cx) -> Checked {
    let (mut a, mut b) = pair(cx).await?;
    let count = 200;
    flood(&mut a, &b.key, count).await;
    a.is_undisturbed().await?;
    let mut last = None;
    loop {
        let (ty, body) = b.next().await?;
        same("frame", ty, RECV_PACKET)?;
        let number = body.get(32..36).and_then(|part| part.first_chunk());
        let number = number.map(|part| u32::from_be_bytes(*part));
        let number = number.ok_or_else(|| Failure::new("a numbered packet", "a short one"))?;
        ensure(
            last.is_none_or(|last| last < number),
            "packets in their order",
            format!("{number} after {last:?}"),
        )?;
        last = Some(number);
        if number == count - 1 {
            return Ok(());
        }
    }
}
