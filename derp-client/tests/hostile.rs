//! Servers that send what nobody should: the client ends or goes on, and does not panic.

mod support;

use std::time::Duration;

use derp_client::{Client, Login, Received, RecvError};
use derp_proto::{NodePublic, PeerPresent, PeerPresentFlags, ServerFrame, ServerInfo};
use proptest::collection::vec;
use proptest::prelude::*;
use support::{ALICE, client_key, pipe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

/// What a client makes of a script that an admitting server sends and then closes: the number of
/// things received, and the end. The server reads what the client answers.
fn play(script: &[u8], room: usize) -> (Vec<Received>, RecvError) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (io, mut peer) = pipe(room);
        let login = Login::new(client_key());
        let server = async {
            peer.accept().await;
            let (mut answers, mut io) = tokio::io::split(peer.io);
            let script = async {
                // The client may have had enough before the end.
                drop(io.write_all(script).await);
                drop(io.shutdown().await);
            };
            let mut ignored = Vec::new();
            drop(tokio::join!(script, answers.read_to_end(&mut ignored)));
        };
        let receive = async {
            let mut client = Client::handshake_over(io, &login).await.expect("a login");
            let mut received = Vec::new();
            loop {
                match client.recv().await {
                    Ok(next) => received.push(next),
                    Err(end) => return (received, end),
                }
            }
        };
        tokio::join!(receive, server).0
    })
}

/// A frame that a server may send, and what it is to the client.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let key = any::<[u8; 32]>().prop_map(NodePublic::from_bytes);
    let valid = prop_oneof![
        (key.clone(), vec(any::<u8>(), 0..200)).prop_map(|(src, packet)| {
            encoded(&ServerFrame::RecvPacket {
                src,
                packet: &packet,
            })
        }),
        key.prop_map(|key| {
            let flags = PeerPresentFlags::MESH_PEER;
            encoded(&ServerFrame::PeerPresent(PeerPresent {
                key,
                addr: None,
                flags,
            }))
        }),
        any::<[u8; 8]>().prop_map(|data| encoded(&ServerFrame::Ping(data))),
        any::<[u8; 8]>().prop_map(|data| encoded(&ServerFrame::Pong(data))),
        ".{0,40}".prop_map(|text| encoded(&ServerFrame::Health(text.into()))),
        Just(encoded(&ServerFrame::KeepAlive)),
    ];
    let short = (0..0x18_u8, vec(any::<u8>(), 0..60)).prop_map(|(ty, body)| {
        let len = u8::try_from(body.len()).expect("a short body");
        [&[ty, 0, 0, 0, len][..], &body].concat()
    });
    let broken = (valid.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(
        |(mut frame, at, byte)| {
            let at = at.index(frame.len());
            frame[at] = byte;
            frame
        },
    );
    prop_oneof![4 => valid, 2 => short, 1 => broken, 1 => vec(any::<u8>(), 0..20)]
}

fn encoded(frame: &ServerFrame<'_>) -> Vec<u8> {
    let mut wire = Vec::new();
    frame.encode(&mut wire);
    wire
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn five_hundred_evil_servers(frames in vec(frame(), 0..30), room in 1..2000_usize) {
        let (received, _end) = play(&frames.concat(), room);
        prop_assert_eq!(&received[0], &Received::ServerInfo(ServerInfo::plain()));
    }

    #[test]
    fn what_is_received_does_not_depend_on_where_reads_end(
        frames in vec(frame(), 0..10),
        room in 1..100_usize,
    ) {
        let script = frames.concat();
        let (whole, _) = play(&script, 1 << 20);
        let (cut, _) = play(&script, room);
        prop_assert_eq!(whole, cut);
    }
}

#[test]
fn a_frame_that_is_announced_and_never_comes_ends_in_time() {
    let mut script = vec![0x05, 0x00, 0x10, 0x00, 0x00];
    script.extend([7; 1000]);
    let (received, end) = play(&script, 4096);
    assert_eq!(received.len(), 1);
    assert!(matches!(end, RecvError::ServerClosed), "{end}");
    // One byte more than a megabyte is refused by its header alone.
    let (_, end) = play(&[0x05, 0x00, 0x10, 0x00, 0x01], 4096);
    assert!(matches!(end, RecvError::Protocol(_)), "{end}");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_nothing_is_no_sign_that_the_client_was_forgotten() {
    let (io, mut peer) = pipe(1 << 16);
    let login = Login::new(client_key());
    let (client, _) = tokio::join!(Client::handshake_over(io, &login), peer.accept());
    let mut client = client.unwrap();
    client.recv().await.unwrap();
    // A hundred thousand empty frames, unknown and too short, and then something.
    let nothing = [[0x77, 0, 0, 0, 0], [0x08, 0, 0, 0, 0]]
        .concat()
        .repeat(50_000);
    let flood = async {
        peer.write(&nothing).await;
        peer.send(ServerFrame::RecvPacket {
            src: ALICE,
            packet: b"something",
        })
        .await;
    };
    let begin = Instant::now();
    let received = timeout(Duration::from_secs(1), async {
        tokio::join!(client.recv(), flood).0
    });
    let received = received.await.expect("it does not take long").unwrap();
    assert!(matches!(received, Received::Packet { .. }), "{received:?}");
    assert!(begin.elapsed() < Duration::from_secs(1));
}
