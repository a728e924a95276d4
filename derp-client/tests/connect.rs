//! From a map or a URL to a client: sockets on loopback, TLS, upgrades and proxies.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use derp_client::{
    CertCheck, CertPin, Client, ConnectError, Connector, Fault, Login, PinError, Proxy, Received,
    Roots, ServerUrl, StartKind, Target, TargetError, Transport, UpgradeError, UrlTarget,
};
use derp_proto::{ClientFrame, DerpNode, DerpRegion, ServerFrame, ServerInfo};
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::CertificateDer;
use support::tls::{Authority, Identity, Listener, meta_cert, named, self_signed};
use support::{ALICE, Peer, client_key, server_key};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};

fn login() -> Login {
    Login::new(client_key())
}

fn connector() -> Connector {
    // Nothing is trusted that a test does not trust.
    Connector::new().with_roots(Roots::Custom(Arc::new(RootCertStore::empty())))
}

fn trusting(authority: &Authority) -> Connector {
    Connector::new().with_roots(Roots::Custom(authority.roots()))
}

fn meta() -> CertificateDer<'static> {
    meta_cert(&server_key().public())
}

/// Checks that both sides understand each other.
async fn talk<S>(client: &mut Client, peer: &mut Peer<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    assert_eq!(
        client.recv().await.unwrap(),
        Received::ServerInfo(ServerInfo::plain())
    );
    client.send(ALICE, b"there").await.unwrap();
    peer.expect(ClientFrame::SendPacket {
        dst: ALICE,
        packet: b"there",
    })
    .await;
    peer.send(ServerFrame::RecvPacket {
        src: ALICE,
        packet: b"back",
    })
    .await;
    let packet = Bytes::from_static(b"back");
    assert_eq!(
        client.recv().await.unwrap(),
        Received::Packet { src: ALICE, packet }
    );
}

/// Connects while a relay with the meta certificate serves one connection, and both talk.
async fn served(
    connector: Connector,
    listener: &Listener,
    node: DerpNode,
) -> Result<Client, ConnectError> {
    let target = Target::Node(node);
    let login = login();
    let server = async {
        // The client may go away in the middle of the handshake.
        let mut peer = listener.accept_tls().await.ok()?;
        peer.request().await;
        let hello = peer.fast_start().await;
        peer.admit(&hello, &ServerInfo::plain()).await;
        Some(peer)
    };
    let (client, peer) = tokio::join!(connector.connect(&target, &login), server);
    let mut client = client?;
    talk(&mut client, &mut peer.expect("a connection")).await;
    Ok(client)
}

/// What makes a certificate unacceptable.
async fn refused(
    connector: Connector,
    listener: &Listener,
    node: DerpNode,
) -> Result<CertificateError, ConnectError> {
    let err = served(connector, listener, node)
        .await
        .expect_err("a refusal");
    match err.fault() {
        Fault::Certificate(rustls::Error::InvalidCertificate(why)) => Ok(why.clone()),
        _ => Err(err),
    }
}

fn pin_error(why: &CertificateError) -> Option<PinError> {
    match why {
        CertificateError::Other(other) => other.0.downcast_ref().copied(),
        _ => None,
    }
}

fn pinned(listener: &Listener, host: &str, cert: &CertificateDer<'_>) -> DerpNode {
    DerpNode {
        cert_name: CertPin::of(cert).to_string(),
        ..listener.node(host)
    }
}

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
async fn the_certificate_must_be_for_the_host_by_somebody_trusted() {
    let authority = Authority::new();
    let listener = Listener::tls(authority.sign("derp.test"), &[meta()]).await;
    let node = |host: &str| listener.node(host);
    served(trusting(&authority), &listener, node("derp.test"))
        .await
        .unwrap();

    let why = refused(trusting(&authority), &listener, node("other.test"))
        .await
        .unwrap();
    assert!(
        matches!(why, CertificateError::NotValidForNameContext { .. }),
        "{why:?}"
    );
    let stranger = Authority::called("Stranger");
    let why = refused(trusting(&stranger), &listener, node("derp.test"))
        .await
        .unwrap();
    assert_eq!(why, CertificateError::UnknownIssuer);
    // Without any root there is nothing to check against, and no connection.
    let err = served_nobody(connector(), node("derp.test")).await;
    assert!(matches!(err.fault(), Fault::Roots(_)), "{err:?}");

    let by_address = Listener::tls(authority.sign("127.0.0.1"), &[meta()]).await;
    let node = by_address.node("127.0.0.1");
    served(trusting(&authority), &by_address, node)
        .await
        .unwrap();
}

