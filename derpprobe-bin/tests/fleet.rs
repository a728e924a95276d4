//! Real relays and STUN servers on loopback, some of them broken, and what the probe says of them.

mod support;

#[path = "../examples/map_checker.rs"]
#[expect(dead_code, reason = "of an example everything runs but `main`")]
mod map_checker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use derp_client::CertPin;
use derp_proto::{DerpMap, DerpNode, DerpRegion};
use derp_server::{MetricVisitor, Sample, Server, Value};
use derp_verify::{Candidate, Verdict, Verifier, VerifyError, async_trait};
use derpprobe::args::Args;
use derpprobe::config::{Config, Vars};
use derpprobe::plan::{PlanOptions, Planned, plan};
use derpprobe::probe::Prober;
use derpprobe::progress::Progress;
use derpprobe::run;
use derpprobe::trust::Trust;
use rustls::RootCertStore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use support::authority::{Authority, Identity, self_signed, valid};
use support::{Fleet, MESH_KEY, MapFile, node};

#[tokio::test(flavor = "multi_thread")]
async fn the_example_that_checks_a_map_finds_what_is_good_and_what_is_not() {
    let mut fleet = Fleet::default();
    let relays = TwoKinds::start(&mut fleet).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let gone_at = gone.local_addr().expect("a bound socket");
    drop(gone);
    let mut map = DerpMap::default();
    for (id, node) in [
        (1, relays.pinned("a")),
        (2, node("b", "127.0.0.1", gone_at)),
    ] {
        let region = DerpRegion {
            region_id: id,
            region_code: format!("r{id}"),
            nodes: vec![node],
            ..DerpRegion::default()
        };
        map.regions.insert(id, Some(region));
    }
    let trust = Trust::of(relays.authority.roots());
    let prober = Prober::new(trust, None, derp_client::ProxyEnvironment::default());
    let report = map_checker::check(&map, &prober).await.expect("a plan");
    let names = |is_good: bool| -> Vec<&str> {
        let outcomes = report.outcomes().iter();
        let these = outcomes.filter(|outcome| outcome.result.is_ok() == is_good);
        these.map(|outcome| outcome.name.as_str()).collect()
    };
    assert_eq!(
        names(true),
        ["derp/r1/a/a/mesh", "derp/r1/a/tls"],
        "{report}"
    );
    assert_eq!(
        names(false),
        ["derp/r2/b/b/mesh", "derp/r2/b/tls"],
        "{report}"
    );
}

/// How many connections a relay has accepted.
fn accepted(relay: &Server) -> u64 {
    struct Accepts(u64);
    impl MetricVisitor for Accepts {
        fn sample(&mut self, sample: &Sample<'_>) {
            if let ("derp_accepts", Value::Whole(count)) = (sample.name, sample.value) {
                self.0 = count;
            }
        }
    }
    let mut accepts = Accepts(0);
    relay.metrics().visit(&mut accepts);
    accepts.0
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_connections_serve_again_and_are_replaced_when_they_break() {
    let mut fleet = Fleet::default();
    let identity = self_signed("127.0.0.1", |_| ());
    let at = fleet.relay(&identity, |server| server).await;
    let relay = fleet.first();
    let pinned = DerpNode {
        cert_name: pin_of(&identity),
        ..node("n", "127.0.0.1", at)
    };
    let kept = KeptPair::of(pinned);
    for _ in 0..3 {
        assert!(kept.run().await.is_empty());
        assert_eq!(accepted(relay), 2);
    }
    for client in relay.clients() {
        relay.close_client(&client.key, "a test");
    }
    assert_eq!(kept.run().await, ["reconnected"]);
    assert_eq!(accepted(relay), 4);
    assert!(kept.run().await.is_empty());
    assert_eq!(accepted(relay), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_connections_that_died_without_a_word_are_replaced_in_time() {
    let mut fleet = Fleet::default();
    let identity = self_signed("127.0.0.1", |_| ());
    let at = fleet.relay(&identity, |server| server).await;
    let way = Way::to(at).await;
    let kept = KeptPair::of(DerpNode {
        cert_name: pin_of(&identity),
        ..node("n", "127.0.0.1", way.at)
    });
    for _ in 0..2 {
        assert!(kept.run().await.is_empty());
    }
    way.swallow();
    assert_eq!(kept.run().await, ["reconnected"]);
    assert!(kept.run().await.is_empty());
    assert_eq!(accepted(fleet.first()), 4);
}

/// The relay probe at one node, over connections that are kept.
struct KeptPair {
    prober: Prober,
    planned: Planned,
}

impl KeptPair {
    fn of(node: DerpNode) -> Self {
        let region = DerpRegion {
            region_id: 1,
            region_code: "r".to_owned(),
            nodes: vec![node],
            ..DerpRegion::default()
        };
        let mut map = DerpMap::default();
        map.regions.insert(1, Some(region));
        let kinds = PlanOptions {
            mesh: Some(std::time::Duration::from_secs(60)),
            ..PlanOptions::default()
        };
        let trust = Trust::of(RootCertStore::empty());
        let prober = Prober::new(trust, None, derp_client::ProxyEnvironment::default());
        Self {
            prober: prober.keeping_connections(),
            planned: plan(&map, &kinds).expect("a plan").remove(0),
        }
    }

    /// Runs the probe, which is good; what it found.
    async fn run(&self) -> Vec<&'static str> {
        let outcome = run::run_one(&self.prober, &self.planned).await;
        assert_eq!(outcome.result, Ok(()));
        let facts = outcome.findings.facts.into_iter();
        facts.map(|(what, _)| what).collect()
    }
}

/// A way to a relay on which bytes can get lost.
struct Way {
    at: SocketAddr,
    /// How many connections there were.
    begun: Arc<AtomicU32>,
    /// Bytes of so many of them, the first, get lost.
    dead: Arc<AtomicU32>,
}

impl Way {
    async fn to(relay: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let way = Self {
            at: listener.local_addr().expect("a bound socket"),
            begun: Arc::default(),
            dead: Arc::default(),
        };
        let (begun, dead) = (Arc::clone(&way.begun), Arc::clone(&way.dead));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let number = begun.fetch_add(1, Relaxed);
                let far = TcpStream::connect(relay).await.expect("the relay is there");
                let (near, far) = (near.into_split(), far.into_split());
                for (from, to) in [(near.0, far.1), (far.0, near.1)] {
                    tokio::spawn(carry(from, to, number, Arc::clone(&dead)));
                }
            }
        });
        way
    }

    /// Everything that those who are connected send gets lost.
    fn swallow(&self) {
        self.dead.store(self.begun.load(Relaxed), Relaxed);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, number: u32, dead: Arc<AtomicU32>) {
    let mut bytes = vec![0; 4096];
    while let Ok(len @ 1..) = from.read(&mut bytes).await {
        if number >= dead.load(Relaxed) && to.write_all(&bytes[..len]).await.is_err() {
            return;
        }
    }
}

