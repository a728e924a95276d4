//! The probe as a service: what is on its pages as relays come, break and are mended.

mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use derp_client::CertPin;
use derp_proto::DerpNode;
use derpprobe::args::Args;
use derpprobe::config::{Config, Vars};
use derpprobe::probe::Prober;
use derpprobe::service::Service;
use derpprobe::trust::Trust;
use rustls::RootCertStore;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use support::authority::self_signed;
use support::{Fleet, MapFile, node};

/// A service that runs until the test says so.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Running {
    fn start(flags: &str) -> Self {
        let line = format!("-listen 127.0.0.1:0 -spread=false {flags}");
        let args = Args::parse(line.split_whitespace().map(str::to_owned)).expect("good flags");
        let config = Config::build(&args, &Vars::new()).expect("a good configuration");
        let trust = Trust::of(RootCertStore::empty());
        let prober = Prober::new(trust, config.mesh_key.clone(), config.proxies.clone());
        let service = Service::bind(config, prober).expect("a port");
        let address = service.local_addr().expect("a bound socket");
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(service.run(async {
            let _gone = stopped.await;
        }));
        Self {
            address,
            stop,
            ended,
        }
    }

    /// What is answered: the status and the body.
    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.ask(path, "").await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).expect("a status");
        (status.parse().expect("a number"), body.to_owned())
    }

    async fn ask(&self, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        answer
    }

    async fn status(&self) -> Value {
        serde_json::from_str(&self.get("/status.json").await.1).expect("JSON")
    }

    /// Waits until the probe of this name is as `wanted` says; how it is then.
    async fn until(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                let status = self.status().await;
                let results = status["results"].as_array().expect("a list");
                if let Some(probe) = results.iter().find(|probe| probe["name"] == name)
                    && wanted(probe)
                {
                    return probe.clone();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        waited.unwrap_or_else(|_| panic!("{name} does not become what it should"))
    }

    async fn stop(self) {
        self.stop.send(()).expect("it runs");
        self.ended.await.expect("it ends without a fault");
    }
}

/// Pinned, so that no roots are needed.
async fn pinned(fleet: &mut Fleet, name: &str) -> DerpNode {
    let identity = self_signed("127.0.0.1", |_| ());
    let relay = fleet.relay(&identity, |server| server).await;
    DerpNode {
        cert_name: CertPin::of(&identity.cert).to_string(),
        ..node(name, "127.0.0.1", relay)
    }
}

const QUICK: &str = "-interval 200ms -tls-interval 250ms -mesh-interval 5s";

#[tokio::test]
async fn pages_metrics_and_health_show_what_probes_find() {
    let mut fleet = Fleet::default();
    let good = pinned(&mut fleet, "n1").await;
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let dead = node("n2", "127.0.0.1", gone.local_addr().expect("bound"));
    drop(gone);
    let map = MapFile::of(&[&[good], &[dead]]);
    let service = Running::start(&format!("{QUICK} -derp-map {}", map.url()));

    let ran = |probe: &Value| !probe["ended"].is_null();
    service.until("derp/r1/n1/n1/mesh", ran).await;
    service.until("derp/r2/n2/n2/mesh", ran).await;
    let is_good = |probe: &Value| probe["state"] == "good";
    let is_bad = |probe: &Value| probe["state"] == "bad";
    service.until("derp/r1/n1/tls", is_good).await;
    let bad = service.until("derp/r2/n2/tls", is_bad).await;
    let error = bad["error"].as_str().expect("words");
    assert!(error.contains("refused"), "{error}");

    assert_eq!(service.get("/healthz").await, (200, "ok\n".to_owned()));
    let (code, metrics) = service.get("/debug/varz").await;
    assert_eq!((code, service.get("/metrics").await.0), (200, 200));
    for (name, result) in [("derp/r1/n1/tls", 1), ("derp/r2/n2/tls", 0)] {
        let sample = metrics
            .lines()
            .find(|line| line.starts_with(&format!("derpprobe_result{{name=\"{name}\",")))
            .expect("a sample");
        assert!(sample.ends_with(&format!("}} {result}")), "{sample}");
    }
    let (code, page) = service.get("/").await;
    assert_eq!(code, 200);
    assert!(page.contains("n2") && page.contains("refused"), "{page}");
    assert_eq!(service.get("/region/r2").await.0, 200);
    assert_eq!(service.get("/region/nowhere").await.0, 404);
    let head = service.ask("/", "").await;
    assert!(head.contains("content-security-policy: default-src 'none'; style-src 'self'"));
    service.stop().await;
    fleet.shutdown().await;
}

