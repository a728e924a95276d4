//! A relay that runs in this process, and clients for it: real sockets on loopback.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use derp_client::{Client, Connector, Login, Received, Target};
use derp_proto::{NodePrivate, NodePublic};
use derper::app::App;
use derper::args::Args;
use derper::config::{Config, Surroundings};
use derper::derpmap_hint::Hint;
use derper::env::Vars;
use derper::gather::gather;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// 2026-11-22: before this the certificates of these tests would not be valid.
pub(crate) fn now() -> SystemTime {
    derper::clock::wall()
}

pub(crate) fn config(dir: &std::path::Path, flags: &str, vars: &[(&str, &str)]) -> Config {
    let mut config = configured(dir, flags, vars);
    // Nobody else is waiting for the clients of these relays.
    config.drain.spread = Duration::ZERO;
    config
}

pub(crate) fn configured(dir: &std::path::Path, flags: &str, vars: &[(&str, &str)]) -> Config {
    let home = dir.display().to_string();
    let mut all = Vars::from([("HOME".to_owned(), home.clone())]);
    all.extend(
        vars.iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned())),
    );
    let flags = flags.replace("{}", &home);
    let args = Args::parse(flags.split_whitespace().map(str::to_owned), &all).expect("good flags");
    let surroundings = Surroundings {
        vars: all.clone(),
        is_root: false,
        now: now(),
        memory_limit: None,
        file_limit: None,
    };
    Config::build(gather(args, &all), &surroundings).expect("a good configuration")
}

/// A relay that runs until it is stopped.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    /// The port beside TLS, where there is one.
    pub(crate) http: Option<SocketAddr>,
    /// The port for operators, where there is one.
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) hint: Option<Hint>,
    pub(crate) server: derp_server::Server,
    pub(crate) reload: mpsc::Sender<derper::signals::Reload>,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    pub(crate) fn start(config: Config) -> Self {
        let app = App::bind(config, now()).expect("ports are free");
        let addr = SocketAddr::from(([127, 0, 0, 1], app.port()));
        let http = app.http_port();
        let http = http.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let metrics = app.metrics_port();
        let metrics = metrics.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let hint = app.hint().cloned();
        let server = app.server().clone();
        let (reload, reloads) = mpsc::channel(1);
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            drop(stopped.await);
        };
        let task = tokio::spawn(app.run(shutdown, reloads));
        Self {
            addr,
            http,
            metrics,
            hint,
            server,
            reload,
            stop,
            task,
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).expect("the relay runs");
        self.task.await.expect("no panic").expect("an orderly end");
    }

    pub(crate) async fn get(&self, request: &str) -> String {
        get(self.addr, request).await
    }
}

/// Sends a request as it is; the whole answer.
pub(crate) async fn get(addr: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("the relay listens");
    let request = format!("{request}Host: derp.example.com\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .await
        .expect("an answer in text");
    answer
}

/// Sends a request as it is over TLS to a relay with this certificate; the whole answer.
pub(crate) async fn over_tls(addr: SocketAddr, cert: PathBuf, request: String) -> String {
    let exchange = move || {
        let mut roots = rustls::RootCertStore::empty();
        let cert = CertificateDer::from_pem_file(cert).expect("a certificate");
        roots.add(cert).expect("it can be trusted");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let tls = rustls::ClientConnection::new(Arc::new(config), addr.ip().into());
        let tcp = std::net::TcpStream::connect(addr).expect("the relay listens");
        tcp.set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a timeout");
        let mut stream = rustls::StreamOwned::new(tls.expect("an address"), tcp);
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        // Not every end is a good-bye.
        let _ended = stream.read_to_end(&mut answer);
        String::from_utf8(answer).expect("text")
    };
    tokio::task::spawn_blocking(exchange)
        .await
        .expect("no panic")
}

pub(crate) fn client_key(byte: u8) -> NodePrivate {
    NodePrivate::from_random([byte; 32])
}

/// What should happen in no time; a failure and not a hang where it does not.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("it happens soon")
}

/// The answer, once it has this line.
pub(crate) async fn once_it_says(line: &str, ask: impl AsyncFn() -> String) -> String {
    soon(async {
        loop {
            let answer = ask().await;
            if answer.lines().any(|found| found == line) {
                return answer;
            }
        }
    })
    .await
}

/// A client that is in: it got an answer to a ping.
pub(crate) async fn connect(relay: &Running, key: &NodePrivate) -> Client {
    let region = relay.hint.as_ref().expect("TLS").region();
    let login = Login::new(key.clone());
    let connected = Connector::new()
        .connect(&Target::Region(region), &login)
        .await;
    let mut client = connected.expect("a login");
    let _round_trip: Duration = client.ping(|_| {}).await.expect("an answer");
    client
}

pub(crate) async fn packet_from(client: &mut Client) -> (NodePublic, Vec<u8>) {
    loop {
        if let Received::Packet { src, packet } =
            soon(client.recv()).await.expect("still connected")
        {
            return (src, packet.to_vec());
        }
    }
}
