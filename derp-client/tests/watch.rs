//! Links between relays, in simulated time.

mod support;

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::time::Duration;

use derp_client::{
    Cause, Client, CloseReason, Connect, Connector, Fault, Login, Policy, RecvError, SelfConnect,
    ServerUrl, Watch, WatchEvent,
};
use derp_proto::{
    ClientFrame, MeshKey, NodePublic, PeerGoneReason, PeerPresent, PeerPresentFlags, ServerFrame,
};
use support::{ALICE, BOB, Peer, client_key, pipe, server_key};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

const SECOND: Duration = Duration::from_secs(1);

fn mesh_login() -> Login {
    let mesh_key = MeshKey::from_secret_text(&"0123456789abcdef".repeat(4)).expect("64 digits");
    Login::mesh(client_key(), mesh_key)
}

fn link() -> (impl Connect + 'static, mpsc::Receiver<Peer<DuplexStream>>) {
    let (sender, relays) = mpsc::channel(1);
    let connect = move |login: Login| {
        let sender = sender.clone();
        async move {
            let (io, peer) = pipe(4096);
            sender.send(peer).await.expect("the test goes on");
            Ok(Client::handshake_over(io, &login)
                .await
                .expect("the relay greets"))
        }
    };
    (connect, relays)
}

fn watch(own: Option<NodePublic>) -> (Watch, mpsc::Receiver<Peer<DuplexStream>>) {
    let (connect, relays) = link();
    (
        Watch::with_parts(connect, mesh_login(), own, Policy::MESH, || 0),
        relays,
    )
}

fn present(key: NodePublic) -> PeerPresent {
    PeerPresent {
        key,
        addr: None,
        flags: PeerPresentFlags::REGULAR,
    }
}

/// The next link, once the other relay has been asked for its clients.
async fn watched(relays: &mut mpsc::Receiver<Peer<DuplexStream>>) -> Peer<DuplexStream> {
    let mut peer = relays.recv().await.expect("the link comes");
    let hello = peer.accept().await;
    assert!(hello.info().mesh_key.is_some());
    peer.expect(ClientFrame::WatchConns).await;
    peer
}