#[tokio::test]
async fn probes_are_run_when_somebody_asks() {
    let mut fleet = Fleet::default();
    let map = MapFile::of(&[&[pinned(&mut fleet, "n1").await]]);
    let flags = "-interval 1h -tls-interval 1h -mesh-interval 1h";
    let service = Running::start(&format!("{flags} -derp-map {}", map.url()));
    service
        .until("derp/r1/n1/tls", |probe| probe["state"] == "good")
        .await;
    let name = "derp%2Fr1%2Fn1%2Ftls";
    let (code, words) = service.get(&format!("/debug/probe-run?name={name}")).await;
    assert_eq!(code, 200, "{words}");
    assert!(words.starts_with("Probe succeeded in "), "{words}");
    assert!(
        words.contains("\nLast 2 probes (including this one): success rate 100%, median latency "),
        "{words}"
    );
    let answer = service
        .ask(
            &format!("/debug/probe-run?name={name}"),
            "Accept: application/json\r\n",
        )
        .await;
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    let ran: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(ran["ProbeInfo"]["Status"], "succeeded");
    assert_eq!(
        ran["ProbeInfo"]["RecentResults"],
        serde_json::json!([true, true, true])
    );
    assert_eq!(ran["PreviousSuccessRatio"], 1.0);

    assert_eq!(service.get("/debug/probe-run").await.0, 400);
    assert_eq!(service.get("/debug/probe-run?name=nothing").await.0, 404);
    let all = service
        .get("/debug/probe-all?exclude=derpmap-probe&exclude=derp/r1/n1/n1/mesh")
        .await;
    let results: Value = serde_json::from_str(&all.1).expect("JSON");
    let names: Vec<_> = results["Results"]
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!((all.0, names), (200, vec!["derp/r1/n1/tls"]));
    // From elsewhere, as a proxy says, nobody looks under /debug/.
    let answer = service
        .ask("/debug/varz", "X-Forwarded-For: 192.0.2.1\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    service.stop().await;
    fleet.shutdown().await;
}

#[tokio::test]
async fn a_run_that_is_bad_is_answered_as_one() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let dead = node("n1", "127.0.0.1", gone.local_addr().expect("bound"));
    drop(gone);
    let map = MapFile::of(&[&[dead]]);
    let flags = "-interval 1h -tls-interval 1h -mesh-interval 0";
    let service = Running::start(&format!("{flags} -derp-map {}", map.url()));
    service
        .until("derp/r1/n1/tls", |probe| !probe["ended"].is_null())
        .await;
    let (code, words) = service
        .get("/debug/probe-run?name=derp%2Fr1%2Fn1%2Ftls")
        .await;
    assert_eq!(code, 424, "{words}");
    assert!(words.starts_with("Probe failed: cannot connect"), "{words}");
    let (code, all) = service.get("/debug/probe-all").await;
    let results: Value = serde_json::from_str(&all).expect("JSON");
    let status = |name: &str| results["Results"][name]["ProbeInfo"]["Status"].clone();
    assert_eq!(
        (code, status("derp/r1/n1/tls"), status("derpmap-probe")),
        (424, "failed".into(), "succeeded".into())
    );
    service.stop().await;
}

#[tokio::test]
async fn probes_come_and_go_with_the_map() {
    let mut fleet = Fleet::default();
    let (one, two) = (
        pinned(&mut fleet, "n1").await,
        pinned(&mut fleet, "n2").await,
    );
    let map = MapFile::of(&[std::slice::from_ref(&one)]);
    let service = Running::start(&format!("{QUICK} -derp-map {}", map.url()));
    let is_good = |probe: &Value| probe["state"] == "good";
    service.until("derp/r1/n1/tls", is_good).await;

    map.write(&[&[two]]);
    service.until("derp/r1/n2/tls", is_good).await;
    let status = service.status().await;
    let results = status["results"].as_array().expect("a list");
    assert!(
        results.iter().all(|probe| probe["node"] != "n1"),
        "{results:?}"
    );
    // What is no map changes nothing but the map's own probe.
    map.write_text("{");
    let bad = service
        .until("derpmap-probe", |probe| probe["ok"] == false)
        .await;
    assert!(bad["error"].as_str().expect("words").contains("DERP map"));
    let runs = service.until("derp/r1/n2/tls", is_good).await["runs"]["good"].clone();
    service
        .until("derp/r1/n2/tls", |probe| {
            probe["runs"]["good"].as_u64() > runs.as_u64()
        })
        .await;
    service.stop().await;
    fleet.shutdown().await;
}

#[tokio::test]
async fn changes_are_posted_and_the_last_day_outlives_a_restart() {
    let hook = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let hook_at = hook.local_addr().expect("bound");
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let dead = node("n1", "127.0.0.1", gone.local_addr().expect("bound"));
    drop(gone);
    let map = MapFile::of(&[&[dead]]);
    let history = map.beside("history.json", "");
    std::fs::remove_file(&history).expect("there");
    let flags = format!(
        "{QUICK} -mesh-interval 0 -derp-map {} -webhook http://{hook_at}/ -history-file {}",
        map.url(),
        history.display()
    );
    let service = Running::start(&flags);
    let (mut post, _) = hook.accept().await.expect("a post");
    let mut text = Vec::new();
    while !text.ends_with(b"}") {
        assert!(post.read_buf(&mut text).await.expect("a request") > 0);
    }
    let text = String::from_utf8(text).expect("text");
    let (_, body) = text.split_once("\r\n\r\n").expect("a head");
    let message: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(message["changes"][0]["name"], "derp/r1/n1/tls");
    assert_eq!(message["changes"][0]["state"], "bad");
    let line = message["text"].as_str().expect("text");
    assert!(line.starts_with("bad: derp/r1/n1/tls: "), "{line}");
    post.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .await
        .expect("sent");
    drop(post);
    service.stop().await;
    let before = runs(&history);
    assert!(before > 0);
    // The next one adds to it.
    let service = Running::start(&flags);
    service
        .until("derp/r1/n1/tls", |probe| !probe["ended"].is_null())
        .await;
    service.stop().await;
    assert!(runs(&history) > before);
}

/// How many runs of the one probe the file has in its pieces of the last day.
fn runs(history: &Path) -> u64 {
    let text = std::fs::read_to_string(history).expect("a file");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let pieces = document["probes"]["derp/r1/n1/tls"].as_array();
    let pieces = pieces.expect("a list").iter();
    let counts = pieces.flat_map(|piece| [&piece[1], &piece[2]]);
    counts.map(|count| count.as_u64().expect("a count")).sum()
}
