//! `derper doctor`, against relays that run in this process: good ones, and some that are not.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use derper::app::App;
use derper::config::Config;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::support::{Running, client_key, config, connect, now, soon};

/// What the doctor says: its status, and each finding as check, level and text.
struct Report {
    code: Option<i32>,
    findings: Vec<(String, String, String)>,
}

impl Report {
    /// The findings of one check.
    fn of(&self, check: &str) -> Vec<(&str, &str)> {
        let found = self.findings.iter().filter(|(name, ..)| name == check);
        found
            .map(|(_, level, what)| (level.as_str(), what.as_str()))
            .collect()
    }

    /// There is a finding of this check and level with this in its text.
    fn has(&self, check: &str, level: &str, part: &str) -> bool {
        let found = self.of(check);
        found
            .iter()
            .any(|(found, what)| *found == level && what.contains(part))
    }

    fn assert(&self, check: &str, level: &str, part: &str) {
        let findings = &self.findings;
        assert!(
            self.has(check, level, part),
            "{check} {level} {part}: {findings:#?}"
        );
    }
}

async fn doctor(home: &Path, words: &str) -> Report {
    let mut command = Command::new(env!("CARGO_BIN_EXE_derper"));
    command
        .arg("doctor")
        .arg("--json")
        .args(words.split_whitespace());
    command.current_dir(home).env_clear().env("HOME", home);
    let output = soon(command.kill_on_drop(true).output())
        .await
        .expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    let findings = report["findings"].as_array().expect("a list");
    let text = |finding: &Value, field: &str| finding[field].as_str().expect("text").to_owned();
    for finding in findings {
        let is_ok = finding["level"] == "ok";
        let what = &finding["what"];
        assert!(
            is_ok || finding["remedy"] != "" || finding["check"] == "configuration",
            "{what}"
        );
    }
    let findings = findings
        .iter()
        .map(|it| (text(it, "check"), text(it, "level"), text(it, "what")))
        .collect();
    Report {
        code: output.status.code(),
        findings,
    }
}

const QUICK: &str = "quickstart 127.0.0.1 -a 127.0.0.1:0 -stun-port 0 -http-port -1 -state-dir {}";

/// The map with this relay alone.
fn map(relay: &Running) -> String {
    relay.hint.as_ref().expect("TLS").policy_json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_relay_has_no_problems_from_outside() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(config(dir.path(), QUICK, &[]));
    fs::write(dir.path().join("map.json"), map(&relay)).unwrap();
    let words = format!("--url https://{} --map map.json", relay.addr);
    let report = doctor(dir.path(), &words).await;
    for (check, level, part) in [
        ("name", "warning", "127.0.0.1, which is every machine's own"),
        ("certificate", "ok", "it is the pinned one"),
        ("certificate", "ok", "it is valid until"),
        ("probe", "ok", "answers 200"),
        ("clock", "ok", "0 s apart"),
        ("generate_204", "ok", "the relay's own port answers 204"),
        ("generate_204", "warning", "port 80"),
        ("debug", "ok", "open to the relay's own machine"),
        ("login", "warning", "everybody may use this relay"),
        ("stun", "ok", "sees this machine as 127.0.0.1"),
        ("map", "ok", "clients reach the relay by it"),
    ] {
        report.assert(check, level, part);
    }
    assert_eq!(report.code, Some(0), "{:#?}", report.findings);
    assert_eq!(report.of("configuration"), []);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_that_is_not_like_the_relay_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(config(dir.path(), QUICK, &[]));
    let good = map(&relay);
    let pin = relay.hint.as_ref().unwrap().pin.clone().unwrap();
    let other = format!("sha256-raw:{}", "00".repeat(32));
    for (from, to, what) in [
        (pin.as_str(), other.as_str(), "are told to expect"),
        ("\"DERPPort\": ", "\"DERPPort\": 1", "DERPPort is"),
        (
            "\"127.0.0.1\"",
            "\"192.0.2.1\"",
            "no node has the host 127.0.0.1",
        ),
        ("{", "", "it is no JSON"),
    ] {
        let broken = good.replacen(from, to, if from == "{" { 1 } else { 9 });
        fs::write(dir.path().join("map.json"), broken).unwrap();
        let words = format!("--url https://{} --map map.json", relay.addr);
        let report = doctor(dir.path(), &words).await;
        assert_eq!(report.code, Some(1), "{what}");
        let told = report.has("map", "problem", what) || report.has("certificate", "problem", what);
        assert!(told, "{what}: {:#?}", report.findings);
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_server_in_the_relays_place_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut buffer = [0; 4096];
            let _read = stream.read(&mut buffer).await;
            let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _sent = stream.write_all(answer.as_bytes()).await;
        }
    });
    let report = doctor(dir.path(), &format!("--url http://{address}")).await;
    report.assert("probe", "problem", "answers 404 in place of 200");
    report.assert("login", "problem", "nobody can log in");
    report.assert("clock", "warning", "tell no time");
    report.assert("stun", "problem", "does not answer");
    assert_eq!(report.code, Some(1));
    server.abort();
    // And where nobody is at all.
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let report = doctor(dir.path(), &format!("--url https://{free}")).await;
    report.assert("connect", "problem", "cannot connect");
    let report = doctor(dir.path(), "--url https://derp.invalid").await;
    report.assert("name", "problem", "derp.invalid has no address");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_make_no_sense_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_derper"));
    command.args(["doctor", "--url", "derp.example.com"]);
    let output = soon(command.current_dir(dir.path()).output())
        .await
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("--url: write it like https://"), "{stderr}");
}

