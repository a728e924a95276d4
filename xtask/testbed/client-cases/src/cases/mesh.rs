//! What relays of a region do to each other.

use anyhow::{Context, bail, ensure};
use derp_client::{Received, RecvError, Watch, WatchEvent};
use derp_proto::{NodePublic, PeerGoneReason, PeerPresentFlags};
use tokio::time::timeout;

use crate::relay::{PATIENCE, Peer, Relay};

/// Waits until a watcher is told of a client; others are passed over.
async fn sees(watcher: &mut Peer, key: NodePublic) -> anyhow::Result<PeerPresentFlags> {
    loop {
        match watcher.next().await? {
            Received::PeerPresent(present) if present.key == key => {
                ensure!(present.addr.is_some(), "no address of {key:?}");
                return Ok(present.flags);
            }
            Received::PeerPresent(_) | Received::PeerGone { .. } => {}
            other => bail!("a watcher received {other:?}"),
        }
    }
}

pub(super) async fn a_watcher_sees_who_comes_and_goes(relay: &Relay) -> anyhow::Result<String> {
    let before = relay.peer().await?;
    let mut watcher = relay.mesh_peer().await?;
    watcher.client.writer().watch_conns().await?;
    // Who was there comes in any order, itself included.
    let (mut plain, mut itself) = (None, None);
    while plain.is_none() || itself.is_none() {
        match watcher.next().await? {
            Received::PeerPresent(present) if present.key == before.key => {
                plain = Some(present.flags);
            }
            Received::PeerPresent(present) if present.key == watcher.key => {
                itself = Some(present.flags);
            }
            Received::PeerPresent(_) | Received::PeerGone { .. } => {}
            other => bail!("a watcher received {other:?}"),
        }
    }
    ensure!(
        plain == Some(PeerPresentFlags::REGULAR),
        "a plain client has {plain:?}"
    );
    ensure!(
        itself == Some(PeerPresentFlags::MESH_PEER),
        "the watcher has {itself:?}"
    );

    let after = relay.peer().await?;
    sees(&mut watcher, after.key).await?;
    let key = after.key;
    after.client.shutdown().await;
    let expected = Received::PeerGone {
        key,
        reason: PeerGoneReason::DISCONNECTED,
    };
    while watcher.next().await? != expected {}
    Ok(String::new())
}

pub(super) async fn a_forwarded_packet_keeps_its_source(relay: &Relay) -> anyhow::Result<String> {
    let mesh = relay.mesh_peer().await?;
    let mut b = relay.peer().await?;
    let far = crate::relay::new_key().public();
    mesh.client
        .writer()
        .forward_packet(far, b.key, b"from afar")
        .await?;
    let expected = Received::Packet {
        src: far,
        packet: b"from afar"[..].into(),
    };
    let received = b.next().await?;
    ensure!(received == expected, "{received:?}");
    Ok(String::new())
}

pub(super) async fn a_closed_peer_is_cut_off(relay: &Relay) -> anyhow::Result<String> {
    let mut mesh = relay.mesh_peer().await?;
    let mut victim = relay.peer().await?;
    mesh.client.writer().close_peer(victim.key).await?;
    let end = victim.expect_end().await?;
    mesh.client.ping(drop).await?;
    Ok(end)
}

async fn news(watch: &mut Watch) -> anyhow::Result<WatchEvent> {
    Ok(timeout(PATIENCE, watch.next()).await.context("no news")??)
}

pub(super) async fn a_watch_follows_the_relay(relay: &Relay) -> anyhow::Result<String> {
    let login = relay.mesh_login()?;
    let mut watch = Watch::new(relay.connector(), relay.target(), login, None);
    let WatchEvent::Up(writer) = news(&mut watch).await? else {
        bail!("it did not come up")
    };
    let mut a = relay.peer().await?;
    while !watch.peers().contains(&a.key) {
        news(&mut watch).await?;
    }
    let far = crate::relay::new_key().public();
    writer
        .forward_packet(far, a.key, b"through the watch")
        .await?;
    ensure!(
        matches!(a.next().await?, Received::Packet { src, .. } if src == far),
        "not forwarded"
    );
    let (key, known) = (a.key, watch.peers().len());
    a.client.shutdown().await;
    while watch.peers().contains(&key) {
        news(&mut watch).await?;
    }
    Ok(format!("{known} clients"))
}

pub(super) async fn a_watch_detects_its_own_relay(relay: &Relay) -> anyhow::Result<String> {
    let own = relay.peer().await?.client.info().server_key;
    let login = relay.mesh_login()?;
    let mut watch = Watch::new(relay.connector(), relay.target(), login, Some(own));
    match timeout(PATIENCE, watch.next()).await.context("no news")? {
        Err(itself) => Ok(itself.to_string()),
        Ok(event) => bail!("it was taken for another: {event:?}"),
    }
}

pub(super) async fn mesh_frames_without_the_key_close(relay: &Relay) -> anyhow::Result<String> {
    for request in 0..3 {
        let mut a = relay.peer().await?;
        let writer = a.client.writer();
        match request {
            0 => writer.watch_conns().await?,
            1 => writer.forward_packet(a.key, a.key, b"x").await?,
            _ => writer.close_peer(a.key).await?,
        }
        let end = timeout(PATIENCE, a.client.recv())
            .await
            .context("it goes on")?;
        ensure!(
            matches!(end, Err(RecvError::ServerClosed | RecvError::Io(_))),
            "request {request}: {end:?}"
        );
    }
    Ok(String::new())
}
