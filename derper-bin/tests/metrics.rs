//! The names of the relay's numbers: dashboards and alerts go by them, so none goes away unnoticed,
//! and each is there before anything has happened.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use derper::app::App;
use tokio::sync::{mpsc, oneshot};

use self::support::{config, get, now, soon};

/// Set to anything, it has the list written anew.
const UPDATE: &str = "DERP_UPDATE_METRICS";
/// Of the numbers, those that need not be zero on a relay that has just been started.
const FACTS: &[&str] = &[
    "derper_acme_failures_in_a_row",
    "derper_acme_orders",
    "derp_current_file_descriptors",
    "derper_acme_requests",
    "derper_cert_not_after_seconds",
    "derper_certs_served",
    "derper_mesh_link_failures_total",
    "derper_open_relay",
    "node_boot_time_seconds",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_start_unix_time",
    "process_virtual_memory_bytes",
    "uptime_sec",
    "version",
];

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What a new relay says at `/metrics` that has all that can be configured, and nobody to talk to.
async fn metrics(tls: &str) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let home = dir.path();
    let key = home.join("mesh.key");
    fs::write(&key, "5a".repeat(32) + "\n").expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("its owner asks");
    for list in ["allow", "deny"] {
        fs::write(home.join(list), "[]").expect("written");
    }
    let flags = "--config {}/derper.toml --metrics-addr 127.0.0.1:0";
    let text = "state_dir = \"{}\"\nhostname = \"derp.invalid\"\n\
         [listen]\naddress = \"127.0.0.1:0\"\nhttp_port = 0\nproxy_protocol = \"required\"\n\
         [stun]\nport = 0\n\
         [verify]\nallowlist = \"{}/allow\"\ndenylist = \"{}/deny\"\n\
         tailscaled = [\"{}/tailscaled.sock\"]\nurl = [\"http://127.0.0.1:1/\"]\n\
         headscale = \"http://127.0.0.1:1\"\n\
         [mesh]\nkey_file = \"{}/mesh.key\"\nwith = [\"127.0.0.1:1\"]\n\
         [bootstrap_dns]\nnames = [\"derp.invalid\"]\n";
    let text = format!("{text}{tls}").replace("{}", &home.display().to_string());
    fs::write(home.join("derper.toml"), text).expect("written");
    let app = App::bind(config(home, flags, &[]), now()).expect("ports are free");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, app.metrics_port().expect("it listens")));
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        drop(stopped.await);
    };
    let (_nobody, reloads) = mpsc::channel(1);
    let task = tokio::spawn(app.run(shutdown, reloads));
    let answer = get(address, "GET /metrics HTTP/1.1\r\n").await;
    stop.send(()).expect("it runs");
    let ended = soon(task).await.expect("no panic");
    ended.expect("an orderly end");
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
    body.replace(&home.display().to_string(), "DIR")
}

/// Each series, without its value; those of the machine and the version left open.
fn series(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let series = lines.map(|line| {
        let (series, value) = line.rsplit_once(' ').expect("a name and a value");
        let series = match series.split_once('{') {
            Some(("version", _)) => "version",
            _ => series,
        };
        (series.to_owned(), value.parse().expect("a number"))
    });
    series.collect()
}

fn name(series: &str) -> &str {
    series.split('{').next().unwrap_or(series)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_series_is_there_from_the_start_and_at_zero() {
    let mut found = series(&metrics("[tls]\nmode = \"self-signed\"\n").await);
    // Nobody is there to order certificates from.
    let acme = "[tls]\nmode = \"letsencrypt\"\n\
                [acme]\ndirectory = \"https://127.0.0.1:1/directory\"\n";
    found.extend(series(&metrics(acme).await));
    let list: String = found.keys().map(|series| format!("{series}\n")).collect();
    let path = here("tests/data/metrics.txt");
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &list).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap();
    let (kept, now): (BTreeSet<&str>, BTreeSet<&str>) =
        (kept.lines().collect(), list.lines().collect());
    let gone: Vec<_> = kept.difference(&now).collect();
    let new: Vec<_> = now.difference(&kept).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "gone: {gone:#?}\nnew: {new:#?}\nif that is meant, run this with {UPDATE}=1"
    );
    for (series, value) in &found {
        if !FACTS.contains(&name(series)) {
            assert!(value.abs() < f64::EPSILON, "{series} is {value}");
        }
    }
}