/// Connects where nobody will accept TLS.
async fn served_nobody(connector: Connector, node: DerpNode) -> ConnectError {
    connector
        .connect(&Target::Node(node), &login())
        .await
        .expect_err("a refusal")
}

#[tokio::test]
async fn another_name_may_be_on_the_certificate_if_the_map_says_so() {
    let authority = Authority::new();
    let listener = Listener::tls(authority.sign("behind.test"), &[meta()]).await;
    let node = |cert_name: &str, insecure_for_tests| DerpNode {
        cert_name: cert_name.into(),
        insecure_for_tests,
        ..listener.node("front.test")
    };
    served(trusting(&authority), &listener, node("behind.test", false))
        .await
        .unwrap();
    let why = refused(trusting(&authority), &listener, node("front.test", false))
        .await
        .unwrap();
    assert!(
        matches!(why, CertificateError::NotValidForNameContext { .. }),
        "{why:?}"
    );
    // A name is checked however insecure the node is.
    let why = refused(trusting(&authority), &listener, node("third.test", true))
        .await
        .unwrap();
    assert!(
        matches!(why, CertificateError::NotValidForNameContext { .. }),
        "{why:?}"
    );
    served(connector(), &listener, node("", true))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_pin_stands_for_one_certificate() {
    let Identity { cert, key } = self_signed("127.0.0.1", |_| ());
    let node = |listener: &Listener| pinned(listener, "127.0.0.1", &cert);
    let identity = || Identity {
        cert: cert.clone(),
        key: key.clone_key(),
    };
    let listener = Listener::tls(identity(), &[meta()]).await;
    served(connector(), &listener, node(&listener))
        .await
        .unwrap();

    // Another certificate, though the node is called insecure.
    let stranger = self_signed("127.0.0.1", |_| ());
    let seen = CertPin::of(&stranger.cert);
    let other = Listener::tls(stranger, &[meta()]).await;
    let insecure = DerpNode {
        insecure_for_tests: true,
        ..node(&other)
    };
    let why = refused(connector(), &other, insecure).await.unwrap();
    assert_eq!(pin_error(&why), Some(PinError::AnotherCertificate { seen }));

    // A chain.
    let authority = Authority::new();
    let chain = Listener::tls(identity(), &[authority.cert(), meta()]).await;
    let why = refused(connector(), &chain, node(&chain)).await.unwrap();
    assert_eq!(pin_error(&why), Some(PinError::SeveralCertificates));
}

#[tokio::test]
async fn a_pinned_certificate_must_be_the_one_that_the_server_holds_the_key_of() {
    // Certificates are public: somebody else shows the pinned one behind one of their own, which
    // is called what is passed over.
    let pinned_cert = self_signed("127.0.0.1", |_| ()).cert;
    let thief = self_signed("127.0.0.1", |params| {
        params.distinguished_name = named(&format!("derpkey{}", server_key().public().to_hex()));
    });
    let listener = Listener::tls(thief, std::slice::from_ref(&pinned_cert)).await;
    let node = pinned(&listener, "127.0.0.1", &pinned_cert);
    let why = refused(connector(), &listener, node).await.unwrap();
    assert_eq!(pin_error(&why), Some(PinError::NoCertificate));
}

#[tokio::test]
async fn a_pinned_certificate_must_be_valid_for_the_time_and_the_name() {
    let listen = async |change: fn(&mut rcgen::CertificateParams)| {
        let identity = self_signed("derp.test", change);
        let cert = identity.cert.clone();
        (Listener::tls(identity, &[meta()]).await, cert)
    };
    let (listener, cert) = listen(|_| ()).await;
    served(
        connector(),
        &listener,
        pinned(&listener, "derp.test", &cert),
    )
    .await
    .unwrap();
    let node = pinned(&listener, "other.test", &cert);
    let why = refused(connector(), &listener, node).await.unwrap();
    assert!(
        matches!(why, CertificateError::NotValidForNameContext { .. }),
        "{why:?}"
    );
    // An address is no name that a certificate would have to be for.
    served(
        connector(),
        &listener,
        pinned(&listener, "127.0.0.1", &cert),
    )
    .await
    .unwrap();

    let (listener, cert) =
        listen(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1)).await;
    let node = pinned(&listener, "derp.test", &cert);
    let why = refused(connector(), &listener, node).await.unwrap();
    assert_eq!(why, CertificateError::Expired);
    let (listener, cert) =
        listen(|params| params.not_before = rcgen::date_time_ymd(3001, 1, 1)).await;
    let node = pinned(&listener, "derp.test", &cert);
    let why = refused(connector(), &listener, node).await.unwrap();
    assert_eq!(why, CertificateError::NotValidYet);
}

