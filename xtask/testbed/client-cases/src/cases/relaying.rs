//! Packets and pings between clients.

use std::time::Duration;

use anyhow::{Context, ensure};
use derp_client::{Received, Transport};
use derp_proto::{DISCO_MIN_LEN, MAX_PACKET_LEN, PeerGoneReason};

use crate::relay::{Peer, Relay, new_key};

async fn two(relay: &Relay) -> anyhow::Result<(Peer, Peer)> {
    tokio::try_join!(relay.peer(), relay.peer())
}

/// A packet that looks like path discovery.
fn disco() -> Vec<u8> {
    let mut packet = b"TS\xf0\x9f\x92\xac".to_vec();
    packet.resize(DISCO_MIN_LEN, 7);
    packet
}

pub(super) async fn packets_travel_both_ways(relay: &Relay) -> anyhow::Result<String> {
    let (mut a, mut b) = two(relay).await?;
    a.reaches(&mut b, b"from a to b").await?;
    b.reaches(&mut a, b"from b to a").await?;
    a.reaches(&mut b, &disco()).await?;
    a.expect_nothing().await?;
    b.expect_nothing().await?;
    Ok(String::new())
}

pub(super) async fn a_packet_to_oneself_comes_back(relay: &Relay) -> anyhow::Result<String> {
    let mut a = relay.peer().await?;
    a.client.send(a.key, b"to myself").await?;
    let expected = Received::Packet {
        src: a.key,
        packet: b"to myself"[..].into(),
    };
    let received = a.next().await?;
    ensure!(received == expected, "{received:?}");
    Ok(String::new())
}

pub(super) async fn an_empty_packet_arrives(relay: &Relay) -> anyhow::Result<String> {
    let (a, mut b) = two(relay).await?;
    a.reaches(&mut b, b"").await?;
    Ok(String::new())
}

pub(super) async fn the_largest_packet_arrives(relay: &Relay) -> anyhow::Result<String> {
    let (a, mut b) = two(relay).await?;
    a.reaches(&mut b, &vec![7; MAX_PACKET_LEN]).await?;
    let refused = a.client.send(b.key, &vec![7; MAX_PACKET_LEN + 1]).await;
    ensure!(refused.is_err(), "a packet that is too long was sent");
    a.reaches(&mut b, b"after it").await?;
    Ok(String::new())
}

pub(super) async fn packets_of_many_sizes_arrive_in_order(relay: &Relay) -> anyhow::Result<String> {
    let (a, mut b) = two(relay).await?;
    in_order(&a, &mut b).await
}

/// A relay may drop what its queue has no room for: no more are under way than that.
async fn in_order(a: &Peer, b: &mut Peer) -> anyhow::Result<String> {
    let sizes = [
        0, 1, 62, 1200, 1500, 4059, 4060, 16_384, 32_768, 65_535, 65_536,
    ];
    for round in 0..20_u8 {
        let packets = sizes.map(|size| vec![round; size]);
        for packet in &packets {
            a.client.send(b.key, packet).await?;
        }
        for packet in &packets {
            b.expect_packet(a, packet).await?;
        }
    }
    Ok(format!("{} packets", 20 * sizes.len()))
}

pub(super) async fn packets_travel_between_a_websocket_and_a_stream(
    relay: &Relay,
) -> anyhow::Result<String> {
    let mut a = relay.peer_over(Transport::WebSocket).await?;
    let mut b = relay.peer().await?;
    let mut c = relay.peer_over(Transport::WebSocket).await?;
    in_order(&a, &mut b).await?;
    in_order(&b, &mut a).await?;
    in_order(&a, &mut c).await
}

pub(super) async fn a_ping_is_answered_while_another_task_receives(
    relay: &Relay,
) -> anyhow::Result<String> {
    let a = relay.peer().await?;
    let (mut reader, writer) = a.client.split();
    let receiving = tokio::spawn(async move { while reader.recv().await.is_ok() {} });
    let mut best = Duration::MAX;
    for _ in 0..10 {
        best = best.min(writer.ping().await?);
    }
    writer.close();
    receiving.await.context("receiving")?;
    Ok(format!("{best:?}"))
}

pub(super) async fn a_ping_is_answered_in_a_websocket(relay: &Relay) -> anyhow::Result<String> {
    let mut a = relay.peer_over(Transport::WebSocket).await?;
    let rtt = a.client.ping(drop).await?;
    Ok(format!("{rtt:?}"))
}

pub(super) async fn a_peer_that_leaves_is_gone(relay: &Relay) -> anyhow::Result<String> {
    let (a, mut b) = two(relay).await?;
    a.reaches(&mut b, b"before").await?;
    let expected = Received::PeerGone {
        key: a.key,
        reason: PeerGoneReason::DISCONNECTED,
    };
    a.client.shutdown().await;
    let received = b.next().await?;
    ensure!(received == expected, "{received:?}");
    Ok(String::new())
}

pub(super) async fn disco_to_nobody_is_answered(relay: &Relay) -> anyhow::Result<String> {
    let mut a = relay.peer().await?;
    let nobody = new_key().public();
    a.client.send(nobody, &disco()).await?;
    let expected = Received::PeerGone {
        key: nobody,
        reason: PeerGoneReason::NOT_HERE,
    };
    let received = a.next().await?;
    ensure!(received == expected, "{received:?}");
    Ok(String::new())
}

pub(super) async fn data_to_nobody_is_not_answered(relay: &Relay) -> anyhow::Result<String> {
    let mut a = relay.peer().await?;
    a.client.send(new_key().public(), b"anybody?").await?;
    a.expect_nothing().await?;
    Ok(String::new())
}

/// What the relay makes of it shows in its counters, and not to clients: what can be seen here is
/// that it goes on.
pub(super) async fn a_home_is_noted(relay: &Relay) -> anyhow::Result<String> {
    let mut a = relay.peer().await?;
    for preferred in [true, true, false, true] {
        a.client.writer().note_preferred(preferred).await?;
    }
    a.client.ping(drop).await?;
    Ok(String::new())
}
