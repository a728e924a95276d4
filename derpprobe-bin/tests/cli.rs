//! The program as operators start it: flags, streams, exit codes.

mod support;

use std::process::{Output, Stdio};
use std::time::Duration;

use derp_client::CertPin;
use derp_proto::DerpNode;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use support::authority::{Authority, self_signed};
use support::{Fleet, MapFile, node};

async fn derpprobe(words: &[&str], vars: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_derpprobe"));
    command
        .args(words)
        .env_clear()
        .envs(vars.iter().copied())
        .stdin(Stdio::null());
    command.kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    output
        .expect("the program ends")
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[tokio::test]
async fn results_are_on_standard_output_and_in_the_exit_code() {
    let mut fleet = Fleet::default();
    let identity = self_signed("127.0.0.1", |_| ());
    let relay = fleet.relay(&identity, |server| server).await;
    let pinned = DerpNode {
        cert_name: CertPin::of(&identity.cert).to_string(),
        ..node("n1", "127.0.0.1", relay)
    };
    // Certificates are known by their hash, so that no roots are needed.
    let map = MapFile::of(&[std::slice::from_ref(&pinned)]);
    let url = map.url();
    let words = ["-once", "-spread=false", "-derp-map", &url];
    let output = derpprobe(&words, &[]).await;
    let lines: Vec<String> = text(&output.stdout)
        .lines()
        .map(|line| line.rsplit_once(": ").expect("a latency").0.to_owned())
        .collect();
    let good = [
        "good: derp/r1/n1/n1/mesh",
        "good: derp/r1/n1/tls",
        "good: derpmap-probe",
    ];
    assert_eq!(
        (lines, output.status.code()),
        (good.map(str::to_owned).to_vec(), Some(0))
    );
    assert!(text(&output.stderr).contains("waiting for all probes"));

    let odd = DerpNode {
        ipv4: "none".to_owned(),
        ..pinned
    };
    let map = MapFile::of(&[&[odd]]);
    let url = map.url();
    let words = ["-once", "-spread=0", "--mesh-interval=0", "-derp-map", &url];
    let output = derpprobe(&words, &[]).await;
    let stdout = text(&output.stdout);
    let bad = "bad: derp/r1/n1/tls: 127.0.0.1 has no address: neither in the map nor by DNS";
    assert_eq!(
        (stdout.lines().last(), output.status.code()),
        (Some(bad), Some(1))
    );
    fleet.shutdown().await;
}

#[tokio::test]
async fn roots_are_those_of_the_system() {
    let mut fleet = Fleet::default();
    let authority = Authority::new("Test");
    let relay = fleet
        .relay(&authority.sign("derp.test", |_| ()), |server| server)
        .await;
    let map = MapFile::of(&[&[node("n1", "derp.test", relay)]]);
    let (roots, url) = (map.beside("roots.pem", &authority.pem()), map.url());
    let words = ["-once", "-spread=false", "-derp-map", &url];
    let output = derpprobe(&words, &[("SSL_CERT_FILE", roots.to_str().expect("text"))]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    fleet.shutdown().await;
}

#[tokio::test]
async fn a_map_is_read_as_gos_clients_read_it_and_one_without_nodes_is_bad() {
    let map = MapFile::of(&[]);
    let url = map.url();
    let words = ["-once", "-spread=false", "-derp-map", &url];
    map.write_text(
        r#"{"regions":{"1":{"regionCode":"r","nodes":[{"name":"n1","hostname":"127.0.0.1",
        "ipv4":"none","ipv6":"none","stunport":-1,"derpport":null}]}}}"#,
    );
    let output = derpprobe(&words, &[]).await;
    let stdout = text(&output.stdout);
    assert!(stdout.contains("bad: derp/r/n1/tls: "), "{stdout}");
    assert_eq!(output.status.code(), Some(1));

    map.write_text(r#"{"Regions":{"1":{"RegionCode":"r"},"2":{"Nodes":null}}}"#);
    let output = derpprobe(&words, &[]).await;
    let line = "bad: derpmap-probe: the map leaves nothing to probe: there is no node in its \
                regions, or none with anything of what is to be probed\n";
    assert_eq!(
        (text(&output.stdout).as_str(), output.status.code()),
        (line, Some(1))
    );
}