#[tokio::test]
async fn a_pin_that_is_none_is_an_error_and_no_weaker_check() {
    let authority = Authority::new();
    let listener = Listener::tls(authority.sign("derp.test"), &[meta()]).await;
    let upper = CertPin::of(&authority.cert()).to_string().to_uppercase();
    let upper = upper.replace("SHA256-RAW", "sha256-raw");
    for bad in [
        "sha256-raw:",
        "sha256-raw:00",
        &upper,
        &format!("sha256-raw:{}", "0".repeat(128)),
    ] {
        let node = DerpNode {
            cert_name: bad.into(),
            insecure_for_tests: true,
            ..listener.node("derp.test")
        };
        // Nobody accepts connections: the attempt must end without one.
        let err = served_nobody(trusting(&authority), node).await;
        let Fault::Target(TargetError::Pin(named, PinError::NotAHash)) = err.fault() else {
            panic!("{bad}: {err:?}");
        };
        assert_eq!(named, bad);
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
async fn a_websocket_carries_the_same_stream() {
    let authority = Authority::new();
    let listener = Listener::tls(authority.sign("derp.test"), &[meta()]).await;
    let target = Target::Node(listener.node("derp.test"));
    let connector = trusting(&authority).with_transport(Transport::WebSocket);
    let login = login();
    let server = async {
        let mut peer = listener.accept_tls().await.unwrap();
        let head = peer.open_websocket().await;
        assert!(
            head.contains("\r\nSec-WebSocket-Protocol: derp\r\n"),
            "{head}"
        );
        // The relay's own stream of frames, which messages cut wherever they like.
        let (inside, frames) = support::pipe(1 << 20);
        (peer, inside, frames)
    };
    let (connected, served) = tokio::join!(connector.connect(&target, &login), async {
        let (mut peer, mut inside, mut frames) = server.await;
        let pump = async {
            // A greeting in two messages, and a ping between them.
            let mut greeting = vec![0; 45];
            tokio::io::AsyncReadExt::read_exact(&mut inside, &mut greeting)
                .await
                .unwrap();
            peer.send_message(0x82, &greeting[..7]).await;
            peer.send_message(0x89, b"early").await;
            peer.send_message(0x82, &greeting[7..]).await;
            let (0x82, login) = peer.recv_message().await else {
                panic!("a binary message")
            };
            inside.write_all(&login).await.unwrap();
        };
        let (hello, ()) = tokio::join!(frames.greet(), pump);
        (peer, hello)
    });
    let (mut client, (mut peer, hello)) = (connected.unwrap(), served);
    assert_eq!(client.info().start, StartKind::WebSocket);

    let mut wire = Vec::new();
    hello.answer([9; 24], &ServerInfo::plain(), &mut wire);
    ServerFrame::RecvPacket {
        src: ALICE,
        packet: &[7; 65_536],
    }
    .encode(&mut wire);
    ServerFrame::KeepAlive.encode(&mut wire);
    let send = async {
        for part in wire.chunks(1000) {
            peer.send_message(0x82, part).await;
        }
        peer.send_message(0x89, b"ping").await;
        // The pong comes from whoever receives.
        assert_eq!(peer.recv_message().await, (0x8a, b"ping".to_vec()));
        peer.send_message(0x82, &[0x06, 0, 0, 0, 0]).await;
    };
    let receive = async {
        let mut all = Vec::new();
        while all.len() < 4 {
            all.push(client.recv().await.unwrap());
        }
        all
    };
    let (received, ()) = tokio::join!(receive, send);
    let packet = Bytes::from(vec![7; 65_536]);
    let expected = [
        Received::ServerInfo(ServerInfo::plain()),
        Received::Packet { src: ALICE, packet },
        Received::KeepAlive,
        Received::KeepAlive,
    ];
    assert_eq!(received, expected);

    client.send(ALICE, &[8; 40_000]).await.unwrap();
    let mut sent = Vec::new();
    while sent.len() < 40_037 {
        let (first, part) = peer.recv_message().await;
        assert!(first == 0x82 && part.len() <= 32_768);
        sent.extend(part);
    }
    let mut expected = Vec::new();
    ClientFrame::SendPacket {
        dst: ALICE,
        packet: &[8; 40_000],
    }
    .encode(&mut expected);
    assert_eq!(sent, expected);

    let (reader, writer) = client.split();
    writer.shutdown().await;
    assert_eq!(peer.recv_message().await, (0x88, vec![0x03, 0xe8]));
    drop(reader);
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
        .unwrap();
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
    assert!(
        begin.elapsed() <= std::time::Duration::from_millis(10_001),
        "{:?}",
        begin.elapsed()
    );
}
