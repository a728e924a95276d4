//! Who may use the relay: what options mean, and what is said of those that mean nothing.

use std::path::PathBuf;
use std::time::Duration;

use derp_verify::{Credentials, FailMode, HttpOptions, NodeRules};
use derper::config::{Config, Policy, Remote, Source};

use crate::machine::{GOOD, Machine};

const KEY_A: &str = "nodekey:7b4e909bbe7ffe44c465a220037d608ee35897d31ef972f07f74892cb0f73f13";

/// A machine with secrets and a certificate.
fn machine() -> Machine {
    let machine = Machine::new();
    machine.write("api.key", 0o600, "hskey-api-secret\n");
    machine.write("open.token", 0o644, "secret\n");
    machine.write("token", 0o600, "secret\n");
    machine.write("denied", 0o644, KEY_A);
    let ca = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
    machine.write("ca.pem", 0o644, &ca.cert.pem());
    machine
}

fn names(config: &Config) -> Vec<&str> {
    let remotes = config.admission.ours.remotes.iter();
    remotes.map(|remote| remote.name.as_str()).collect()
}

fn sources(config: &Config) -> Vec<Source> {
    let remotes = config.admission.ours.remotes.iter();
    remotes.map(|remote| remote.source.clone()).collect()
}

#[test]
fn flags_and_variables_say_whom_to_ask() {
    let machine = machine();
    let flags = "--allowlist {}/nodes --denylist {}/denied --verify-tailscaled /run/a.sock \
                 --verify-tailscaled unix:///run/b.sock,/run/c.sock \
                 --verify-headscale https://hs.example --verify-headscale-api-key-file {}/api.key \
                 --verify-url http://u.example/v --verify-url unix:///run/v.sock:/verify \
                 --verify-policy all --verify-interval 30s --require-verification";
    let vars = [
        ("DERP_ALLOWLIST", "{}/nodes"),
        ("DERP_DENYLIST", "{}/denied"),
        (
            "DERP_VERIFY_TAILSCALED",
            "/run/a.sock,/run/b.sock,/run/c.sock",
        ),
        ("DERP_VERIFY_HEADSCALE", "https://hs.example"),
        ("DERP_VERIFY_HEADSCALE_API_KEY_FILE", "{}/api.key"),
        (
            "DERP_VERIFY_URL",
            "http://u.example/v,unix:///run/v.sock:/verify",
        ),
        ("DERP_VERIFY_POLICY", "all"),
        ("DERP_VERIFY_INTERVAL", "30s"),
        ("DERP_REQUIRE_VERIFICATION", "true"),
    ];
    let by_flags = machine.good(&format!("{GOOD} {flags}"), &[], "");
    let by_vars = machine.good(GOOD, &vars, "");
    for config in [&by_flags, &by_vars] {
        let expected = [
            "tailscaled-1",
            "tailscaled-2",
            "tailscaled-3",
            "headscale",
            "url-1",
            "url-2",
        ];
        assert_eq!(names(config), expected);
        let tailscaled = |path: &str| Source::Tailscaled(PathBuf::from(path));
        assert_eq!(
            sources(config),
            [
                tailscaled("/run/a.sock"),
                tailscaled("/run/b.sock"),
                tailscaled("/run/c.sock"),
                Source::HeadscaleNodes {
                    url: "https://hs.example".to_owned(),
                    api_key_file: machine.home.path().join("api.key"),
                    rules: NodeRules::default(),
                },
                Source::Url("http://u.example/v".to_owned()),
                Source::Url("unix:///run/v.sock:/verify".to_owned()),
            ]
        );
        let ours = &config.admission.ours;
        assert_eq!(ours.policy, Policy::All);
        assert_eq!(ours.interval, Some(Duration::from_secs(30)));
        assert_eq!(ours.fail, FailMode::Closed);
        assert!(config.admission.lists.allow.is_some());
        assert_eq!(config.admission.lists.deny.as_ref().unwrap().len(), 1);
        assert!(!config.admission.is_open());
        // An answer takes at most five seconds, and a turn has to be waited for.
        assert_eq!(ours.timeout, Duration::from_secs(5));
        assert_eq!(config.tunables.verify_timeout, Duration::from_secs(12));
    }
    assert_eq!(by_flags.admission.ours, by_vars.admission.ours);
    let other_image = machine.good(GOOD, &[("DERPER_ALLOWLIST", "{}/nodes")], "");
    assert!(other_image.admission.lists.allow.is_some());
}

