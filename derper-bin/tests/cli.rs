//! The program `derper` from outside: exit codes, messages, signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// The program, with no variables of whoever runs the tests.
fn derper(home: &Path, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_derper"));
    command
        .env_clear()
        .env("HOME", home)
        .args(words.split_whitespace());
    command
}

fn run(words: &str) -> Output {
    let home = tempfile::tempdir().expect("a directory");
    derper(home.path(), words)
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn help_and_version_go_to_standard_output() {
    let version = run("-version");
    assert_eq!(version.status.code(), Some(0));
    assert!(text(&version.stdout).starts_with("derper "));
    let help = run("-help");
    assert_eq!(
        (help.status.code(), help.stderr.as_slice()),
        (Some(0), b"".as_slice())
    );
    assert!(text(&help.stdout).contains("Usage: derper"));
}

#[test]
fn behind_a_proxy_the_map_has_the_proxys_port() {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/proxy/derper-passthrough.toml");
    let output = run(&format!("derpmap node --config {}", file.display()));
    let node = text(&output.stdout);
    assert!(node.contains("\"DERPPort\":443"), "{node}");
}

#[test]
fn a_mistyped_flag_exits_with_two_and_says_how() {
    let output = run("-hostnmae derp.example.com");
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(2), b"".as_slice())
    );
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("derper: unknown flag -hostnmae; did you mean -hostname?\n"));
    assert!(stderr.contains("Usage: derper"), "{stderr}");
}

#[test]
fn mistakes_stop_the_start_all_at_once() {
    let words = "-a :8010 -c /dev/null/key -http-port x -stun=perhaps";
    for words in [words.to_owned(), format!("check-config {words}")] {
        let output = run(&words);
        assert_eq!(
            (output.status.code(), output.stdout.as_slice()),
            (Some(1), b"".as_slice())
        );
        assert_eq!(
            text(&output.stderr),
            "derper: the configuration has 3 mistakes:\n  \
             -http-port \"x\": not a whole number; give a port from 0 to 65535, or -1 for none\n  \
             -stun \"perhaps\": write true or false\n  \
             -c: cannot read /dev/null/key: Not a directory (os error 20)\n"
        );
    }
}

#[test]
fn check_config_says_what_would_happen_and_does_nothing() {
    let home = tempfile::tempdir().unwrap();
    let words = "check-config -a 127.0.0.1:8443 -hostname 127.0.0.1 -certmode manual \
                 -stun-port 3479 -c derper.key -certdir certs";
    let output = derper(home.path(), words)
        .current_dir(home.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "warning: this is an OPEN RELAY: everybody who knows its address may use it; list the \
         keys of your nodes in a file and name it with --allowlist\n\
         listen: 127.0.0.1:8443 (TLS with certs/127.0.0.1.crt, which will be made)\n\
         listen: 127.0.0.1:80 (redirects and captive portal checks)\n\
         STUN: UDP 127.0.0.1:3479\n\
         key: derper.key, which will be made\n\
         the configuration is good\n"
    );
    assert_eq!(home.path().read_dir().unwrap().count(), 0);
}

/// A relay that runs; killed at the end, if it has not ended itself.
struct Relay {
    child: Child,
    /// Its lines, as they come.
    log: Receiver<String>,
    port: u16,
}

/// How long an event may take to be logged, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

