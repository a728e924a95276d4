//! Ways to get a connection, and reasons not to.

use anyhow::{Context, bail, ensure};
use derp_client::{
    CertCheck, ConnectError, Fault, Login, PinError, ProxyError, StartKind, Target, TargetError,
    Transport, UrlTarget,
};
use derp_proto::{DerpNode, DerpRegion};

use crate::proxy::TestProxy;
use crate::relay::{Peer, Relay, new_key, pin_error};

/// Fails unless the client can talk to itself; says how it is connected.
async fn works(mut peer: Peer, expected: StartKind) -> anyhow::Result<String> {
    let me = peer.key;
    peer.client.send(me, b"hello").await?;
    match peer.next().await? {
        derp_client::Received::Packet { src, packet } if src == me && packet == b"hello"[..] => {}
        other => bail!("{other:?} came instead of a packet"),
    }
    let info = peer.client.info();
    ensure!(info.start == expected, "it was a {:?} start", info.start);
    Ok(match info.tls_version {
        Some(version) => format!("{version:?}"),
        None => String::new(),
    })
}

/// Fails unless connecting does.
async fn refused(relay: &Relay, node: DerpNode) -> anyhow::Result<ConnectError> {
    let login = Login::new(new_key());
    match relay.connector().connect(&Target::Node(node), &login).await {
        Ok(_) => bail!("it was accepted"),
        Err(err) => Ok(err),
    }
}

/// How a node of a map is reached by default.
fn usual_start(relay: &Relay) -> StartKind {
    let fast = crate::cases::Needs {
        fast_start: true,
        ..Default::default()
    };
    if relay.has(fast) {
        StartKind::Fast
    } else {
        StartKind::Slow
    }
}

pub(super) async fn a_slow_start_logs_in(relay: &Relay) -> anyhow::Result<String> {
    works(
        relay.peer_over(Transport::SlowStart).await?,
        StartKind::Slow,
    )
    .await
}

pub(super) async fn a_fast_start_logs_in(relay: &Relay) -> anyhow::Result<String> {
    let slow = relay.peer_over(Transport::SlowStart).await?;
    let fast = relay.peer().await?;
    let keys = [&slow, &fast].map(|peer| peer.client.info().server_key);
    ensure!(
        keys[0] == keys[1],
        "the certificate says {:?}, the greeting {:?}",
        keys[1],
        keys[0]
    );
    works(fast, StartKind::Fast).await
}

pub(super) async fn a_url_logs_in(relay: &Relay) -> anyhow::Result<String> {
    let scheme = if relay.is_tls { "https" } else { "http" };
    let host: derp_client::Host = relay.host.parse()?;
    let url = format!("{scheme}://{}/derp", host.with_port(relay.port));
    let check = relay.pin.map_or(CertCheck::HostName, CertCheck::Pin);
    let target = Target::Url(UrlTarget {
        url: url.parse()?,
        dial_host: relay.dial_host()?,
        check,
    });
    let peer = Peer::connect(&relay.connector(), &target, &Login::new(new_key())).await?;
    works(peer, usual_start(relay)).await
}

pub(super) async fn a_region_is_reached_past_its_dead_nodes(
    relay: &Relay,
) -> anyhow::Result<String> {
    let stun_only = DerpNode {
        name: "1x".into(),
        stun_only: true,
        ..relay.node()
    };
    let disabled = DerpNode {
        name: "1y".into(),
        ipv4: "none".into(),
        ipv6: "none".into(),
        ..relay.node()
    };
    // Nobody listens on port 1.
    let dead = DerpNode {
        name: "1z".into(),
        derp_port: 1,
        ..relay.node()
    };
    let nodes = vec![stun_only, disabled, dead, relay.node()];
    let target = Target::Region(DerpRegion {
        region_id: 1,
        nodes,
        ..DerpRegion::default()
    });
    let peer = Peer::connect(&relay.connector(), &target, &Login::new(new_key())).await?;
    ensure!(
        peer.client.info().node.as_deref() == Some("1a"),
        "another node was reached"
    );
    works(peer, usual_start(relay)).await
}

pub(super) async fn a_pinned_certificate_is_accepted(relay: &Relay) -> anyhow::Result<String> {
    works(relay.peer().await?, usual_start(relay)).await?;
    Ok(relay.node().cert_name)
}

