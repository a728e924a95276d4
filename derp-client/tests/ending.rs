//! How connections end, on an in-memory stream, in simulated time.

mod support;

use std::time::Duration;

use derp_client::{
    Client, CloseReason, Login, LoginError, PingError, Received, RecvError, SendError,
};
use derp_proto::{ClientFrame, HandshakeError, KeyError, NodePublic, ServerFrame, ServerInfo};
use support::{ALICE, BOB, client_key, connected, pipe, server_key, split};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_ping_gives_up_after_five_seconds_or_with_the_connection() {
    let (mut client, mut peer) = connected(4096).await;
    let begin = Instant::now();
    let unanswered = client.ping(|_| ()).await;
    assert!(matches!(unanswered, Err(PingError::Timeout(within)) if within == 5 * SECOND));
    assert_eq!(begin.elapsed(), 5 * SECOND);

    peer.recv().await;
    let (reader, writer) = client.split();
    let cut_off = async {
        peer.recv().await;
        drop(reader);
    };
    let (ended, ()) = tokio::join!(writer.ping(), cut_off);
    assert!(
        matches!(ended, Err(PingError::Ended | PingError::Send(_))),
        "{ended:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn two_minutes_without_a_whole_frame_are_the_end() {
    let (mut client, mut peer) = connected(4096).await;
    let begin = Instant::now();
    let server = async {
        // Whole frames are signs of life, even those that mean nothing …
        for frame in [
            &[0x06, 0, 0, 0, 0][..],
            &[0x77, 0, 0, 0, 1, 0],
            &[0x08, 0, 0, 0, 0],
        ] {
            sleep(119 * SECOND).await;
            peer.write(frame).await;
        }
        // … and parts of frames are none.
        for byte in [0x05, 0, 0, 0, 99, 1, 2, 3] {
            sleep(29 * SECOND).await;
            peer.write(&[byte]).await;
        }
        peer
    };
    let receive = async {
        assert_eq!(client.recv().await.unwrap(), Received::KeepAlive);
        let end = client.recv().await.unwrap_err();
        assert!(
            matches!(end, RecvError::Silent(within) if within == 120 * SECOND),
            "{end}"
        );
        assert_eq!(begin.elapsed(), (3 * 119 + 120) * SECOND);
    };
    tokio::select! {
        () = receive => {}
        _ = server => panic!("the client is still there"),
    }
    let again = client.recv().await.unwrap_err();
    assert!(matches!(again, RecvError::ClosedHere(CloseReason::Asked)));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_wait_in_the_socket_are_no_silence() {
    let (mut client, mut peer) = connected(4096).await;
    for _ in 0..20 {
        // The caller waits for a moment, and has better to do for a long while then.
        let nothing = timeout(SECOND, client.recv()).await;
        assert!(nothing.is_err(), "{nothing:?}");
        peer.send(ServerFrame::KeepAlive).await;
        sleep(1000 * SECOND).await;
        assert_eq!(client.recv().await.unwrap(), Received::KeepAlive);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_has_thirty_seconds_to_admit() {
    let (io, mut peer) = pipe(4096);
    let login = Login::new(client_key());
    let (client, _hello) = tokio::join!(Client::handshake_over(io, &login), peer.greet());
    let mut client = client.unwrap();
    let begin = Instant::now();
    let busy = async {
        loop {
            // Neither the greeting nor what means nothing is an admission.
            peer.send(ServerFrame::ServerKey(server_key().public()))
                .await;
            sleep(SECOND).await;
        }
    };
    let end = tokio::select! {
        end = client.recv() => end.unwrap_err(),
        () = busy => unreachable!(),
    };
    assert!(matches!(end, RecvError::NotAdmitted(_)), "{end}");
    assert_eq!(begin.elapsed(), 30 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_greet_is_left() {
    let (io, _peer) = pipe(4096);
    let silent = Client::handshake_over(io, &Login::new(client_key())).await;
    assert!(matches!(silent, Err(LoginError::Timeout(within)) if within == 10 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_read_is_left() {
    for (forward, limit) in [(false, 30 * SECOND), (true, 5 * SECOND)] {
        let (mut reader, writer, _peer) = split(100).await;
        let begin = Instant::now();
        let sending = async {
            let sent = match forward {
                false => writer.send(ALICE, &[0; 1000]).await,
                true => writer.forward_packet(ALICE, BOB, &[0; 1000]).await,
            };
            assert!(matches!(sent, Err(SendError::Stalled(within)) if within == limit));
            assert_eq!(begin.elapsed(), limit);
        };
        let (end, ()) = tokio::join!(reader.recv(), sending);
        let end = end.unwrap_err();
        assert!(
            matches!(end, RecvError::ClosedHere(CloseReason::WriteStalled)),
            "{end}"
        );
        assert!(matches!(
            writer.send(ALICE, b"").await,
            Err(SendError::NotConnected)
        ));
    }
}

#[tokio::test]
async fn closing_one_half_ends_the_other() {
    let (mut reader, writer, mut peer) = split(4096).await;
    writer.close();
    let end = reader.recv().await.unwrap_err();
    assert!(
        matches!(end, RecvError::ClosedHere(CloseReason::Asked)),
        "{end}"
    );
    // Nobody holds the stream any more, though both halves are still there.
    peer.expect_end().await;
    assert!(writer.is_closed());

    let (reader, writer, mut peer) = split(4096).await;
    drop(reader);
    peer.expect_end().await;
    assert!(matches!(
        writer.send(ALICE, b"").await,
        Err(SendError::NotConnected)
    ));

    let (mut reader, writer, mut peer) = split(4096).await;
    writer.send(ALICE, b"last").await.unwrap();
    writer.shutdown().await;
    peer.expect(ClientFrame::SendPacket {
        dst: ALICE,
        packet: b"last",
    })
    .await;
    peer.expect_end().await;
    assert!(reader.recv().await.is_err());
}

#[tokio::test]
async fn the_end_of_a_connection_ends_a_write_that_is_stuck() {
    for by_server in [false, true] {
        let (mut reader, writer, mut peer) = split(100).await;
        let stuck = {
            let writer = writer.clone();
            tokio::spawn(async move { writer.send(ALICE, &[0; 1000]).await })
        };
        // The write has begun, and cannot end.
        let mut some = [0; 10];
        peer.io.read_exact(&mut some).await.unwrap();
        if by_server {
            peer.write(&[0x05, 0xff, 0xff, 0xff, 0xff]).await;
        } else {
            writer.close();
        }
        assert!(reader.recv().await.is_err());
        let ended = stuck.await.unwrap();
        assert!(matches!(ended, Err(SendError::NotConnected)), "{ended:?}");
        // The stream is let go of, though both halves are still there.
        let mut rest = Vec::new();
        peer.io.read_to_end(&mut rest).await.unwrap();
        assert!(writer.is_closed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_is_dropped_after_the_end_lets_go_of_the_stream() {
    let (mut reader, writer, mut peer) = split(100).await;
    {
        let mut stuck = Box::pin(writer.send(ALICE, &[0; 1000]));
        let mut some = [0; 10];
        tokio::select! {
            sent = &mut stuck => panic!("there is no room: {sent:?}"),
            begun = peer.io.read_exact(&mut some) => drop(begun.unwrap()),
        }
        peer.write(&[0x05, 0xff, 0xff, 0xff, 0xff]).await;
        assert!(matches!(reader.recv().await, Err(RecvError::Protocol(_))));
    }
    let mut rest = Vec::new();
    let end = timeout(SECOND, peer.io.read_to_end(&mut rest)).await;
    end.expect("both halves are there, and the stream is not")
        .unwrap();
    assert!(writer.is_closed());
}

#[tokio::test]
async fn nothing_is_received_after_the_end() {
    let (io, mut peer) = pipe(4096);
    let login = Login::new(client_key());
    let (client, hello) = tokio::join!(Client::handshake_over(io, &login), peer.greet());
    let mut client = client.unwrap();
    // The admission is there already when the connection ends for what came before it.
    let mut wire = Vec::new();
    ServerFrame::KeepAlive.encode(&mut wire);
    hello.answer([9; 24], &ServerInfo::plain(), &mut wire);
    peer.write(&wire).await;
    assert!(matches!(client.recv().await, Err(RecvError::OutOfTurn(_))));
    for _ in 0..2 {
        let again = client.recv().await.unwrap_err();
        assert!(matches!(again, RecvError::ClosedHere(CloseReason::Asked)));
    }

    let (mut client, mut peer) = connected(4096).await;
    peer.write(&[0x05, 0xff, 0xff, 0xff, 0xff]).await;
    assert!(matches!(client.recv().await, Err(RecvError::Protocol(_))));
    let again = client.recv().await.unwrap_err();
    assert!(matches!(again, RecvError::ClosedHere(CloseReason::Asked)));
}

#[tokio::test]
async fn the_end_of_a_connection_is_told_apart() {
    let (mut client, peer) = connected(4096).await;
    drop(peer);
    assert!(matches!(client.recv().await, Err(RecvError::ServerClosed)));

    let (mut client, mut peer) = connected(4096).await;
    peer.write(&[0x05, 0xff, 0xff, 0xff, 0xff]).await;
    assert!(matches!(client.recv().await, Err(RecvError::Protocol(_))));
}

#[tokio::test]
async fn a_greeting_with_an_unusable_key_is_refused() {
    let (io, mut peer) = pipe(4096);
    peer.send(ServerFrame::ServerKey(NodePublic::from_bytes([0; 32])))
        .await;
    let refused = Client::handshake_over(io, &Login::new(client_key())).await;
    let zero = HandshakeError::Key(KeyError::Zero);
    assert!(matches!(refused, Err(LoginError::Handshake(err)) if err == zero));

    let (io, mut peer) = pipe(4096);
    peer.write(b"HTTP/1.1 200 OK\r\n").await;
    let refused = Client::handshake_over(io, &Login::new(client_key())).await;
    assert!(matches!(refused, Err(LoginError::Handshake(_))));

    let (io, peer) = pipe(4096);
    drop(peer);
    let refused = Client::handshake_over(io, &Login::new(client_key())).await;
    assert!(matches!(refused, Err(LoginError::Closed)));
}