impl Relay {
    /// Starts it, with its log in JSON, and waits until it listens.
    fn start(home: &Path, words: &str) -> Self {
        let mut child = derper(home, words)
            .args(["-log-format", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let (sender, log) = mpsc::channel();
        // It ends with the log, or when nobody wants to know any more.
        thread::spawn(move || {
            let mut lines = lines.map_while(Result::ok);
            lines.all(|line| sender.send(line).is_ok())
        });
        let mut relay = Self {
            child,
            log,
            port: 0,
        };
        let event = relay.wait_for("listening");
        let port = event["port"].as_u64().expect("a port");
        relay.port = u16::try_from(port).expect("a port");
        relay
    }

    /// Reads the log until the event.
    fn wait_for(&self, message: &str) -> serde_json::Value {
        let mut seen = String::new();
        loop {
            let line = self.log.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|err| panic!("{err}, without {message:?}:\n{seen}"));
            seen.push_str(&format!("{line}\n"));
            let event: serde_json::Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("{seen}"));
            let told = event["message"].as_str().unwrap_or_default();
            if told.contains(message) {
                return event;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("an id");
        kill_process(Pid::from_raw(pid).expect("an id"), signal).expect("it runs");
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

const PLAIN: &str = "-a 127.0.0.1:0 -stun-port 0 -c derper.key -home blank";

#[test]
fn it_serves_and_stops_when_told() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = tempfile::tempdir().unwrap();
        let words = PLAIN.replace(
            "derper.key",
            &home.path().join("derper.key").to_string_lossy(),
        );
        let mut relay = Relay::start(home.path(), &words);
        assert!(relay.get("/derp/probe").starts_with("HTTP/1.1 200 OK\r\n"));
        relay.signal(signal);
        relay.wait_for("stopped");
        assert_eq!(relay.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_hangup_reads_files_again_and_keeps_the_old_on_a_mistake() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("derper.toml");
    let write = |text: &str| {
        let common = "tls.mode = \"off\"\nlisten.address = \"127.0.0.1:0\"\nstun.port = 0\n";
        std::fs::write(&file, format!("{common}{text}")).unwrap();
    };
    write("limits.clients = 5\n");
    let words = format!(
        "--config {} -state-dir {}",
        file.display(),
        home.path().display()
    );
    let relay = Relay::start(home.path(), &words);
    write("limits.clients = 6\n");
    relay.signal(Signal::HUP);
    relay.wait_for("limits and times changed");
    write("limits.clients = \"many\"\n");
    relay.signal(Signal::HUP);
    let event = relay.wait_for("not reloaded");
    assert_eq!(
        event["message"],
        format!(
            "not reloaded: {}:4: limits.clients: a whole number is wanted here",
            file.display()
        )
    );
    assert!(relay.get("/derp/probe").starts_with("HTTP/1.1 200 OK\r\n"));
    relay.signal(Signal::TERM);
    relay.wait_for("stopped");
}

#[test]
fn quickstart_prints_what_to_paste() {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let words = "quickstart 127.0.0.1 -a 127.0.0.1:0 -stun-port 0 -state-dir";
    let mut relay = Relay::start(home.path(), &format!("{words} {}", state.display()));
    relay.signal(Signal::TERM);
    relay.wait_for("stopped");
    let mut printed = String::new();
    let stdout = relay.child.stdout.as_mut().unwrap();
    stdout.read_to_string(&mut printed).unwrap();
    assert!(printed.contains("\"derpMap\": {"), "{printed}");
    assert!(printed.contains("\"CertName\": \"sha256-raw:"), "{printed}");
    assert!(
        printed.contains(&format!("\"DERPPort\": {}", relay.port)),
        "{printed}"
    );
    assert!(
        printed.contains("        certname: \"sha256-raw:"),
        "{printed}"
    );
    assert!(state.join("derper.key").exists());
}

#[test]
fn words_that_are_not_text_are_refused() {
    use std::os::unix::ffi::OsStrExt;

    let home = tempfile::tempdir().unwrap();
    let word = std::ffi::OsStr::from_bytes(b"-hostname=\xff");
    let output = derper(home.path(), "").arg(word).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        text(&output.stderr),
        "derper: \"-hostname=\\xFF\" is not UTF-8\n"
    );
}

/// What the relay at `stream` answers to a header of a proxy and a request for its counts.
fn varz(mut stream: impl Read + Write, header: &str) -> String {
    let request = "GET /debug/varz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    // It may be refused already.
    let _sent = stream.write_all(format!("{header}{request}").as_bytes());
    let mut answer = String::new();
    // A refusal may be a reset.
    let _ended = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn behind_a_proxy_everybody_is_who_the_proxy_says() {
    let home = tempfile::tempdir().unwrap();
    let key = home.path().join("derper.key");
    let words = PLAIN.replace("derper.key", &key.to_string_lossy());
    let words = format!("{words} --proxy-protocol required --proxy-protocol-from 127.0.0.1");
    let relay = Relay::start(home.path(), &words);
    let connect = || TcpStream::connect(("127.0.0.1", relay.port)).expect("it listens");
    let denied = "\r\n\r\ndebug access denied\n";
    let stranger = "PROXY TCP4 192.0.2.7 192.0.2.1 1000 443\r\n";
    assert!(varz(connect(), stranger).ends_with(denied));
    assert_eq!(varz(connect(), ""), "", "the proxy must send a header");
    let own = varz(connect(), "PROXY TCP4 127.0.0.1 127.0.0.1 1000 443\r\n");
    let has = |text: &str, line| text.lines().any(|found| found == line);
    for line in [
        "derper_proxy_headers{outcome=\"client\"} 2",
        "derper_proxy_headers{outcome=\"missing\"} 1",
    ] {
        assert!(has(&own, line), "{line}\n{own}");
    }
    // What became of a connection is counted when it is over, which may be later.
    let is_counted = (0..1000).any(|_| {
        let own = varz(connect(), "PROXY TCP4 127.0.0.1 127.0.0.1 1000 443\r\n");
        has(&own, "derper_connections{outcome=\"proxy_header\"} 1")
    });
    assert!(is_counted);
    relay.signal(Signal::TERM);
    relay.wait_for("stopped");
}

#[test]
fn a_unix_socket_is_served_and_goes_with_the_relay() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    let home = tempfile::tempdir().unwrap();
    let [socket, key] = ["derper.sock", "derper.key"].map(|name| home.path().join(name));
    let words = format!(
        "-a unix:{} -c {} -stun=false -home blank --trusted-proxies unix",
        socket.display(),
        key.display()
    );
    let mut relay = Relay::start(home.path(), &words);
    let mode = socket.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut stream = UnixStream::connect(&socket).unwrap();
    let request = "GET /derp/probe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // Nobody is trusted for having no address, but a proxy may say that it was this machine.
    assert!(varz(UnixStream::connect(&socket).unwrap(), "").contains("debug access denied"));
    // A second relay does not take it away, and one that was killed leaves it to the next.
    let second = derper(home.path(), &words).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("another program serves this socket"));
    relay.child.kill().unwrap();
    relay.child.wait().unwrap();
    assert!(socket.exists());
    let mut relay = Relay::start(home.path(), &words);
    UnixStream::connect(&socket).unwrap();
    relay.signal(Signal::TERM);
    relay.wait_for("stopped");
    assert_eq!(relay.child.wait().unwrap().code(), Some(0));
    assert!(!socket.exists());
}
