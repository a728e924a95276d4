//! Looking inside a relay that runs: its admin socket, the commands that use it, and the page for
//! browsers.

mod support;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use derp_client::Client;
use derper::app::App;
use derper::args::Args;
use derper::env::Vars;
use derper::look::Look;
use derper::start::Start;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use self::support::{Running, client_key, config, connect, get, now, packet_from, soon};

const QUICK: &str = "quickstart 127.0.0.1 -a 127.0.0.1:0 -http-port 0 -stun=false -state-dir {} \
                     --admin-socket {}/admin.sock";

/// Sends a request over the socket; the status and the body.
async fn ask(socket: &Path, request: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).await.expect("it is served");
    let request =
        format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer))
        .await
        .expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).expect("a status");
    assert!(head.contains("content-type: application/json"), "{head}");
    (
        status.parse().expect("a number"),
        serde_json::from_str(body).expect("JSON"),
    )
}

/// Runs the program; its status and what it printed.
async fn derper(home: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_derper"));
    command.args(words).current_dir(home).env_clear();
    command.env("HOME", home).kill_on_drop(true);
    let output = soon(command.output()).await.expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A relay with an admin socket, and two clients, one of which has sent 1000 bytes to the other.
async fn with_clients(dir: &Path) -> (Running, PathBuf, Client, Client) {
    let relay = Running::start(config(dir, QUICK, &[]));
    let (alice, bob) = (client_key(1), client_key(2));
    let sender = connect(&relay, &alice).await;
    let mut receiver = connect(&relay, &bob).await;
    sender.send(bob.public(), &[7; 1000]).await.expect("sent");
    let (from, packet) = packet_from(&mut receiver).await;
    assert_eq!((from, packet.len()), (alice.public(), 1000));
    (relay, dir.join("admin.sock"), sender, receiver)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_tells_who_is_there_and_what_they_did() {
    let dir = tempfile::tempdir().unwrap();
    let (relay, socket, _sender, _receiver) = with_clients(dir.path()).await;
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);

    let (status, body) = ask(&socket, "GET /status").await;
    assert_eq!(status, 200);
    let mut look: Look = serde_json::from_value(body).unwrap();
    assert_eq!(look.key, relay.server.public_key().to_string());
    assert_eq!((look.mesh.len(), look.verifiers.len()), (0, 0));
    look.clients.sort_by_key(|client| client.bytes_sent);
    let seen = look.clients.iter().map(|client| {
        let received = (client.packets_received, client.bytes_received);
        let sent = (client.packets_sent, client.bytes_sent);
        (client.key.clone(), client.kind.as_str(), received, sent)
    });
    assert_eq!(
        seen.collect::<Vec<_>>(),
        [
            (
                client_key(1).public().to_string(),
                "client",
                (1, 1000),
                (0, 0)
            ),
            (
                client_key(2).public().to_string(),
                "client",
                (0, 0),
                (1, 1000)
            ),
        ]
    );
    for client in &look.clients {
        let address = client.address.as_deref().unwrap();
        assert!(address.starts_with("127.0.0.1:"), "{address}");
        assert!(
            (!client.home, client.bytes_waiting) == (true, 0),
            "{client:?}"
        );
        assert!(client.rtt_micros.is_some_and(|rtt| rtt > 0), "{client:?}");
    }
    let (status, body) = ask(&socket, "GET /clients").await;
    assert_eq!(
        (status, body["clients"].as_array().unwrap().len()),
        (200, 2)
    );

    let answers = [
        ("GET /", 404),
        ("GET /metrics", 404),
        ("POST /status", 405),
        ("GET /reload", 405),
        ("GET /clients/x/close", 405),
        ("POST /clients/x/close", 400),
        ("POST /reload", 501),
    ];
    for (request, expected) in answers {
        let (status, body) = ask(&socket, request).await;
        assert_eq!(status, expected, "{request}: {body}");
        assert!(body["error"].is_string(), "{request}: {body}");
    }
    relay.stop().await;
    assert!(!socket.exists(), "it goes with the relay");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_closed_by_its_key_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (relay, socket, mut sender, mut receiver) = with_clients(dir.path()).await;
    let close = format!("POST /clients/{}/close", client_key(1).public());
    assert_eq!(ask(&socket, &close).await, (200, json!({ "closed": 1 })));
    while soon(sender.recv()).await.is_ok() {}
    let (status, _) = ask(&socket, &close).await;
    assert_eq!(status, 404);
    soon(receiver.ping(|_| {}))
        .await
        .expect("it is still there");
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_ask_the_relay_over_its_socket() {
    let dir = tempfile::tempdir().unwrap();
    let (relay, socket, mut sender, _receiver) = with_clients(dir.path()).await;
    let flag = format!("--admin-socket={}", socket.display());
    let alice = client_key(1).public().to_string();

    let (code, table, _) = derper(dir.path(), &["clients", &flag]).await;
    assert_eq!((code, table.lines().count()), (Some(0), 3), "{table}");
    assert!(
        table.contains(&alice) && table.contains("1000 B"),
        "{table}"
    );
    let (code, text, _) = derper(dir.path(), &["clients", "--json", &flag]).await;
    let listed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (code, listed["clients"].as_array().unwrap().len()),
        (Some(0), 2)
    );

    let (code, text, _) = derper(dir.path(), &["close", &alice, &flag]).await;
    assert_eq!(code, Some(0));
    assert!(text.starts_with("closed 1 connection;"), "{text}");
    while soon(sender.recv()).await.is_ok() {}
    for (words, what) in [
        (
            vec!["close", &alice, &flag],
            "no client with this key is connected",
        ),
        (vec!["close", "alice", &flag], "\"alice\" is not a key"),
        (vec!["reload", &flag], "not started from a command line"),
        (
            vec!["top"],
            "the relay has no admin socket: start it with --admin-socket",
        ),
        (
            vec!["clients", "--admin-socket=x"],
            "write an absolute path",
        ),
    ] {
        let (code, _, err) = derper(dir.path(), &words).await;
        assert_eq!(code, Some(1), "{words:?}: {err}");
        assert!(err.contains(what), "{words:?}: {err}");
    }
    relay.stop().await;
    let (code, _, err) = derper(dir.path(), &["clients", &flag]).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("is the relay running"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_over_the_socket_says_how_it_went() {
    let dir = tempfile::tempdir().unwrap();
    let (file, socket) = (
        dir.path().join("derper.toml"),
        dir.path().join("admin.sock"),
    );
    let write = |clients: &str| {
        let text = format!(
            "tls.mode = \"off\"\nlisten.address = \"127.0.0.1:0\"\nstun.enabled = false\n\
             state_dir = \"{}\"\nadmin.socket = \"{}\"\nlimits.clients = {clients}\n",
            dir.path().display(),
            socket.display(),
        );
        fs::write(&file, text).unwrap();
    };
    write("5");
    let (vars, words) = (
        Vars::new(),
        ["--config".to_owned(), file.display().to_string()],
    );
    let start = Start {
        args: Args::parse(words, &vars).unwrap(),
        vars,
    };
    let app = App::bind(start.config().unwrap(), now()).unwrap();
    let server = app.server().clone();
    let limit = || server.tunables().max_clients;
    let before = limit();
    let relay = Task::run(app.with_start(start));

    write("7");
    assert_eq!(
        ask(&socket, "POST /reload").await,
        (200, json!({ "reloaded": true }))
    );
    let changed = limit();
    assert_ne!(before, changed);
    write("\"many\"");
    let (status, body) = ask(&socket, "POST /reload").await;
    assert_eq!((status, limit()), (422, changed));
    let mistake = body["mistakes"][0].as_str().unwrap();
    assert!(mistake.contains("limits.clients"), "{mistake}");
    // A file with mistakes does not keep anybody from asking the relay.
    let config = format!("--config={}", file.display());
    let (code, _, err) = derper(dir.path(), &["reload", &config]).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("the old one holds") && err.contains("limits.clients"),
        "{err}"
    );
    write("5");
    let (code, text, err) = derper(dir.path(), &["reload", &config]).await;
    assert_eq!((code, text.as_str()), (Some(0), "reloaded\n"), "{err}");
    assert_eq!(limit(), before);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_sees_clients_on_the_operators_listener_alone() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "-a 127.0.0.1:0 -stun=false -c {}/derper.key --metrics-addr 127.0.0.1:0";
    let app = App::bind(config(dir.path(), flags, &[]), now()).unwrap();
    let [public, operators] = [Some(app.port()), app.metrics_port()]
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap())));
    let relay = Task::run(app);
    let page = get(operators, "GET /debug/clients HTTP/1.1\r\n").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("content-type: text/html"), "{page}");
    assert!(
        page.contains("frame-ancestors 'none'") && page.contains("<h1>Clients"),
        "{page}"
    );
    let json = get(operators, "GET /debug/clients?format=json HTTP/1.1\r\n").await;
    let (_, body) = json.split_once("\r\n\r\n").unwrap();
    let look: Look = serde_json::from_str(body).unwrap();
    assert_eq!(look.clients, []);
    let index = get(operators, "GET /debug/ HTTP/1.1\r\n").await;
    assert!(index.contains("href=\"/debug/clients\""), "{index}");

    for (address, request, status) in [
        (operators, "POST /debug/clients HTTP/1.1\r\n", "405"),
        (operators, "POST /clients/x/close HTTP/1.1\r\n", "405"),
        (
            operators,
            "GET /debug/clients HTTP/1.1\r\nX-Forwarded-For: 8.8.8.8\r\n",
            "403",
        ),
        (public, "GET /debug/clients HTTP/1.1\r\n", "404"),
    ] {
        let answer = get(address, request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{request}: {answer}"
        );
    }
    let index = get(public, "GET /debug/ HTTP/1.1\r\n").await;
    assert!(
        index.contains("/debug/varz") && !index.contains("clients"),
        "{index}"
    );
    relay.stop().await;
}

/// A relay of which no more than its end is needed.
struct Task {
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Task {
    fn run(app: App) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            drop(stopped.await);
        };
        let (_nobody, reloads) = mpsc::channel(1);
        let task = tokio::spawn(app.run(shutdown, reloads));
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.send(()).expect("the relay runs");
        let ended = soon(self.task).await.expect("no panic");
        ended.expect("an orderly end");
    }
}
