//! Packets that other relays bring, and peers that they close (`derp/derpserver/derpserver.go`).

use std::time::Duration;

use derp_proto::NodePublic;

use crate::case::{Case, Needs, differs, must};
use crate::context::{Cx, GRACE};
use crate::fault::Fault;
use crate::frame::{
    CLOSE_PEER, FORWARD_PACKET, MAX_PACKET, PEER_GONE, PONG, RECV_PACKET, SERVER_INFO, disco,
    forwarded, frame, header, new_key,
};
use crate::verdict::{Checked, Side, same, same_bytes};

const SERVER: &str = "derp/derpserver/derpserver.go";
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
