//! Sending and receiving on an in-memory stream, in simulated time.

mod support;

use std::time::Duration;

use derp_client::{Client, Login, Received, SendError};
use derp_proto::{
    ClientFrame, FrameType, MAX_PACKET_LEN, MeshKey, PeerGoneReason, ServerFrame, ServerInfo,
};
use support::{ALICE, BOB, client_key, connected, packet, pipe, server_key, split};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn packets_travel_both_ways() {
    let (mut client, mut peer) = connected(4096).await;
    client.send(ALICE, b"to alice").await.unwrap();
    client.send(BOB, b"").await.unwrap();
    peer.expect(ClientFrame::SendPacket {
        dst: ALICE,
        packet: b"to alice",
    })
    .await;
    peer.expect(ClientFrame::SendPacket {
        dst: BOB,
        packet: b"",
    })
    .await;

    peer.send(ServerFrame::RecvPacket {
        src: ALICE,
        packet: b"from alice",
    })
    .await;
    peer.send(ServerFrame::PeerGone {
        key: BOB,
        reason: PeerGoneReason::DISCONNECTED,
    })
    .await;
    assert_eq!(client.recv().await.unwrap(), packet(ALICE, b"from alice"));
    let gone = Received::PeerGone {
        key: BOB,
        reason: PeerGoneReason::DISCONNECTED,
    };
    assert_eq!(client.recv().await.unwrap(), gone);
    assert_eq!(client.info().server_key, server_key().public());
}

#[tokio::test]
async fn the_largest_packet_passes_and_a_larger_one_is_refused() {
    let (mut client, mut peer) = connected(1 << 20).await;
    let largest = vec![7; MAX_PACKET_LEN];
    client.send(ALICE, &largest).await.unwrap();
    peer.expect(ClientFrame::SendPacket {
        dst: ALICE,
        packet: &largest,
    })
    .await;
    peer.send(ServerFrame::RecvPacket {
        src: ALICE,
        packet: &largest,
    })
    .await;
    assert_eq!(client.recv().await.unwrap(), packet(ALICE, &largest));

    let larger = vec![7; MAX_PACKET_LEN + 1];
    let refused = client.send(ALICE, &larger).await;
    assert!(matches!(
        refused,
        Err(SendError::TooLong {
            len: 65_537,
            max: 65_536
        })
    ));
    let refused = client.writer().forward_packet(ALICE, BOB, &larger).await;
    assert!(matches!(refused, Err(SendError::TooLong { .. })));
    client.send(ALICE, b"still here").await.unwrap();
    peer.expect(ClientFrame::SendPacket {
        dst: ALICE,
        packet: b"still here",
    })
    .await;
}

#[tokio::test]
async fn what_a_login_asks_for_is_sent_right_behind_it() {
    let (io, mut peer) = pipe(4096);
    let mesh_key = MeshKey::from_secret_text(&"0123456789abcdef".repeat(4)).unwrap();
    let login = Login {
        preferred: true,
        watch_conns: true,
        ..Login::mesh(client_key(), mesh_key)
    };
    let (client, hello) = tokio::join!(Client::handshake_over(io, &login), peer.greet());
    let (_client, hello) = (client.unwrap(), hello);
    assert_eq!(hello.key(), client_key().public());
    assert!(hello.info().mesh_key.is_some());
    // The server has not said yet that it admits the client.
    peer.expect(ClientFrame::NotePreferred(true)).await;
    peer.expect(ClientFrame::WatchConns).await;
}

#[tokio::test]
async fn each_request_is_its_frame() {
    let (_reader, writer, mut peer) = split(4096).await;
    writer.note_preferred(true).await.unwrap();
    writer.note_preferred(false).await.unwrap();
    writer.watch_conns().await.unwrap();
    writer.forward_packet(ALICE, BOB, b"hop").await.unwrap();
    writer.close_peer(BOB).await.unwrap();
    writer.send_ping([1, 2, 3, 4, 5, 6, 7, 8]).await.unwrap();
    for expected in [
        ClientFrame::NotePreferred(true),
        ClientFrame::NotePreferred(false),
        ClientFrame::WatchConns,
        ClientFrame::ForwardPacket {
            src: ALICE,
            dst: BOB,
            packet: b"hop",
        },
        ClientFrame::ClosePeer(BOB),
        ClientFrame::Ping([1, 2, 3, 4, 5, 6, 7, 8]),
    ] {
        peer.expect(expected).await;
    }
}

