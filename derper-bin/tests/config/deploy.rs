//! What operators copy: compose files, and the variables that container images of the reference
//! take.

use std::fs;
use std::path::{Path, PathBuf};

use derper::config::{Config, Doorway, Tls};
use derper::env::{self, Vars};
use derper::settings::ALL;

use crate::machine::{GOOD, Machine};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}

/// The variables of a service, written as `NAME: "value"` a line, in a compose file.
fn environment(compose: &str, service: &str) -> Vec<(String, String)> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = compose.lines();
    lines.find(|line| line.trim() == format!("{service}:") && indent(line) == 2);
    let inside: Vec<&str> = lines
        .take_while(|line| line.is_empty() || indent(line) > 2)
        .collect();
    let mut inside = inside.into_iter();
    inside
        .find(|line| line.trim() == "environment:")
        .expect("it has an environment");
    inside
        .take_while(|line| indent(line) > 4)
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(|line| {
            let (name, value) = line.trim().split_once(": ").expect("a name and a value");
            let value = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'));
            (
                name.to_owned(),
                value.expect("a value in quotes").to_owned(),
            )
        })
        .collect()
}

#[test]
fn the_compose_files_set_what_exists_and_go_together() {
    let machine = Machine::new();
    for name in [
        "bare",
        "traefik",
        "traefik-and-tailscaled",
        "with-tailscaled",
    ] {
        let text = fs::read_to_string(deploy(&format!("compose/{name}.yaml"))).unwrap();
        let set = environment(&text, "derp");
        assert!(!set.is_empty(), "{name}");
        assert!(text.contains("\n    stop_grace_period: 30s\n"), "{name}");
        for (variable, _) in &set {
            let is_ours = ALL
                .iter()
                .filter_map(|setting| setting.env)
                .any(|env| env.name == variable || env.aliases.iter().any(|a| a.name == variable));
            assert!(is_ours, "{name}: {variable}");
        }
        // With a machine's paths in place of the container's, all of it is a configuration.
        let here: Vec<(String, String)> = set
            .into_iter()
            .map(|(name, value)| {
                let value = value
                    .replace("${DOMAIN_NAME}", "derp.example.com")
                    .replace("/etc/derper/nodes", "{}/nodes");
                (name, value)
            })
            .collect();
        let mut vars: Vec<(&str, &str)> = here
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        vars.push(("DERPER_STATE_DIR", "{}/state"));
        let config = match machine.build("", &vars, "") {
            Ok(config) => config,
            // The one whose certificate is mounted: there is none here.
            Err(told) if name.starts_with("traefik") => {
                assert!(told.contains("put the certificate chain"), "{told}");
                continue;
            }
            Err(told) => panic!("{name}: {told}"),
        };
        assert!(!config.admission.is_open(), "{name}");
        assert!(matches!(config.tls, Tls::Acme(_)), "{name}");
        assert_eq!(machine.warnings(&config), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn the_package_s_configuration_asks_for_what_it_must_be_told_and_then_is_good() {
    let machine = Machine::new();
    let text = fs::read_to_string(deploy("debian/derper.toml")).unwrap();
    let told = machine.build("", &[], &text).unwrap_err();
    for asked in ["tls.mode", "verify.required"] {
        assert!(told.contains(asked), "{told}");
    }
    let edited = text
        .replace("#hostname", "hostname")
        .replace("#mode", "mode")
        .replace("#allowlist = \"/etc/derper", "allowlist = \"{}");
    let config = machine.good("", &[], &edited);
    assert!(matches!(config.tls, Tls::Acme(_)));
    assert!(!config.admission.is_open());
    assert_eq!(machine.warnings(&config), Vec::<String>::new());
    let variables = fs::read_to_string(deploy("debian/default")).unwrap();
    let names = variables.lines().filter_map(|line| {
        let (name, _) = line.trim_start_matches('#').split_once('=')?;
        (!name.contains(' ')).then_some(name)
    });
    for name in names.filter(|name| *name != "DERPER_CONFIG") {
        let known = ALL.iter().filter_map(|setting| setting.env);
        assert!(known.into_iter().any(|env| env.name == name), "{name}");
    }
}

/// The variables of a manifest's first map, written as `NAME: value` a line below `data:`.
fn config_map(manifest: &str) -> Vec<(&str, &str)> {
    let mut lines = manifest.lines();
    lines.find(|line| *line == "data:");
    let lines = lines.take_while(|line| line.starts_with("  "));
    let lines = lines.filter(|line| !line.trim_start().starts_with('#'));
    lines
        .map(|line| line.trim().split_once(": ").expect("a name and a value"))
        .map(|(name, value)| (name, value.trim_matches('"')))
        .collect()
}

#[test]
fn the_cluster_s_manifest_is_a_configuration_that_lets_nobody_in_by_itself() {
    let text = fs::read_to_string(deploy("kubernetes/derper.yaml")).unwrap();
    let mut vars = config_map(&text);
    assert!(vars.len() > 3, "{vars:?}");
    vars.push(("DERPER_STATE_DIR", "{}/state"));
    let machine = Machine::new();
    let config = machine.good("", &vars, "");
    assert!(!config.admission.is_open());
    assert!(config.listen.metrics.is_some());
    assert_eq!(machine.warnings(&config), Vec::<String>::new());
}

#[test]
fn the_containers_own_variables_leave_room_for_everybodys() {
    for file in ["Containerfile", "Containerfile.tailscaled"] {
        let text = fs::read_to_string(deploy("container").join(file)).unwrap();
        // None is a variable of another image's: two that differ would be a mistake.
        for name in [
            "DERPER_STATE_DIR",
            "XDG_CACHE_HOME",
            "HOME",
            "DERPER_APP_DIR",
        ] {
            assert!(text.contains(&format!("{name}=/")), "{file}: {name}");
        }
        assert!(!text.contains("DERP_"), "{file}");
    }
    let vars = Vars::from([("DERPER_APP_DIR".to_owned(), "/app".to_owned())]);
    assert_eq!(env::read(&vars).warnings, Vec::<String>::new());
}

/// The variables that each of these images has in its environment whatever people add.
#[test]
fn the_variables_of_other_images_give_their_relay() {
    let machine = Machine::new();
    let build = |vars: &[(&str, &str)]| -> Config {
        let mut all = vec![("DERPER_STATE_DIR", "{}/state")];
        all.extend(vars);
        let config = machine.good("", &all, "");
        let warnings = machine.warnings(&config);
        let unknown = warnings.iter().find(|text| text.contains("not known"));
        assert_eq!(unknown, None);
        config
    };
    let common = [
        ("DERP_DOMAIN", "derp.example.com"),
        ("DERP_CERT_MODE", "letsencrypt"),
        ("DERP_CERT_DIR", "{}/app/certs"),
        ("DERP_ADDR", ":443"),
        ("DERP_STUN", "true"),
        ("DERP_STUN_PORT", "3478"),
        ("DERP_HTTP_PORT", "80"),
        ("DERP_VERIFY_CLIENTS", "false"),
        ("DERP_VERIFY_CLIENT_URL", ""),
    ];
    let config = build(&common);
    assert_eq!(config.listen.http.map(|http| http.port), Some(80));
    assert_eq!(config.stun.map(|stun| stun.address.port), Some(3478));
    assert!(config.admission.is_open());
    let Tls::Acme(acme) = &config.tls else {
        panic!("{:?}", config.tls)
    };
    assert!(acme.dir.ends_with("app/certs"));

    let every_flag = build(&[
        ("DERP_ACCEPT_CONNECTION_BURST", ""),
        ("DERP_ACE_ENABLE", "false"),
        ("DERP_ADDR", "0.0.0.0:443"),
        ("DERP_CERT_DIR", "{}/certs"),
        ("DERP_CERT_MODE", "letsencrypt"),
        ("DERP_CONFIG_FILE", ""),
        ("DERP_DERP_ENABLE", "true"),
        ("DERP_DEV_MODE", "false"),
        ("DERP_HOME_PAGE", "blank"),
        ("DERP_HOSTNAME", "derp.example.com"),
        ("DERP_HTTP_PORT", "80"),
        ("DERP_SECRETS_CACHE_DIR", "/derper/cache/derper-secrets"),
        ("DERP_SECRETS_PATH_PREFIX", "prod/derp"),
        ("DERP_SECRETS_URL", ""),
        ("DERP_STUN_ENABLE", "true"),
        ("DERP_STUN_PORT", "3478"),
        ("DERP_TCP_KEEPALIVE_TIME", "10m0s"),
        ("DERP_TCP_USER_TIMEOUT", "15s"),
        ("DERP_TCP_WRITE_TIMEOUT", "2s"),
        ("DERP_VERIFY_CLIENTS", "true"),
        ("DERP_VERIFY_CLIENT_URL_FAIL_OPEN", "true"),
    ]);
    assert!(!every_flag.admission.is_open());

    let ports = build(&[
        ("DERP_CERTMODE", "letsencrypt"),
        ("DERP_HOSTNAME", "derp.example.com"),
        ("DERP_PORT_HTTP", "80"),
        ("DERP_PORT_HTTPS", "443"),
        ("DERP_PORT_STUN", "3479"),
        ("DERP_ENABLE_HTTP", "false"),
        ("DERP_ENABLE_STUN", "true"),
    ]);
    assert_eq!(ports.listen.http, None);
    assert_eq!(ports.stun.map(|stun| stun.address.port), Some(3479));
}

/// A compose file for the image with tailscaled in it, of which only the image's line changes: a
/// certificate at a fixed place, a name, and verification.
#[test]
fn another_images_compose_file_needs_only_another_image() {
    let machine = Machine::new();
    let made = rcgen::generate_simple_self_signed(["derp.example.com".to_owned()]).unwrap();
    machine.write("app/cert.crt", 0o644, &made.cert.pem());
    machine.write("app/cert.key", 0o600, &made.signing_key.serialize_pem());
    let vars = [
        ("DERPER_STATE_DIR", "{}/state"),
        ("DERPER_APP_DIR", "{}/app"),
        ("DERP_CERT_MODE", "manual"),
        ("DERP_DOMAIN", "derp.example.com"),
        ("DERP_VERIFY_CLIENTS", "true"),
    ];
    let config = machine.good("", &vars, "");
    let Tls::Files(files) = &config.tls else {
        panic!("{:?}", config.tls)
    };
    assert_eq!(
        files.pairs[0].files.cert,
        machine.home.path().join("app/cert.crt")
    );
    assert!(!config.admission.is_open());
    assert_eq!(
        (
            config.listen.address.port,
            config.stun.map(|s| s.address.port)
        ),
        (443, Some(3478))
    );
}

#[test]
fn the_relay_is_asked_where_it_listens() {
    let machine = Machine::new();
    let read = |flags: &str, file: &str| machine.doorway(flags, file);
    let asked = |door: Result<Doorway, String>| {
        let Doorway {
            place,
            wants_proxy_header,
            tls,
        } = door.unwrap();
        (
            format!("{place:?}"),
            wants_proxy_header,
            tls.map(|host| host.to_string()),
        )
    };
    let tcp = |address: &str| format!("Tcp({address})");
    let named = || Some("derp.example.com".to_owned());
    let head = "hostname = \"derp.example.com\"\ntls.mode = \"self-signed\"\n";
    assert_eq!(asked(read(GOOD, "")), (tcp("127.0.0.1:8010"), false, None));
    assert_eq!(
        asked(read("-hostname derp.example.com", "")),
        (tcp("127.0.0.1:443"), false, named())
    );
    assert_eq!(
        asked(read("-a [::1]:8443", head)),
        (tcp("[::1]:8443"), false, named())
    );
    assert_eq!(
        asked(read("-a unix:/run/d.sock --proxy-protocol required", head)),
        ("Unix(\"/run/d.sock\")".to_owned(), true, named())
    );
    for (from, wants) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let flags = format!("-a :1 --proxy-protocol required --proxy-protocol-from {from}");
        assert_eq!(
            asked(read(&flags, head)),
            (tcp("127.0.0.1:1"), wants, named())
        );
    }
    assert_eq!(
        read("-a :0", head).unwrap_err(),
        "the relay listens on any free port, and only it knows which"
    );
    // The certificate's files are not looked at: the relay goes on without them as well.
    let manual = "-hostname derp.example.com -certmode manual -certdir /nowhere";
    assert_eq!(
        asked(read(manual, "")),
        (tcp("127.0.0.1:443"), false, named())
    );
}
