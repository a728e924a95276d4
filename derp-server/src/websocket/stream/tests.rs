use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::websocket::frame::MAX_OUTBOUND_LEN;

/// A client's frame with the mask that changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    let mut wire = vec![first];
    match len {
        0..126 => wire.push(0x80 | u8::try_from(len).unwrap()),
        126..0x1_0000 => {
            wire.push(0xfe);
            wire.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        _ => {
            wire.push(0xff);
            wire.extend((len as u64).to_be_bytes());
        }
    }
    wire.extend([0; 4]);
    wire.extend(payload);
    wire
}

fn pair(buffer: usize) -> (DuplexStream, WsStream<DuplexStream>) {
    let (client, server) = tokio::io::duplex(buffer);
    (client, WsStream::new(server, &[]))
}

/// One frame of the server: first byte and payload.
async fn read_frame(client: &mut DuplexStream) -> (u8, Vec<u8>) {
    let first = client.read_u8().await.unwrap();
    let len = match client.read_u8().await.unwrap() {
        126 => client.read_u16().await.unwrap(),
        len => u16::from(len),
    };
    let mut payload = vec![0; usize::from(len)];
    client.read_exact(&mut payload).await.unwrap();
    (first, payload)
}

async fn at_end(client: &mut DuplexStream) {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
}

/// Reads until the stream ends, and returns it with its bytes.
fn reading(
    mut server: WsStream<DuplexStream>,
) -> JoinHandle<(WsStream<DuplexStream>, Vec<u8>, io::Result<usize>)> {
    tokio::spawn(async move {
        let mut received = Vec::new();
        let end = server.read_to_end(&mut received).await;
        (server, received, end)
    })
}

fn owned_bytes<IO>(server: &WsStream<IO>) -> usize {
    server.unread.capacity() + server.outbox.capacity()
}