/// What came of it: the names of what is good, the lines of what is bad, and the exit code.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    good: Vec<String>,
    bad: Vec<String>,
    code: u8,
}

/// Runs the probes of `map` with these flags besides, trusting `roots`.
async fn probe(map: &MapFile, flags: &str, roots: RootCertStore) -> Seen {
    let line = format!("-once -spread=false -derp-map {} {flags}", map.url());
    let args = Args::parse(line.split_whitespace().map(str::to_owned)).expect("good flags");
    let config = Config::build(&args, &Vars::new()).expect("a good configuration");
    let trust = Trust::of(roots);
    let prober = Prober::new(trust, config.mesh_key.clone(), config.proxies.clone())
        .with_server_keys(config.server_keys.clone());
    let report = run::once(&config, &prober, &mut Progress::logged()).await;
    let mut seen = Seen {
        good: Vec::new(),
        bad: Vec::new(),
        code: report.exit_code(),
    };
    for line in report.to_string().lines() {
        if let Some(good) = line.strip_prefix("good: ") {
            let (name, latency) = good.rsplit_once(": ").expect("a name and a latency");
            latency
                .parse::<derp_ops::goflag::GoDuration>()
                .expect("a duration as in Go");
            seen.good.push(name.to_owned());
        } else {
            seen.bad
                .push(line.strip_prefix("bad: ").expect("good or bad").to_owned());
        }
    }
    seen
}

fn pin_of(identity: &Identity) -> String {
    CertPin::of(&identity.cert).to_string()
}

/// Relays of a region with their certificates: one that is known by its name, and one that is
/// known by its address and pinned.
struct TwoKinds {
    authority: Authority,
    named: (Identity, SocketAddr),
    pinned: (Identity, SocketAddr),
}

impl TwoKinds {
    async fn start(fleet: &mut Fleet) -> Self {
        let authority = Authority::new("Test");
        let named = authority.sign("derp.test", |_| ());
        let pinned = self_signed("127.0.0.1", |_| ());
        let named_at = fleet.relay(&named, |server| server).await;
        let pinned_at = fleet.relay(&pinned, |server| server).await;
        Self {
            authority,
            named: (named, named_at),
            pinned: (pinned, pinned_at),
        }
    }

    fn named(&self, name: &str) -> DerpNode {
        node(name, "derp.test", self.named.1)
    }

