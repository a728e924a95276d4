//! Mesh clients that are told who comes and goes (`derp/derpserver/derpserver.go`).

use std::net::{IpAddr, Ipv6Addr};

use derp_proto::NodePublic;

use crate::case::{Case, Needs, must};
use crate::context::{Cx, GRACE};
use crate::fault::Fault;
use crate::frame::{PEER_GONE, PEER_PRESENT, PONG, WATCH_CONNS, frame, new_key};
use crate::peer::{Login, Peer};
use crate::verdict::{Checked, Failure, ensure, same, same_bytes};

const SERVER: &str = "derp/derpserver/derpserver.go";
const PRESENT: &[Fault] = &[
    Fault::LoseFrame(PEER_PRESENT),
    Fault::FlipFrame(PEER_PRESENT, 0),
];
const FLAGS: &[Fault] = &[
    Fault::FlipFrame(PEER_PRESENT, 50),
    Fault::ShortenFrame(PEER_PRESENT),
];
const ENDED: &[Fault] = &[Fault::NoEnd];

pub(super) const CASES: &[Case] = &[
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
];

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
