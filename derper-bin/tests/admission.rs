//! Who comes in, who stays out, and who has to leave: a relay with each kind of verifier, real
//! clients, and verifiers on loopback that answer as they are told, late, or not at all.

mod support;
#[path = "../../verify/tests/support/mod.rs"]
mod verifiers;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use derp_client::{Client, Connector, Login, Target};
use derp_proto::{MeshKey, NodePrivate, NodePublic};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use self::support::{Running, client_key, config, connect, get, now, packet_from, soon};
use self::verifiers::{Fake, Reply, json};

const QUICK: &str = "quickstart 127.0.0.1 -a 127.0.0.1:0 -http-port 0 -stun=false";
const MESH_KEY: &str = "6d529e9d4ef632d22d4a4214cb49da8f1ba1b72697061fb24e312984c35ec8d8";

/// Whom a verifier admits, and whether it answers.
#[derive(Clone, Default)]
struct Tailnet {
    members: Arc<Mutex<Vec<NodePublic>>>,
    hangs: Arc<AtomicBool>,
    /// What an admission controller says besides.
    more: &'static str,
}

impl Tailnet {
    fn of(members: &[NodePublic]) -> Self {
        let tailnet = Self::default();
        tailnet.set(members);
        tailnet
    }

    fn set(&self, members: &[NodePublic]) {
        *self.members.lock().expect("no test panicked here") = members.to_vec();
    }

    fn members(&self) -> Vec<NodePublic> {
        self.members.lock().expect("no test panicked here").clone()
    }

    /// Answers as an admission controller, a tailscaled or a Headscale server, by what is asked.
    fn answer(&self, request: &str) -> Reply {
        if self.hangs.load(Ordering::SeqCst) {
            return Reply::Hang;
        }
        let members = self.members();
        let target = request
            .split(' ')
            .nth(1)
            .unwrap_or_default()
            .replace("%3A", ":");
        if let Some((_, asked)) = target.split_once("whois?addr=") {
            return match members.iter().find(|key| key.to_string() == asked) {
                Some(key) => json("200 OK", &format!("{{\"Node\":{{\"Key\":\"{key}\"}}}}")),
                None => json("404 Not Found", "no match for IP:port\n"),
            };
        }
        if target.starts_with("/localapi/v0/status") {
            let own = format!("{{\"Self\":{{\"PublicKey\":\"{}\"}}}}", public(200));
            return json("200 OK", &own);
        }
        if target.starts_with("/api/v1/node") {
            if !request.contains("Authorization: Bearer hskey-api-secret\r\n") {
                return json("401 Unauthorized", "Unauthorized");
            }
            let nodes: Vec<_> = members
                .iter()
                .map(|key| format!("{{\"id\":\"1\",\"nodeKey\":\"{key}\",\"tags\":[]}}"))
                .collect();
            return json("200 OK", &format!("{{\"nodes\":[{}]}}", nodes.join(",")));
        }
        let allow = members.iter().any(|key| request.contains(&key.to_string()));
        json("200 OK", &format!("{{\"Allow\":{allow}{}}}", self.more))
    }

    async fn served(&self) -> Fake {
        let tailnet = self.clone();
        Fake::http(move |request| tailnet.answer(request)).await
    }

    fn served_at(&self, socket: &Path) -> Fake {
        let tailnet = self.clone();
        Fake::unix(socket, move |request| tailnet.answer(request))
    }
}

fn public(byte: u8) -> NodePublic {
    client_key(byte).public()
}

fn start(dir: &Path, flags: &str) -> Running {
    Running::start(config(dir, &format!("{QUICK} {flags}"), &[]))
}

async fn is_admitted(relay: &Running, key: &NodePrivate) -> bool {
    let region = relay.hint.as_ref().expect("TLS").region();
    let login = Login::new(key.clone());
    let connected = Connector::new()
        .connect(&Target::Region(region), &login)
        .await;
    match connected {
        // The refusal may come after the client has sent its part.
        Ok(mut client) => soon(client.ping(|_| {})).await.is_ok(),
        Err(_) => false,
    }
}

async fn is_closed(client: &mut Client) {
    soon(async { while client.recv().await.is_ok() {} }).await;
}

