use derp_client::{Client, Login};
use derp_proto::NodePrivate;
use derp_verify::{AllowAll, Candidate, Verdict, Verifier, VerifyError, async_trait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Barrier;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::driver::Driver;
use crate::error::Budget;
use crate::inbox::Message;
use crate::login_rates::LoginRate;
use crate::tunables::Tunables;

const PROBE: &[u8] = b"GET /derp/probe HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n";

/// What connections need of a server, without workers.
pub(crate) fn front(verifier: impl Verifier, change: impl FnOnce(&mut Tunables)) -> Arc<Front> {
    let private = NodePrivate::from_random([1; 32]);
    let mut tunables = Tunables::default();
    change(&mut tunables);
    let hub = Hub::new(&private, Vec::new(), Arc::new(verifier), tunables, 1);
    Arc::new(Front {
        hub: Arc::new(hub),
        pages: Arc::default(),
        logins: Logins::default(),
        page_places: PagePlaces::default(),
    })
}

type Accepted = JoinHandle<Result<(), AcceptError>>;

/// A connection that comes from this address and is waited for, and how it is served.
async fn accept(front: &Arc<Front>, peer: &str, options: ListenOptions) -> (UnixStream, Accepted) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (front, peer) = (Arc::clone(front), peer.parse().ok());
    let serving = tokio::spawn(async move {
        let mut conn = None;
        front
            .accept_socket(theirs, &peer, &mut conn, &options)
            .await
    });
    tokio::task::yield_now().await;
    (ours, serving)
}

fn port_80() -> ListenOptions {
    let mut options = ListenOptions::plain("http");
    options.only_redirects = true;
    options
}

/// Both kinds of listeners that wait for a request.
fn listeners() -> [ListenOptions; 2] {
    [ListenOptions::plain("main"), port_80()]
}

async fn is_answered(mut socket: UnixStream) -> bool {
    socket.write_all(PROBE).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    answer.starts_with(b"HTTP/1.1 ")
}

/// Each future that is handed on by value is there twice, and so in each that it is handed to;
/// and all of it is moved about for each connection.
#[tokio::test]
async fn the_steps_before_a_session_take_six_kilobytes_and_silence_far_less() {
    let front = front(AllowAll, |_| {});
    let (socket, _other) = UnixStream::pair().unwrap();
    let mut conn = ConnMeta::default();
    let options = ListenOptions::default();
    let pending = front.begin_login().unwrap();
    let login = front.log_in_socket(socket, &mut conn, &options, &pending, Duration::ZERO);
    assert!(size_of_val(&login) < 6 << 10, "{}", size_of_val(&login));
    drop(login);
    let (socket, _other) = UnixStream::pair().unwrap();
    let mut conn = None;
    let silent = front.accept_socket(socket, &None, &mut conn, &options);
    assert!(size_of_val(&silent) < 640, "{}", size_of_val(&silent));
}

#[tokio::test]
async fn a_network_that_says_nothing_has_no_more_connections_than_one_that_speaks() {
    for options in listeners() {
        let front = front(AllowAll, |tunables| {
            tunables.network_login_rate = Some(LoginRate {
                per_second: 0.001,
                burst: 2.0,
            });
        });
        let from = async |peer| accept(&front, peer, options.clone()).await;
        let (_first, first) = from("192.0.2.1:1").await;
        let (_second, second) = from("192.0.2.1:2").await;
        let (_third, third) = from("192.0.2.1:3").await;
        let refused = third.await.unwrap();
        assert!(
            matches!(refused, Err(AcceptError::Full(Budget::NetworkRate))),
            "{refused:?}"
        );
        assert!(!first.is_finished() && !second.is_finished());
        let (other, _) = from("198.51.100.1:1").await;
        assert!(is_answered(other).await);
        let outcomes = front.hub.metrics.outcomes();
        assert_eq!(outcomes.get(Outcome::NetworkRate), 1);
    }
}

#[tokio::test]
async fn who_speaks_gets_in_where_all_places_are_taken_by_silence() {
    for options in listeners() {
        let front = front(AllowAll, |tunables| tunables.max_logins_pending = 3);
        let from = async |peer| accept(&front, peer, options.clone()).await;
        let (_first, first) = from("192.0.2.1:1").await;
        let (_second, second) = from("192.0.2.2:1").await;
        let (third, _) = from("192.0.2.3:1").await;
        let (fourth, _) = from("192.0.2.4:1").await;
        assert!(is_answered(fourth).await);
        let oldest = first.await.unwrap();
        assert!(matches!(oldest, Err(AcceptError::GaveWay)), "{oldest:?}");
        assert!(!second.is_finished() && is_answered(third).await);
        let outcomes = front.hub.metrics.outcomes();
        assert_eq!(outcomes.get(Outcome::GaveWay), 1);
        assert_eq!(outcomes.get(Outcome::FullOfLogins), 0);
    }
}

