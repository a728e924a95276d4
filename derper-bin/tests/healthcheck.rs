//! `derper healthcheck`: the program asks a relay that runs, over every kind of listener.

mod support;

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use self::support::{Running, config};

async fn ask(home: &Path, flags: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_derper"));
    let flags = flags.replace("{}", &home.display().to_string());
    command.arg("healthcheck").args(flags.split_whitespace());
    command.env_clear().env("HOME", home).stdin(Stdio::null());
    let run = tokio::task::spawn_blocking(move || command.output());
    run.await.expect("no panic").expect("the program runs")
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn healthy() -> (Option<i32>, String, String) {
    (Some(0), "healthy\n".to_owned(), String::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_answers_is_healthy_over_every_listener() {
    let manual = "-certmode manual -hostname derp.example.com -certdir {}";
    for (listen, tls) in [
        ("-a 127.0.0.1:0", ""),
        ("-a 127.0.0.1:0", manual),
        ("-a 127.0.0.1:0 --proxy-protocol required", manual),
        (
            "-a 127.0.0.1:0 --proxy-protocol required --proxy-protocol-from 10.0.0.0/8",
            manual,
        ),
        ("-a unix:{}/derper.sock --proxy-protocol required", ""),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["derp.example.com".to_owned()]).unwrap();
        let write = |kind: &str, text: String| {
            std::fs::write(dir.path().join(format!("derp.example.com.{kind}")), text).unwrap();
        };
        write("crt", made.cert.pem());
        write("key", made.signing_key.serialize_pem());
        let rest = format!("{tls} -stun=false -http-port -1 -c {{}}/derper.key");
        let relay = Running::start(config(dir.path(), &format!("{listen} {rest}"), &[]));
        let address = format!("127.0.0.1:{}", relay.addr.port());
        let flags = format!("{} {rest}", listen.replace("127.0.0.1:0", &address));
        assert_eq!(said(&ask(dir.path(), &flags).await), healthy(), "{flags}");

        // The relay goes on with what it has read; so does whoever asks.
        if !tls.is_empty() {
            write("crt", String::new());
            assert_eq!(said(&ask(dir.path(), &flags).await), healthy(), "{flags}");
        }
        relay.stop().await;
        let (code, out, err) = said(&ask(dir.path(), &flags).await);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{flags}");
        assert!(err.starts_with("derper: cannot connect to "), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_relay_or_says_nothing_is_not_healthy() {
    let dir = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = silent.local_addr().unwrap();
    let (code, _, err) = said(&ask(dir.path(), &format!("-a {address}")).await);
    assert_eq!((code, err.as_str()), (Some(1), "derper: no answer in 3s\n"));

    // Plain HTTP where TLS should be.
    let relay = Running::start(config(
        dir.path(),
        "-a 127.0.0.1:0 -stun=false -c {}/derper.key",
        &[],
    ));
    let flags = format!(
        "-a 127.0.0.1:{} -certmode manual -hostname derp.example.com",
        relay.addr.port()
    );
    let (code, _, err) = said(&ask(dir.path(), &flags).await);
    assert_eq!(code, Some(1));
    assert!(err.starts_with("derper: over TLS: "), "{err}");
    relay.stop().await;
}