#[test]
fn the_file_says_more() {
    let machine = machine();
    let file = "tls.mode = \"off\"\n[verify]\nheadscale = \"https://hs.example\"\n\
                headscale_api_key_file = \"{}/api.key\"\nheadscale_users = [\"ann\", \"bob\"]\n\
                headscale_tags = [\"tag:a\"]\nheadscale_refuse_expired = true\n\
                url = [\"https://u.example/v\"]\nurl_header = \"X-Token\"\n\
                url_header_file = \"{}/token\"\nca_file = \"{}/ca.pem\"\n\
                proxy = \"http://proxy.example:3128\"\ninterval = \"0s\"\ncache = \"10s\"\n\
                stale = \"1h\"\nfail = \"open\"\nrequired = true\n[timeouts]\nverify = \"2s\"\n";
    let config = machine.good("", &[], file);
    let ours = &config.admission.ours;
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let mut rules = NodeRules::default();
    rules.users = set(&["ann", "bob"]);
    rules.tags = set(&["tag:a"]);
    rules.refuse_expired = true;
    assert_eq!(
        sources(&config),
        [
            Source::HeadscaleNodes {
                url: "https://hs.example".to_owned(),
                api_key_file: machine.home.path().join("api.key"),
                rules,
            },
            Source::Url("https://u.example/v".to_owned()),
        ]
    );
    let mut http = HttpOptions::default();
    http.timeout = Duration::from_secs(2);
    http.proxy = Some("http://proxy.example:3128".to_owned());
    http.ca_file = Some(machine.home.path().join("ca.pem"));
    assert_eq!(ours.remotes[0].http, http);
    http.credentials = Some(Credentials::HeaderFile {
        name: "X-Token".to_owned(),
        path: machine.home.path().join("token"),
    });
    assert_eq!(ours.remotes[1].http, http);
    assert_eq!((ours.interval, ours.fail), (None, FailMode::Open));
    let (cache, stale) = (Duration::from_secs(10), Duration::from_secs(3600));
    assert_eq!((ours.cache, ours.stale), (cache, stale));
    let expected = "{}/derper.toml:16: verify.fail: everybody is admitted while a verifier cannot \
                    be reached; closed turns away those of whom nothing is known";
    let warnings = machine.warnings(&config);
    assert!(warnings.contains(&expected.to_owned()), "{warnings:?}");
}

#[test]
fn remotes_are_the_same_only_with_the_same_certificates() {
    let machine = machine();
    let file = "tls.mode = \"off\"\n[verify]\nurl = [\"https://u.example/v\"]\n\
                ca_file = \"{}/ca.pem\"\n";
    let remotes = || -> Vec<Remote> { machine.good("", &[], file).admission.ours.remotes };
    let before = remotes();
    assert_eq!(remotes(), before);
    let other = rcgen::generate_simple_self_signed(["b.example".to_owned()]).unwrap();
    machine.write("ca.pem", 0o644, &other.cert.pem());
    assert_ne!(remotes(), before);
}

