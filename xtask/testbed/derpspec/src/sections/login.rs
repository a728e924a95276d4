//! How a client proves its key (`derp/derp.go`, `derp/derpserver/derpserver.go`). What it says of
//! itself is another section.

use std::time::Duration;

use derp_proto::{NodePrivate, NodePublic};

use crate::case::{Case, Needs, differs, must, should};
use crate::conn::{Conn, Event};
use crate::context::{Cx, GRACE};
use crate::fault::Fault;
use crate::frame::{
    CLIENT_INFO, NOTE_PREFERRED, PING, PONG, RECV_PACKET, SEND_PACKET, SERVER_INFO, UNKNOWN,
    WATCH_CONNS, client_info, frame, header, new_key, packet, seal,
};
use crate::peer::{Login, PLAIN_INFO};
use crate::verdict::{Checked, Failure, Side, ensure, same};

const PROTOCOL: &str = "derp/derp.go";
const SERVER: &str = "derp/derpserver/derpserver.go";
const ADMITTED: &[Fault] = &[Fault::EndAt(SERVER_INFO)];
const ENDED: &[Fault] = &[Fault::NoEnd];

pub(super) const CASES: &[Case] = &[
    must!(
        server_info(),
        "A login is answered with ServerInfo, in a box for the client.",
        PROTOCOL
    )
    .red_by(&[
        Fault::LoseFrame(SERVER_INFO),
        Fault::FlipFrame(SERVER_INFO, 30),
        Fault::LengthenFrame(SERVER_INFO),
    ]),
    should!(
        server_info_json(),
        "ServerInfo is `{\"version\":2}`.",
        PROTOCOL
    )
    .red_by(&[Fault::LoseFrame(SERVER_INFO)]),
    must!(
        fresh_nonces(),
        "No two boxes have the same nonce.",
        "NaCl crypto_box"
    )
    .red_by(&[Fault::EndAt(SERVER_INFO)]),
    must!(
        nothing_else(),
        "Nothing else is sent to a client that has logged in.",
        SERVER
    )
    .red_by(&[Fault::ForgeFrame(9), Fault::RepeatFrame(SERVER_INFO)]),
    must!(
        home_before_answer(),
        "A client may tell its home before it is answered.",
        "derp/derphttp/derphttp_client.go"
    )
    .red_by(ADMITTED),
    must!(
        packet_before_answer(),
        "A client may send packets before it is answered.",
        SERVER
    )
    .red_by(&[Fault::LoseFrame(RECV_PACKET)]),
    must!(
        first_under_traffic(),
        "ServerInfo comes first, however many packets wait for the client.",
        SERVER
    )
    .red_by(&[Fault::LoseFrame(SERVER_INFO)]),
    must!(
        box_for_another(),
        "A box for another server is refused.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        changed_box(),
        "A box with a changed byte is refused.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        anothers_key(),
        "Who claims a key without having it is refused.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        first_frame(SEND_PACKET, 40),
        "A packet in place of a login is refused.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        first_frame(PING, 8),
        "A ping in place of a login is refused.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        first_frame(WATCH_CONNS, 0),
        "WatchConns in place of a login is refused.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        first_frame(UNKNOWN, 100),
        "An unknown frame in place of a login is refused.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        announced(55),
        "A login of less than key, nonce and box is refused by its header.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        announced(256 * 1024 + 1),
        "A login of more than 256 KiB is refused by its header.",
        SERVER
    )
    .red_by(ENDED),
    must!(
        announced(u32::MAX),
        "A login of 4 GiB is refused by its header.",
        SERVER
    )
    .red_by(ENDED),
    must!(is_awaited(56), "The shortest login is waited for.", SERVER)
        .red_by(&[Fault::ForgeFrame(SERVER_INFO)]),
    differs!(
        long_login(),
        "A login of more than 16 KiB is refused by its header, or waited for.",
        SERVER,
        derpkit: "refused",
        reference: "waited for",
        page: "A ClientInfo frame has at most 16 KiB."
    )
    .red_by(ENDED),
    must!(
        zero_key(),
        "The zero key is refused, and disturbs nobody.",
        "types/key/node.go"
    )
    .red_by(&[Fault::NoEnd, Fault::LoseFrame(RECV_PACKET)]),
    differs!(
        key_of_low_order(),
        "A key of low order, which needs no private key, is refused or admitted.",
        "RFC 7748, 6.1",
        derpkit: "refused",
        reference: "admitted",
        page: "points of low order"
    )
    .red_by(ENDED),
    differs!(
        second_spelling(),
        "A key with its unused bit set is refused or admitted.",
        "RFC 7748, 5",
        derpkit: "refused",
        reference: "admitted",
        page: "non-canonical encodings are refused"
    )
    .red_by(ENDED),
    must!(byte_by_byte(), "A login may come byte by byte.", PROTOCOL).red_by(ADMITTED),
    must!(
        in_two_parts(),
        "A login may be cut into two anywhere.",
        PROTOCOL
    )
    .red_by(ADMITTED),
    must!(
        login_again(),
        "A second login on the connection is ignored.",
        SERVER
    )
    .red_by(&[Fault::EndAt(PONG), Fault::ForgeFrame(SERVER_INFO)]),
    must!(
        leaves_early(),
        "Who leaves in the middle of a login disturbs nobody.",
        SERVER
    )
    .red_by(&[Fault::LoseFrame(PONG)]),
    must!(
        silent_client(),
        "Who does not log in is disconnected 10 s after the greeting.",
        SERVER
    )
    .needs(Needs::SLOW)
    .red_by(&[Fault::NoEnd]),
    must!(half_login(), "So is who sends half a login.", SERVER)
        .needs(Needs::SLOW)
        .red_by(&[Fault::NoEnd]),
];

