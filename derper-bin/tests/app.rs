//! The relay as it runs, in this process: real sockets on loopback, real clients.

mod support;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use derp_client::{Connector, Login, Received, Target};
use derper::app::App;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, oneshot};

use self::support::{Running, client_key, config, connect, get, now, packet_from, soon};

const PLAIN: &str = "-a 127.0.0.1:0 -stun-port 0 -c {}/derper.key";

#[tokio::test(flavor = "multi_thread")]
async fn the_debug_pages_are_for_whoever_may_see_them() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("debug.key");
    fs::write(&key, "open sesame\n").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let vars = [("TS_DEBUG_KEY_PATH", key.to_str().unwrap())];
    let relay = Running::start(config(dir.path(), PLAIN, &vars));
    let cases = [
        ("GET /debug/ HTTP/1.1\r\n", "200 OK", "Uptime:"),
        (
            "GET /debug HTTP/1.1\r\n",
            "307 Temporary Redirect",
            "location: /debug/",
        ),
        (
            "GET /debug/varz HTTP/1.1\r\n",
            "200 OK",
            "# TYPE derp_accepts counter\nderp_accepts ",
        ),
        (
            "GET /debug/vars HTTP/1.1\r\n",
            "200 OK",
            "\"derp\":{\"accepts\":",
        ),
        (
            "GET /debug/check HTTP/1.1\r\n",
            "200 OK",
            "derp.Server ConsistencyCheck okay\n",
        ),
        (
            "GET /debug/pprof/ HTTP/1.1\r\n",
            "404 Not Found",
            "404 page not found\n",
        ),
        (
            "GET /debug/varz HTTP/1.1\r\nX-Forwarded-For: 127.0.0.1\r\n",
            "403 Forbidden",
            "debug access denied\n",
        ),
        (
            "GET /debug/varz?debugkey=open+sesame HTTP/1.1\r\nX-Forwarded-For: 8.8.8.8\r\n",
            "200 OK",
            "derp_accepts ",
        ),
        (
            "POST /debug/varz?debugkey=open+sesame HTTP/1.1\r\nX-Forwarded-For: 8.8.8.8\r\n",
            "403 Forbidden",
            "debug access denied\n",
        ),
    ];
    for (request, status, part) in cases {
        let answer = relay.get(request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{request}: {answer}"
        );
        assert!(
            answer.to_lowercase().contains(&part.to_lowercase()),
            "{request}: {answer}"
        );
    }
    let index = relay.get("GET /debug/ HTTP/1.1\r\n").await;
    for (path, what) in [
        ("/debug/varz", "Metrics (Prometheus)"),
        ("/debug/vars", "Metrics (JSON, as Go's expvar)"),
        ("/debug/check", "Consistency check"),
    ] {
        let link = format!("<a href=\"{path}\">{path}</a> ({what})");
        assert!(index.contains(&link), "{link}: {index}");
    }
    let https = "\r\nstrict-transport-security: max-age=63072000; includesubdomains\r\n";
    assert!(index.to_lowercase().contains(https), "{index}");
    let home = relay.get("GET / HTTP/1.1\r\n").await;
    for word in ["/debug/", "DERP", "Tailscale"] {
        assert!(home.contains(word), "{word}: {home}");
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpublished_name_is_told_to_who_asks_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let flags = format!("{PLAIN} -unpublished-bootstrap-dns-names localhost");
    let relay = Running::start(config(dir.path(), &flags, &[]));
    let ask = "GET /bootstrap-dns?q=localhost HTTP/1.1\r\n";
    // It is looked up while the relay begins to serve.
    let told = soon(async {
        loop {
            let answer = relay.get(ask).await;
            if answer.contains("localhost") {
                break answer;
            }
        }
    });
    let told = told.await.to_lowercase();
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("http/1.1 200 ok"), "{head}");
    for header in [
        "content-type: application/json",
        "connection: close",
        "x-frame-options: deny",
    ] {
        assert!(head.contains(header), "{header}: {head}");
    }
    assert!(body.starts_with("{\n\t\"localhost\": [\n\t\t\""), "{body}");
    // Nobody else hears of it.
    for path in [
        "/bootstrap-dns",
        "/bootstrap-dns?q=other",
        "/bootstrap-dns?q=",
    ] {
        let answer = relay.get(&format!("GET {path} HTTP/1.1\r\n")).await;
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_leads_nowhere_but_to_control_servers_and_only_with_the_flag() {
    let dir = tempfile::tempdir().unwrap();
    let quick = "quickstart 127.0.0.1 -a 127.0.0.1:0 -stun=false -http-port -1 -state-dir {}";
    for (flags, scheme, expected) in [
        (quick.to_owned(), "https", "CONNECT not enabled"),
        (format!("{quick} -ace"), "https", "Invalid CONNECT target"),
        // Only over TLS.
        (format!("{PLAIN} -ace"), "http", "CONNECT not enabled"),
    ] {
        let relay = Running::start(config(dir.path(), &flags, &[]));
        let request = format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n\r\n", relay.addr);
        let answer = match scheme {
            "https" => {
                let cert = dir.path().join("certs/127.0.0.1.crt");
                support::over_tls(relay.addr, cert, request).await
            }
            _ => {
                relay
                    .get(&format!("CONNECT {} HTTP/1.1\r\n", relay.addr))
                    .await
            }
        };
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("{expected}\n")), "{answer}");
        relay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_the_references_names_and_our_own() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(config(dir.path(), PLAIN, &[]));
    relay
        .get("GET /bootstrap-dns?q=a.example.com HTTP/1.1\r\n")
        .await;
    let text = relay.get("GET /debug/varz HTTP/1.1\r\n").await;
    assert!(
        text.to_lowercase()
            .contains("content-type: text/plain;version=0.0.4;charset=utf-8")
    );
    for line in [
        "bootstrap_dns_requests 1",
        "bootstrap_dns_unpublished_misses 1",
        "derp_current_connections 0",
        "stun_requests{disposition=\"success\"} 0",
        "version{version=\"0.1.0\",binary=\"derper\"} 1",
        "derper_open_relay 1",
        "derper_stun_bind_failures 0",
        "derper_secret_files_too_open 0",
        "derper_cert_not_after_seconds 0",
        "# TYPE uptime_sec counter",
        "# TYPE derp_current_file_descriptors gauge",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_meet_by_the_map_node_that_quickstart_prints() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "quickstart 127.0.0.1 -a 127.0.0.1:0 -stun-port 0 -state-dir {}/state";
    let relay = Running::start(config(dir.path(), flags, &[]));
    let region = relay.hint.as_ref().unwrap().region();
    let node = &region.nodes[0];
    assert!(node.cert_name.starts_with("sha256-raw:"), "{node:?}");
    assert_eq!(node.derp_port, i32::from(relay.addr.port()));

    let (a, b) = (client_key(0x11), client_key(0x22));
    let mut alice = connect(&relay, &a).await;
    let mut bob = connect(&relay, &b).await;
    alice.send(b.public(), b"hello").await.unwrap();
    assert_eq!(packet_from(&mut bob).await, (a.public(), b"hello".to_vec()));
    bob.send(a.public(), b"yes?").await.unwrap();
    assert_eq!(
        packet_from(&mut alice).await,
        (b.public(), b"yes?".to_vec())
    );
    drop((alice, bob));
    relay.stop().await;

    // Key and certificate survive a restart, and with them the node in everybody's map.
    let again = Running::start(config(dir.path(), flags, &[]));
    assert_eq!(
        again.hint.as_ref().unwrap().region().nodes[0].cert_name,
        node.cert_name
    );
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_the_allowlist_is_closed_on_reload() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (client_key(0x11), client_key(0x22));
    let list = dir.path().join("nodes");
    fs::write(&list, format!("{}\n{}\n", a.public(), b.public())).unwrap();
    let flags = "quickstart 127.0.0.1 -a 127.0.0.1:0 -stun-port 0 -allowlist {}/nodes";
    let relay = Running::start(config(dir.path(), flags, &[]));
    let _alice = connect(&relay, &a).await;
    let mut bob = connect(&relay, &b).await;
    fs::write(&list, format!("{}\n", a.public())).unwrap();
    relay
        .reload
        .send(Ok((config(dir.path(), flags, &[]), now())))
        .await
        .unwrap();
    soon(async { while bob.recv().await.is_ok() {} }).await;
    let left: Vec<_> = relay
        .server
        .clients()
        .iter()
        .map(|client| client.key)
        .collect();
    assert_eq!(left, [a.public()]);
    let region = relay.hint.as_ref().unwrap().region();
    let refused = Connector::new()
        .connect(&Target::Region(region), &Login::new(b))
        .await;
    let admitted = match refused {
        // The refusal may come after the client has sent its part.
        Ok(mut client) => soon(client.recv()).await.is_ok(),
        Err(_) => false,
    };
    assert!(!admitted);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_limits_for_all() {
    let dir = tempfile::tempdir().unwrap();
    let relay = Running::start(config(dir.path(), PLAIN, &[]));
    assert_eq!(relay.server.tunables().client_rate, None);
    fs::write(
        dir.path().join("rate"),
        "{\"PerClientRateLimitBytesPerSec\": 1000}",
    )
    .unwrap();
    let flags = format!("{PLAIN} -rate-config {{}}/rate");
    let wanted = config(dir.path(), &flags, &[]).tunables;
    assert!(wanted.client_rate.is_some());
    // The second is taken when the first has been applied, and room for a third shows that.
    for _ in 0..2 {
        let reload = Ok((config(dir.path(), &flags, &[]), now()));
        relay.reload.send(reload).await.unwrap();
    }
    drop(relay.reload.reserve().await.unwrap());
    assert_eq!(*relay.server.tunables(), wanted);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn port_80_sends_everybody_to_tls() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "-a 127.0.0.1:0 -http-port 0 -stun=false -c {}/derper.key -certmode manual \
                 -hostname 127.0.0.1 -certdir {}/certs";
    let app = App::bind(config(dir.path(), flags, &[]), now()).unwrap();
    let port = app.port();
    let http = SocketAddr::from(([127, 0, 0, 1], app.http_port().unwrap()));
    let (stop, stopped) = oneshot::channel::<()>();
    let (_reload, reloads) = mpsc::channel(1);
    let shutdown = async {
        drop(stopped.await);
    };
    let task = tokio::spawn(app.run(shutdown, reloads));
    let answer = get(http, "GET /x?y HTTP/1.1\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 302 Found\r\n"), "{answer}");
    let location = format!("location: https://127.0.0.1:{port}/x?y\r\n");
    assert!(answer.to_lowercase().contains(&location), "{answer}");
    let answer = get(
        http,
        "GET /generate_204 HTTP/1.1\r\nX-Tailscale-Challenge: ts_x\r\n",
    )
    .await;
    assert!(
        answer.starts_with("HTTP/1.1 204 No Content\r\n"),
        "{answer}"
    );
    let answer = get(http, "GET /debug/varz HTTP/1.1\r\n").await;
    assert!(answer.contains("\nderp_accepts "), "{answer}");
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_named_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let flags = format!("-a 127.0.0.1:{port} -stun=false -c {{}}/new/derper.key");
    let err = App::bind(config(dir.path(), &flags, &[]), now()).unwrap_err();
    assert_eq!(
        format!("{err:#}"),
        format!(
            "cannot listen on TCP 127.0.0.1:{port} (-a); another program has the port: \
             ss -lnptu 'sport = :{port}' shows which: Address already in use (os error 98)"
        )
    );
    assert!(!dir.path().join("new").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stun_port_that_is_taken_stops_warns_or_moves() {
    let dir = tempfile::tempdir().unwrap();
    let taken = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    // The reference's flags: a warning and a metric.
    let flags = format!("-a 127.0.0.1:0 -stun-port {port} -c {{}}/derper.key");
    let relay = Running::start(config(dir.path(), &flags, &[]));
    let text = relay.get("GET /debug/varz HTTP/1.1\r\n").await;
    assert!(text.contains("\nderper_stun_bind_failures 1\n"), "{text}");
    relay.stop().await;
    // Our file: a failure.
    fs::write(
        dir.path().join("derper.toml"),
        format!("tls.mode = \"off\"\nlisten.address = \"127.0.0.1:0\"\nstun.port = {port}\n"),
    )
    .unwrap();
    let err = App::bind(config(dir.path(), "-config {}/derper.toml", &[]), now()).unwrap_err();
    assert!(
        err.to_string()
            .starts_with(&format!("cannot listen on UDP 127.0.0.1:{port} "))
    );
    // Quickstart's own choice of a port: another one.
    let mut config = config(dir.path(), "quickstart 127.0.0.1 -a 127.0.0.1:0", &[]);
    let stun = config.stun.as_mut().unwrap();
    stun.address = stun.address.with_port(port);
    let relay = Running::start(config);
    let moved = relay.hint.as_ref().unwrap().stun_port.unwrap();
    assert_ne!(moved, port);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_before_the_relay_stops() {
    let dir = tempfile::tempdir().unwrap();
    let flags = "quickstart 127.0.0.1 -a 127.0.0.1:0 -stun-port 0";
    let relay = Running::start(config(dir.path(), flags, &[]));
    let mut client = connect(&relay, &client_key(0x11)).await;
    let stopping = tokio::spawn(relay.stop());
    let mut was_told = false;
    while let Ok(received) = soon(client.recv()).await {
        was_told |= matches!(received, Received::Restarting { .. });
    }
    assert!(was_told);
    stopping.await.unwrap();
}