/// Answers every other ping until `also` is done.
async fn answer_some_pings<T>(peer: &mut Peer<DuplexStream>, also: impl Future<Output = T>) -> T {
    tokio::pin!(also);
    let mut pings = 0;
    loop {
        let frame = tokio::select! {
            done = &mut also => return done,
            frame = peer.recv() => frame,
        };
        let Ok(ClientFrame::Ping(data)) = frame.as_client() else {
            panic!("{frame:?}")
        };
        pings += 1;
        if pings % 2 == 0 {
            peer.send(ServerFrame::Pong(data)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn clients_come_and_go_and_all_go_with_the_link() {
    let (mut watch, mut relays) = watch(Some(BOB));
    for _ in 0..10 {
        let (event, mut peer) = tokio::join!(watch.next(), watched(&mut relays));
        assert!(matches!(event, Ok(WatchEvent::Up(_))), "{event:?}");
        let own = client_key().public();
        for key in [own, ALICE, ALICE, BOB] {
            peer.send(ServerFrame::PeerPresent(present(key))).await;
            let Ok(WatchEvent::Present(told)) = watch.next().await else {
                panic!("not told")
            };
            assert_eq!(told, present(key));
        }
        // One is not connected any more, the other not here, and a third was never known.
        let reasons = [PeerGoneReason::DISCONNECTED, PeerGoneReason::NOT_HERE];
        for (key, reason) in [(ALICE, reasons[0]), (BOB, reasons[1])] {
            peer.send(ServerFrame::PeerGone { key, reason }).await;
            let Ok(WatchEvent::Gone {
                key: gone,
                reason: why,
            }) = watch.next().await
            else {
                panic!("not told");
            };
            assert_eq!((gone, why), (key, reason));
        }
        let nobody = NodePublic::from_bytes([3; 32]);
        peer.send(ServerFrame::PeerGone {
            key: nobody,
            reason: reasons[0],
        })
        .await;
        peer.send(ServerFrame::PeerPresent(present(ALICE))).await;
        let Ok(WatchEvent::Present(_)) = watch.next().await else {
            panic!("not told")
        };

        drop(peer);
        let Ok(WatchEvent::Down {
            cause,
            peers,
            retry_in,
        }) = watch.next().await
        else {
            panic!("not told");
        };
        assert!(
            matches!(cause, Cause::Recv(RecvError::ServerClosed)),
            "{cause}"
        );
        assert_eq!(peers, HashSet::from([own, ALICE]));
        assert_eq!(retry_in, 5 * SECOND);
        assert!(watch.peers().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_closed_by_another_task_comes_back() {
    let (mut watch, mut relays) = watch(None);
    for _ in 0..10 {
        let (event, mut peer) = tokio::join!(watch.next(), watched(&mut relays));
        let Ok(WatchEvent::Up(writer)) = event else {
            panic!("{event:?}")
        };
        peer.send(ServerFrame::PeerPresent(present(ALICE))).await;
        let Ok(WatchEvent::Present(_)) = watch.next().await else {
            panic!("not told")
        };
        assert_eq!(watch.peers().len(), 1);
        let (event, ()) = tokio::join!(watch.next(), async { writer.close() });
        let Ok(WatchEvent::Down { cause, .. }) = event else {
            panic!("{event:?}")
        };
        let Cause::Recv(RecvError::ClosedHere(CloseReason::Asked)) = cause else {
            panic!("{cause}");
        };
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_not_admitted_is_not_up() {
    let (mut watch, mut relays) = watch(None);
    for _ in 0..3 {
        let relay = async {
            let mut peer = relays.recv().await.expect("the link comes");
            peer.greet().await;
        };
        let (event, ()) = tokio::join!(watch.next(), relay);
        assert!(matches!(event, Ok(WatchEvent::Down { .. })), "{event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_to_oneself_ends_for_good() {
    let (mut watch, mut relays) = watch(Some(server_key().public()));
    let relay = async {
        let mut peer = relays.recv().await.expect("the link comes");
        peer.greet().await;
        peer.expect(ClientFrame::WatchConns).await;
        peer.expect_end().await;
    };
    let (event, ()) = tokio::join!(watch.next(), relay);
    assert!(matches!(event, Err(SelfConnect)));
    assert!(matches!(watch.next().await, Err(SelfConnect)));
    assert!(relays.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn packets_are_forwarded_through_the_link() {
    let (mut watch, mut relays) = watch(None);
    let (event, mut peer) = tokio::join!(watch.next(), watched(&mut relays));
    let Ok(WatchEvent::Up(writer)) = event else {
        panic!("{event:?}")
    };
    writer.forward_packet(ALICE, BOB, b"hop").await.unwrap();
    peer.expect(ClientFrame::ForwardPacket {
        src: ALICE,
        dst: BOB,
        packet: b"hop",
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_link_that_answers_some_pings_stays() {
    let (mut watch, mut relays) = watch(None);
    let relay = async {
        let mut peer = watched(&mut relays).await;
        answer_some_pings(&mut peer, sleep(100 * SECOND)).await;
        peer
    };
    let (event, relay) = (watch.next(), relay);
    tokio::pin!(relay);
    let event = tokio::select! {
        event = event => event,
        _ = &mut relay => panic!("there is a link"),
    };
    assert!(matches!(event, Ok(WatchEvent::Up(_))), "{event:?}");
    let mut peer = tokio::select! {
        event = watch.next() => panic!("nothing happens: {event:?}"),
        peer = relay => peer,
    };
    // There is a ping every five seconds, and was the last one a moment ago.
    let begin = Instant::now();
    tokio::select! {
        event = watch.next() => panic!("nothing happens: {event:?}"),
        frame = peer.recv() => assert!(matches!(frame.as_client(), Ok(ClientFrame::Ping(_)))),
    }
    assert!(begin.elapsed() <= 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_link_that_leads_nowhere_is_given_up_after_two_pings() {
    let (mut watch, mut relays) = watch(None);
    let (event, mut peer) = tokio::join!(watch.next(), watched(&mut relays));
    assert!(matches!(event, Ok(WatchEvent::Up(_))), "{event:?}");
    let begin = Instant::now();
    let Ok(WatchEvent::Down { cause, .. }) = watch.next().await else {
        panic!("not told")
    };
    let Cause::Recv(RecvError::ClosedHere(CloseReason::PingsUnanswered)) = cause else {
        panic!("{cause}");
    };
    assert_eq!(begin.elapsed(), 10 * SECOND);
    for _ in 0..2 {
        let ping = peer.recv().await;
        assert!(
            matches!(ping.as_client(), Ok(ClientFrame::Ping(_))),
            "{ping:?}"
        );
    }
    peer.expect_end().await;
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_cannot_be_reached_is_tried_every_five_seconds() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url: ServerUrl = format!("http://{address}").parse().unwrap();
    let mut watch = Watch::new(Connector::new(), url.into(), mesh_login(), None);
    let begin = Instant::now();
    for attempt in 0..3 {
        let Ok(WatchEvent::Down { cause, peers, .. }) = watch.next().await else {
            panic!("nobody is there");
        };
        let Cause::Connect(err) = cause else {
            panic!("{cause}")
        };
        let Fault::Tcp(err) = err.fault() else {
            panic!("{err:?}")
        };
        assert_eq!(err.kind(), io::ErrorKind::ConnectionRefused);
        assert!(peers.is_empty());
        let late = begin.elapsed() - attempt * 5 * SECOND;
        assert!(late < SECOND / 10, "{late:?}");
    }
}
