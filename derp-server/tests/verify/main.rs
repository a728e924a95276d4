//! Who may use the relay: an embedder's verifier, and what becomes of the relay when it fails.

#[path = "../support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use derp_client::Login;
use derp_proto::NodePublic;
use derp_server::Outcome;
use derp_verify::{Candidate, ConnMeta, TlsVersion, Verdict, Verifier, VerifyError, async_trait};
use support::{Kind, Relay, eventually, key, login, mesh_login, private, within};

/// Longer than a test waits for anything.
const NEVER: Duration = Duration::from_secs(3600);

/// Each is another way on which a client comes to be verified.
const KINDS: [Kind; 5] = [
    Kind::Plain,
    Kind::Tls13,
    Kind::Tls12,
    Kind::WebSocket,
    Kind::Upgraded,
];

async fn relay(kind: Kind, verifier: impl Verifier) -> Relay {
    Relay::start_with(kind, |builder| builder.verifier(verifier)).await
}

/// Everybody may, but one.
#[derive(Debug)]
struct AllBut(NodePublic);

#[async_trait]
impl Verifier for AllBut {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        if client.key == self.0 {
            return Ok(Verdict::deny("it is known for its noise"));
        }
        Ok(Verdict::allow())
    }
}

#[tokio::test]
async fn who_is_denied_is_let_go_without_a_word_and_others_are_not() {
    for kind in KINDS {
        let relay = relay(kind, AllBut(key(1))).await;
        let mut b = relay.client(2).await;
        let mut denied = relay.raw().await;
        let server = denied.greeting().await;
        let (mut hello, who) = (Vec::new(), login(1));
        server
            .hello(&who.key, &who.info, [1; 24], &mut hello)
            .expect("a key");
        denied.send(&hello).await;
        assert_eq!(denied.closed().await, [], "{kind:?}");
        assert!(!relay.admits(&login(1)).await, "{kind:?}");
        relay.counts("derper_verify_denied", 2).await;
        let mut c = relay.client(3).await;
        b.send(c.key, b"hello").await;
        assert_eq!(c.packet().await, (b.key, b"hello".to_vec()));
        // Nobody was told of it.
        assert_eq!(b.received().await, []);
        // Who holds the mesh key is not asked about.
        assert!(relay.admits(&mesh_login(1)).await, "{kind:?}");
        relay.end().await;
    }
}

/// What was asked about a client.
#[derive(Debug, Clone, PartialEq)]
struct Asked {
    key: NodePublic,
    app_name: String,
    is_prober: bool,
    conn: ConnMeta,
}

#[derive(Debug, Clone, Default)]
struct Curious(Arc<Mutex<Vec<Asked>>>);

#[async_trait]
impl Verifier for Curious {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let asked = Asked {
            key: client.key,
            app_name: client.app_name.to_owned(),
            is_prober: client.is_prober,
            conn: client.conn.clone(),
        };
        self.0.lock().expect("no panic").push(asked);
        Ok(Verdict::allow())
    }
}

#[tokio::test]
async fn a_verifier_is_told_all_that_is_known_of_a_client() {
    let curious = Curious::default();
    let relay = relay(Kind::Plain, curious.clone()).await;
    let last = || {
        curious
            .0
            .lock()
            .expect("no panic")
            .pop()
            .expect("it was asked")
    };
    let mut login = Login::prober(private(1));
    login.info.app_name = "probe\n".into();
    let client = relay.admit(&login).await;
    let addr = client.into_inner().info().local_addr;
    let asked = last();
    assert_eq!(
        (asked.key, asked.app_name.as_str(), asked.is_prober),
        (key(1), "probe", true)
    );
    assert_eq!(
        (asked.conn.client_addr(), asked.conn.local_addr),
        (addr, Some(relay.tcp))
    );
    let about = |conn: &ConnMeta| (conn.listener.as_str().to_owned(), conn.tls);
    assert_eq!(about(&asked.conn), ("http".to_owned(), None));

    let expected = [
        (Kind::Tls13, "https", Some(TlsVersion::V1_3)),
        (Kind::WebSocketTls, "https", Some(TlsVersion::V1_3)),
        (Kind::Tls12, "https", Some(TlsVersion::V1_2)),
        (Kind::Unix, "unix", None),
    ];
    for (kind, listener, tls) in expected {
        drop(relay.admit_over(kind, &support::login(2)).await);
        let asked = last();
        assert_eq!(about(&asked.conn), (listener.to_owned(), tls), "{kind:?}");
        assert_eq!(
            asked.conn.socket_peer.is_some(),
            kind != Kind::Unix,
            "{kind:?}"
        );
        assert_eq!((asked.app_name.as_str(), asked.is_prober), ("", false));
    }
    relay.end().await;
}

/// Has no answer for one of its clients, and says when it is no longer asked.
#[derive(Debug, Default)]
struct Silent {
    is_asked: AtomicBool,
    is_given_up: AtomicBool,
}

