//! What relays of a region tell each other (`derp/derpserver/derpserver.go`, `derp/derp.go`).

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use derp_proto::NodePublic;

use crate::case::{Case, Needs, differs, must};
use crate::context::{Cx, GRACE};
use crate::fault::Fault;
use crate::frame::{
    CLOSE_PEER, FORWARD_PACKET, MAX_PACKET, PEER_GONE, PEER_PRESENT, PONG, RECV_PACKET,
    SERVER_INFO, WATCH_CONNS, disco, forwarded, frame, header, new_key,
};
use crate::peer::{Login, Peer};
use crate::verdict::{Checked, Failure, Side, ensure, same, same_bytes};

const SERVER: &str = "derp/derpserver/derpserver.go";
const PRESENT: &[Fault] = &[
    Fault::LoseFrame(PEER_PRESENT),
    Fault::FlipFrame(PEER_PRESENT, 0),
];
const FLAGS: &[Fault] = &[
    Fault::FlipFrame(PEER_PRESENT, 50),
    Fault::ShortenFrame(PEER_PRESENT),
];
const ARRIVED: &[Fault] = &[
    Fault::LoseFrame(RECV_PACKET),
    Fault::FlipFrame(RECV_PACKET, 0),
];
const ENDED: &[Fault] = &[Fault::NoEnd];
const QUIET: &[Fault] = &[Fault::ForgeFrame(PEER_GONE), Fault::EndAt(PONG)];

