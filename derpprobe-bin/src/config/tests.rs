//! Command lines in, configurations or all their mistakes out.

use std::os::unix::fs::PermissionsExt;

use super::*;

const KEY: &str = "6d529e9d4ef632d22d4a4214cb49da8f1ba1b72697061fb24e312984c35ec8d8";

fn build(line: &str, vars: &[(&str, &str)]) -> Result<Config, String> {
    let args = Args::parse(line.split_whitespace().map(str::to_owned)).expect("known flags");
    let vars = vars
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Config::build(&args, &vars).map_err(|mistakes| mistakes.to_string())
}

/// A file with this text that only its owner may read.
fn key_file(text: &str, mode: u32) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mesh.key");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    (dir, path.display().to_string())
}

#[test]
fn without_flags_all_but_bandwidth_is_probed() {
    let config = build("-once", &[]).unwrap();
    let interval = Some(Duration::from_secs(15));
    assert_eq!(
        config.plan,
        PlanOptions {
            region: None,
            tls: interval,
            stun: interval,
            mesh: interval,
            ..PlanOptions::default()
        }
    );
    let source = "https://login.tailscale.com/derpmap/default"
        .parse()
        .unwrap();
    assert_eq!(config.source, source);
    assert_eq!(
        (config.map_interval, config.spread),
        (Duration::from_secs(15), true)
    );
    assert!(config.mesh_key.is_none());
    assert_eq!(config.warnings, Vec::<String>::new());
}

#[test]
fn intervals_choose_what_is_probed() {
    let config = build(
        "-once -tls-interval 0 -stun-interval=-1s -mesh-interval 1m -bw-interval 10s \
         -bw-probe-size-bytes 0x10 -region-code nyc -spread=false -interval 5s -derp-map file:///m",
        &[],
    )
    .unwrap();
    assert_eq!(
        config.plan,
        PlanOptions {
            region: Some("nyc".to_owned()),
            tls: None,
            stun: None,
            mesh: Some(Duration::from_secs(60)),
            bandwidth: Some((Duration::from_secs(10), 16)),
            ..PlanOptions::default()
        }
    );
    assert_eq!(config.source, Source::File("/m".into()));
    assert_eq!(
        (config.map_interval, config.spread),
        (Duration::from_secs(5), false)
    );
    let nothing_to_send = build("-once -bw-interval 10s -bw-probe-size-bytes 0", &[]).unwrap();
    assert_eq!(nothing_to_send.plan.bandwidth, None);
}

#[test]
fn what_this_version_does_not_have_is_refused_by_name() {
    let secrets = "this version does not take the mesh key from a secrets server; give it in a \
                   file with -mesh-psk-file";
    let cases = [
        (
            "-once -bw-tun-ipv4-addr 192.0.2.1",
            "-bw-tun-ipv4-addr: this version has no bandwidth probe through a TUN device; without \
             the flag, -bw-interval probes over DERP alone"
                .to_owned(),
        ),
        (
            "-once -qd-packets-per-second 1001",
            "-qd-packets-per-second: 1001 is more than 1000; -bw-interval probes how much gets \
             through"
                .to_owned(),
        ),
        (
            "-once -secrets-url https://setec.test",
            format!("-secrets-url: {secrets}"),
        ),
        (
            "-once -secrets-path-prefix p",
            format!("-secrets-path-prefix: {secrets}"),
        ),
        (
            "-once -secrets-cache-dir /c",
            format!("-secrets-cache-dir: {secrets}"),
        ),
    ];
    for (line, mistake) in cases {
        assert_eq!(
            build(line, &[]).unwrap_err(),
            format!("derpprobe: {mistake}\n"),
            "{line}"
        );
    }
    // What asks for nothing is no mistake.
    build(
        "-once -qd-packets-per-second 0 -bw-tun-ipv4-addr= -secrets-url= -listen :1",
        &[],
    )
    .unwrap();
}

#[test]
fn all_mistakes_are_told_at_once() {
    let mistakes = build(
        "-derp-map ftp://m -once=x -interval 0 -tls-interval 15 -bw-probe-size-bytes many -spread=y \
         -format xml -server-key k",
        &[("HTTPS_PROXY", "ftp://proxy.test")],
    );
    let mistakes = mistakes.unwrap_err();
    let starts = [
        "-derp-map: \"ftp://m\" is none of https",
        "-once is a switch: write true or false",
        "-interval must be longer than zero",
        "-format: \"xml\" is none of text, json, junit and nagios",
        "-server-key: \"k\" is neither a key like nodekey:",
        "-bw-probe-size-bytes: \"many\" is not a whole number",
        "-tls-interval: \"15\": missing unit in duration; write one like 15s or 1m30s",
        "-spread is a switch: write true or false",
        "the proxy in the environment: not the URL",
    ];
    assert_eq!(mistakes.lines().count(), starts.len(), "{mistakes}");
    for (line, start) in mistakes.lines().zip(starts) {
        assert!(line.starts_with(&format!("derpprobe: {start}")), "{line}");
    }
}

