//! The relay as a service: what a service manager hands over and hears, and what operators see.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use derper::app::App;
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::{mpsc, oneshot};

use self::support::{Running, config, get, now, once_it_says, soon};

const PLAIN: &str = "-a 127.0.0.1:0 -stun-port 0 -c {}/derper.key";

fn status(answer: &str) -> &str {
    answer.lines().next().unwrap_or_default()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_have_a_listener_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let flags = format!("{PLAIN} --metrics-addr 127.0.0.1:0");
    let app = App::bind(config(dir.path(), &flags, &[]), now()).unwrap();
    let [public, metrics] = [Some(app.port()), app.metrics_port()]
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap())));
    let (stop, stopped) = oneshot::channel::<()>();
    let (_reload, reloads) = mpsc::channel(1);
    let shutdown = async {
        drop(stopped.await);
    };
    let task = tokio::spawn(app.run(shutdown, reloads));
    for (path, expected, part) in [
        (
            "/metrics",
            200,
            "# TYPE derp_accepts counter\nderp_accepts 0",
        ),
        ("/healthz", 200, "ok\n"),
        ("/readyz", 200, "ready\n"),
        ("/", 200, "/metrics\n"),
        ("/debug/check", 200, "okay"),
        ("/derp", 404, "not found"),
        ("/derp/probe", 404, "not found"),
    ] {
        let answer = get(metrics, &format!("GET {path} HTTP/1.1\r\n")).await;
        let status = status(&answer);
        assert!(status.contains(&expected.to_string()), "{path}: {answer}");
        assert!(body(&answer).contains(part), "{path}: {answer}");
    }
    let posted = get(metrics, "POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n").await;
    assert!(status(&posted).contains("405"), "{posted}");
    // Strangers do not see that there is such a thing.
    for path in ["/metrics", "/healthz", "/readyz"] {
        let answer = get(public, &format!("GET {path} HTTP/1.1\r\n")).await;
        assert!(body(&answer).starts_with("<"), "{path}: {answer}");
    }
    stop.send(()).unwrap();
    soon(task).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_what_the_pages_say_and_who_sees_them() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(config(dir.path(), PLAIN, &[]));
    let home = "GET / HTTP/1.1\r\n";
    assert!(!body(&relay.get(home).await).is_empty());
    let varz = "GET /debug/varz?debugkey=sesame HTTP/1.1\r\nX-Forwarded-For: 8.8.8.8\r\n";
    assert!(status(&relay.get(varz).await).contains("403"));

    let key = dir.path().join("debug.key");
    fs::write(&key, "sesame\n").unwrap();
    let vars = [("TS_DEBUG_KEY_PATH", key.to_str().unwrap())];
    let flags = format!("{PLAIN} -home blank");
    for _ in 0..2 {
        let reload = Ok((support::configured(dir.path(), &flags, &vars), now()));
        relay.reload.send(reload).await.unwrap();
    }
    // Once the second is taken up, the first is done.
    drop(relay.reload.reserve().await.unwrap());
    assert_eq!(body(&relay.get(home).await), "");
    let both = "derper_config_reloads{result=\"ok\"} 2";
    let answer = once_it_says(both, async || relay.get(varz).await).await;
    assert!(status(&answer).contains("200"), "{answer}");
    assert!(answer.contains("derper_config_rejected 0\n"));
    relay.stop().await;
}

/// What a service manager hears from the relay.
struct Heard(UnixDatagram);

impl Heard {
    /// Waits for a message of these lines.
    fn wait_for(&self, wanted: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let len = self.0.recv(&mut buffer).expect("it is said in time");
            let message = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if message.lines().any(|line| line.starts_with(wanted)) {
                return message;
            }
        }
    }
}

struct Service(Child);

impl Service {
    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("it runs"), signal).expect("a signal");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