pub(super) const CASES: &[Case] = &[
    must!(admitted(), "Who shows the mesh key is admitted.", SERVER)
        .needs(Needs::MESH)
        .red_by(&[Fault::EndAt(SERVER_INFO), Fault::EndAt(PONG)]),
    must!(
        upper_case_key(),
        "The mesh key may be written in capitals.",
        "types/key/derp.go"
    )
    .needs(Needs::MESH)
    .red_by(PRESENT),
    must!(sees_itself(), "A watcher is told of itself.", SERVER)
        .needs(Needs::MESH)
        .red_by(PRESENT),
    must!(
        sees_who_is_there(),
        "A watcher is told of all who are there.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(PRESENT),
    must!(
        sees_a_crowd(),
        "Of 40 clients a watcher is told of each, once.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(&[
        Fault::LoseFrame(PEER_PRESENT),
        Fault::RepeatFrame(PEER_PRESENT),
    ]),
    must!(sees_who_comes(), "A watcher is told of who comes.", SERVER)
        .needs(Needs::MESH)
        .red_by(PRESENT),
    must!(
        sees_who_leaves(),
        "A watcher is told of who leaves: PeerGone, disconnected.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(&[
        Fault::LoseFrame(PEER_GONE),
        Fault::FlipFrame(PEER_GONE, 32),
        Fault::ShortenFrame(PEER_GONE),
    ]),
    must!(
        sees_other_watchers(),
        "Watchers are told of each other.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(PRESENT),
    must!(
        forgets_who_left(),
        "A later watcher is not told of who has left.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(&[Fault::LoseFrame(PEER_PRESENT)]),
    must!(
        length(),
        "PeerPresent has 51 bytes: key, address, port, flags.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(&[
        Fault::LengthenFrame(PEER_PRESENT),
        Fault::ShortenFrame(PEER_PRESENT),
    ]),
    must!(
        address(),
        "PeerPresent tells the client's address, IPv4 in its IPv6 form, and port.",
        SERVER
    )
    .needs(Needs::MESH.and(Needs::IP))
    .red_by(&[
        Fault::FlipFrame(PEER_PRESENT, 47),
        Fault::FlipFrame(PEER_PRESENT, 43),
        Fault::FlipFrame(PEER_PRESENT, 49),
    ]),
    must!(
        flags(r#"{"version":2}"#, "", 1),
        "The flag of an ordinary client is 1.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(FLAGS),
    must!(mesh_flag(), "The flag of a mesh client is 2.", SERVER)
        .needs(Needs::MESH)
        .red_by(FLAGS),
    must!(
        flags(r#"{"version":2,"IsProber":true}"#, "", 4),
        "The flag of a prober is 4.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(FLAGS),
    must!(
        flags(r#"{"version":2}"#, "Ideal-Node: 1a\r\n", 8),
        "The flag of who wanted another node is 8.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(FLAGS),
    must!(
        flags(r#"{"version":2,"IsProber":true}"#, "Ideal-Node: 1a\r\n", 12),
        "Flags add up.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(FLAGS),
    must!(
        flags(r#"{"version":2}"#, "Ideal-Node: \r\n", 1),
        "An empty wish for another node is none.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(FLAGS),
    must!(
        sees_duplicates(),
        "A watcher is told of each connection with a key, and that the key has gone \
         with the last.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(&[Fault::LoseFrame(PEER_PRESENT), Fault::LoseFrame(PEER_GONE)]),
    must!(sees_browsers(), "A watcher is told of browsers.", SERVER)
        .needs(Needs::MESH)
        .red_by(PRESENT),
    must!(
        watch_with_body(),
        "WatchConns with a body ends the connection.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(ENDED),
    must!(
        not_watching(),
        "A mesh client that does not watch is told nothing.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(&[Fault::ForgeFrame(PEER_PRESENT), Fault::EndAt(PONG)]),
    must!(
        forwards(b"from afar"),
        "A forwarded packet arrives with the key of its sender.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(ARRIVED),
    must!(forwards(b""), "An empty one arrives.", SERVER)
        .needs(Needs::MESH)
        .red_by(ARRIVED),
    must!(
        forwards(&[7; MAX_PACKET]),
        "One of 65,536 bytes arrives.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(ARRIVED),
    must!(
        too_large(),
        "One of 65,537 bytes ends the mesh connection before it has come.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(ENDED),
    must!(
        too_short(0),
        "ForwardPacket without a body ends the connection.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(ENDED),
    must!(
        too_short(63),
        "ForwardPacket with less than two keys ends the connection.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(ENDED),
    must!(
        forward_to_nobody(b"data"),
        "A forwarded packet to a key that is not there is dropped without a word.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(QUIET),
    must!(
        forwarded_disco(),
        "Of five forwarded disco packets to a key that is not there, three are \
         answered: PeerGone, not here.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(&[
        Fault::LoseFrame(PEER_GONE),
        Fault::RepeatFrame(PEER_GONE),
        Fault::FlipFrame(PEER_GONE, 32),
    ]),
    must!(
        to_active_duplicate(),
        "A forwarded packet goes to the connection that is active.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(ARRIVED),
    must!(
        sender_is_elsewhere(),
        "The end of a mesh connection is no departure of whose packets it brought.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(QUIET),
    differs!(
        from_zero(),
        "A packet forwarded from the zero key arrives with it, or without a key.",
        SERVER,
        derpkit: "with it",
        reference: "without a key",
        page: "A forwarded packet from the zero key is delivered with that key."
    )
    .needs(Needs::MESH)
    .red_by(&[
        Fault::LengthenFrame(RECV_PACKET),
        Fault::LoseFrame(RECV_PACKET),
    ]),
    must!(
        own_packets(),
        "A mesh client may send packets of its own, and gets some.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(ARRIVED),
    must!(
        closes_peer(),
        "ClosePeer ends the connection of a key without a frame, and no other.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(&[Fault::NoEnd, Fault::EndAt(PONG)]),
    must!(
        closes_duplicates(),
        "ClosePeer ends all connections of a key.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(ENDED),
    must!(
        closes_nobody(),
        "ClosePeer of a key that is not there does nothing.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(QUIET),
    must!(
        closed_has_gone(),
        "Receivers are told that a closed peer has gone.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(&[Fault::LoseFrame(PEER_GONE)]),
    must!(
        close_of_length(31),
        "ClosePeer with less than a key ends the connection.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(ENDED),
    must!(
        close_of_length(33),
        "ClosePeer with more than a key ends the connection.",
        SERVER
    )
    .needs(Needs::MESH)
    .red_by(ENDED),
];

async fn admitted(cx: &Cx) -> Checked {
    cx.mesh_peer().await?.is_undisturbed().await
}

async fn upper_case_key(cx: &Cx) -> Checked {
    let info = cx.mesh_info();
    let key = info.split('"').nth(3).unwrap_or_default().to_owned();
    let login = Login {
        info: info.replace(&key, &key.to_uppercase()),
        ..Login::new()
    };
    let mut peer = cx.log_in(&login).await?;
    peer.send(frame(WATCH_CONNS, &[])).await;
    let key = peer.key;
    peer.present(&[key]).await.map(|_| ())
}

async fn sees_itself(cx: &Cx) -> Checked {
    cx.watcher().await.map(|_| ())
}

/// A mesh client that asks to be told now, and is told of all of `keys`.
async fn watcher_of(cx: &Cx, keys: &[NodePublic]) -> Checked<Peer> {
    let mut watcher = cx.mesh_peer().await?;
    watcher.send(frame(WATCH_CONNS, &[])).await;
    watcher.present(keys).await?;
    Ok(watcher)
}

async fn sees_who_is_there(cx: &Cx) -> Checked {
    let (a, b, c) = (cx.peer().await?, cx.peer().await?, cx.browser().await?);
    watcher_of(cx, &[a.key, b.key, c.key]).await.map(|_| ())
}

async fn sees_a_crowd(cx: &Cx) -> Checked {
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(cx.peer().await?);
    }
    let keys: Vec<NodePublic> = crowd.iter().map(|peer| peer.key).collect();
    watcher_of(cx, &keys).await.map(|_| ())
}

async fn sees_who_comes(cx: &Cx) -> Checked {
    let mut watcher = cx.watcher().await?;
    let peer = cx.peer().await?;
    watcher.present(&[peer.key]).await.map(|_| ())
}

async fn sees_who_leaves(cx: &Cx) -> Checked {
    let peer = cx.peer().await?;
    let key = peer.key;
    let mut watcher = watcher_of(cx, &[key]).await?;
    drop(peer);
    let (ty, body) = watcher.news_of(&key).await?;
    same("frame", ty, PEER_GONE)?;
    same_bytes("PeerGone with", &body[32..], &[0])
}

async fn sees_other_watchers(cx: &Cx) -> Checked {
    let mut first = cx.watcher().await?;
    let mut second = cx.mesh_peer().await?;
    second.send(frame(WATCH_CONNS, &[])).await;
    second.present(&[first.key, second.key]).await?;
    first.present(&[second.key]).await?;
    let key = second.key;
    drop(second);
    first.hears_of_departure(&key).await
}

async fn forgets_who_left(cx: &Cx) -> Checked {
    let (a, b) = (cx.peer().await?, cx.peer().await?);
    let (gone, stays) = (a.key, b.key);
    let mut first = watcher_of(cx, &[gone]).await?;
    drop(a);
    first.hears_of_departure(&gone).await?;
    let mut second = watcher_of(cx, &[stays]).await?;
    second.hears_nothing_of(&gone).await
}

/// What a watcher is told of `peer`.
async fn presence(cx: &Cx, peer: &Peer) -> Checked<Vec<u8>> {
    let mut watcher = cx.mesh_peer().await?;
    watcher.send(frame(WATCH_CONNS, &[])).await;
    let mut seen = watcher.present(&[peer.key]).await?;
    let body = seen.remove(&peer.key);
    body.ok_or_else(|| Failure::new("PeerPresent", "none"))
}

async fn length(cx: &Cx) -> Checked {
    let peer = cx.peer().await?;
    same("length", presence(cx, &peer).await?.len(), 51)
}

async fn address(cx: &Cx) -> Checked {
    let peer = cx.peer().await?;
    let body = presence(cx, &peer).await?;
    let addr = peer.conn.tcp().local_addr();
    let addr = addr.map_err(|err| Failure::new("an address", err.to_string()))?;
    let octets = body.get(32..48).and_then(|part| part.first_chunk::<16>());
    let seen = octets.map(|octets| Ipv6Addr::from(*octets));
    let expected = match addr.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let port = body.get(48..50).map(<[u8]>::to_vec);
    // Behind a translator of addresses the server sees another one, and tells that one.
    if !addr.ip().is_loopback() && seen != Some(expected) {
        return ensure(
            seen.is_some_and(|ip| !ip.is_unspecified()),
            "an address",
            format!("{seen:?}"),
        );
    }
    same("address", seen, Some(expected))?;
    same("port", port, Some(addr.port().to_be_bytes().to_vec()))
}

async fn flags(cx: &Cx, info: &str, headers: &'static str, expected: u8) -> Checked {
    let login = Login {
        info: info.to_owned(),
        headers,
        ..Login::new()
    };
    let peer = cx.log_in(&login).await?;
    let body = presence(cx, &peer).await?;
    same("flags", body.get(50).copied(), Some(expected))
}

async fn mesh_flag(cx: &Cx) -> Checked {
    let peer = cx.mesh_peer().await?;
    let body = presence(cx, &peer).await?;
    same("flags", body.get(50).copied(), Some(2))
}

async fn sees_duplicates(cx: &Cx) -> Checked {
    let mut watcher = cx.watcher().await?;
    let private = new_key();
    let key = private.public();
    let first = cx.peer_with(&private).await?;
    watcher.present(&[key]).await?;
    let mut second = cx.peer_with(&private).await?;
    watcher.present(&[key]).await?;
    let mut first = first;
    first.conn.finish().await;
    first.is_cut_off().await?;
    tokio::time::sleep(GRACE / 3).await;
    watcher.hears_nothing_of(&key).await?;
    second.conn.finish().await;
    watcher.hears_of_departure(&key).await
}

async fn sees_browsers(cx: &Cx) -> Checked {
    let mut watcher = cx.watcher().await?;
    let peer = cx.browser().await?;
    watcher.present(&[peer.key]).await?;
    let key = peer.key;
    drop(peer);
    watcher.hears_of_departure(&key).await
}

async fn watch_with_body(cx: &Cx) -> Checked {
    let mut peer = cx.mesh_peer().await?;
    peer.send(frame(WATCH_CONNS, &[b"x"])).await;
    peer.is_cut_off().await
}

async fn not_watching(cx: &Cx) -> Checked {
    let mut mesh = cx.mesh_peer().await?;
    let peer = cx.peer().await?;
    drop(peer);
    tokio::time::sleep(GRACE / 3).await;
    mesh.is_undisturbed().await
}

async fn forwards(cx: &Cx, data: &[u8]) -> Checked {
    let (mut mesh, mut peer) = (cx.mesh_peer().await?, cx.peer().await?);
    let sender = new_key().public();
    mesh.send(forwarded(&sender, &peer.key, data)).await;
    peer.expect_packet(&sender, data).await?;
    mesh.is_undisturbed().await
}

async fn too_large(cx: &Cx) -> Checked {
    let mut mesh = cx.mesh_peer().await?;
    let start = [header(FORWARD_PACKET, 64 + 65_536 + 1), vec![7; 64]];
    mesh.send(start.concat()).await;
    mesh.is_cut_off().await
}

async fn too_short(cx: &Cx, len: usize) -> Checked {
    let mut mesh = cx.mesh_peer().await?;
    mesh.send(frame(FORWARD_PACKET, &[&vec![7; len]])).await;
    mesh.is_cut_off().await
}

async fn forward_to_nobody(cx: &Cx, data: &[u8]) -> Checked {
    let mut mesh = cx.mesh_peer().await?;
    mesh.send(forwarded(&new_key().public(), &new_key().public(), data))
        .await;
    mesh.is_undisturbed().await
}

async fn forwarded_disco(cx: &Cx) -> Checked {
    let mut mesh = cx.mesh_peer().await?;
    let nobody = new_key().public();
    let begin = tokio::time::Instant::now();
    mesh.send(forwarded(&new_key().public(), &nobody, &disco()).repeat(5))
        .await;
    for _ in 0..3 {
        mesh.expect_gone(&nobody, 1).await?;
    }
    // A second that passes allows one more, and so much time a busy machine may take.
    match mesh.conn.stays_silent().await {
        Err(_) if begin.elapsed() > Duration::from_millis(900) => Ok(()),
        silence => silence,
    }
}

async fn to_active_duplicate(cx: &Cx) -> Checked {
    let private = new_key();
    let mut mesh = cx.mesh_peer().await?;
    let mut first = cx.peer_with(&private).await?;
    let mut second = cx.peer_with(&private).await?;
    let sender = new_key().public();
    for n in 0..2 {
        let active = if n == 0 { &mut first } else { &mut second };
        active.ping().await?;
        mesh.send(forwarded(&sender, &private.public(), b"for who speaks"))
            .await;
        active.expect_packet(&sender, b"for who speaks").await?;
    }
    Ok(())
}

async fn sender_is_elsewhere(cx: &Cx) -> Checked {
    let (mut mesh, mut peer) = (cx.mesh_peer().await?, cx.peer().await?);
    let sender = new_key().public();
    mesh.send(forwarded(&sender, &peer.key, b"from afar")).await;
    peer.expect_packet(&sender, b"from afar").await?;
    mesh.conn.finish().await;
    mesh.is_cut_off().await?;
    tokio::time::sleep(GRACE / 3).await;
    peer.is_undisturbed().await
}

async fn from_zero(cx: &Cx) -> Checked<Side> {
    let (mut mesh, mut peer) = (cx.mesh_peer().await?, cx.peer().await?);
    let zero = NodePublic::from_bytes([0; 32]);
    mesh.send(forwarded(&zero, &peer.key, b"from nobody")).await;
    let (ty, body) = peer.next().await?;
    same("frame", ty, RECV_PACKET)?;
    if body == b"from nobody" {
        return Ok(Side::Reference);
    }
    same_bytes("packet", &body, &[&[0; 32][..], b"from nobody"].concat())?;
    Ok(Side::Derpkit)
}

async fn own_packets(cx: &Cx) -> Checked {
    let (mut mesh, mut peer) = (cx.mesh_peer().await?, cx.peer().await?);
    mesh.reaches(&mut peer, b"from a relay").await?;
    peer.reaches(&mut mesh, b"to a relay").await
}

fn close_peer(key: &NodePublic) -> Vec<u8> {
    frame(CLOSE_PEER, &[key.as_bytes()])
}

async fn closes_peer(cx: &Cx) -> Checked {
    let (mut mesh, mut peer) = (cx.mesh_peer().await?, cx.peer().await?);
    let mut other = cx.peer().await?;
    mesh.send(close_peer(&peer.key)).await;
    peer.is_cut_off().await?;
    mesh.is_undisturbed().await?;
    other.is_undisturbed().await
}

async fn closes_duplicates(cx: &Cx) -> Checked {
    let private = new_key();
    let mut mesh = cx.mesh_peer().await?;
    let mut first = cx.peer_with(&private).await?;
    let mut second = cx.peer_with(&private).await?;
    mesh.send(close_peer(&private.public())).await;
    first.is_cut_off().await?;
    second.is_cut_off().await
}

async fn closes_nobody(cx: &Cx) -> Checked {
    let mut mesh = cx.mesh_peer().await?;
    mesh.send(close_peer(&new_key().public())).await;
    mesh.is_undisturbed().await
}

async fn closed_has_gone(cx: &Cx) -> Checked {
    let (mut mesh, mut a) = (cx.mesh_peer().await?, cx.peer().await?);
    let mut b = cx.peer().await?;
    a.reaches(&mut b, b"hello").await?;
    mesh.send(close_peer(&a.key)).await;
    b.expect_gone(&a.key, 0).await
}

async fn close_of_length(cx: &Cx, len: usize) -> Checked {
    let mut mesh = cx.mesh_peer().await?;
    mesh.send(frame(CLOSE_PEER, &[&vec![7; len]])).await;
    mesh.is_cut_off().await
}
