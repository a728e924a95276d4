//! Probes that the reference does not have, against relays of ours: each is seen to be good, and to
//! find its own fault.

mod support;

use std::net::SocketAddr;

use derp_client::CertPin;
use derp_proto::DerpNode;
use derp_verify::{Candidate, Verdict, Verifier, VerifyError, async_trait};
use derpprobe::args::Args;
use derpprobe::config::{Config, Vars};
use derpprobe::output::Format;
use derpprobe::probe::Prober;
use derpprobe::progress::Progress;
use derpprobe::report::Report;
use derpprobe::run;
use derpprobe::trust::Trust;
use rustls::RootCertStore;
use serde_json::Value;
use tokio::net::TcpListener;

use support::authority::{Authority, Identity, self_signed, valid};
use support::{Fleet, MESH_KEY, MapFile, node, own_key};

/// Admits nobody whom it is asked about.
#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Verifier for Nobody {
    async fn verify(&self, _: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        Ok(Verdict::deny("not on the list"))
    }
}

const ONLY_OURS: &str = "-tls-interval 0 -stun-interval 0 -mesh-interval 0";

fn configured(map: &MapFile, flags: &str) -> Config {
    let line = format!("-once -spread=false -derp-map {} {flags}", map.url());
    let args = Args::parse(line.split_whitespace().map(str::to_owned)).expect("good flags");
    Config::build(&args, &Vars::new()).expect("a good configuration")
}

fn prober(config: &Config, roots: RootCertStore) -> Prober {
    Prober::new(
        Trust::of(roots),
        config.mesh_key.clone(),
        config.proxies.clone(),
    )
    .with_server_keys(config.server_keys.clone())
}

/// Runs the probes of `map` with these flags besides, trusting `roots`.
async fn probe(map: &MapFile, flags: &str, roots: RootCertStore) -> Report {
    let config = configured(map, flags);
    run::once(&config, &prober(&config, roots), &mut Progress::logged()).await
}

/// The names of what is good, without the map.
fn good(report: &Report) -> Vec<&str> {
    let good = report
        .outcomes()
        .iter()
        .filter(|outcome| outcome.result.is_ok());
    let names = good.map(|outcome| outcome.name.as_str());
    names.filter(|name| *name != run::MAP_PROBE).collect()
}

/// The names of what is bad, with why.
fn bad(report: &Report) -> Vec<(&str, &str)> {
    let outcomes = report.outcomes().iter();
    let bad = outcomes.filter_map(|outcome| {
        Some((
            outcome.name.as_str(),
            outcome.result.as_ref().err()?.as_str(),
        ))
    });
    bad.collect()
}

/// What a probe measured or told.
fn found(report: &Report, name: &str) -> Vec<&'static str> {
    let outcome = report
        .outcomes()
        .iter()
        .find(|outcome| outcome.name == name);
    let findings = &outcome.expect("a probe of this name").findings;
    let measured = findings.measured.iter().map(|measured| measured.what);
    measured
        .chain(findings.facts.iter().map(|(what, _)| *what))
        .collect()
}