/// Waits until a metric has a value of `least` or more.
async fn metric(relay: &Running, name: &str, least: u64) -> u64 {
    soon(async {
        loop {
            if let Some(value) = metric_now(relay, name)
                .await
                .filter(|value| *value >= least)
            {
                return value;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
}

async fn metric_now(relay: &Running, name: &str) -> Option<u64> {
    let http = relay.http.expect("a port beside TLS");
    let text = get(http, "GET /debug/varz HTTP/1.1\r\n").await;
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map(|value| value.parse().expect("a number"))
}

fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a mode");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consistency_check_asks_tailscaled_about_its_own_node() {
    let dir = tempfile::tempdir().unwrap();
    let relay = start(dir.path(), "-verify-clients -socket {}/a.sock");
    let http = relay.http.expect("a port beside TLS");
    let check = || get(http, "GET /debug/check HTTP/1.1\r\n");
    let answer = check().await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(answer.contains("\r\n\r\ntailscaled: "), "{answer}");
    // Its own node is no peer that it could look up.
    let tailscaled = Tailnet::of(&[]).served_at(&dir.path().join("a.sock"));
    let answer = check().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("ConsistencyCheck okay\n"), "{answer}");
    drop(tailscaled);
    let answer = check().await;
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_in_and_strangers_stay_out_by_each_kind_of_verifier() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    let tailnet = Tailnet::of(&[public(1), public(2), public(3)]);
    let server = tailnet.served().await;
    let _tailscaled = tailnet.served_at(&home.join("a.sock"));
    write_secret(&home.join("api.key"), "hskey-api-secret\n");
    let keys: Vec<_> = tailnet
        .members()
        .iter()
        .map(|key| format!("{key}\n"))
        .collect();
    fs::write(home.join("nodes"), keys.concat()).unwrap();
    let url = &server.url;
    let table = [
        ("--allowlist {}/nodes".to_owned(), "allowlist"),
        ("--verify-tailscaled {}/a.sock".to_owned(), "tailscaled"),
        (format!("--verify-headscale {url}"), "headscale"),
        (
            format!("--verify-headscale {url} --verify-headscale-api-key-file {{}}/api.key"),
            "headscale",
        ),
        (format!("--verify-url {url}/v"), "url"),
    ];
    for (flags, name) in table {
        // Nobody is asked about twice.
        let relay = start(home, &format!("{flags} --verify-interval 0s"));
        for member in [1, 2, 3] {
            assert!(is_admitted(&relay, &client_key(member)).await, "{flags}");
        }
        assert!(!is_admitted(&relay, &client_key(9)).await, "{flags}");
        for (result, count) in [("allow", 3), ("deny", 1), ("error", 0)] {
            let line = format!("derper_verify_total{{verifier=\"{name}\",result=\"{result}\"}}");
            assert_eq!(
                metric_now(&relay, &line).await,
                Some(count),
                "{flags}: {line}"
            );
        }
        assert_eq!(metric_now(&relay, "derper_open_relay").await, Some(0));
        relay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_relay_serves_three_tailnets_and_a_denied_key_is_out_in_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path();
    let tailnets = [1, 2, 3].map(|n| Tailnet::of(&[public(n), public(7)]));
    let _a = tailnets[0].served_at(&home.join("a.sock"));
    let _b = tailnets[1].served_at(&home.join("b.sock"));
    let c = tailnets[2].served().await;
    fs::write(home.join("denied"), format!("{}\n", public(7))).unwrap();
    let three = format!(
        "--verify-tailscaled {{}}/a.sock --verify-tailscaled {{}}/b.sock --verify-url {}",
        c.url
    );
    let relay = start(home, &format!("{three} --denylist {{}}/denied"));
    for (key, admitted) in [(1, true), (2, true), (3, true), (7, false), (9, false)] {
        assert_eq!(
            is_admitted(&relay, &client_key(key)).await,
            admitted,
            "{key}"
        );
    }
    relay.stop().await;
    let relay = start(home, &format!("{three} --verify-policy all"));
    for (key, admitted) in [(1, false), (2, false), (3, false), (7, true), (9, false)] {
        assert_eq!(
            is_admitted(&relay, &client_key(key)).await,
            admitted,
            "{key}"
        );
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_removed_is_closed_within_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let tailnet = Tailnet::of(&[public(1), public(2)]);
    let server = tailnet.served().await;
    let flags = format!("--verify-url {} --verify-interval 1s", server.url);
    let relay = start(dir.path(), &flags);
    let mut alice = connect(&relay, &client_key(1)).await;
    let mut bob = connect(&relay, &client_key(2)).await;
    metric(&relay, "derper_recheck_total{result=\"kept\"}", 2).await;
    tailnet.set(&[public(2)]);
    is_closed(&mut alice).await;
    assert_eq!(
        metric(&relay, "derper_recheck_total{result=\"closed\"}", 1).await,
        1
    );
    assert!(!is_admitted(&relay, &client_key(1)).await);
    let _round_trip = soon(bob.ping(|_| {})).await.expect("bob is still here");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_that_ends_before_the_interval_is_asked_for_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut tailnet = Tailnet::of(&[public(1)]);
    tailnet.more = ",\"TTLSeconds\":1";
    let server = tailnet.served().await;
    let flags = format!("--verify-url {} --verify-interval 24h", server.url);
    let relay = start(dir.path(), &flags);
    let mut alice = connect(&relay, &client_key(1)).await;
    metric(&relay, "derper_recheck_total{result=\"kept\"}", 2).await;
    tailnet.set(&[]);
    is_closed(&mut alice).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connected_clients_do_not_notice_that_their_verifier_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    // What is remembered bridges an outage; and without that, nobody who is here is cut off.
    for stale in ["10m", "0s"] {
        let tailnet = Tailnet::of(&[public(1), public(2)]);
        let server = tailnet.served().await;
        fs::write(
            dir.path().join("derper.toml"),
            format!("verify.stale = \"{stale}\"\nverify.cache = \"0s\"\n"),
        )
        .unwrap();
        let url = &server.url;
        let flags = format!("--config {{}}/derper.toml --verify-url {url} --verify-interval 1s");
        let relay = start(dir.path(), &flags);
        let alice = connect(&relay, &client_key(1)).await;
        let mut bob = connect(&relay, &client_key(2)).await;
        let result = if stale == "0s" { "no_answer" } else { "kept" };
        let name = format!("derper_recheck_total{{result=\"{result}\"}}");
        tailnet.hangs.store(true, Ordering::SeqCst);
        server.kill().await;
        let before = metric(&relay, &name, 0).await;
        metric(&relay, &name, before + 4).await;
        alice.send(public(2), b"still here").await.unwrap();
        assert_eq!(
            packet_from(&mut bob).await,
            (public(1), b"still here".to_vec())
        );
        let closed = "derper_recheck_total{result=\"closed\"}";
        assert_eq!(metric_now(&relay, closed).await, Some(0), "{stale}");
        // Whoever was admitted lately comes in again where that is remembered, and nobody else.
        assert_eq!(is_admitted(&relay, &client_key(1)).await, stale != "0s");
        assert!(!is_admitted(&relay, &client_key(3)).await);
        relay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_followed_and_a_bad_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (allowed, denied) = (dir.path().join("nodes"), dir.path().join("denied"));
    let list = |keys: &[u8]| -> String {
        keys.iter()
            .map(|key| format!("{}\n", public(*key)))
            .collect()
    };
    fs::write(&allowed, list(&[1, 2, 3])).unwrap();
    fs::write(&denied, "# nobody yet\n").unwrap();
    let relay = start(dir.path(), "--allowlist {}/nodes --denylist {}/denied");
    let mut alice = connect(&relay, &client_key(1)).await;
    let mut bob = connect(&relay, &client_key(2)).await;
    let mut carol = connect(&relay, &client_key(3)).await;
    fs::write(&allowed, list(&[2, 3])).unwrap();
    is_closed(&mut alice).await;
    fs::write(&denied, list(&[2])).unwrap();
    is_closed(&mut bob).await;
    // A slip of the editor keeps the old list; what is put right afterwards counts.
    fs::write(&allowed, format!("{}oops\n", list(&[1]))).unwrap();
    fs::write(&denied, list(&[2, 4])).unwrap();
    assert!(!is_admitted(&relay, &client_key(1)).await);
    let _round_trip = soon(carol.ping(|_| {})).await.expect("carol is still here");
    fs::write(&allowed, list(&[1])).unwrap();
    is_closed(&mut carol).await;
    assert!(is_admitted(&relay, &client_key(1)).await);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_is_away_keeps_its_own_clients_and_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let allowed = dir.path().join("nodes");
    fs::write(&allowed, format!("{}\n", public(1))).unwrap();
    let tailnet = Tailnet::of(&[public(2)]);
    let server = tailnet.served().await;
    for interval in ["0s", "1s"] {
        fs::write(&allowed, format!("{}\n", public(1))).unwrap();
        tailnet.hangs.store(false, Ordering::SeqCst);
        let flags = format!(
            "--allowlist {{}}/nodes --verify-url {} --verify-interval {interval}",
            server.url
        );
        let relay = start(dir.path(), &flags);
        let mut alice = connect(&relay, &client_key(1)).await;
        let mut bob = connect(&relay, &client_key(2)).await;
        tailnet.hangs.store(true, Ordering::SeqCst);
        fs::write(&allowed, "# nobody\n").unwrap();
        is_closed(&mut alice).await;
        let _round_trip = soon(bob.ping(|_| {})).await.expect("bob is still here");
        relay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_was_under_way_does_not_escape_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let denied = dir.path().join("denied");
    fs::write(&denied, "# nobody yet\n").unwrap();
    fs::write(dir.path().join("derper.toml"), "timeouts.login = \"5s\"\n").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let flags = format!(
        "--config {{}}/derper.toml --denylist {{}}/denied --verify-url {url} --verify-interval 0s"
    );
    let relay = start(dir.path(), &flags);
    let question = async || {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        assert_ne!(stream.read(&mut request).await.unwrap(), 0);
        stream
    };
    let allow = async |mut stream: TcpStream| {
        let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 14\r\n\r\n";
        let answer = format!("{answer}{{\"Allow\":true}}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    };
    let admitted = async { allow(question().await).await };
    let (alice, bob) = (client_key(1), client_key(2));
    let (mut bob, ()) = tokio::join!(connect(&relay, &bob), admitted);
    let logs_in = async {
        let mut client = connect(&relay, &alice).await;
        is_closed(&mut client).await;
    };
    let changes = async {
        let asked = question().await;
        fs::write(&denied, format!("{}\n{}\n", public(1), public(2))).unwrap();
        // Who is gone tells that the list was read, and everybody looked at who was here.
        is_closed(&mut bob).await;
        allow(asked).await;
    };
    tokio::join!(logs_in, changes);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_of_the_region_are_admitted_by_their_key_and_stay() {
    let dir = tempfile::tempdir().unwrap();
    write_secret(&dir.path().join("mesh.key"), MESH_KEY);
    let tailnet = Tailnet::of(&[public(1)]);
    let server = tailnet.served().await;
    let flags = format!(
        "-mesh-psk-file {{}}/mesh.key --verify-url {} --verify-interval 1s",
        server.url
    );
    let relay = start(dir.path(), &flags);
    let mesh_key: MeshKey = MeshKey::from_secret_text(MESH_KEY).expect("a key");
    let login = Login::mesh(client_key(9), mesh_key);
    let region = relay.hint.as_ref().unwrap().region();
    let connected = Connector::new()
        .connect(&Target::Region(region), &login)
        .await;
    let mut other_relay = connected.expect("it is let in");
    let _alice = connect(&relay, &client_key(1)).await;
    metric(&relay, "derper_recheck_total{result=\"kept\"}", 3).await;
    let closed = "derper_recheck_total{result=\"closed\"}";
    assert_eq!(metric_now(&relay, closed).await, Some(0));
    let _round_trip = soon(other_relay.ping(|_| {}))
        .await
        .expect("it is still here");
    let asked_about = server.requests().concat();
    assert!(!asked_about.contains(&public(9).to_string()));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_what_is_known_and_takes_on_new_verifiers() {
    let dir = tempfile::tempdir().unwrap();
    let tailnet = Tailnet::of(&[public(1), public(2)]);
    let server = tailnet.served().await;
    let flags = format!("{QUICK} --verify-url {} --verify-interval 0s", server.url);
    let relay = Running::start(config(dir.path(), &flags, &[]));
    let _alice = connect(&relay, &client_key(1)).await;
    let mut bob = connect(&relay, &client_key(2)).await;
    let reload = Ok((config(dir.path(), &flags, &[]), now()));
    relay.reload.send(reload).await.unwrap();
    // All are looked at again, by what is known of them.
    metric(&relay, "derper_recheck_total{result=\"kept\"}", 2).await;
    assert_eq!(server.requests().len(), 2);
    fs::write(dir.path().join("nodes"), format!("{}\n", public(1))).unwrap();
    let flags = format!("{flags} --allowlist {{}}/nodes --verify-policy all");
    let reload = Ok((config(dir.path(), &flags, &[]), now()));
    relay.reload.send(reload).await.unwrap();
    is_closed(&mut bob).await;
    assert_eq!(server.requests().len(), 2);
    let allowed = "derper_verify_total{verifier=\"url\",result=\"allow\"}";
    assert_eq!(metric_now(&relay, allowed).await, Some(2));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_opens_no_relay() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("nodes"), format!("{}\n", public(1))).unwrap();
    let relay = start(dir.path(), "--allowlist {}/nodes");
    let cut_off = Ok((config(dir.path(), QUICK, &[]), now()));
    relay.reload.send(cut_off).await.unwrap();
    metric(&relay, "derper_config_reloads{result=\"rejected\"}", 1).await;
    assert!(!is_admitted(&relay, &client_key(9)).await);
    assert!(is_admitted(&relay, &client_key(1)).await);
    relay.stop().await;
}
