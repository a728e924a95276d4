//! DERP in a WebSocket.

mod support;

use bytes::Bytes;
use derp_client::{Received, StartKind, Target, Transport};
use derp_proto::{ClientFrame, ServerFrame, ServerInfo};
use support::ALICE;
use support::talk::{login, meta, trusting};
use support::tls::{Authority, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
            inside.read_exact(&mut greeting).await.unwrap();
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
