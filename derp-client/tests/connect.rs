//! From a map or a URL to a client: sockets on loopback, TLS, upgrades and proxies.

mod support;

use derp_client::{
    CertCheck, Fault, Login, Proxy, ServerUrl, StartKind, Target, TargetError, Transport,
    UpgradeError, UrlTarget,
};
use derp_proto::{ClientFrame, DerpNode, DerpRegion, ServerFrame, ServerInfo};
use support::server_key;
use support::talk::{connector, login, meta, served, talk, trusting};
use support::tls::{Authority, Listener};
use tokio::io::copy_bidirectional;

#[tokio::test]
async fn a_fast_start_sends_everything_before_the_server_says_a_word() {
    let authority = Authority::new();
    let listener = Listener::tls(authority.sign("derp.test"), &[meta()]).await;
    let target = Target::Node(listener.node("derp.test"));
    let (connector, login) = (
        trusting(&authority),
        Login {
            preferred: true,
            ..login()
        },
    );
    let server = async {
        let mut peer = listener.accept_tls().await.unwrap();
        let head = peer.request().await;
        assert!(
            head.starts_with("GET /derp HTTP/1.1\r\nHost: derp.test:"),
            "{head}"
        );
        assert!(
            head.ends_with("\r\nUpgrade: DERP\r\nDerp-Fast-Start: 1\r\n\r\n"),
            "{head}"
        );
        let hello = peer.fast_start().await;
        peer.expect(ClientFrame::NotePreferred(true)).await;
        // The greeting comes when nobody waits for it any more.
        peer.send(ServerFrame::ServerKey(server_key().public()))
            .await;
        peer.admit(&hello, &ServerInfo::plain()).await;
        peer
    };
    let (client, mut peer) = tokio::join!(connector.connect(&target, &login), server);
    let mut client = client.unwrap();
    talk(&mut client, &mut peer).await;
    let info = client.info();
    assert_eq!(
        (info.start, info.server_key),
        (StartKind::Fast, server_key().public())
    );
    assert_eq!(info.tls_version, Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(info.node.as_deref(), Some("1a"));
    assert_eq!(
        info.peer_addr,
        format!("127.0.0.1:{}", listener.port()).parse().ok()
    );
    assert!(info.local_addr.is_some());
}

#[tokio::test]
async fn a_slow_start_is_what_remains_without_tls_1_3_or_the_certificate() {
    let authority = Authority::new();
    let only_12 = &[&rustls::version::TLS12];
    let leaf = || authority.sign("derp.test");
    let with_12 = Listener::tls_versions(leaf(), &[meta()], only_12).await;
    let without_meta = Listener::tls(leaf(), &[]).await;
    let asked = Listener::tls(leaf(), &[meta()]).await;
    let connector = trusting(&authority);
    let slow = connector.clone().with_transport(Transport::SlowStart);
    for (listener, connector) in [
        (with_12, connector.clone()),
        (without_meta, connector),
        (asked, slow),
    ] {
        let target = Target::Node(listener.node("derp.test"));
        let login = login();
        let server = async {
            let mut peer = listener.accept_tls().await.unwrap();
            let head = peer.upgrade().await;
            assert!(!head.contains("Fast-Start"), "{head}");
            peer.accept().await;
            peer
        };
        let (client, mut peer) = tokio::join!(connector.connect(&target, &login), server);
        let mut client = client.unwrap();
        talk(&mut client, &mut peer).await;
        assert_eq!(client.info().start, StartKind::Slow);
    }
}

#[tokio::test]
async fn the_nodes_of_a_region_are_tried_in_their_order() {
    let listener = Listener::plain().await;
    let dead = Listener::plain().await;
    let dead_node = DerpNode {
        name: "1b".into(),
        ..dead.node("dead.test")
    };
    drop(dead);
    let stun_only = DerpNode {
        name: "1z".into(),
        stun_only: true,
        ..listener.node("stun.test")
    };
    let broken = DerpNode {
        name: "1c".into(),
        cert_name: "sha256-raw:".into(),
        ..dead_node.clone()
    };
    let alive = listener.node("127.0.0.1");
    let region = |nodes: &[&DerpNode]| DerpRegion {
        region_id: 900,
        region_code: "home".into(),
        nodes: nodes.iter().map(|&node| node.clone()).collect(),
        ..DerpRegion::default()
    };
    let connector = connector().plain_http(true);
    for (nodes, ideal) in [
        (&[&alive, &dead_node][..], None),
        (&[&dead_node, &alive], Some("1b")),
        (&[&stun_only, &alive], Some("1z")),
    ] {
        let target = Target::Region(region(nodes));
        let login = login();
        let server = async {
            let mut peer = listener.accept_plain().await;
            let head = peer.upgrade().await;
            let named = head
                .lines()
                .find_map(|line| line.strip_prefix("Ideal-Node: "));
            assert_eq!(named, ideal);
            peer.accept().await;
            peer
        };
        let (client, mut peer) = tokio::join!(connector.connect(&target, &login), server);
        let mut client = client.unwrap();
        talk(&mut client, &mut peer).await;
        assert_eq!(client.info().node.as_deref(), Some("1a"));
    }

    let failed = async |nodes: &[&DerpNode]| {
        let target = Target::Region(region(nodes));
        connector
            .connect(&target, &login())
            .await
            .expect_err("nobody to connect to")
    };
    let err = failed(&[]).await;
    assert_eq!(err.server(), "region 900 (home)");
    assert!(matches!(
        err.fault(),
        Fault::Target(TargetError::NoNodes(_))
    ));
    let err = failed(&[&stun_only]).await;
    assert!(matches!(
        err.fault(),
        Fault::Target(TargetError::OnlyStun(_))
    ));
    let err = failed(&[&dead_node, &broken]).await;
    let told = format!(
        "cannot connect to node 1b (dead.test, port {})",
        dead_node.derp_port
    );
    assert_eq!(err.to_string(), told);
    assert!(matches!(err.fault(), Fault::Tcp(_)));
}

#[tokio::test]
async fn a_url_leads_to_its_host_or_to_another_in_its_name() {
    let listener = Listener::plain().await;
    let url: ServerUrl = format!("http://127.0.0.1:{}", listener.port())
        .parse()
        .unwrap();
    let elsewhere = UrlTarget {
        url: format!("http://derp.test:{}/derp", listener.port())
            .parse()
            .unwrap(),
        dial_host: Some("127.0.0.1".parse().unwrap()),
        check: CertCheck::HostName,
    };
    for (target, host) in [
        (url.into(), "127.0.0.1"),
        (Target::Url(elsewhere), "derp.test"),
    ] {
        let (connector, login) = (connector(), login());
        let server = async {
            let mut peer = listener.accept_plain().await;
            let head = peer.upgrade().await;
            let expected = format!("GET /derp HTTP/1.1\r\nHost: {host}:{}\r\n", listener.port());
            assert!(head.starts_with(&expected), "{head}");
            peer.accept().await;
            peer
        };
        let (client, mut peer) = tokio::join!(connector.connect(&target, &login), server);
        talk(&mut client.unwrap(), &mut peer).await;
    }
}

#[tokio::test]
async fn a_server_that_declines_is_quoted() {
    let listener = Listener::plain().await;
    let target = Target::Node(listener.node("127.0.0.1"));
    let (connector, login) = (connector().plain_http(true), login());
    let server = async {
        let mut peer = listener.accept_plain().await;
        peer.request().await;
        peer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 20\r\n\r\nderp server disabled")
            .await;
        peer
    };
    let (refused, _peer) = tokio::join!(connector.connect(&target, &login), server);
    let err = refused.expect_err("a refusal");
    let Fault::Upgrade(UpgradeError::Refused {
        status: 404,
        reason,
    }) = err.fault()
    else {
        panic!("{err:?}");
    };
    assert_eq!(reason, "derp server disabled");
}

/// A proxy that opens one tunnel, to `port`. Returns what it was asked.
async fn proxy(listener: &Listener, port: u16) -> String {
    let mut peer = listener.accept_plain().await;
    let head = peer.request().await;
    peer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await;
    let mut to = tokio::net::TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("the relay listens");
    tokio::spawn(async move { drop(copy_bidirectional(&mut peer.io, &mut to).await) });
    head
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_name_and_the_port_of_the_node() {
    let authority = Authority::new();
    let listener = Listener::tls(authority.sign("derp.test"), &[meta()]).await;
    let proxies = Listener::plain().await;
    let address = format!("http://user:pass@127.0.0.1:{}", proxies.port());
    let connector = trusting(&authority).with_proxy(address.parse::<Proxy>().unwrap());
    // The proxy knows the name; its address is nobody's here.
    let node = DerpNode {
        ipv4: "192.0.2.1".into(),
        ..listener.node("derp.test")
    };
    let (client, head) = tokio::join!(
        served(connector, &listener, node),
        proxy(&proxies, listener.port())
    );
    client.unwrap();
    let target = format!("derp.test:{}", listener.port());
    let expected = format!(
        "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"
    );
    assert_eq!(head, expected);
}

#[tokio::test(start_paused = true)]
async fn all_of_it_takes_ten_seconds_at_most() {
    let listener = Listener::plain().await;
    let target = Target::Node(listener.node("127.0.0.1"));
    let begin = tokio::time::Instant::now();
    // TCP is there, and nothing else: the kernel accepts, and nobody answers.
    let err = connector()
        .plain_http(true)
        .connect(&target, &login())
        .await
        .expect_err("no answer");
    let Fault::Timeout {
        stage: derp_client::Stage::Upgrade,
        ..
    } = err.fault()
    else {
        panic!("{err:?}");
    };
    // Nobody gives up before, either.
    let took = begin.elapsed().as_millis();
    assert!((10_000..=10_001).contains(&took), "{took} ms");
}