#[tokio::test]
async fn a_ping_is_answered_while_another_task_receives() {
    let (mut reader, writer, mut peer) = split(4096).await;
    let (sender, mut received) = mpsc::channel(16);
    let receiving = tokio::spawn(async move {
        while let Ok(next) = reader.recv().await {
            sender.send(next).await.unwrap();
        }
    });
    let echo = async {
        let frame = peer.recv().await;
        let ClientFrame::Ping(data) = frame.as_client().unwrap() else {
            panic!("{frame:?}")
        };
        peer.send(ServerFrame::Pong([0; 8])).await;
        peer.send(ServerFrame::Pong(data)).await;
        peer.send(ServerFrame::KeepAlive).await;
    };
    let (rtt, ()) = tokio::join!(writer.ping(), echo);
    assert!(rtt.unwrap() < 5 * SECOND);
    // Only the pong that was waited for is taken out of the stream.
    assert_eq!(received.recv().await, Some(Received::Pong([0; 8])));
    assert_eq!(received.recv().await, Some(Received::KeepAlive));
    drop(peer);
    receiving.await.unwrap();
}

#[tokio::test]
async fn a_ping_hands_on_what_else_comes() {
    let (mut client, mut peer) = connected(4096).await;
    let mut others = Vec::new();
    let server = async {
        let frame = peer.recv().await;
        let ClientFrame::Ping(data) = frame.as_client().unwrap() else {
            panic!("{frame:?}")
        };
        peer.send(ServerFrame::RecvPacket {
            src: ALICE,
            packet: b"meanwhile",
        })
        .await;
        peer.send(ServerFrame::Pong(data)).await;
    };
    let (rtt, ()) = tokio::join!(client.ping(|received| others.push(received)), server);
    rtt.unwrap();
    assert_eq!(others, [packet(ALICE, b"meanwhile")]);
}

#[tokio::test]
async fn a_servers_ping_is_answered_by_whoever_only_receives() {
    let (mut client, mut peer) = connected(4096).await;
    peer.send(ServerFrame::Ping([1; 8])).await;
    let receiving = async {
        let received = client.recv().await.unwrap();
        assert_eq!(received, Received::KeepAlive);
    };
    let answered = async {
        peer.expect_bytes(&[0x13, 0, 0, 0, 8, 1, 1, 1, 1, 1, 1, 1, 1])
            .await;
        peer.send(ServerFrame::KeepAlive).await;
    };
    tokio::join!(receiving, answered);
}

