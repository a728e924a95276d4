//! The cases against derpkit's own relay, embedded: all of them pass, and each fails where it
//! meets a fault that it must notice.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use derp_proto::{MeshKey, NodePrivate};
use derp_server::tls::{CertifiedChain, ServedCertificate, ServerTls, SniPolicy};
use derp_server::{ListenOptions, NoExtra, Pages, PagesConfig, Server};
use derp_stun::StunServer;
use rustls_pki_types::PrivateKeyDer;
use testbed_derpspec::{
    Fault, Needs, Numbered, Outcome, Pace, Report, Side, Target, Trust, all, run,
};
use tokio::net::TcpListener;

const MESH_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const NAME: &str = "relay.test";

/// A relay with everything that cases ask for. It is served as long as the runtime lives.
struct Relay {
    server: Server,
    address: SocketAddr,
    http_port: u16,
    stun: Vec<SocketAddr>,
}

impl Relay {
    /// One that is known by `host`, to those that ask for it by the names that `names` allows.
    async fn start(host: &str, names: SniPolicy) -> Self {
        let mut config = PagesConfig::default();
        config.hostname = host.to_owned();
        let server = Server::builder(NodePrivate::from_random([7; 32]))
            .mesh_key(MeshKey::from_secret_text(MESH_KEY).expect("a key"))
            .pages(Pages::new(config, NoExtra))
            .workers(2)
            .start()
            .expect("threads");
        let tls = certificate(&server, host, names);
        let address = listen(&server, ListenOptions::tls("https", Arc::new(tls))).await;
        let mut options = ListenOptions::plain("port 80");
        options.only_redirects = true;
        let http_port = listen(&server, options).await.port();
        let stun = ["127.0.0.1:0", "[::1]:0"].map(|addr| stun(addr.parse().expect("an address")));
        Self {
            server,
            address,
            http_port,
            stun: stun.to_vec(),
        }
    }

    fn target(&self, host: &str) -> Arc<Target> {
        let url = format!("https://{host}:{}", self.address.port());
        let mut target = Target::from_url(&url, Trust::Anybody).expect("a URL");
        target.dial = Some(self.address.to_string());
        target.stun.clone_from(&self.stun);
        target.http_port = Some(self.http_port);
        target.mesh_key = Some(MeshKey::from_secret_text(MESH_KEY).expect("a key"));
        Arc::new(target)
    }
}

async fn listen(server: &Server, options: ListenOptions) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let address = listener.local_addr().expect("a bound socket");
    let server = server.clone();
    tokio::spawn(async move { server.serve(listener, options).await });
    address
}

fn stun(addr: SocketAddr) -> SocketAddr {
    let server = StunServer::bind(addr).expect("a port");
    let addr = server.local_addr();
    tokio::spawn(server.serve());
    addr
}

fn certificate(server: &Server, host: &str, names: SniPolicy) -> ServerTls {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).expect("a name");
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let chain = CertifiedChain::from_der(vec![made.cert.der().clone()], key);
    let served = ServedCertificate {
        names,
        chain: chain.expect("a certificate"),
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "the certificate is valid around now"
    )]
    let now = SystemTime::now();
    ServerTls::new(server.public_key(), vec![served], now).expect("a meta certificate")
}

/// All reports of these runs, where derpkit's behaviour is wanted.
async fn reports(
    target: Arc<Target>,
    cases: Vec<(Numbered, Option<Fault>)>,
    patience: Duration,
) -> Vec<Report> {
    let pace = Pace {
        jobs: 16,
        patience,
        side: Some(Side::Derpkit),
    };
    let reports = Mutex::new(Vec::new());
    run(target, cases, pace, |report| {
        reports.lock().expect("no panic").push(report);
    })
    .await;
    reports.into_inner().expect("no panic")
}

fn told(report: &Report) -> String {
    let number = report.case.number();
    let lines = report.trace.join("\n  ");
    format!(
        "{number} with {:?}: {:?}\n  {lines}",
        report.fault, report.outcome
    )
}

/// The numbers of the cases that were not run.
fn not_run(reports: &[Report]) -> Vec<String> {
    let was_not = |report: &&Report| matches!(report.outcome, Outcome::NotRun(_));
    reports
        .iter()
        .filter(was_not)
        .map(|report| report.case.number())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_relay_passes_every_case() {
    let by_address = Relay::start("127.0.0.1", SniPolicy::Any).await;
    let by_name = Relay::start(NAME, SniPolicy::Exact(NAME.to_owned())).await;
    let patience = Duration::from_secs(20);
    let cases = || all().map(|case| (case, None)).collect::<Vec<_>>();
    let first = reports(by_address.target("127.0.0.1"), cases(), patience).await;
    let rest: Vec<_> = cases()
        .into_iter()
        .filter(|(case, _)| not_run(&first).contains(&case.number()))
        .collect();
    let second = reports(by_name.target(NAME), rest, patience).await;
    for report in first.iter().chain(&second) {
        assert!(!report.outcome.is_failure(), "{}", told(report));
    }
    // What takes many seconds, and what takes two addresses of one host, is left to the program.
    let given = Needs::SLOW | Needs::STUN4_TWICE;
    let left_out = not_run(&second);
    let wrongly: Vec<_> = all()
        .filter(|case| left_out.contains(&case.number()))
        .filter(|case| {
            case.case.needs.missing_from(given) == case.case.needs.missing_from(Needs::NOTHING)
        })
        .map(|case| case.number())
        .collect();
    assert_eq!(wrongly, [""; 0]);
    by_address.server.shutdown().await;
    by_name.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_notices_its_faults() {
    let by_address = Relay::start("127.0.0.1", SniPolicy::Any).await;
    let by_name = Relay::start(NAME, SniPolicy::Exact(NAME.to_owned())).await;
    // What a fault holds back is waited for in vain, so patience is short.
    let patience = Duration::from_secs(1);
    let mut runs: Vec<_> = all()
        .flat_map(|case| {
            case.case
                .red_by
                .iter()
                .map(move |fault| (case, Some(*fault)))
        })
        .collect();
    for target in [by_address.target("127.0.0.1"), by_name.target(NAME)] {
        let reports = reports(target, runs.clone(), patience).await;
        let rest = not_run(&reports);
        runs.retain(|(case, _)| rest.contains(&case.number()));
        for report in reports {
            let is_right =
                report.outcome.is_failure() || matches!(report.outcome, Outcome::NotRun(_));
            assert!(is_right, "green: {}", told(&report));
        }
    }
    by_address.server.shutdown().await;
    by_name.server.shutdown().await;
}