#[test]
fn every_mistake_has_its_own_message() {
    let cases: &[(&str, &str)] = &[
        (
            "--verify-tailscaled run/a.sock",
            "-verify-tailscaled \"run/a.sock\": \"run/a.sock\" is not the path of a socket; begin \
             it with /",
        ),
        (
            "--verify-url ftp://user:secret@a/",
            "-verify-url: bad URL: not an http, https or unix URL",
        ),
        (
            "--verify-url http://a/,a.example/verify?token=secret",
            "-verify-url no. 2: bad URL: not a URL; allowed are http://HOST/…, https://HOST/… and \
             unix:///SOCKET[:/PATH]",
        ),
        (
            "--verify-headscale hs.example",
            "-verify-headscale: bad URL: not a URL; allowed are http://HOST/…, https://HOST/… and \
             unix:///SOCKET[:/PATH]",
        ),
        (
            "--verify-headscale-api-key-file {}/api.key --allowlist {}/nodes",
            "-verify-headscale-api-key-file: there is no Headscale server to ask; name one with \
             --verify-headscale",
        ),
        (
            "--verify-headscale http://h --verify-headscale-api-key-file {}/none",
            "-verify-headscale-api-key-file: {}/none does not exist",
        ),
        (
            "--verify-headscale http://h --verify-headscale-api-key-file {}/open.token",
            "-verify-headscale-api-key-file: {}/open.token holds a secret and others than its \
             owner may read it (mode 0644); run: chmod 600 {}/open.token",
        ),
        (
            "--verify-headscale http://h --verify-headscale-api-key-file {}/empty",
            "-verify-headscale-api-key-file: bad credentials: {}/empty must hold one line of at \
             most 4096 visible ASCII characters",
        ),
        (
            "--allowlist {}/empty --require-verification",
            "-allowlist: {}/empty is empty; where nobody is meant, write [] or a line that begins \
             with #",
        ),
        (
            "--verify-policy some --allowlist {}/nodes",
            "-verify-policy \"some\": write any or all",
        ),
        (
            "--verify-interval 100ms --allowlist {}/nodes",
            "-verify-interval \"100ms\": too often; give 1s or more, or 0 for never",
        ),
        (
            "--require-verification",
            "-require-verification: this would be an OPEN RELAY, for nothing says who may use it; \
             name a list of keys with --allowlist, or somebody to ask with --verify-tailscaled, \
             --verify-headscale or --verify-url",
        ),
        (
            "--require-verification --denylist {}/denied",
            "-require-verification: this would be an OPEN RELAY, for nothing says who may use it; \
             name a list of keys with --allowlist, or somebody to ask with --verify-tailscaled, \
             --verify-headscale or --verify-url",
        ),
        (
            "--denylist {}/token --allowlist {}/nodes",
            "-denylist: {}/token: 1 bad entry; allowed is nodekey:<64 hexadecimal digits>\n  line \
             1: found \"secret\": key text must begin with \"nodekey:\"",
        ),
    ];
    let machine = machine();
    for (flags, message) in cases {
        let told = machine.build(&format!("{GOOD} {flags}"), &[], "");
        assert_eq!(told.map(drop), Err((*message).to_owned()), "{flags}");
    }
}

#[test]
fn keys_of_the_file_that_change_nothing_are_mistakes_all_at_once() {
    let machine = machine();
    let file = "tls.mode = \"off\"\n[verify]\nallowlist = \"{}/nodes\"\n\
                headscale_users = [\"ann\"]\nheadscale_refuse_expired = true\n\
                url_bearer_file = \"{}/token\"\nca_file = \"{}/ca.pem\"\n";
    let told = machine.build("", &[], file).unwrap_err();
    let key = "only a list of nodes says so much of them; name a file with an API key with \
               --verify-headscale-api-key-file";
    let expected = format!(
        "the configuration has 4 mistakes:\n  \
         {{}}/derper.toml:4: verify.headscale_users: {key}\n  \
         {{}}/derper.toml:5: verify.headscale_refuse_expired: {key}\n  \
         {{}}/derper.toml:6: verify.url_bearer_file: there is no admission controller to ask; \
         name one with --verify-url\n  \
         {{}}/derper.toml:7: verify.ca_file: there is nobody to ask over HTTP; name somebody with \
         --verify-headscale or --verify-url"
    );
    assert_eq!(told, expected);
}

#[test]
fn an_item_that_is_empty_opens_no_relay_and_lifts_no_restriction() {
    let machine = machine();
    let blank = |name: &str| {
        format!(
            "{name}: an item of this list is empty; was a variable not set? Write what is missing, \
             or remove it"
        )
    };
    let open = |name: &str| {
        format!(
            "{name}: this would be an OPEN RELAY, for nothing says who may use it; name a list of \
             keys with --allowlist, or somebody to ask with --verify-tailscaled, \
             --verify-headscale or --verify-url"
        )
    };
    let required = format!("{GOOD} --require-verification");
    for (name, text) in [
        ("DERP_VERIFY_URL", ","),
        ("DERP_VERIFY_URL", "http://a/,"),
        ("DERP_VERIFY_TAILSCALED", " , /run/a.sock"),
    ] {
        let told = machine.build(&required, &[(name, text)], "");
        assert_eq!(told.map(drop), Err(blank(name)), "{text}");
    }
    let file = |keys: &str| format!("tls.mode = \"off\"\n[verify]\nrequired = true\n{keys}\n");
    let nodes = "headscale = \"http://h\"\nheadscale_api_key_file = \"{}/api.key\"\n";
    for key in ["headscale_users", "headscale_tags"] {
        let told = machine.build("", &[], &file(&format!("{nodes}{key} = []")));
        let line = format!("{{}}/derper.toml:6: verify.{key}");
        let empty = "an empty list restricts nothing; remove it where that is meant";
        assert_eq!(told.map(drop), Err(format!("{line}: {empty}")));
        let told = machine.build("", &[], &file(&format!("{nodes}{key} = [\"\"]")));
        let line = format!("{line}: an item of this list is empty; remove it");
        assert_eq!(told.map(drop), Err(line));
    }
    let told = machine.build("", &[], &file("url = []"));
    let in_file = "{}/derper.toml:3: verify.required";
    assert_eq!(told.map(drop), Err(open(in_file)));
    // What was given as nothing at all was not given.
    let told = machine.build(&required, &[("DERP_VERIFY_URL", "")], "");
    assert_eq!(told.map(drop), Err(open("-require-verification")));
}