pub(super) async fn another_pin_is_refused(relay: &Relay) -> anyhow::Result<String> {
    let cert_name = format!("sha256-raw:{}", "1".repeat(64));
    // A pin counts however insecure the node is.
    let node = DerpNode {
        cert_name,
        insecure_for_tests: true,
        ..relay.plain_node()
    };
    let err = refused(relay, node).await?;
    let seen = relay.pin.context("TLS without a pin")?;
    let why = pin_error(err.fault());
    ensure!(
        why == Some(PinError::AnotherCertificate { seen }),
        "another error: {err:?}"
    );
    Ok(String::new())
}

pub(super) async fn a_pin_that_is_none_is_an_error(relay: &Relay) -> anyhow::Result<String> {
    let node = DerpNode {
        cert_name: "sha256-raw:0".into(),
        insecure_for_tests: true,
        ..relay.plain_node()
    };
    match refused(relay, node).await?.fault() {
        Fault::Target(TargetError::Pin(..)) => Ok(String::new()),
        other => bail!("another error: {other:?}"),
    }
}

pub(super) async fn a_certificate_of_a_stranger_is_refused(
    relay: &Relay,
) -> anyhow::Result<String> {
    // Somebody is trusted, but not the relay.
    let key = rcgen::KeyPair::generate()?;
    let stranger =
        rcgen::CertificateParams::new(vec!["stranger.test".into()])?.self_signed(&key)?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(stranger.der().clone())?;
    let roots = derp_client::Roots::Custom(roots.into());
    let connector = relay.connector().with_roots(roots);
    let target = Target::Node(relay.plain_node());
    match connector.connect(&target, &Login::new(new_key())).await {
        Ok(_) => bail!("it was accepted"),
        Err(err) => match err.fault() {
            Fault::Certificate(why) => Ok(why.to_string()),
            other => bail!("another error: {other:?}"),
        },
    }
}

pub(super) async fn an_insecure_node_is_accepted(relay: &Relay) -> anyhow::Result<String> {
    let node = DerpNode {
        insecure_for_tests: true,
        ..relay.plain_node()
    };
    let login = Login::new(new_key());
    let peer = Peer::connect(&relay.connector(), &Target::Node(node), &login).await?;
    works(peer, usual_start(relay)).await
}

pub(super) async fn a_trusted_certificate_is_accepted(relay: &Relay) -> anyhow::Result<String> {
    let target = Target::Node(relay.plain_node());
    let peer = Peer::connect(&relay.connector(), &target, &Login::new(new_key())).await?;
    works(peer, usual_start(relay)).await
}

pub(super) async fn a_websocket_logs_in(relay: &Relay) -> anyhow::Result<String> {
    works(
        relay.peer_over(Transport::WebSocket).await?,
        StartKind::WebSocket,
    )
    .await
}

pub(super) async fn a_proxy_is_asked_for_the_relay(relay: &Relay) -> anyhow::Result<String> {
    let proxy = TestProxy::start("200 OK", relay.dial_addr()).await?;
    let peer = relay.peer_through(proxy.proxy.clone()).await?;
    works(peer, usual_start(relay)).await?;
    let asked = proxy.asked();
    let host: derp_client::Host = relay.host.parse()?;
    let expected = format!("CONNECT {} HTTP/1.1\r\n", host.with_port(relay.port));
    let [head] = &asked[..] else {
        bail!("{} requests", asked.len())
    };
    ensure!(head.starts_with(&expected), "it was asked {head:?}");
    ensure!(
        head.contains("Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n"),
        "no password"
    );
    Ok(String::new())
}

pub(super) async fn a_proxy_that_declines_is_reported(relay: &Relay) -> anyhow::Result<String> {
    let proxy = TestProxy::start("407 Proxy Authentication Required", None).await?;
    let connector = relay.connector().with_proxy(proxy.proxy.clone());
    match connector
        .connect(&relay.target(), &Login::new(new_key()))
        .await
    {
        Ok(_) => bail!("it was accepted"),
        Err(err) => match err.fault() {
            Fault::Proxy(ProxyError::Refused { status: 407 }) => Ok(String::new()),
            other => bail!("another error: {other:?}"),
        },
    }
}