#[tokio::test]
async fn a_server_that_pings_and_does_not_read_is_still_received_from() {
    let (mut client, mut peer) = connected(64).await;
    let flood = async {
        for n in 0..1000_u32 {
            let [.., a, b] = n.to_be_bytes();
            peer.send(ServerFrame::Ping([a, b, 0, 0, 0, 0, 0, 0])).await;
        }
        peer.send(ServerFrame::RecvPacket {
            src: ALICE,
            packet: b"through",
        })
        .await;
    };
    let (received, ()) = tokio::join!(client.recv(), flood);
    assert_eq!(received.unwrap(), packet(ALICE, b"through"));
    // Pongs that could not be written were left out, not queued.
    drop(client);
    let mut rest = Vec::new();
    peer.io.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() <= 64, "{}", rest.len());
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_left_alone_with_a_pong_does_not_hold_up_what_is_sent() {
    let (mut reader, writer, mut peer) = split(64).await;
    peer.send(ServerFrame::Ping([1; 8])).await;
    let mut stuck = Box::pin(writer.send(ALICE, &[0; 1000]));
    assert!(
        timeout(SECOND, &mut stuck).await.is_err(),
        "there is no room"
    );
    // Its pong waits for the way out.
    let mut receiving = Box::pin(reader.recv());
    assert!(timeout(SECOND, &mut receiving).await.is_err());
    drop(stuck);
    // Whoever receives sends something, and does not receive meanwhile.
    let read = async {
        let mut was_answered = false;
        loop {
            let frame = peer.recv().await;
            was_answered |= frame.ty == FrameType::PONG;
            if let Ok(ClientFrame::SendPacket { dst: BOB, .. }) = frame.as_client() {
                return was_answered;
            }
        }
    };
    let both = async { tokio::join!(writer.send(BOB, b"after"), read) };
    let done = timeout(60 * SECOND, both).await;
    let (sent, was_answered) = done.expect("nobody waits for ever");
    sent.unwrap();
    assert!(was_answered);

    // The same where it is the pong that there is no room for.
    peer.send(ServerFrame::Ping([2; 8])).await;
    writer.send(BOB, &[0; 24]).await.unwrap();
    assert!(timeout(SECOND, &mut receiving).await.is_err());
    let read = async {
        for _ in 0..3 {
            peer.recv().await;
        }
    };
    let (sent, ()) = tokio::join!(writer.send(BOB, b"after"), read);
    sent.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_dropped_halfway_never_cuts_a_frame() {
    let (_reader, writer, mut peer) = split(100).await;
    let long = vec![7; 5000];
    let dropped = timeout(Duration::from_millis(20), writer.send(ALICE, &long)).await;
    assert!(dropped.is_err(), "the pipe has no room for it");

    let again = async {
        // Dropped again, several times, in different places.
        for _ in 0..3 {
            drop(timeout(Duration::from_millis(5), writer.send(BOB, &long)).await);
        }
        writer.send(BOB, b"after").await.unwrap();
    };
    let read = async {
        sleep(Duration::from_millis(40)).await;
        peer.expect(ClientFrame::SendPacket {
            dst: ALICE,
            packet: &long,
        })
        .await;
        loop {
            let frame = peer.recv().await;
            match frame.as_client().unwrap() {
                ClientFrame::SendPacket {
                    dst: BOB,
                    packet: b"after",
                } => break,
                ClientFrame::SendPacket { dst: BOB, packet } => assert_eq!(packet, long),
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(again, read);
}

#[tokio::test(start_paused = true)]
async fn receiving_can_be_dropped_again_and_again() {
    let (mut client, mut peer) = connected(4096).await;
    let mut wire = Vec::new();
    ServerFrame::RecvPacket {
        src: ALICE,
        packet: b"in single bytes",
    }
    .encode(&mut wire);
    ServerFrame::KeepAlive.encode(&mut wire);
    let dribble = async {
        for byte in wire {
            peer.write(&[byte]).await;
            sleep(SECOND).await;
        }
    };
    let receive = async {
        let mut received = Vec::new();
        while received.len() < 2 {
            if let Ok(next) = timeout(Duration::from_millis(300), client.recv()).await {
                received.push(next.unwrap());
            }
        }
        received
    };
    let (received, ()) = tokio::join!(receive, dribble);
    assert_eq!(
        received,
        [packet(ALICE, b"in single bytes"), Received::KeepAlive]
    );
}

#[tokio::test(start_paused = true)]
async fn a_rate_that_the_server_asks_for_is_kept_to() {
    let (io, mut peer) = pipe(1 << 20);
    let login = Login::new(client_key());
    let (client, hello) = tokio::join!(Client::handshake_over(io, &login), peer.greet());
    let mut client = client.unwrap();
    // Nothing was asked for yet.
    for _ in 0..10 {
        client.send(ALICE, &[0; 1000]).await.unwrap();
        peer.expect(ClientFrame::SendPacket {
            dst: ALICE,
            packet: &[0; 1000],
        })
        .await;
    }
    let info = ServerInfo {
        token_bucket_bytes_per_second: 1,
        token_bucket_bytes_burst: 2 * (5 + 32 + 1000),
        ..ServerInfo::plain()
    };
    peer.admit(&hello, &info).await;
    assert_eq!(client.recv().await.unwrap(), Received::ServerInfo(info));
    for _ in 0..1000 {
        client.send(ALICE, &[0; 1000]).await.unwrap();
    }
    assert_eq!(client.writer().limited(), 998);
    for _ in 0..2 {
        peer.expect(ClientFrame::SendPacket {
            dst: ALICE,
            packet: &[0; 1000],
        })
        .await;
    }
    // Time brings tokens back; other frames need none.
    client.writer().note_preferred(true).await.unwrap();
    sleep(1037 * SECOND).await;
    client.send(ALICE, &[1; 1000]).await.unwrap();
    peer.expect(ClientFrame::NotePreferred(true)).await;
    peer.expect(ClientFrame::SendPacket {
        dst: ALICE,
        packet: &[1; 1000],
    })
    .await;
}