    fn pinned(&self, name: &str) -> DerpNode {
        DerpNode {
            cert_name: pin_of(&self.pinned.0),
            ..node(name, "127.0.0.1", self.pinned.1)
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_fleet_is_good() {
    let mut fleet = Fleet::default();
    let relays = TwoKinds::start(&mut fleet).await;
    let stun = i32::from(fleet.stun());
    let fronted = DerpNode {
        cert_name: "derp.test".to_owned(),
        ..node("fronted", "front.test", relays.named.1)
    };
    let untrusted = self_signed("whoever.test", |_| ());
    let untrusted_at = fleet.relay(&untrusted, |server| server).await;
    let insecure = DerpNode {
        insecure_for_tests: true,
        ..node("insecure", "127.0.0.1", untrusted_at)
    };
    let map = MapFile::of(&[
        // Two names of one relay: every packet stays within it.
        &[
            DerpNode {
                stun_port: stun,
                ..relays.named("n1")
            },
            relays.named("n2"),
        ],
        &[DerpNode {
            stun_port: stun,
            stun_only: true,
            ..relays.pinned("pinned")
        }],
        &[fronted],
        &[insecure],
    ]);
    let flags = "-bw-interval 15s -bw-probe-size-bytes 3000000";
    let seen = probe(&map, flags, relays.authority.roots()).await;
    let good = [
        "derp/r1/n1/n1/bw",
        "derp/r1/n1/n1/mesh",
        "derp/r1/n1/n2/bw",
        "derp/r1/n1/n2/mesh",
        "derp/r1/n1/tls",
        "derp/r1/n1/udp",
        "derp/r1/n2/n1/bw",
        "derp/r1/n2/n1/mesh",
        "derp/r1/n2/n2/bw",
        "derp/r1/n2/n2/mesh",
        "derp/r1/n2/tls",
        "derp/r2/pinned/pinned/bw",
        "derp/r2/pinned/pinned/mesh",
        "derp/r2/pinned/tls",
        "derp/r2/pinned/udp",
        "derp/r3/fronted/fronted/bw",
        "derp/r3/fronted/fronted/mesh",
        "derp/r3/fronted/tls",
        "derp/r4/insecure/insecure/bw",
        "derp/r4/insecure/insecure/mesh",
        "derp/r4/insecure/tls",
        "derpmap-probe",
    ];
    let good = good.map(str::to_owned).to_vec();
    assert_eq!(
        seen,
        Seen {
            good,
            bad: vec![],
            code: 0
        }
    );
    fleet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_broken_is_named_and_nothing_else() {
    let mut fleet = Fleet::default();
    let relays = TwoKinds::start(&mut fleet).await;
    let expired = relays
        .authority
        .sign("old.test", valid(1_600_000_000, 1_700_000_000));
    let expired_at = fleet.relay(&expired, |server| server).await;
    let dead_at = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("a bound socket")
    };
    let silent = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let silent_port = silent.local_addr().expect("a bound socket").port();
    let wrong_pin = DerpNode {
        cert_name: pin_of(&relays.named.0),
        ..node("wrong", "127.0.0.1", relays.pinned.1)
    };
    let map = MapFile::of(&[
        &[relays.named("healthy")],
        &[node("dead", "derp.test", dead_at)],
        &[node("expired", "old.test", expired_at)],
        &[wrong_pin],
        &[DerpNode {
            stun_port: silent_port.into(),
            ..relays.named("silent")
        }],
    ]);
    let flags = "-stun-interval 600ms";
    let seen = probe(&map, flags, relays.authority.roots()).await;
    let wrong = format!(
        "the server's certificate is {}, not the pinned one",
        pin_of(&relays.pinned.0)
    );
    let bad = [
        "derp/r2/dead/dead/mesh: cannot connect to node dead (derp.test, port PORT): no TCP \
         connection: Connection refused (os error 111)"
            .replace("PORT", &dead_at.port().to_string()),
        format!(
            "derp/r2/dead/tls: cannot connect to {dead_at} by TCP: Connection refused (os error 111)"
        ),
        // The client says it in its own words.
        "derp/r3/expired/expired/mesh: cannot connect to node expired".to_owned(),
        "derp/r3/expired/tls: the certificate of CN=old.test has expired on 2023-11-14 22:13:20 \
         UTC; renew it, and see that the relay serves the new one"
            .to_owned(),
        format!("derp/r4/wrong/tls: {wrong}"),
        "derp/r4/wrong/wrong/mesh: cannot connect to node wrong".to_owned(),
        format!(
            "derp/r5/silent/udp: no STUN answer from 127.0.0.1:{silent_port} to 1 requests; is it \
             running, and is UDP port {silent_port} open?"
        ),
    ];
    assert_eq!(seen.bad.len(), bad.len(), "{seen:#?}");
    for (line, start) in seen.bad.iter().zip(&bad) {
        assert!(line.starts_with(start), "{line}\n{start}");
    }
    assert!(seen.bad[5].ends_with(&wrong), "{}", seen.bad[5]);
    let good = [
        "derp/r1/healthy/healthy/mesh",
        "derp/r1/healthy/tls",
        "derp/r5/silent/silent/mesh",
        "derp/r5/silent/tls",
        "derpmap-probe",
    ];
    assert_eq!(
        (seen.good, seen.code),
        (good.map(str::to_owned).to_vec(), 1)
    );
    fleet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_of_a_region_that_do_not_know_each_other_are_bad() {
    let mut fleet = Fleet::default();
    let relays = TwoKinds::start(&mut fleet).await;
    let map = MapFile::of(&[&[relays.named("a"), relays.pinned("b")]]);
    let seen = probe(&map, "-tls-interval 0", relays.authority.roots()).await;
    let words = |from: &str, to: &str| {
        format!(
            "relay {from} does not know the client that is connected to relay {to}; do both have \
             the same mesh key, and does each follow the other (-mesh-with)?"
        )
    };
    assert_eq!(seen.bad.len(), 2, "{seen:?}");
    for (line, (from, to)) in seen.bad.iter().zip([("a", "b"), ("b", "a")]) {
        assert!(
            line.starts_with(&format!("derp/r1/{from}/{to}/mesh: [")),
            "{line}"
        );
        assert!(line.ends_with(&words(from, to)), "{line}");
    }
    let good = ["derp/r1/a/a/mesh", "derp/r1/b/b/mesh", "derpmap-probe"];
    assert_eq!(
        (seen.good, seen.code),
        (good.map(str::to_owned).to_vec(), 1)
    );
    fleet.shutdown().await;
}

/// Admits nobody whom it is asked about.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Verifier for Nobody {
    async fn verify(&self, _: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        Ok(Verdict::deny("not on the list"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_verifies_clients_wants_the_mesh_key() {
    let mut fleet = Fleet::default();
    let authority = Authority::new("Test");
    let identity = authority.sign("derp.test", |_| ());
    let strict = fleet
        .relay(&identity, |server| server.verifier(Nobody))
        .await;
    let map = MapFile::of(&[&[node("strict", "derp.test", strict)]]);
    let seen = probe(&map, "-tls-interval 0", authority.roots()).await;
    let bad = "derp/r1/strict/strict/mesh: relay strict closed the connection instead of admitting \
               the probe; if it verifies clients, give the mesh key with -mesh-psk-file";
    let map_is_good = vec!["derpmap-probe".to_owned()];
    assert_eq!(
        seen,
        Seen {
            good: map_is_good,
            bad: vec![bad.to_owned()],
            code: 1
        }
    );

    let key = map.beside("mesh.key", MESH_KEY);
    let flags = format!("-tls-interval 0 -mesh-psk-file {}", key.display());
    let seen = probe(&map, &flags, authority.roots()).await;
    let good = ["derp/r1/strict/strict/mesh", "derpmap-probe"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(
        seen,
        Seen {
            good,
            bad: vec![],
            code: 0
        }
    );
    fleet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_hangs_ends_and_says_what_it_waited_for() {
    let mut fleet = Fleet::default();
    let mute = fleet.mute().await;
    let map = MapFile::of(&[&[node("mute", "derp.test", mute)]]);
    let flags = "-tls-interval 2500ms -mesh-interval 2500ms -bw-interval 2500ms";
    let seen = probe(&map, flags, Authority::new("Test").roots()).await;
    let bad = [
        "derp/r1/mute/mute/bw: timeout after 2s while connecting to the relay",
        "derp/r1/mute/mute/mesh: timeout after 2s while connecting to the relay",
        "derp/r1/mute/tls: timeout after 2s while waiting for the TLS handshake",
    ];
    let good = vec!["derpmap-probe".to_owned()];
    assert_eq!(
        seen,
        Seen {
            good,
            bad: bad.map(str::to_owned).to_vec(),
            code: 1
        }
    );
}

#[tokio::test]
async fn without_a_map_the_map_is_what_is_bad() {
    let map = MapFile::of(&[]);
    let seen = probe(&map, "", RootCertStore::empty()).await;
    let bad = vec![
        "derpmap-probe: the map has no regions; is it a DERP map, with \"Regions\" at its top?"
            .to_owned(),
    ];
    assert_eq!(
        seen,
        Seen {
            good: vec![],
            bad,
            code: 1
        }
    );
    let at = |name: &str| node(name, "derp.test", ([127, 0, 0, 1], 1).into());
    let map = MapFile::of(&[&[at("a"), at("a")]]);
    let seen = probe(&map, "", RootCertStore::empty()).await;
    let twice = "derpmap-probe: two nodes have the name \"a\": one in region 1, one in region 1";
    assert_eq!(
        seen,
        Seen {
            good: vec![],
            bad: vec![twice.to_owned()],
            code: 1
        }
    );
}