#[tokio::test]
async fn mistakes_end_the_program_before_anything_is_probed() {
    for (words, start) in [
        (
            &["-onec"][..],
            "derpprobe: unknown flag -onec; did you mean -once?\n",
        ),
        (&["-listen=8030"], "derpprobe: -listen: there is no port"),
        (
            &["-once", "-derp-map=derp.test:0"],
            "derpprobe: -derp-map: \"derp.test:0\" is no place of a map",
        ),
        (
            &[
                "-once",
                "-derp-map=file:///m",
                "-mesh-psk-file=/nonexistent",
            ],
            "derpprobe: -mesh-psk-file: /nonexistent does not exist\n",
        ),
    ] {
        let output = derpprobe(words, &[]).await;
        let stderr = text(&output.stderr);
        assert!(stderr.starts_with(start), "{stderr}");
        assert_eq!(
            (text(&output.stdout), output.status.code()),
            (String::new(), Some(2))
        );
    }
}

#[tokio::test]
async fn the_version_is_told() {
    let output = derpprobe(&["-version"], &[]).await;
    assert!(text(&output.stdout).starts_with("derpprobe "), "{output:?}");
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test]
async fn one_relay_needs_no_map() {
    let mut fleet = Fleet::default();
    let identity = self_signed("127.0.0.1", |_| ());
    let relay = fleet.relay(&identity, |server| server).await;
    let pin = CertPin::of(&identity.cert);
    let stun = fleet.stun();
    let one = format!("-derp-map={relay},{pin},stun:{stun}");
    let words = ["-once", "-spread=false", "-all", "-json", &one];
    let output = derpprobe(&words, &[]).await;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let names = json["results"].as_array().expect("results").iter();
    let names: Vec<_> = names
        .map(|result| result["name"].as_str().expect("a name").to_owned())
        .collect();
    let kinds = ["http", "info", "tls", "udp", "ws"];
    let mut expected = kinds
        .map(|kind| format!("derp/relay/{relay}/{kind}"))
        .to_vec();
    expected.push(format!("derp/relay/{relay}/{relay}/mesh"));
    expected.sort();
    expected.push("derpmap-probe".to_owned());
    let is_ok = json["ok"] == true;
    assert_eq!(
        (names, is_ok, output.status.code()),
        (expected, true, Some(0)),
        "{json:#}"
    );
    fleet.shutdown().await;
}

#[tokio::test]
async fn nagios_gets_its_own_code() {
    let words = ["-once", "-format=nagios", "-derp-map=/nonexistent/map.json"];
    let output = derpprobe(&words, &[]).await;
    let stdout = text(&output.stdout);
    let start = "DERP CRITICAL: 1 of 1 probes failed: derpmap-probe: cannot read the DERP map in \
                 /nonexistent/map.json: ";
    assert!(stdout.starts_with(start), "{stdout}");
    assert_eq!(output.status.code(), Some(2));
}

/// How long a service has to start, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a service, and waits until it has its pages.
async fn started(command: &mut Command) -> Child {
    let command = command.env_clear().stdin(Stdio::null());
    let command = command.stderr(Stdio::piped()).kill_on_drop(true);
    let mut running = command.spawn().expect("the program starts");
    let mut log = BufReader::new(running.stderr.take().expect("piped")).lines();
    let until_it_runs = async {
        while let Some(line) = log.next_line().await.expect("text") {
            if line.contains("the pages are there") {
                return;
            }
        }
        panic!("it ended");
    };
    let is_up = tokio::time::timeout(PATIENCE, until_it_runs).await;
    is_up.expect("it starts");
    running
}

#[tokio::test]
async fn as_many_files_are_opened_as_may_be() {
    let program = env!("CARGO_BIN_EXE_derpprobe");
    let line = format!(
        "ulimit -S -n 256; exec {program} -listen=127.0.0.1:0 -derp-map=/nonexistent/map.json"
    );
    let mut command = Command::new("/bin/sh");
    let running = started(command.args(["-c", &line])).await;
    let limits = format!("/proc/{}/limits", running.id().expect("it runs"));
    let limits = std::fs::read_to_string(limits).expect("Linux tells");
    let open_files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<_> = open_files.expect("a limit").split_whitespace().collect();
    let [_, _, _, soft, hard, _] = words[..] else {
        panic!("{words:?}")
    };
    assert_eq!(soft, hard);
}

#[tokio::test]
async fn a_service_runs_until_it_is_told_to_end() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_derpprobe"));
    command.args(["-listen=127.0.0.1:0", "-derp-map=/nonexistent/map.json"]);
    let mut running = started(&mut command).await;
    let id = i32::try_from(running.id().expect("it runs")).expect("a number");
    let id = rustix::process::Pid::from_raw(id).expect("not zero");
    rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("told");
    let ended = tokio::time::timeout(PATIENCE, running.wait()).await;
    assert!(ended.expect("it ends").expect("waited for").success());
}