struct GivenUp<'a>(&'a Silent);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.is_given_up.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Verifier for Silent {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        if client.key == key(1) {
            let _given_up = GivenUp(self);
            self.is_asked.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        Ok(Verdict::allow())
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_not_waited_for() {
    for kind in KINDS {
        let relay = relay(kind, Silent::default()).await;
        relay.tune(|tunables| tunables.verify_timeout = Duration::from_millis(100));
        let mut b = relay.client(2).await;
        assert!(!relay.admits(&login(1)).await, "{kind:?}");
        relay.counts("derper_verify_errors", 1).await;
        assert_eq!(b.received().await, []);
        // Where the operator would rather have that, an answer that is missing is a yes.
        relay.tune(|tunables| tunables.verify_fail_open = true);
        assert!(relay.admits(&login(1)).await, "{kind:?}");
        relay.counts("derper_verify_errors", 2).await;
        relay.end().await;
    }
}

#[tokio::test]
async fn others_do_not_wait_for_an_answer_that_does_not_come() {
    let silent = Arc::new(Silent::default());
    let shared = Arc::clone(&silent);
    let relay = Relay::start_with(Kind::Tls13, |builder| builder.shared_verifier(shared)).await;
    relay.tune(|tunables| tunables.verify_timeout = NEVER);
    let waiting = relay.connect(&login(1)).await.expect("a login");
    eventually("it is asked", || silent.is_asked.load(Ordering::Relaxed)).await;
    let [mut b, c] = [relay.client(2).await, relay.client(3).await];
    c.send(b.key, b"hello").await;
    assert_eq!(b.packet().await, (c.key, b"hello".to_vec()));
    // Nor is it waited for when nobody needs it any more.
    drop(waiting);
    eventually("it is given up", || {
        silent.is_given_up.load(Ordering::Relaxed)
    })
    .await;
    relay.end().await;
}

/// A client need not wait for the verifier either.
#[tokio::test]
async fn what_is_sent_while_a_verifier_is_asked_is_not_lost() {
    for kind in KINDS {
        let gate = Arc::new(Gate::default());
        let shared = Arc::clone(&gate);
        let relay = Relay::start_with(kind, |builder| builder.shared_verifier(shared)).await;
        let mut a = relay.connect(&login(1)).await.expect("a login");
        let mut expected = Vec::new();
        for n in 0..20 {
            let packet = vec![n; 3000];
            within("a send", a.send(key(1), &packet))
                .await
                .expect("a connection");
            expected.push(packet);
        }
        gate.go.notify_one();
        let mut got = Vec::new();
        while got.len() < expected.len() {
            match within("a packet", a.recv()).await.expect("a connection") {
                derp_client::Received::ServerInfo(_) => assert!(got.is_empty(), "{kind:?}"),
                derp_client::Received::Packet { packet, .. } => got.push(packet.to_vec()),
                other => panic!("{other:?}"),
            }
        }
        assert!(got == expected, "{kind:?}");
        drop(a);
        relay.end().await;
    }
}

/// Answers when it is told to.
#[derive(Debug, Default)]
struct Gate {
    go: tokio::sync::Notify,
    asked: AtomicUsize,
}

#[async_trait]
impl Verifier for Gate {
    async fn verify(&self, _: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.go.notified().await;
        Ok(Verdict::allow())
    }
}

#[tokio::test]
async fn who_waits_for_a_verifier_does_not_come_where_others_have_filled_the_relay() {
    let gate = Arc::new(Gate::default());
    let shared = Arc::clone(&gate);
    let start = Relay::start_with(Kind::Plain, |builder| builder.shared_verifier(shared));
    let relay = start.await;
    relay.tune(|tunables| tunables.max_clients = 1);
    let first = relay.connect(&login(1)).await.expect("a login");
    let second = relay.connect(&login(2)).await.expect("a login");
    eventually("both are asked for", || {
        gate.asked.load(Ordering::Relaxed) == 2
    })
    .await;
    gate.go.notify_one();
    relay.has_connections(1).await;
    gate.go.notify_one();
    let outcomes = relay.server.metrics().outcomes();
    eventually("one is refused", || {
        outcomes.get(Outcome::FullOfClients) == 1
    })
    .await;
    relay.has_connections(1).await;
    drop((first, second));
    relay.end().await;
}

/// Has a fault.
#[derive(Debug)]
struct Faulty;

#[async_trait]
impl Verifier for Faulty {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        assert_ne!(client.key, key(1), "on purpose");
        Ok(Verdict::allow())
    }
}

#[tokio::test]
async fn a_verifier_that_panics_costs_one_connection() {
    for kind in [
        Kind::Plain,
        Kind::Tls13,
        Kind::Tls12,
        Kind::WebSocket,
        Kind::Unix,
    ] {
        let relay = relay(kind, Faulty).await;
        let mut b = relay.client(2).await;
        assert!(!relay.admits(&login(1)).await, "{kind:?}");
        relay.counts("derper_panics", 1).await;
        let c = relay.client(3).await;
        c.send(b.key, b"hello").await;
        assert_eq!(b.packet().await, (c.key, b"hello".to_vec()));
        // The fault has left nothing half done: as many may log in as before.
        relay.tune(|tunables| tunables.max_logins_pending = 1);
        assert!(relay.admits(&login(4)).await, "{kind:?}");
        within("the threads", relay.server.shutdown()).await;
    }
}