#[test]
fn the_mesh_key_comes_from_its_file_or_the_environment() {
    let key = MeshKey::from_secret_text(KEY).unwrap();
    let has_key = |config: &Config| config.mesh_key.as_ref().is_some_and(|own| own.ct_eq(&key));
    let (_dir, file) = key_file(&format!("{KEY}\n"), 0o600);
    let config = build(&format!("-once -mesh-psk-file {file}"), &[]).unwrap();
    assert!(has_key(&config) && config.warnings.is_empty());

    let vars = [(MESH_KEY_VARIABLE, KEY)];
    // Only for development: elsewhere the variable is not looked at.
    assert!(build("-once", &vars).unwrap().mesh_key.is_none());
    let config = build(&format!("-once -dev -mesh-psk-file {file}"), &vars).unwrap();
    assert!(has_key(&config));
    assert_eq!(
        config.warnings,
        ["with -dev the file of -mesh-psk-file is not read"]
    );
    let config = build("-once -dev", &[]).unwrap();
    assert!(config.mesh_key.is_none());
    assert_eq!(
        config.warnings,
        ["-dev without a mesh key in TAILSCALE_DERPER_MESH_KEY"]
    );
}

#[test]
fn a_mesh_key_that_is_none_is_a_mistake() {
    let (_dir, file) = key_file("badf00d", 0o600);
    let mistake = build(&format!("-once -mesh-psk-file {file}"), &[]).unwrap_err();
    let start = format!("derpprobe: -mesh-psk-file: {file} does not hold a mesh key");
    assert!(mistake.starts_with(&start), "{mistake}");
    let mistake = build("-once -dev", &[(MESH_KEY_VARIABLE, "badf00d")]).unwrap_err();
    let start = "derpprobe: TAILSCALE_DERPER_MESH_KEY does not hold a mesh key: ";
    assert!(
        mistake.starts_with(start) && !mistake.contains("badf00d"),
        "{mistake}"
    );
}

#[test]
fn what_is_odd_is_told_and_no_mistake() {
    let (_dir, file) = key_file(KEY, 0o644);
    let config = build(&format!("-once -mesh-psk-file {file} more words"), &[]).unwrap();
    assert_eq!(
        config.warnings,
        [
            format!(
                "{file} holds a secret and others than its owner may read it (mode 0644); run: \
                 chmod 600 {file}"
            ),
            "what follows the flags is ignored: more words".to_owned(),
        ]
    );
}

#[test]
fn our_own_probes_are_asked_for_one_by_one_or_all() {
    let of = |line: &str| {
        let plan = build(&format!("-once {line}"), &[]).unwrap().plan;
        [plan.http, plan.websocket, plan.info, plan.convergence]
            .map(|interval| interval.map_or(0, |interval| interval.as_secs()))
    };
    assert_eq!(of(""), [0; 4]);
    assert_eq!(of("-all"), [15; 4]);
    assert_eq!(
        of("-all -http-interval 1m -websocket-interval 0"),
        [60, 0, 15, 15]
    );
    assert_eq!(of("-convergence-interval 30s"), [0, 0, 0, 30]);
    let key = format!("nodekey:{KEY}");
    assert_eq!(of(&format!("-server-key {key}")), [0, 0, 15, 0]);
    let line = format!("-once -server-key n1={key} -expect-refused n1,r2 -qd-packets-per-second 5");
    let plan = build(&line, &[]).unwrap().plan;
    let pace = Pace {
        packets_per_second: 5,
        packet_timeout: Duration::from_secs(5),
    };
    let every = Duration::from_secs(15);
    assert_eq!(
        (plan.queue_delay, plan.admission),
        (Some((every, pace)), Some(every))
    );
    let names = ["n1", "r2"].map(str::to_owned).to_vec();
    assert_eq!(
        (plan.refused, plan.keyed),
        (Refused::At(names.clone()), names[..1].to_vec())
    );
}

#[test]
fn results_have_one_form() {
    let format = |line: &str| build(&format!("-once {line}"), &[]).map(|config| config.format);
    assert_eq!(format(""), Ok(Format::Text));
    assert_eq!(format("-json"), Ok(Format::Json));
    assert_eq!(format("-json -format json"), Ok(Format::Json));
    assert_eq!(format("-format nagios"), Ok(Format::Nagios));
    let two = "derpprobe: -json and -format ask for different forms\n";
    assert_eq!(format("-json -format junit"), Err(two.to_owned()));
}

#[test]
fn the_guides_commands_are_understood() {
    let page = include_str!("../../../docs/probing.md");
    let lines = page
        .lines()
        .filter_map(|line| line.strip_prefix("derpprobe -"));
    let lines: Vec<_> = lines.map(|line| format!("-{line}")).collect();
    assert!(lines.len() > 4, "{lines:?}");
    for line in lines {
        let line = line
            .split(" >")
            .next()
            .unwrap_or_default()
            .replace('…', &"0".repeat(60));
        build(&line, &[]).unwrap_or_else(|mistakes| panic!("{line}: {mistakes}"));
    }
}
