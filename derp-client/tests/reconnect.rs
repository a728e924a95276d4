//! Clients whose connections end, in simulated time.

mod support;

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use derp_client::{
    Cause, Client, Connect, Connecting, Connector, Event, Fault, Login, Policy, Received,
    Reconnecting, RecvError, SendError, ServerUrl,
};
use derp_proto::{ClientFrame, ServerFrame, ServerInfo};
use support::{ALICE, Peer, client_key, pipe};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

/// A way to a relay that hands the relay's end of each connection to the test.
fn to_relay(log: &Log) -> (impl Connect + 'static, mpsc::Receiver<Peer<DuplexStream>>) {
    let (sender, relays) = mpsc::channel(1);
    let log = log.clone();
    let connect = move |login: Login| {
        log.lock().expect("no test panicked").push(Instant::now());
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

/// When connections were begun.
type Log = Arc<Mutex<Vec<Instant>>>;

fn client(connect: impl Connect + 'static, random: u64) -> Reconnecting {
    Reconnecting::with_parts(
        connect,
        Login::new(client_key()),
        Policy::CLIENT,
        move || random,
    )
}

/// Runs the client until the relay's part of the story is over.
async fn while_running<T>(client: &mut Reconnecting, story: impl Future<Output = T>) -> T {
    tokio::pin!(story);
    loop {
        tokio::select! {
            done = &mut story => return done,
            _ = client.next() => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_admits_and_dies_sees_no_storm() {
    // Whatever chance says; at zero it says never to wait.
    for random in [0, u64::MAX / 2, u64::MAX] {
        let log = Log::default();
        let (connect, mut relays) = to_relay(&log);
        let mut client = client(connect, random);
        let evil = async {
            while let Some(mut peer) = relays.recv().await {
                peer.accept().await;
            }
        };
        let ten_minutes = timeout(600 * SECOND, while_running(&mut client, evil)).await;
        assert!(ten_minutes.is_err());
        let attempts = log.lock().unwrap().clone();
        assert!(attempts.len() > 15, "it goes on trying: {}", attempts.len());
        for window in attempts.windows(13) {
            assert!(window[12] - window[0] >= 60 * SECOND, "{random}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn waits_begin_anew_after_thirty_healthy_seconds() {
    let log = Log::default();
    let (connect, mut relays) = to_relay(&log);
    let mut client = client(connect, u64::MAX);
    let story = async {
        for lived in [0, 0, 0, 29, 0, 31, 0, 0] {
            let mut peer = relays.recv().await.expect("the client connects");
            peer.accept().await;
            sleep(lived * SECOND).await;
        }
    };
    while_running(&mut client, story).await;
    let attempts = log.lock().unwrap().clone();
    let waits = attempts
        .windows(2)
        .zip([0, 0, 0, 29, 0, 31, 0])
        .map(|(pair, lived)| {
            let wait = pair[1] - pair[0] - lived * SECOND;
            (wait.as_secs_f64() * 10.0).round()
        });
    // In tenths of a second.
    assert_eq!(
        waits.collect::<Vec<_>>(),
        [1.0, 2.0, 4.0, 8.0, 16.0, 1.0, 2.0]
    );
}

#[tokio::test(start_paused = true)]
async fn events_tell_the_whole_story() {
    let (connect, mut relays) = to_relay(&Log::default());
    let mut client = client(connect, u64::MAX);
    let writer = client.writer();
    assert!(matches!(
        writer.send(ALICE, b"early").await,
        Err(SendError::NotConnected)
    ));
    let unconnected = writer.local_addr().unwrap_err();
    assert_eq!(unconnected.to_string(), "client not connected");

    let relay = async {
        let mut peer = relays.recv().await.expect("the client connects");
        peer.accept().await;
        peer
    };
    let (event, mut peer) = tokio::join!(client.next(), relay);
    assert!(matches!(event, Event::Connected(_)), "{event:?}");
    writer.send(ALICE, b"there").await.unwrap();
    peer.expect(ClientFrame::SendPacket {
        dst: ALICE,
        packet: b"there",
    })
    .await;
    let event = client.next().await;
    let Event::Received(received) = event else {
        panic!("{event:?}")
    };
    assert_eq!(received, Received::ServerInfo(ServerInfo::plain()));

    drop(peer);
    let event = client.next().await;
    let Event::Disconnected {
        cause: Cause::Recv(RecvError::ServerClosed),
        retry_in,
    } = event
    else {
        panic!("{event:?}");
    };
    assert!(retry_in <= Duration::from_millis(100));
    assert!(matches!(
        writer.send(ALICE, b"between").await,
        Err(SendError::NotConnected)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_restarting_relay_is_given_the_time_that_it_asks_for() {
    let log = Log::default();
    let (connect, mut relays) = to_relay(&log);
    let mut client = client(connect, 0);
    let story = async {
        let mut peer = relays.recv().await.expect("the client connects");
        peer.accept().await;
        let (reconnect_in, try_for) = (7 * SECOND, 9 * SECOND);
        peer.send(ServerFrame::Restarting {
            reconnect_in,
            try_for,
        })
        .await;
        drop(peer);
        relays.recv().await.expect("the client comes back");
    };
    while_running(&mut client, story).await;
    let attempts = log.lock().unwrap().clone();
    let wait = attempts[1] - attempts[0];
    assert!(wait.abs_diff(7 * SECOND) < SECOND / 10, "{wait:?}");
}

#[tokio::test(start_paused = true)]
async fn each_connection_learns_whether_it_is_to_the_home() {
    let (connect, mut relays) = to_relay(&Log::default());
    let mut client = client(connect, 0);
    let writer = client.writer();
    // Before there is a connection, on one, and between two.
    writer.note_preferred(true).await.unwrap();
    let story = async {
        let mut peer = relays.recv().await.expect("the client connects");
        peer.accept().await;
        peer.expect(ClientFrame::NotePreferred(true)).await;
        // What the server knows is not said again.
        writer.note_preferred(true).await.unwrap();
        writer.note_preferred(false).await.unwrap();
        peer.expect(ClientFrame::NotePreferred(false)).await;
        drop(peer);

        let mut peer = relays.recv().await.expect("the client comes back");
        peer.accept().await;
        writer.note_preferred(true).await.unwrap();
        peer.expect(ClientFrame::NotePreferred(true)).await;
    };
    while_running(&mut client, story).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_said_while_a_connection_comes_about_is_told_once_it_is_there() {
    let (connect, mut relays) = to_relay(&Log::default());
    let mut client = client(connect, 0);
    let writer = client.writer();
    let story = async {
        let mut peer = relays.recv().await.expect("the client connects");
        // The login that is on its way says nothing of a home.
        writer.note_preferred(true).await.unwrap();
        peer.accept().await;
        peer.expect(ClientFrame::NotePreferred(true)).await;
    };
    while_running(&mut client, story).await;
}

#[tokio::test(start_paused = true)]
async fn an_attempt_goes_on_when_its_future_is_dropped() {
    struct Slow(u32);
    impl Connect for Slow {
        fn connect(&mut self, login: Login) -> Connecting {
            self.0 += 1;
            assert_eq!(self.0, 1, "one attempt is enough");
            Box::pin(async move {
                let (io, mut peer) = pipe(4096);
                sleep(5 * SECOND).await;
                let (client, _) = tokio::join!(Client::handshake_over(io, &login), peer.accept());
                tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(peer)
                });
                Ok(client.expect("a login"))
            })
        }
    }
    let mut client = client(Slow(0), 0);
    let mut events = Vec::new();
    for _ in 0..10 {
        if let Ok(event) = timeout(SECOND, client.next()).await {
            events.push(event);
        }
    }
    let [
        Event::Connected(_),
        Event::Received(Received::ServerInfo(_)),
    ] = events[..]
    else {
        panic!("{events:?}");
    };
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_cannot_be_reached_is_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let url: ServerUrl = format!("http://{address}").parse().unwrap();
    let mut client = Reconnecting::new(Connector::new(), url.into(), Login::new(client_key()));
    for _ in 0..3 {
        let event = client.next().await;
        let Event::Disconnected {
            cause: Cause::Connect(err),
            ..
        } = event
        else {
            panic!("{event:?}");
        };
        assert_eq!(err.server(), format!("http://{address}/derp"));
        let Fault::Tcp(err) = err.fault() else {
            panic!("{err:?}")
        };
        assert_eq!(err.kind(), io::ErrorKind::ConnectionRefused);
    }
}