fn derper(home: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_derper"));
    command.args(words.split_whitespace()).current_dir(home);
    command.env_clear().env("HOME", home);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

#[test]
fn a_service_manager_hears_how_the_relay_is() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("notify");
    let heard = Heard(UnixDatagram::bind(&socket).unwrap());
    let patience = Some(Duration::from_secs(30));
    heard.0.set_read_timeout(patience).unwrap();
    let file = home.path().join("derper.toml");
    let write = |more: &str| {
        let text = "tls.mode = \"off\"\nlisten.address = \"127.0.0.1:0\"\nstun.port = 0\n";
        fs::write(&file, format!("{text}{more}")).unwrap();
    };
    write("");
    let words = format!(
        "--config {} -state-dir {}",
        file.display(),
        home.path().display()
    );
    let mut command = derper(home.path(), &words);
    command.env("NOTIFY_SOCKET", &socket);
    command.env("WATCHDOG_USEC", "400000");
    let mut service = Service(command.stderr(Stdio::null()).spawn().expect("sh starts"));
    heard.wait_for("READY=1");
    let alive = heard.wait_for("WATCHDOG=1");
    assert!(alive.contains("STATUS=serving 0 clients"), "{alive}");
    // Mistakes end a reload as well.
    for more in ["limits.clients = 7\n", "limits.clients = \"many\"\n"] {
        write(more);
        service.signal(Signal::HUP);
        let reloading = heard.wait_for("RELOADING=1");
        assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
        heard.wait_for("READY=1");
    }
    service.signal(Signal::TERM);
    heard.wait_for("STOPPING=1");
    assert_eq!(service.0.wait().unwrap().code(), Some(0));
}

/// A relay that is given a socket as systemd does it: as its third descriptor, with a name.
fn with_socket(home: &Path, socket: &TcpListener, words: &[&str], log: Stdio) -> Service {
    let mut command = Command::new("sh");
    // The variable has to name the process that the relay will be.
    command.args([
        "-c",
        "export LISTEN_PID=$$; exec \"$@\" 3<&0 </dev/null",
        "sh",
    ]);
    command.arg(env!("CARGO_BIN_EXE_derper"));
    command.args(["-a", "127.0.0.1:1", "-stun=false", "-c", "derper.key"]);
    command.args(words);
    command.current_dir(home).env_clear().env("HOME", home);
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "derp");
    command.stdin(OwnedFd::from(
        socket.try_clone().expect("another descriptor"),
    ));
    Service(command.stderr(log).spawn().expect("sh starts"))
}

/// Asks, whether or not anybody is there yet.
fn ask(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let patience = Some(Duration::from_secs(30));
    stream.set_read_timeout(patience).expect("a socket");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_log_that_takes_nothing_holds_nobody_up() {
    let home = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (_nobody_reads, unread) = std::io::pipe().unwrap();
    let (reader, broken) = std::io::pipe().unwrap();
    drop(reader);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    for log in [Stdio::from(unread), Stdio::from(broken), Stdio::from(full)] {
        let words = ["-log-level", "debug"];
        let mut service = with_socket(home.path(), &socket, &words, log);
        let has_lost = (0..1000).any(|_| {
            for _ in 0..10 {
                // A line each.
                let answer = answer(ask(address, "/ HTTP/0.9"));
                assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
            }
            let answer = answer(ask(address, "/debug/varz"));
            let lost = answer
                .lines()
                .find_map(|line| line.strip_prefix("derper_log_lines_lost "));
            lost.expect("it is counted") != "0"
        });
        assert!(has_lost);
        service.signal(Signal::TERM);
        assert_eq!(service.0.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_socket_that_the_service_manager_keeps_refuses_nobody_over_restarts() {
    let home = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    for _ in 0..3 {
        // Nobody is there who would accept it.
        let asked = ask(address, "/derp/probe");
        let mut service = with_socket(home.path(), &socket, &[], Stdio::null());
        let answer = answer(asked);
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        service.signal(Signal::TERM);
        assert_eq!(service.0.wait().unwrap().code(), Some(0));
    }
}