fn pinned(name: &str, identity: &Identity, at: SocketAddr) -> DerpNode {
    DerpNode {
        cert_name: CertPin::of(&identity.cert).to_string(),
        ..node(name, "127.0.0.1", at)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_of_ours_passes_all_of_them() {
    let mut fleet = Fleet::default();
    let authority = Authority::new("Test");
    let [a, b] = ["a.test", "b.test"].map(|name| authority.sign(name, |_| ()));
    let a = node("a", "a.test", fleet.relay(&a, |server| server).await);
    let b = node("b", "b.test", fleet.relay(&b, |server| server).await);
    fleet
        .mesh(&[a.clone(), b.clone()], &authority.roots())
        .await;
    let map = MapFile::of(&[&[a, b]]);
    let flags = format!("{ONLY_OURS} -all -qd-packets-per-second 100 -qd-interval 4s");
    let report = probe(&map, &flags, authority.roots()).await;
    assert_eq!(bad(&report), []);
    let names = [
        "derp/r1/a/a/qd",
        "derp/r1/a/b/convergence",
        "derp/r1/a/b/qd",
        "derp/r1/a/http",
        "derp/r1/a/info",
        "derp/r1/a/ws",
        "derp/r1/b/a/convergence",
        "derp/r1/b/a/qd",
        "derp/r1/b/b/qd",
        "derp/r1/b/http",
        "derp/r1/b/info",
        "derp/r1/b/ws",
    ];
    assert_eq!(good(&report), names);
    let convergence = ["convergence_seconds", "forgotten_seconds"];
    assert_eq!(found(&report, "derp/r1/a/b/convergence"), convergence);
    let info = ["login_seconds", "protocol", "tls", "start", "limit", "key"];
    assert_eq!(found(&report, "derp/r1/a/info"), info);
    assert_eq!(found(&report, "derp/r1/a/ws"), ["relay_seconds"]);
    // Both ends of both probes, and nobody else.
    assert_eq!(fleet.in_websockets(), 4);
    let qd = [
        "sent",
        "dropped",
        "delay_p50",
        "delay_p90",
        "delay_p99",
        "delay_max",
    ];
    assert_eq!(found(&report, "derp/r1/a/b/qd")[..6], qd);
    let line = report.to_string();
    let told = format!(
        "protocol 2, tls 1.3, start fast, limit none, key {}",
        own_key(1).public()
    );
    assert!(line.contains(&told), "{line}");
    fleet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_are_not_meshed_do_not_converge() {
    let mut fleet = Fleet::default();
    let identity = self_signed("127.0.0.1", |_| ());
    let mut nodes = Vec::new();
    for name in ["a", "b"] {
        nodes.push(pinned(
            name,
            &identity,
            fleet.relay(&identity, |server| server).await,
        ));
    }
    let map = MapFile::of(&[&nodes]);
    let flags = format!("{ONLY_OURS} -convergence-interval 2s");
    let report = probe(&map, &flags, RootCertStore::empty()).await;
    let words = "relay a does not know a client of relay b (timeout after 1.6s while waiting for \
                 a packet to arrive); do both have the same mesh key, and does each follow the \
                 other (-mesh-with)?";
    assert_eq!(bad(&report)[0], ("derp/r1/a/b/convergence", words));
    assert_eq!(bad(&report).len(), 2);
    fleet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_to_refuse_strangers_does() {
    let mut fleet = Fleet::default();
    let identity = self_signed("127.0.0.1", |_| ());
    let private = fleet
        .relay(&identity, |server| server.verifier(Nobody))
        .await;
    let open = fleet.relay(&identity, |server| server).await;
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        listener.local_addr().expect("a bound socket")
    };
    let map = MapFile::of(&[
        &[pinned("private", &identity, private)],
        &[pinned("open", &identity, open)],
        &[pinned("gone", &identity, gone)],
    ]);
    let expect = "-tls-interval 0 -expect-refused all";
    let report = probe(&map, expect, RootCertStore::empty()).await;
    assert_eq!(good(&report), ["derp/r1/private/admission"]);
    let [(name, words), (gone, none)] = bad(&report)[..] else {
        panic!("{report}");
    };
    assert_eq!(
        [name, gone],
        ["derp/r2/open/admission", "derp/r3/gone/admission"]
    );
    // Nobody refuses by not being there.
    assert!(none.contains("no TCP connection"), "{none}");
    let start = "relay open is to refuse strangers and admits the key nodekey:";
    assert!(words.starts_with(start), "{words}");

    // With the mesh key the probe is no stranger, and yet knows how to be one.
    let key = map.beside("mesh.key", MESH_KEY);
    let flags = format!("{expect} -mesh-psk-file {}", key.display());
    let report = probe(&map, &flags, RootCertStore::empty()).await;
    let names = [
        "derp/r1/private/admission",
        "derp/r1/private/private/mesh",
        "derp/r2/open/open/mesh",
    ];
    assert_eq!((good(&report), bad(&report).len()), (names.to_vec(), 3));
    fleet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_has_the_key_that_it_had_and_that_it_should_have() {
    let mut fleet = Fleet::default();
    let identity = self_signed("127.0.0.1", |_| ());
    let first = fleet.relay(&identity, |server| server).await;
    let second = fleet.relay(&identity, |server| server).await;
    let map = |at| MapFile::of(&[&[pinned("n", &identity, at)]]);
    let [one, two] = [1, 2].map(|number| own_key(number).public());

    // Another relay at the same name, as long as the process lives.
    let flags = format!("{ONLY_OURS} -info-interval 15s");
    let before = map(first);
    let config = configured(&before, &flags);
    let prober = prober(&config, RootCertStore::empty());
    assert_eq!(
        bad(&run::once(&config, &prober, &mut Progress::logged()).await),
        []
    );
    let after = map(second);
    let report = run::once(
        &configured(&after, &flags),
        &prober,
        &mut Progress::logged(),
    )
    .await;
    let words = format!("relay n had the key {one} and now has {two}; did it lose its key file, ");
    assert!(bad(&report)[0].1.starts_with(&words), "{report}");

    let flags = format!("{ONLY_OURS} -server-key n={one}");
    assert_eq!(
        bad(&probe(&before, &flags, RootCertStore::empty()).await),
        []
    );
    let report = probe(&after, &flags, RootCertStore::empty()).await;
    let words = format!("relay n has the key {two} and not {one}, as -server-key says; ");
    assert!(bad(&report)[0].1.starts_with(&words), "{report}");
    fleet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_server_is_no_relay() {
    let mut fleet = Fleet::default();
    let identity = self_signed("127.0.0.1", |_| ());
    let web = fleet.web_server(&identity).await;
    let map = MapFile::of(&[&[pinned("web", &identity, web)]]);
    let flags = format!("{ONLY_OURS} -all");
    let report = probe(&map, &flags, RootCertStore::empty()).await;
    let bad = bad(&report);
    let names: Vec<_> = bad.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        ["derp/r1/web/http", "derp/r1/web/info", "derp/r1/web/ws"]
    );
    let words = "/derp/probe: the node answers 404 Not Found instead of 200 OK; is it a DERP relay, \
                 and does every proxy in front of it pass this path on?";
    assert_eq!(bad[0].1, words);
    assert!(
        bad[2].1.contains("the upgrade to DERP failed"),
        "{}",
        bad[2].1
    );
    fleet.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_say_nothing_or_rubbish_do_not_keep_the_others_from_being_probed() {
    let mut fleet = Fleet::default();
    let identity = self_signed("127.0.0.1", |_| ());
    let (mute, rubbish) = (fleet.mute().await, fleet.rubbish().await);
    let well = fleet.relay(&identity, |server| server).await;
    let map = MapFile::of(&[
        &[pinned("mute", &identity, mute)],
        &[pinned("rubbish", &identity, rubbish)],
        &[pinned("well", &identity, well)],
    ]);
    let flags = "-all -http-interval 3s -websocket-interval 3s -info-interval 3s -mesh-interval 3s \
                 -tls-interval 3s -expect-refused mute,rubbish -admission-interval 3s";
    // Without the mesh key, relays that are to refuse strangers are asked for little else.
    let key = map.beside("mesh.key", MESH_KEY);
    let flags = format!("{flags} -mesh-psk-file {}", key.display());
    let report = probe(&map, &flags, RootCertStore::empty()).await;
    let expected: Vec<_> = ["admission", "http", "info", "mute/mesh", "tls", "ws"]
        .iter()
        .map(|kind| format!("derp/r1/mute/{kind}"))
        .chain(
            ["admission", "http", "info", "rubbish/mesh", "tls", "ws"]
                .iter()
                .map(|kind| format!("derp/r2/rubbish/{kind}")),
        )
        .collect();
    let bad = bad(&report);
    let names: Vec<_> = bad.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, expected);
    for (name, words) in &bad {
        let of_mute = name.contains("mute");
        let late = words.starts_with("timeout after 2.4s while ");
        assert_eq!(late, of_mute, "{name}: {words}");
    }
    let kinds = ["http", "info", "tls", "well/mesh", "ws"];
    let well = kinds.map(|kind| format!("derp/r3/well/{kind}"));
    assert_eq!(good(&report), well);
    fleet.shutdown().await;
}

/// Five relays: two that are meshed, one whose certificate has expired, one that refuses strangers
/// and should not, and one that is dead. Beside them one that should refuse strangers and does not.
#[tokio::test(flavor = "multi_thread")]
async fn one_round_finds_every_fault_of_a_fleet_and_nothing_else() {
    let mut fleet = Fleet::default();
    let authority = Authority::new("Test");
    let roots = authority.roots();
    let a = authority.sign("a.test", |_| ());
    let b = authority.sign("b.test", |_| ());
    let old = authority.sign("old.test", valid(1_600_000_000, 1_700_000_000));
    let a = node("a", "a.test", fleet.relay(&a, |server| server).await);
    let b = node("b", "b.test", fleet.relay(&b, |server| server).await);
    fleet.mesh(&[a.clone(), b.clone()], &roots).await;
    let stun = DerpNode {
        stun_port: fleet.stun().into(),
        ..a.clone()
    };
    let old = node("old", "old.test", fleet.relay(&old, |server| server).await);
    let strict = authority.sign("strict.test", |_| ());
    let strict = fleet.relay(&strict, |server| server.verifier(Nobody)).await;
    let strict = node("strict", "strict.test", strict);
    let open = authority.sign("open.test", |_| ());
    let open = node(
        "open",
        "open.test",
        fleet.relay(&open, |server| server).await,
    );
    let dead = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        node(
            "dead",
            "dead.test",
            listener.local_addr().expect("a bound socket"),
        )
    };
    let map = MapFile::of(&[&[stun, b], &[old], &[strict], &[dead], &[open]]);
    let report = probe(&map, "-all -expect-refused open", roots).await;

    let found: Vec<_> = bad(&report)
        .into_iter()
        .map(|(name, words)| {
            let fault = [
                ("has expired on 2023-11-14", "expired"),
                ("cannot connect to node old", "expired"),
                ("instead of admitting the probe", "refused"),
                ("Connection refused", "dead"),
                ("is to refuse strangers and admits", "admitted"),
            ];
            let fault = fault.iter().find(|(part, _)| words.contains(part));
            (name, fault.map_or(words, |(_, fault)| fault))
        })
        .collect();
    let expected = [
        ("derp/r2/old/info", "expired"),
        ("derp/r2/old/old/mesh", "expired"),
        ("derp/r2/old/tls", "expired"),
        ("derp/r2/old/ws", "expired"),
        ("derp/r3/strict/info", "refused"),
        ("derp/r3/strict/strict/mesh", "refused"),
        ("derp/r3/strict/ws", "refused"),
        ("derp/r4/dead/dead/mesh", "dead"),
        ("derp/r4/dead/http", "dead"),
        ("derp/r4/dead/info", "dead"),
        ("derp/r4/dead/tls", "dead"),
        ("derp/r4/dead/ws", "dead"),
        ("derp/r5/open/admission", "admitted"),
    ];
    assert_eq!(found, expected);
    let well = [
        "derp/r1/a/a/mesh",
        "derp/r1/a/b/convergence",
        "derp/r1/a/b/mesh",
        "derp/r1/a/http",
        "derp/r1/a/info",
        "derp/r1/a/tls",
        "derp/r1/a/udp",
        "derp/r1/a/ws",
        "derp/r1/b/a/convergence",
        "derp/r1/b/a/mesh",
        "derp/r1/b/b/mesh",
        "derp/r1/b/http",
        "derp/r1/b/info",
        "derp/r1/b/tls",
        "derp/r1/b/ws",
        // What is wrong with a relay is told by one kind of probe, as far as that goes.
        "derp/r2/old/http",
        "derp/r3/strict/http",
        "derp/r3/strict/tls",
        "derp/r5/open/http",
        "derp/r5/open/tls",
    ];
    assert_eq!(good(&report), well);

    // The same in words, for programs, and as a code.
    assert_eq!(Format::Text.exit_code(&report), 1);
    let text = Format::Text.render(&report);
    let json: Value = serde_json::from_str(&Format::Json.render(&report)).expect("JSON");
    let results = json["results"].as_array().expect("results");
    for (name, words) in bad(&report) {
        assert!(text.contains(&format!("bad: {name}: {words}\n")), "{text}");
        let told = |result: &&Value| result["name"] == name && result["error"] == words;
        assert!(results.iter().any(|result| told(&result)), "{json:#}");
    }
    assert_eq!(
        (&json["ok"], &json["failed"]),
        (&Value::from(false), &Value::from(13))
    );
    fleet.shutdown().await;
}
