//! Certificates that are exchanged while clients connect and talk: nobody notices.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::SystemTime;

use derp_server::ListenOptions;
use support::{Kind, Relay, key, tls, within};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use x509_parser::prelude::{FromDer, X509Certificate};

const ROTATIONS: usize = 1_000;
const CLIENTS: u8 = 50;
/// How many connect at a time, again and again.
const NEWCOMERS: usize = 4;

#[expect(
    clippy::disallowed_methods,
    reason = "certificates are valid around now"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// What everybody who takes part sees and says.
#[derive(Default)]
struct Counts {
    is_over: AtomicBool,
    handshakes: AtomicUsize,
    packets: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_rotations_cost_no_handshake_and_no_connection() {
    let mut relay = Relay::start(Kind::Tls13).await;
    // Not a divisor of the rotations between two handshakes: newcomers are to see them all.
    let certificates: Vec<_> = (0..19).map(|_| tls::issue()).collect();
    let rotating = Arc::new(tls::server(relay.server.public_key()));
    relay.tls = relay
        .listen(ListenOptions::tls("rotating", rotating.clone()))
        .await;
    let counts = Arc::new(Counts::default());

    // Pairs of clients, of which one sends and the other answers for as long as it lasts.
    let mut talks = JoinSet::new();
    for n in 1..=CLIENTS / 2 {
        let (mut one, mut other) = (relay.client(2 * n - 1).await, relay.client(2 * n).await);
        let counts = Arc::clone(&counts);
        talks.spawn(async move {
            while !counts.is_over.load(Ordering::Relaxed) {
                for (from, to, packet) in [
                    (true, key(2 * n), b"ping"),
                    (false, key(2 * n - 1), b"pong"),
                ] {
                    let (sender, receiver) = if from {
                        (&one, &mut other)
                    } else {
                        (&other, &mut one)
                    };
                    sender.send(to, packet).await;
                    let received = receiver.packet().await;
                    assert_eq!(received, (sender.key, packet.to_vec()));
                    counts.packets.fetch_add(1, Ordering::Relaxed);
                }
            }
            (one, other)
        });
    }

    let mut newcomers = JoinSet::new();
    for _ in 0..NEWCOMERS {
        let (addr, counts) = (relay.tls, Arc::clone(&counts));
        let meta_name = format!("CN=derpkey{}", relay.server.public_key().to_hex());
        newcomers.spawn(async move {
            let mut leaves = BTreeSet::new();
            while !counts.is_over.load(Ordering::Relaxed) {
                let tcp = TcpStream::connect(addr).await.expect("a connection");
                let stream = tls::connect(tcp, &rustls::version::TLS13);
                let stream = within("a handshake", stream).await.expect("TLS");
                let chain = stream.get_ref().1.peer_certificates().expect("a chain");
                let [leaf, meta] = chain else {
                    panic!("{} certificates", chain.len())
                };
                let (_, meta) = X509Certificate::from_der(meta).expect("a certificate");
                assert_eq!(meta.subject().to_string(), meta_name);
                leaves.insert(leaf.to_vec());
                counts.handshakes.fetch_add(1, Ordering::Relaxed);
            }
            leaves
        });
    }

    for n in 0..ROTATIONS {
        let next = certificates[n % certificates.len()].clone();
        rotating
            .set_certificates(vec![next], now())
            .expect("a certificate");
        // Rotations alone would be over before anybody connects.
        let before = counts.handshakes.load(Ordering::Relaxed);
        let enough = async {
            while n % 10 == 0 && counts.handshakes.load(Ordering::Relaxed) == before {
                tokio::task::yield_now().await;
            }
        };
        within("handshakes", enough).await;
    }
    counts.is_over.store(true, Ordering::Relaxed);

    let mut leaves = BTreeSet::new();
    while let Some(seen) = newcomers.join_next().await {
        leaves.extend(seen.expect("no handshake failed"));
    }
    assert!(leaves.len() > 10, "{} certificates were seen", leaves.len());
    let mut clients = Vec::new();
    while let Some(pair) = talks.join_next().await {
        clients.push(pair.expect("no connection broke"));
    }
    assert_eq!(clients.len(), usize::from(CLIENTS / 2));
    assert!(counts.packets.load(Ordering::Relaxed) >= usize::from(CLIENTS));
    relay.has_connections(CLIENTS.into()).await;
    assert_eq!(relay.metric("derp_packets_dropped", &[]), 0);
}