#[test]
fn a_secret_is_for_one_controller_and_sent_in_one_way() {
    let machine = machine();
    let table = [
        (
            "url = [\"http://a/\", \"http://b/\"]\nurl_bearer_file = \"{}/token\"\n",
            "{}/derper.toml:4: verify.url_bearer_file: each of the 2 admission controllers would \
             be told the secret; give one --verify-url, and ask the others through it or without \
             a secret",
        ),
        (
            "url = [\"http://a/\"]\nurl_header = \"X-Token\"\n",
            "{}/derper.toml:4: verify.url_header: a header without a value; name a file that \
             holds it with verify.url_header_file",
        ),
        (
            "url = [\"http://a/\"]\nurl_header_file = \"{}/token\"\n",
            "{}/derper.toml:4: verify.url_header_file: a value without a header; name the header \
             with verify.url_header",
        ),
        (
            "url = [\"http://a/\"]\nurl_header = \"Host\"\nurl_header_file = \"{}/token\"\n",
            "{}/derper.toml:4: verify.url_header: bad credentials: `Host` cannot be the name of a \
             header for a secret",
        ),
        (
            "url = [\"http://a/\"]\nurl_bearer_file = \"{}/token\"\nurl_header = \"X-Token\"\n\
             url_header_file = \"{}/token\"\n",
            "{}/derper.toml:4: verify.url_bearer_file and {}/derper.toml:6: \
             verify.url_header_file both say how requests prove where they come from; remove one \
             of them",
        ),
    ];
    for (keys, message) in table {
        let file = format!("tls.mode = \"off\"\n[verify]\n{keys}");
        assert_eq!(
            machine.build("", &[], &file).map(drop),
            Err(message.to_owned()),
            "{keys}"
        );
    }
}

#[test]
fn a_secret_that_others_may_read_is_a_warning_where_a_variable_names_it() {
    let machine = machine();
    let vars = [
        ("DERP_VERIFY_HEADSCALE", "http://hs.example"),
        ("DERP_VERIFY_HEADSCALE_API_KEY_FILE", "{}/open.token"),
    ];
    let config = machine.good(GOOD, &vars, "");
    assert_eq!(config.too_open, 1);
    let warning = "{}/open.token holds a secret and others than its owner may read it (mode \
                   0644); run: chmod 600 {}/open.token";
    assert!(machine.warnings(&config).contains(&warning.to_owned()));
}

#[test]
fn each_of_ours_beside_a_flag_of_the_reference_is_named() {
    let machine = machine();
    let told = machine
        .build(
            &format!("{GOOD} -verify-clients --verify-url http://a/ --verify-interval 1m"),
            &[("DERP_DENYLIST", "{}/denied")],
            "",
        )
        .unwrap_err();
    let both = |ours: &str| {
        format!(
            "\n  -verify-clients and {ours} cannot be combined: the first follows the \
             reference's rules and the second ours; remove one of them"
        )
    };
    let expected = ["DERP_DENYLIST", "-verify-url", "-verify-interval"].map(both);
    assert_eq!(
        told,
        format!("the configuration has 3 mistakes:{}", expected.concat())
    );
    // Wanting it to be there is no contradiction.
    machine.good(
        &format!("{GOOD} -verify-clients --require-verification"),
        &[],
        "",
    );
}

#[test]
fn no_secret_of_a_url_is_printed() {
    let machine = machine();
    let flags = format!("{GOOD} --verify-url https://user:hidden@a.example/v?token=hidden");
    let config = machine.good(&flags, &[], "");
    assert!(!format!("{:?}", config.admission.ours).contains("hidden"));
}
