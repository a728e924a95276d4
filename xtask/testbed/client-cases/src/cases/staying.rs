//! Connections that last, and that come back.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use derp_client::{Event, Login, Received, Reconnecting, ReconnectingWriter, Watch, WatchEvent};
use derp_proto::NodePublic;
use tokio::process::Command;
use tokio::time::timeout;

use crate::relay::{Peer, Relay, new_key};

/// A relay sends something once in this time at least.
const KEEP_ALIVE: Duration = Duration::from_secs(70);
/// How long a relay may take to be back.
const RESTART: Duration = Duration::from_secs(15);

fn reconnecting(relay: &Relay) -> (Reconnecting, ReconnectingWriter, NodePublic) {
    let login = Login::new(new_key());
    let key = login.key.public();
    let client = Reconnecting::new(relay.connector(), relay.target(), login);
    let writer = client.writer();
    (client, writer, key)
}

/// Runs the client until it is admitted; the number of attempts that failed before.
async fn admitted(client: &mut Reconnecting) -> anyhow::Result<u32> {
    let mut failed = 0;
    loop {
        match timeout(RESTART, client.next())
            .await
            .context("no connection")?
        {
            Event::Received(Received::ServerInfo(_)) => return Ok(failed),
            Event::Disconnected { .. } => failed += 1,
            Event::Connected(_) | Event::Received(_) => {}
        }
    }
}

/// Waits until the connection has ended.
async fn ended(client: &mut Reconnecting) -> anyhow::Result<String> {
    loop {
        match timeout(RESTART, client.next())
            .await
            .context("it goes on")?
        {
            Event::Disconnected { cause, .. } => return Ok(cause.to_string()),
            Event::Connected(_) | Event::Received(_) => {}
        }
    }
}

/// Fails unless a packet of `peer` reaches the client.
async fn reached(client: &mut Reconnecting, key: NodePublic, peer: &Peer) -> anyhow::Result<()> {
    peer.client.send(key, b"still there?").await?;
    let expected = Received::Packet {
        src: peer.key,
        packet: b"still there?"[..].into(),
    };
    match timeout(RESTART, client.next())
        .await
        .context("nothing came")?
    {
        Event::Received(received) if received == expected => Ok(()),
        other => bail!("{other:?} came instead of a packet"),
    }
}

pub(super) async fn a_connection_that_is_cut_comes_back(relay: &Relay) -> anyhow::Result<String> {
    let (mut client, writer, key) = reconnecting(relay);
    admitted(&mut client).await?;
    for _ in 0..3 {
        writer.current().context("a connection")?.close();
        ended(&mut client).await?;
        ensure!(
            writer.send(key, b"between").await.is_err(),
            "sent without a connection"
        );
        admitted(&mut client).await?;
        reached(&mut client, key, &relay.peer().await?).await?;
    }
    Ok(format!("{}", writer.local_addr()?))
}

pub(super) async fn an_idle_connection_is_kept_alive(relay: &Relay) -> anyhow::Result<String> {
    let mut a = relay.peer().await?;
    match timeout(KEEP_ALIVE, a.client.recv())
        .await
        .context("nothing came")??
    {
        Received::KeepAlive => Ok(String::new()),
        other => bail!("{other:?} came instead"),
    }
}

/// Restarts the relay as the command line says.
async fn restart(relay: &Relay) -> anyhow::Result<()> {
    let command = relay.restart_with.as_ref().context("no --restart-with")?;
    let status = Command::new("sh").arg("-c").arg(command).status().await?;
    ensure!(status.success(), "--restart-with: {status}");
    Ok(())
}

pub(super) async fn a_client_survives_a_restart(relay: &Relay) -> anyhow::Result<String> {
    let (mut client, _, key) = reconnecting(relay);
    admitted(&mut client).await?;
    let (restarted, end) = tokio::join!(restart(relay), ended(&mut client));
    restarted?;
    let failed = admitted(&mut client).await?;
    reached(&mut client, key, &relay.peer().await?).await?;
    Ok(format!("{}; {failed} failed attempts", end?))
}

pub(super) async fn a_watch_survives_a_restart(relay: &Relay) -> anyhow::Result<String> {
    let mut watch = Watch::new(relay.connector(), relay.target(), relay.mesh_login()?, None);
    let before = relay.peer().await?;
    while !watch.peers().contains(&before.key) {
        timeout(RESTART, watch.next()).await.context("no news")??;
    }
    let goes_down = async {
        loop {
            let event = timeout(RESTART, watch.next())
                .await
                .context("it stays up")??;
            if let WatchEvent::Down { peers, .. } = event {
                return anyhow::Ok((peers, watch));
            }
        }
    };
    let (restarted, down) = tokio::join!(restart(relay), goes_down);
    restarted?;
    let (peers, mut watch) = down?;
    ensure!(
        peers.contains(&before.key) && watch.peers().is_empty(),
        "clients were kept"
    );

    let mut failed = 0;
    loop {
        match timeout(RESTART, watch.next())
            .await
            .context("it stays down")??
        {
            WatchEvent::Up(_) => break,
            _ => failed += 1,
        }
    }
    let after = relay.peer().await?;
    while !watch.peers().contains(&after.key) {
        timeout(RESTART, watch.next()).await.context("no news")??;
    }
    ensure!(
        !watch.peers().contains(&before.key),
        "a client of before the restart is back"
    );
    Ok(format!("{failed} failed attempts"))
}