#[tokio::test(start_paused = true)]
async fn messages_are_one_stream_of_bytes() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let (early, late) = (frame(0x02, b"one "), frame(0x80, b"stream"));
    let server = WsStream::new(server, &early);
    client.write_all(&late).await.unwrap();
    client.write_all(&frame(0x88, b"")).await.unwrap();
    let (_server, received, end) = reading(server).await.unwrap();
    assert_eq!(received, b"one stream");
    assert_eq!(end.unwrap(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_flush_is_a_message() {
    let (mut client, mut server) = pair(1 << 20);
    server.write_all(b"two ").await.unwrap();
    server.write_all(b"writes").await.unwrap();
    server.flush().await.unwrap();
    server.write_all(&[7; 1000]).await.unwrap();
    server.flush().await.unwrap();
    server.flush().await.unwrap();
    assert_eq!(
        read_frame(&mut client).await,
        (0x82, b"two writes".to_vec())
    );
    assert_eq!(read_frame(&mut client).await, (0x82, vec![7; 1000]));
    drop(server);
    at_end(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn more_than_a_message_holds_is_split() {
    let (mut client, mut server) = pair(1 << 20);
    let frame = vec![7; 65_573];
    server.write_all(&frame).await.unwrap();
    server.flush().await.unwrap();
    let mut lens = Vec::new();
    while lens.iter().sum::<usize>() < frame.len() {
        lens.push(read_frame(&mut client).await.1.len());
    }
    assert_eq!(lens, [MAX_OUTBOUND_LEN, MAX_OUTBOUND_LEN, 37]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_owns_no_buffer() {
    let (mut client, mut server) = pair(1 << 20);
    let mut buf = vec![0; 70_000];
    client.write_all(&frame(0x82, &[7; 70_000])).await.unwrap();
    server.read_exact(&mut buf).await.unwrap();
    server.write_all(&buf).await.unwrap();
    server.flush().await.unwrap();
    assert_eq!(owned_bytes(&server), 0);

    // Half a header may have to wait for its other half for long, whether what came before it
    // was taken at once or bit by bit.
    for read_size in [70_000, 100] {
        let wire = [frame(0x82, &[7; 5000]), vec![0x82]].concat();
        client.write_all(&wire).await.unwrap();
        server.read_exact(&mut buf[..1]).await.unwrap();
        let mut received = 1;
        let mut read = async || received += server.read(&mut buf[..read_size]).await.unwrap();
        while by_hand(Box::pin(read())).poll().is_ready() {}
        assert_eq!(received, 5000);
        assert!(
            owned_bytes(&server) < 64,
            "{} bytes are kept",
            owned_bytes(&server)
        );
        client.write_all(&frame(0x82, b"")[1..]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_makes_the_stream_take_nothing() {
    let (client, mut server) = pair(100);
    let message = [7; 1000];
    let mut taken = 0;
    let mut write = async || {
        taken += server.write(&message).await.unwrap();
        server.flush().await.unwrap();
    };
    for _ in 0..100 {
        assert!(by_hand(Box::pin(write())).poll().is_pending());
    }
    assert_eq!(taken, 1000);
    let mut write = async || taken += server.write(&[7; 1 << 20]).await.unwrap();
    for _ in 0..100 {
        assert!(by_hand(Box::pin(write())).poll().is_pending());
    }
    assert_eq!(taken, 1000);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_between_messages() {
    let (mut client, mut server) = pair(1 << 20);
    server.write_all(b"half of ").await.unwrap();
    let mut reader = by_hand(Box::pin(async {
        let mut byte = [0];
        server.read_exact(&mut byte).await.unwrap();
        server.write_all(b"a message").await.unwrap();
        server.flush().await.unwrap();
    }));
    client.write_all(&frame(0x89, b"now?")).await.unwrap();
    assert!(reader.poll().is_pending());
    client.write_all(&frame(0x82, b"x")).await.unwrap();
    reader.0.await;
    assert_eq!(
        read_frame(&mut client).await,
        (0x82, b"half of a message".to_vec())
    );
    assert_eq!(read_frame(&mut client).await, (0x8a, b"now?".to_vec()));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_is_answered_ten_times_a_second() {
    let (mut client, server) = pair(1 << 20);
    let serving = reading(server);
    for second in 0..2_u8 {
        for number in 0..20_u8 {
            client
                .write_all(&frame(0x89, &[second, number]))
                .await
                .unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        for number in 0..10 {
            assert_eq!(read_frame(&mut client).await, (0x8a, vec![second, number]));
        }
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    client.write_all(&frame(0x88, b"\x03\xe8")).await.unwrap();
    assert_eq!(read_frame(&mut client).await, (0x88, b"\x03\xe8".to_vec()));
    let (_, received, _) = serving.await.unwrap();
    assert_eq!(received, b"");
}

#[tokio::test(start_paused = true)]
async fn of_many_pings_at_once_the_latest_is_answered() {
    let (mut client, server) = pair(1 << 20);
    let wire = [frame(0x89, b"1"), frame(0x89, b"2"), frame(0x88, b"")].concat();
    let wire = [frame(0x89, b"0"), wire].concat();
    client.write_all(&wire[..wire.len() - 6]).await.unwrap();
    let serving = reading(server);
    assert_eq!(read_frame(&mut client).await, (0x8a, b"2".to_vec()));
    client.write_all(&wire[wire.len() - 6..]).await.unwrap();
    assert_eq!(read_frame(&mut client).await, (0x88, b"".to_vec()));
    let (_, received, _) = serving.await.unwrap();
    assert_eq!(received, b"");
}

#[tokio::test(start_paused = true)]
async fn a_clients_close_is_answered_in_kind_and_ends_the_stream() {
    let (mut client, server) = pair(1 << 20);
    let wire = [
        frame(0x82, b"last"),
        frame(0x88, b"\x03\xe9bye"),
        frame(0x82, b"not heard"),
    ];
    client.write_all(&wire.concat()).await.unwrap();
    let (mut server, received, end) = reading(server).await.unwrap();
    assert_eq!(received, b"last");
    assert_eq!(end.unwrap(), 4);
    assert_eq!(read_frame(&mut client).await, (0x88, b"\x03\xe9".to_vec()));
    let error = server.write_all(b"late").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    server.shutdown().await.unwrap();
    at_end(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_breaks_the_rules_is_told_which() {
    for (wire, code) in [
        (frame(0x81, b"text"), 1003),
        (frame(0x82, &[0; 72 * 1024 + 1]), 1009),
        (vec![0x82, 0x01, 0x00], 1002),
        (frame(0x88, b"\x03\xe8\xff"), 1007),
    ] {
        let (mut client, server) = pair(1 << 20);
        client.write_all(&frame(0x82, b"good")).await.unwrap();
        client.write_all(&wire).await.unwrap();
        let (mut server, received, end) = reading(server).await.unwrap();
        assert_eq!(received, b"good");
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(
            read_frame(&mut client).await,
            (0x88, u16::to_be_bytes(code).to_vec())
        );
        server.shutdown().await.unwrap();
        at_end(&mut client).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_without_a_close_frame_is_an_end_as_well() {
    let (mut client, server) = pair(1 << 20);
    client.write_all(&frame(0x82, b"x")[..6]).await.unwrap();
    drop(client);
    let (_, received, end) = reading(server).await.unwrap();
    assert_eq!((received, end.unwrap()), (vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn shutting_down_waits_for_the_clients_close_frame() {
    let (mut client, mut server) = pair(1 << 20);
    server.write_all(b"goodbye").await.unwrap();
    let closing = tokio::spawn(async move { server.shutdown().await });
    assert_eq!(read_frame(&mut client).await, (0x82, b"goodbye".to_vec()));
    assert_eq!(read_frame(&mut client).await, (0x88, b"\x03\xe8".to_vec()));
    client.write_all(&frame(0x82, &[7; 20_000])).await.unwrap();
    // Half of the close frame is not enough.
    let close = frame(0x88, b"\x03\xe8");
    client.write_all(&close[..3]).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!closing.is_finished());
    client.write_all(&close[3..]).await.unwrap();
    closing.await.unwrap().unwrap();
    at_end(&mut client).await;
}

#[tokio::test(start_paused = true)]
async fn shutting_down_does_not_wait_for_long() {
    for buffer in [1 << 20, 1] {
        let (client, mut server) = pair(buffer);
        let since = Instant::now();
        server.shutdown().await.unwrap();
        assert_eq!(since.elapsed().as_secs(), 1, "with room for {buffer} bytes");
        drop(client);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_close_frame_is_not_awaited() {
    let (mut client, server) = pair(1);
    let since = Instant::now();
    let serving = reading(server);
    client.write_all(&frame(0x81, b"")[..2]).await.unwrap();
    let (_, _, end) = serving.await.unwrap();
    end.unwrap_err();
    assert_eq!(since.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_waits_is_woken_when_the_client_closes() {
    let (mut client, server) = pair(100);
    let (mut reader, mut writer) = tokio::io::split(server);
    let writing = tokio::spawn(async move { writer.write_all(&[7; 100_000]).await });
    let reading = tokio::spawn(async move { reader.read_u8().await });
    tokio::task::yield_now().await;
    client.write_all(&frame(0x88, b"")).await.unwrap();
    let error = writing.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    reading.await.unwrap().unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn reading_pings_takes_no_writer_its_turn() {
    let (mut client, server) = pair(100);
    let (mut reader, mut writer) = tokio::io::split(server);
    let writing = tokio::spawn(async move {
        writer.write_all(&[7; 10_000]).await?;
        writer.flush().await
    });
    tokio::task::yield_now().await;
    // The reader is polled while the writer waits, and never again.
    let mut read = Box::pin(reader.read_u8());
    client.write_all(&frame(0x89, b"ping")).await.unwrap();
    assert!(by_hand(&mut read).poll().is_pending());
    assert_eq!(read_frame(&mut client).await, (0x82, vec![7; 10_000]));
    writing.await.unwrap().unwrap();
}

/// A future that is polled by hand.
struct ByHand<F>(F);

const fn by_hand<F: Future + Unpin>(future: F) -> ByHand<F> {
    ByHand(future)
}

impl<F: Future + Unpin> ByHand<F> {
    fn poll(&mut self) -> Poll<F::Output> {
        Pin::new(&mut self.0).poll(&mut Context::from_waker(Waker::noop()))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Both directions at once, through a pipe of any size, in pieces of any size.
    #[test]
    fn whatever_is_sent_arrives_in_both_directions(
        buffer in prop_oneof![1_usize..20, 1_usize..100_000],
        up in proptest::collection::vec(prop_oneof![0_usize..200, 0_usize..70_000], 0..6),
        writes in proptest::collection::vec(prop_oneof![0_usize..200, 0_usize..70_000], 0..6),
        read_size in prop_oneof![1_usize..10, 1_usize..70_000],
        flushes in any::<bool>(),
    ) {
        let byte = |index: usize| u8::try_from(index).unwrap();
        // The server reads until the last byte, so that nothing may come behind it.
        let up = up.into_iter().chain([1]);
        let up: Vec<_> = up.enumerate().map(|(i, len)| vec![byte(i); len]).collect();
        let down: Vec<_> =
            writes.into_iter().enumerate().map(|(i, len)| vec![byte(i); len]).collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (client, server) = pair(buffer);
            let (mut reader, mut writer) = tokio::io::split(server);
            let (mut from_server, mut to_server) = tokio::io::split(client);
            let client_writes = async {
                for payload in &up {
                    to_server.write_all(&frame(0x89, b"ping")).await.unwrap();
                    to_server.write_all(&frame(0x82, payload)).await.unwrap();
                }
            };
            let server_writes = async {
                for payload in &down {
                    writer.write_all(payload).await.unwrap();
                    if flushes {
                        writer.flush().await.unwrap();
                    }
                }
                writer.flush().await.unwrap();
            };
            let up_bytes = up.concat();
            let server_reads = async {
                let mut received = Vec::new();
                while received.len() < up_bytes.len() {
                    let mut buf = vec![0; read_size];
                    let len = reader.read(&mut buf).await.unwrap();
                    received.extend_from_slice(&buf[..len]);
                }
                assert!(received == up_bytes);
            };
            let down_bytes = down.concat();
            let client_reads = async {
                let mut received = Vec::new();
                while received.len() < down_bytes.len() {
                    let first = from_server.read_u8().await.unwrap();
                    let len = match from_server.read_u8().await.unwrap() {
                        126 => from_server.read_u16().await.unwrap(),
                        len => u16::from(len),
                    };
                    let mut payload = vec![0; usize::from(len)];
                    from_server.read_exact(&mut payload).await.unwrap();
                    match first {
                        0x82 => received.extend(payload),
                        other => assert_eq!((other, payload.as_slice()), (0x8a, &b"ping"[..])),
                    }
                }
                assert!(received == down_bytes);
                // Pongs may still come, and must not stop the server.
                tokio::io::copy(&mut from_server, &mut tokio::io::sink()).await.unwrap();
            };
            tokio::select! {
                _ = async { tokio::join!(client_writes, server_writes, server_reads) } => {}
                () = client_reads => panic!("the server closed"),
            }
        });
    }

    /// A stranger's bytes end the stream one way or another.
    #[test]
    fn no_bytes_make_it_panic_or_hang(
        wire in proptest::collection::vec(any::<u8>(), 0..100),
        piece in 1_usize..50,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut client, server) = pair(1 << 16);
            let serving = reading(server);
            for piece in wire.chunks(piece) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.shutdown().await.unwrap();
            let _ended = serving.await.unwrap();
        });
    }
}