/// The names in a query: words that are neither functions nor labels.
fn names(query: &str) -> BTreeSet<String> {
    const WORDS: [&str; 12] = [
        "sum",
        "by",
        "without",
        "on",
        "ignoring",
        "and",
        "or",
        "unless",
        "bool",
        "offset",
        "group_left",
        "group_right",
    ];
    let mut names = BTreeSet::new();
    // What is in braces, brackets or quotes, or in parentheses after a grouping word, are labels
    // and times.
    let (mut depth, mut quoted, mut word, mut grouping) = (0, false, String::new(), false);
    for c in query.chars().chain([' ']) {
        if c == '"' {
            quoted = !quoted;
        }
        if quoted {
            continue;
        }
        if c.is_ascii_alphanumeric() || matches!(c, '_' | ':') {
            word.push(c);
            continue;
        }
        let ended = std::mem::take(&mut word);
        let is_name = ended.starts_with(|c: char| c.is_ascii_alphabetic()) && depth == 0;
        if is_name && WORDS.contains(&ended.as_str()) {
            grouping = matches!(ended.as_str(), "by" | "without" | "on" | "ignoring");
        } else if is_name && c != '(' {
            names.insert(ended);
        }
        match c {
            '{' | '[' => depth += 1,
            '(' if grouping || depth > 0 => {
                depth += 1;
                grouping = false;
            }
            '}' | ']' => depth -= 1,
            ')' if depth > 0 => depth -= 1,
            _ => {}
        }
    }
    names
}

#[test]
fn a_query_is_taken_apart() {
    let query = "sum by (reason, le) (rate(a_total{x=\"y z\",k!=\"b\"}[$__rate_interval])) / on(job) \
                 (b - time()) > 3 and c:d == 1";
    assert_eq!(
        names(query).into_iter().collect::<Vec<_>>(),
        ["a_total", "b", "c:d"]
    );
}

#[test]
fn dashboards_and_alerts_ask_for_what_exists() {
    let list = fs::read_to_string(here("tests/data/metrics.txt")).unwrap();
    let known: BTreeSet<&str> = list.lines().map(name).chain(["up"]).collect();
    let dir = here("../deploy/monitoring");
    let dashboard = fs::read_to_string(dir.join("grafana-derper.json")).unwrap();
    let dashboard: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push(target["expr"].as_str().expect("a query").to_owned());
        }
    }
    assert!(queries.len() > 20, "{}", queries.len());
    let rules = fs::read_to_string(dir.join("derper.rules.yaml")).unwrap();
    let before = queries.len();
    let exprs = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    queries.extend(exprs.map(str::to_owned));
    assert_eq!(queries.len() - before, rules.matches("- alert: ").count());
    for query in &queries {
        let names = names(query);
        assert!(!names.is_empty(), "{query}");
        for name in &names {
            assert!(known.contains(name.as_str()), "{name} in {query}");
        }
    }
}

#[test]
fn prometheus_takes_the_rules() {
    let mut promtool = Command::new("promtool");
    promtool.stdin(Stdio::null()).stdout(Stdio::piped());
    promtool.args(["test", "rules"]);
    promtool.args(["derper.rules.test.yaml", "derpprobe.rules.test.yaml"]);
    promtool.current_dir(here("../deploy/monitoring"));
    let output = match promtool.output() {
        Ok(output) => output,
        // It comes with Prometheus, which not everybody has; CI does.
        Err(error) if std::env::var_os("CI").is_none() => {
            // Unlike what macros print, this is seen although the test passes.
            let said = "NOT TESTED, for promtool is missing: prometheus_takes_the_rules";
            writeln!(std::io::stderr(), "{said} ({error})").unwrap();
            return;
        }
        Err(error) => panic!("promtool: {error}"),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
}