/// A relay by a configuration file, which is written again with the ports that it got.
struct ByFile {
    relay: Running,
}

impl ByFile {
    fn start(home: &Path, more: &str) -> Self {
        let write = |port: u16, stun: u16| {
            let text = format!(
                "hostname = \"127.0.0.1\"\nstate_dir = \"{home}\"\nadmin.socket = \"{home}/admin\"\n\
                 listen.address = \"127.0.0.1:{port}\"\nlisten.http_port = -1\nstun.port = {stun}\n\
                 tls.mode = \"self-signed\"\n{more}",
                home = home.display()
            );
            fs::write(home.join("derper.toml"), text).expect("written");
        };
        write(0, 0);
        let relay = Running::start(config(home, "--config {}/derper.toml", &[]));
        let stun = relay.hint.as_ref().and_then(|hint| hint.stun_port);
        write(relay.addr.port(), stun.expect("STUN runs"));
        Self { relay }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_on_this_machine_is_looked_at_by_its_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("nodes");
    fs::write(&list, client_key(1).public().to_string()).unwrap();
    let more = format!("verify.allowlist = \"{}\"\n", list.display());
    let by_file = ByFile::start(dir.path(), &more);
    let report = doctor(dir.path(), "--config derper.toml").await;
    for (check, level, part) in [
        ("configuration", "ok", "no mistakes"),
        ("ports", "ok", "the relay answers on 127.0.0.1:"),
        ("certificate", "ok", "it is the pinned one"),
        ("login", "ok", "a stranger is turned away"),
        ("stun", "ok", "127.0.0.1"),
        ("verifier", "ok", "the allowlist has 1 keys"),
        ("clients", "ok", "0 are connected"),
    ] {
        report.assert(check, level, part);
    }
    assert_eq!(report.code, Some(0), "{:#?}", report.findings);
    by_file.relay.stop().await;
    // The same, when it is over.
    let report = doctor(dir.path(), "--config derper.toml").await;
    report.assert("ports", "warning", "the relay does not run here");
    assert_eq!(report.of("login"), []);
    assert_eq!(report.code, Some(0), "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_runs_otherwise_than_it_is_configured_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let by_file = ByFile::start(dir.path(), "");
    // Since it was started, a list was added, the key was exchanged, and STUN got another port.
    let file = dir.path().join("derper.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(dir.path().join("nodes"), client_key(1).public().to_string()).unwrap();
    let free = UdpSocket::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let stun = text
        .lines()
        .find(|line| line.starts_with("stun.port"))
        .unwrap();
    let changed = text.replace(stun, &format!("stun.port = {}", free.port()));
    let nodes = dir.path().join("nodes");
    let changed = format!("{changed}verify.allowlist = \"{}\"\n", nodes.display());
    fs::write(&file, changed).unwrap();
    fs::remove_file(dir.path().join("derper.key")).unwrap();
    let key = "{\"PrivateKey\":\"privkey:1011111111111111111111111111111111111111111111111111111111111151\"}";
    fs::write(dir.path().join("derper.key"), key).unwrap();
    use std::os::unix::fs::PermissionsExt;
    let owner = fs::Permissions::from_mode(0o600);
    fs::set_permissions(dir.path().join("derper.key"), owner).unwrap();

    let report = doctor(dir.path(), "--config derper.toml").await;
    report.assert("ports", "problem", "is free, though the relay runs");
    report.assert("login", "problem", "made up a moment ago was admitted");
    report.assert("certificate", "problem", "another relay answers there");
    report.assert("stun", "problem", "does not answer");
    assert_eq!(report.code, Some(1));
    by_file.relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_on_the_port_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let stun = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let text = format!(
        "hostname = \"127.0.0.1\"\nlisten.address = \"{address}\"\nlisten.http_port = -1\n\
         stun.port = {}\ntls.mode = \"off\"\nstate_dir = \"{}\"\n",
        stun.local_addr().unwrap().port(),
        dir.path().display()
    );
    fs::write(dir.path().join("derper.toml"), text).unwrap();
    let closing = tokio::spawn(async move {
        loop {
            drop(taken.accept().await);
        }
    });
    let report = doctor(dir.path(), "--config derper.toml").await;
    report.assert("ports", "problem", "not by a relay that answers");
    assert_eq!(report.code, Some(1));
    closing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_in_the_configuration_are_findings() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("derper.toml"), "tls.mode = \"of\"\n").unwrap();
    let report = doctor(dir.path(), "--config derper.toml").await;
    report.assert(
        "configuration",
        "problem",
        "derper.toml:1: tls.mode = \"of\"",
    );
    assert_eq!(report.code, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_all_seem_to_be_here_are_a_proxys() {
    let dir = tempfile::tempdir().unwrap();
    let by_file = ByFile::start(dir.path(), "");
    let _alice = connect(&by_file.relay, &client_key(1)).await;
    let _bob = connect(&by_file.relay, &client_key(2)).await;
    let report = doctor(dir.path(), "--config derper.toml").await;
    report.assert("clients", "problem", "all seem to be on this machine");
    by_file.relay.stop().await;
}

/// Answers every request with this.
fn answer_all(listener: UnixListener, body: &'static str) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut buffer = [0; 4096];
            let _read = stream.read(&mut buffer).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let _sent = stream.write_all(answer.as_bytes()).await;
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn verifiers_are_asked_and_what_they_see_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = |name: &str| UnixListener::bind(dir.path().join(name)).unwrap();
    let servers = [
        answer_all(
            socket("sees"),
            "{\"BackendState\":\"Running\",\"Peer\":{\"nodekey:1\":{}}}",
        ),
        answer_all(
            socket("blind"),
            "{\"BackendState\":\"Running\",\"Peer\":null}",
        ),
        answer_all(socket("out"), "{\"BackendState\":\"NeedsLogin\"}"),
        answer_all(socket("yes"), "{\"Allow\":true}"),
        answer_all(socket("no"), "{\"Allow\":false}"),
    ];
    let home = dir.path().display();
    let text = format!(
        "hostname = \"127.0.0.1\"\nlisten.address = \"127.0.0.1:1\"\nlisten.http_port = -1\n\
         stun.enabled = false\ntls.mode = \"off\"\nstate_dir = \"{home}\"\n[verify]\n\
         tailscaled = [\"{home}/sees\", \"{home}/blind\", \"{home}/out\", \"{home}/none\"]\n\
         url = [\"unix://{home}/yes:/\", \"unix://{home}/no:/\", \"unix://{home}/none:/\"]\n"
    );
    fs::write(dir.path().join("derper.toml"), text).unwrap();
    let report = doctor(dir.path(), "--config derper.toml").await;
    for (level, part) in [
        ("ok", "sees () sees 1 nodes"),
        ("warning", "blind sees no other nodes"),
        ("problem", "out is in no tailnet: NeedsLogin"),
        ("problem", "none does not answer"),
        ("problem", "url-1 admits a key that was made up"),
        ("ok", "url-2 answers, and does not know a stranger"),
        ("problem", "url-3 does not answer"),
    ] {
        report.assert("verifier", level, part);
    }
    assert_eq!(report.code, Some(1));
    for server in servers {
        server.abort();
    }
}

/// Answers STUN as from behind a bridge: everybody is at this address.
async fn bridged_stun(socket: UdpSocket, seen_as: SocketAddr) {
    let mut buffer = [0; 1500];
    loop {
        let (len, from) = socket.recv_from(&mut buffer).await.expect("a request");
        let Ok(request) = derp_stun::BindingRequest::parse(&buffer[..len]) else {
            continue;
        };
        let response = derp_stun::BindingResponse {
            txid: request.txid,
            mapped: seen_as,
        };
        let mut datagram = [0; derp_stun::MAX_RESPONSE_LEN];
        let len = response.encode(&mut datagram);
        socket.send_to(&datagram[..len], from).await.expect("sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_hides_everybody_from_stun_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let app_config: Config = config(
        dir.path(),
        "quickstart 127.0.0.1 -a 127.0.0.1:0 -stun=false -http-port -1 -state-dir {}",
        &[],
    );
    let app = App::bind(app_config, now()).unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], app.port()));
    let mut hint = app.hint().unwrap().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let (_nobody, reloads) = mpsc::channel(1);
    let shutdown = async {
        drop(stopped.await);
    };
    let task = tokio::spawn(app.run(shutdown, reloads));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    hint.stun_port = Some(socket.local_addr().unwrap().port());
    let stun = tokio::spawn(bridged_stun(socket, "172.17.0.1:5".parse().unwrap()));
    fs::write(dir.path().join("map.json"), hint.policy_json()).unwrap();
    let words = format!("--url https://{address} --map map.json");
    let report = doctor(dir.path(), &words).await;
    // Docker does this to its own machine in any case, so here it is a warning.
    report.assert("stun", "warning", "sees this machine as 172.17.0.1");
    stun.abort();
    stop.send(()).unwrap();
    soon(task).await.unwrap().unwrap();
}