/// A connection on which the server has greeted.
async fn greeted(cx: &Cx) -> Checked<(Conn, NodePublic)> {
    cx.greeted(&Login::new()).await
}

/// Sends a login with this JSON, and returns its key and the server's.
pub(super) async fn send_login(cx: &Cx, json: &[u8]) -> Checked<(Conn, NodePrivate, NodePublic)> {
    let (mut conn, server) = greeted(cx).await?;
    let private = new_key();
    conn.send(client_info(&private.public(), &private, &server, json))
        .await;
    Ok((conn, private, server))
}

async fn server_info(cx: &Cx) -> Checked {
    let (mut conn, private, server) = send_login(cx, PLAIN_INFO.as_bytes()).await?;
    conn.admitted(cx, &private, &server).await.map(|_| ())
}

async fn server_info_json(cx: &Cx) -> Checked {
    let (mut conn, private, server) = send_login(cx, PLAIN_INFO.as_bytes()).await?;
    let json = conn.admitted(cx, &private, &server).await?;
    same("ServerInfo", json.as_str(), r#"{"version":2}"#)
}

async fn fresh_nonces(cx: &Cx) -> Checked {
    let mut nonces = std::collections::HashSet::new();
    for _ in 0..3 {
        let (mut conn, ..) = send_login(cx, PLAIN_INFO.as_bytes()).await?;
        let sealed = conn.expect(cx, SERVER_INFO).await?;
        let nonce = sealed.get(..24).map(<[u8]>::to_vec);
        ensure(nonces.insert(nonce), "another nonce", "the same")?;
    }
    Ok(())
}

async fn nothing_else(cx: &Cx) -> Checked {
    cx.peer().await?.is_undisturbed().await
}

/// Logs in and sends `frames` in the same write.
async fn login_and(
    cx: &Cx,
    frames: impl FnOnce(&NodePublic) -> Vec<u8>,
) -> Checked<(Conn, NodePublic)> {
    let (mut conn, server) = greeted(cx).await?;
    let private = new_key();
    let key = private.public();
    let hello = client_info(&key, &private, &server, PLAIN_INFO.as_bytes());
    conn.send([hello, frames(&key)].concat()).await;
    conn.admitted(cx, &private, &server).await?;
    Ok((conn, key))
}

async fn home_before_answer(cx: &Cx) -> Checked {
    let (mut conn, _) = login_and(cx, |_| frame(NOTE_PREFERRED, &[&[1]])).await?;
    conn.stays_silent().await
}

async fn packet_before_answer(cx: &Cx) -> Checked {
    let (mut conn, key) = login_and(cx, |key| packet(key, b"early")).await?;
    let received = conn.expect(cx, RECV_PACKET).await?;
    let expected = [&key.as_bytes()[..], b"early"].concat();
    same("packet", received, expected)
}

async fn first_under_traffic(cx: &Cx) -> Checked {
    let private = new_key();
    let key = private.public();
    let mut sender = cx.peer().await?;
    for _ in 0..5 {
        let (mut conn, server) = greeted(cx).await?;
        let hello = client_info(&key, &private, &server, PLAIN_INFO.as_bytes());
        sender
            .send(packet(&key, b"for whom it concerns").repeat(20))
            .await;
        conn.send(hello).await;
        sender
            .send(packet(&key, b"for whom it concerns").repeat(20))
            .await;
        conn.admitted(cx, &private, &server).await?;
    }
    Ok(())
}

/// Refused, or admitted.
pub(super) async fn either(
    cx: &Cx,
    conn: &mut Conn,
    private: &NodePrivate,
    server: &NodePublic,
) -> Checked<Side> {
    match conn.event(cx.patience()).await {
        Some(Event::End(_)) => Ok(Side::Derpkit),
        Some(Event::Frame(SERVER_INFO, sealed)) => {
            let opened = crate::frame::open(private, server, &sealed);
            ensure(opened.is_some(), "a box for the client", "another")?;
            Ok(Side::Reference)
        }
        Some(event) => Err(Failure::new("the end, or ServerInfo", event.told())),
        None => Err(Failure::new("the end, or ServerInfo", "nothing")),
    }
}

async fn box_for_another(cx: &Cx) -> Checked {
    let (mut conn, _) = greeted(cx).await?;
    let (private, other) = (new_key(), new_key().public());
    conn.send(client_info(
        &private.public(),
        &private,
        &other,
        PLAIN_INFO.as_bytes(),
    ))
    .await;
    conn.ends(cx).await
}

async fn changed_box(cx: &Cx) -> Checked {
    // In the nonce, in the tag, and in the text.
    for at in [5 + 32, 5 + 32 + 24, 5 + 32 + 24 + 16] {
        let (mut conn, server) = greeted(cx).await?;
        let private = new_key();
        let mut hello = client_info(&private.public(), &private, &server, PLAIN_INFO.as_bytes());
        hello[at] ^= 1;
        conn.send(hello).await;
        conn.ends(cx).await?;
    }
    Ok(())
}

async fn anothers_key(cx: &Cx) -> Checked {
    let victim = cx.peer().await?;
    let (mut conn, server) = greeted(cx).await?;
    conn.send(client_info(
        &victim.key,
        &new_key(),
        &server,
        PLAIN_INFO.as_bytes(),
    ))
    .await;
    conn.ends(cx).await
}

async fn first_frame(cx: &Cx, ty: u8, len: usize) -> Checked {
    let (mut conn, _) = greeted(cx).await?;
    conn.send(frame(ty, &[&vec![1; len]])).await;
    conn.ends(cx).await
}

async fn announced(cx: &Cx, len: u32) -> Checked {
    let (mut conn, _) = greeted(cx).await?;
    conn.send(header(CLIENT_INFO, len)).await;
    conn.ends(cx).await
}

async fn is_awaited(cx: &Cx, len: u32) -> Checked {
    let (mut conn, _) = greeted(cx).await?;
    conn.send(header(CLIENT_INFO, len)).await;
    conn.stays_silent().await
}

async fn long_login(cx: &Cx) -> Checked<Side> {
    let (mut conn, _) = greeted(cx).await?;
    conn.send(header(CLIENT_INFO, (16 << 10) + 1)).await;
    match conn.event(2 * GRACE).await {
        Some(Event::End(_)) => Ok(Side::Derpkit),
        None => Ok(Side::Reference),
        Some(frame) => Err(Failure::new("the end, or nothing", frame.told())),
    }
}

async fn zero_key(cx: &Cx) -> Checked {
    let (mut a, mut b) = (cx.peer().await?, cx.peer().await?);
    let (mut conn, server) = greeted(cx).await?;
    let sealed = seal(&new_key(), &server, PLAIN_INFO.as_bytes());
    conn.send(frame(CLIENT_INFO, &[&[0; 32], &sealed])).await;
    conn.ends(cx).await?;
    a.reaches(&mut b, b"still here").await
}

async fn key_of_low_order(cx: &Cx) -> Checked<Side> {
    let mut claimed = [0; 32];
    claimed[0] = 1;
    let claimed = NodePublic::from_bytes(claimed);
    let (mut conn, _) = greeted(cx).await?;
    // Whoever multiplies such a point gets zero, and zero is what anybody gets from zero.
    let (anybody, zero) = (new_key(), NodePublic::from_bytes([0; 32]));
    conn.send(client_info(
        &claimed,
        &anybody,
        &zero,
        PLAIN_INFO.as_bytes(),
    ))
    .await;
    either(cx, &mut conn, &anybody, &zero).await
}

async fn second_spelling(cx: &Cx) -> Checked<Side> {
    let (mut conn, server) = greeted(cx).await?;
    let private = new_key();
    let mut claimed = *private.public().as_bytes();
    claimed[31] |= 0x80;
    let claimed = NodePublic::from_bytes(claimed);
    conn.send(client_info(
        &claimed,
        &private,
        &server,
        PLAIN_INFO.as_bytes(),
    ))
    .await;
    either(cx, &mut conn, &private, &server).await
}

async fn byte_by_byte(cx: &Cx) -> Checked {
    let (mut conn, server) = greeted(cx).await?;
    let private = new_key();
    conn.drip(client_info(
        &private.public(),
        &private,
        &server,
        PLAIN_INFO.as_bytes(),
    ))
    .await;
    conn.admitted(cx, &private, &server).await.map(|_| ())
}

async fn in_two_parts(cx: &Cx) -> Checked {
    // Behind the type, the length, the key, the nonce, and within each.
    for at in [1, 4, 5, 20, 37, 50, 61, 70, 80] {
        let (mut conn, server) = greeted(cx).await?;
        let private = new_key();
        let hello = client_info(&private.public(), &private, &server, PLAIN_INFO.as_bytes());
        conn.send(&hello[..at]).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        conn.send(&hello[at..]).await;
        conn.admitted(cx, &private, &server).await?;
    }
    Ok(())
}

async fn login_again(cx: &Cx) -> Checked {
    let mut peer = cx.peer().await?;
    let (_, server) = greeted(cx).await?;
    let other = new_key();
    peer.send(client_info(
        &other.public(),
        &other,
        &server,
        PLAIN_INFO.as_bytes(),
    ))
    .await;
    peer.is_undisturbed().await
}

async fn leaves_early(cx: &Cx) -> Checked {
    let mut bystander = cx.peer().await?;
    drop(cx.open().await?);
    let (conn, _) = greeted(cx).await?;
    drop(conn);
    let (mut conn, _) = greeted(cx).await?;
    conn.send(header(CLIENT_INFO, 100)).await;
    drop(conn);
    let (conn, ..) = send_login(cx, PLAIN_INFO.as_bytes()).await?;
    drop(conn);
    bystander.is_undisturbed().await
}

async fn ends_after_ten_seconds(mut conn: Conn) -> Checked {
    let begin = tokio::time::Instant::now();
    conn.ends_within(Duration::from_secs(20)).await?;
    let took = begin.elapsed();
    ensure(
        took > Duration::from_secs(9) && took < Duration::from_secs(17),
        "the end after 10 s",
        format!("{took:?}"),
    )
}

async fn silent_client(cx: &Cx) -> Checked {
    let (conn, _) = greeted(cx).await?;
    ends_after_ten_seconds(conn).await
}

async fn half_login(cx: &Cx) -> Checked {
    let (mut conn, _) = greeted(cx).await?;
    conn.send([header(CLIENT_INFO, 104), vec![7; 50]].concat())
        .await;
    ends_after_ten_seconds(conn).await
}