#[tokio::test]
async fn where_all_have_just_spoken_nobody_else_gets_in() {
    for options in listeners() {
        let front = front(AllowAll, |tunables| tunables.max_logins_pending = 2);
        let from = async |peer| accept(&front, peer, options.clone()).await;
        let mut speaking = Vec::new();
        for peer in ["192.0.2.1:1", "192.0.2.2:1"] {
            let (mut socket, serving) = from(peer).await;
            socket.write_all(&PROBE[..9]).await.unwrap();
            speaking.push((socket, serving));
        }
        while !front.logins.is_nobody_silent() {
            tokio::task::yield_now().await;
        }
        let (_third, third) = from("192.0.2.3:1").await;
        let refused = third.await.unwrap();
        assert!(
            matches!(refused, Err(AcceptError::Full(Budget::Logins))),
            "{refused:?}"
        );
        for (mut socket, serving) in speaking {
            socket.write_all(&PROBE[9..]).await.unwrap();
            serving.await.unwrap().unwrap();
        }
        let outcomes = front.hub.metrics.outcomes();
        assert_eq!(outcomes.get(Outcome::FullOfLogins), 1);
        assert_eq!(outcomes.get(Outcome::Pages), 2);
        assert_eq!(front.hub.metrics.gauges().accepts.get(), outcomes.total());
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_step_does_not_begin_anew_with_the_first_byte() {
    for options in listeners() {
        let front = front(AllowAll, |_| {});
        let limit = front.hub.tunables().head_timeout;
        let (mut socket, serving) = accept(&front, "192.0.2.1:1", options).await;
        let since = Instant::now();
        tokio::time::sleep(limit * 4 / 5).await;
        socket.write_all(b"G").await.unwrap();
        let ended = serving.await.unwrap();
        assert!(
            matches!(ended, Err(AcceptError::TooSlow { .. })),
            "{ended:?}"
        );
        let took = since.elapsed();
        assert!(took < limit + Duration::from_millis(50), "{took:?}");
    }
}

/// Has so many wait for one another.
#[derive(Debug)]
struct Together(Barrier);

#[async_trait]
impl Verifier for Together {
    async fn verify(&self, _: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        self.0.wait().await;
        Ok(Verdict::allow())
    }
}

/// A client that has logged in as `n`.
async fn log_in(front: &Arc<Front>, n: u8) -> (Client, Accepted) {
    let (mut socket, serving) = accept(front, "", ListenOptions::plain("main")).await;
    let request = "GET /derp HTTP/1.1\r\nHost: relay\r\nUpgrade: DERP\r\n\
         Derp-Fast-Start: 1\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let login = Login::new(NodePrivate::from_random([n; 32]));
    let client = Client::handshake_over(socket, &login).await.unwrap();
    (client, serving)
}

#[tokio::test]
async fn a_fault_of_a_worker_outside_of_any_connection_ends_those_and_it_goes_on() {
    let front = front(AllowAll, |_| {});
    let driver = Driver::new().unwrap();
    let inbox = Arc::clone(&driver.inbox);
    front.hub.set_workers(vec![Arc::clone(&inbox)]);
    let (hub, totals) = (Arc::clone(&front.hub), Arc::default());
    let thread = std::thread::spawn(move || driver.run(hub, totals));
    let gauges = front.hub.metrics.gauges();
    for failures in 1..=3 {
        let mut clients = Vec::new();
        for n in 1..=3 {
            let (mut client, _) = log_in(&front, n).await;
            client.recv().await.expect("it is admitted");
            clients.push(client);
        }
        assert_eq!(gauges.connections.get(), 3);
        inbox.post(Message::Panic);
        for mut client in clients {
            client.recv().await.expect_err("it ends");
        }
        assert_eq!(
            (gauges.panics.get(), gauges.connections.get()),
            (failures, 0)
        );
    }
    inbox.post(Message::Stop);
    thread.join().unwrap().unwrap();
    assert_eq!(inbox.load.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test]
async fn logins_that_waited_together_are_served_by_all_workers() {
    let front = front(Together(Barrier::new(8)), |_| {});
    let drivers = [(); 2].map(|()| Driver::new().unwrap());
    let inboxes = drivers.each_ref().map(|driver| Arc::clone(&driver.inbox));
    front.hub.set_workers(inboxes.to_vec());
    let mut clients = Vec::new();
    for n in 1..=8 {
        let (client, serving) = log_in(&front, n).await;
        clients.push(client);
        if n == 8 {
            serving.await.unwrap().unwrap();
        }
    }
    while front.logins.len() > 0 {
        tokio::task::yield_now().await;
    }
    let loads = inboxes.map(|inbox| inbox.load.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(loads, [4, 4]);
}
