//! What the settings for certificates mean.

use std::path::{Path, PathBuf};

use derp_certs::{ChallengeKind, GOOGLE, LETS_ENCRYPT};
use derper::config::{Acme, Config, Tls};

use crate::machine::{GOOD, Machine};

fn acme(config: Config) -> Acme {
    match config.tls {
        Tls::Acme(acme) => acme,
        tls => panic!("{tls:?}"),
    }
}

const BOTH: [ChallengeKind; 2] = [ChallengeKind::TlsAlpn01, ChallengeKind::Http01];

#[test]
fn the_references_flags_order_from_lets_encrypt() {
    let machine = Machine::new();
    let flags = "-c {}/derper.key -hostname derp.example.com";
    let of = |more: &str| acme(machine.good(&format!("{flags} {more}"), &[], ""));
    let plain = of("");
    assert_eq!(plain.options.directory, LETS_ENCRYPT);
    assert_eq!(plain.options.challenges, BOTH);
    assert_eq!((plain.options.email, plain.options.eab), (None, None));
    assert_eq!((plain.options.ca_file, plain.profile), (None, None));
    assert!(!plain.ip_certs);
    let home = PathBuf::from(machine.home());
    assert_eq!(plain.dir, home.join(".cache/tailscale/derper-certs"));

    let told = of("-certdir /certs -acme-email a@example.com -acme-ip-certs -http-port -1");
    assert_eq!(told.options.email.as_deref(), Some("a@example.com"));
    // Nobody answers on port 80.
    assert_eq!(told.options.challenges, BOTH[..1]);
    assert_eq!(
        (told.dir.as_path(), told.ip_certs),
        (Path::new("/certs"), true)
    );
    assert!(of("").is_public());

    let google =
        of("-certmode gcp -acme-email a@example.com -acme-eab-kid k -acme-eab-key c2VjcmV0");
    assert_eq!(google.options.directory, GOOGLE);
    assert_eq!(google.options.eab.map(|eab| eab.kid).as_deref(), Some("k"));
}

#[test]
fn the_file_names_any_authority() {
    let machine = Machine::new();
    machine.write("eab.key", 0o600, "c2VjcmV0\n");
    machine.write("root.pem", 0o644, "");
    let file = "hostname = \"derp.example.com\"\nstate_dir = \"{}/state\"\n\
                [tls]\nmode = \"letsencrypt\"\n\
                [acme]\ndirectory = \"https://ca.example.com/dir\"\nca_file = \"{}/root.pem\"\n\
                eab_kid = \"k\"\neab_key_file = \"{}/eab.key\"\nprofile = \"short\"\n\
                challenges = [\"http-01\", \"tls-alpn-01\"]\n";
    let acme = acme(machine.good("", &[], file));
    let home = PathBuf::from(machine.home());
    assert_eq!(acme.options.directory, "https://ca.example.com/dir");
    assert_eq!(acme.options.ca_file, Some(home.join("root.pem")));
    assert_eq!(
        acme.options.eab.as_ref().map(|eab| eab.kid.as_str()),
        Some("k")
    );
    assert_eq!(acme.options.challenges, [BOTH[1], BOTH[0]]);
    assert_eq!(acme.profile.as_deref(), Some("short"));
    assert_eq!(acme.dir, home.join("state/certs"));
    assert!(!acme.is_public());

    machine.write("eab.key", 0o644, "c2VjcmV0\n");
    let told = machine.build("", &[], file).unwrap_err();
    assert!(
        told.contains("acme.eab_key_file") && told.contains("chmod"),
        "{told}"
    );
}

#[test]
fn what_belongs_to_another_mode_is_a_mistake() {
    let machine = Machine::new();
    let head = "hostname = \"derp.example.com\"\n[tls]\nmode = \"self-signed\"\n";
    for (line, key) in [
        ("cert = \"/c\"", "tls.cert = \"/c\""),
        ("key = \"/k\"", "tls.key = \"/k\""),
        ("certificates = [\"/c:/k\"]", "tls.certificates = \"/c:/k\""),
        ("hook = [\"/h\"]", "tls.hook = \"/h\""),
    ] {
        assert_eq!(
            machine
                .build("", &[], &format!("{head}{line}\n"))
                .unwrap_err(),
            format!("{{}}/derper.toml:4: {key}: this is for manual mode only; remove it")
        );
    }
    let manual = "hostname = \"derp.example.com\"\n[tls]\nmode = \"manual\"\n";
    for (line, message) in [
        (
            "cert = \"/c\"",
            "{}/derper.toml:4: tls.cert = \"/c\": tls.key is not set; the certificate's key is \
             needed too",
        ),
        (
            "key = \"/k\"",
            "{}/derper.toml:4: tls.key = \"/k\": tls.cert is not set; the key's certificate is \
             needed too",
        ),
        (
            "certificates = [\"/c\"]",
            "{}/derper.toml:4: tls.certificates = \"/c\": \"/c\" names no key; write \
             CERTIFICATE:KEY",
        ),
    ] {
        let told = machine.build("", &[], &format!("{manual}{line}\n"));
        assert_eq!(told.unwrap_err(), message);
    }
}

#[test]
fn a_command_may_stand_in_for_files_that_are_not_there() {
    let machine = Machine::new();
    let file = "hostname = \"derp.example.com\"\n[tls]\nmode = \"manual\"\ncert = \"{}/c\"\n\
                key = \"{}/k\"\nhook = [\"/bin/get\", \"it\"]\nhook_timeout = \"1m\"\n\
                hook_every = \"12h\"\n";
    let Tls::Files(files) = machine.good("", &[], file).tls else {
        panic!("files")
    };
    let hook = files.hook.unwrap();
    assert_eq!(hook.command, ["/bin/get", "it"]);
    assert_eq!((hook.timeout.as_secs(), hook.every.as_secs()), (60, 43_200));
    assert!(files.pairs[0].loaded.is_none());

    let told = machine.build("", &[], &file.replace("\"1m\"", "\"0s\""));
    assert!(told.unwrap_err().contains("tls.hook_timeout"));
}

/// Where images of the reference take certificates from, in a container of ours.
#[test]
fn a_container_takes_certificates_from_where_they_are_mounted() {
    let machine = Machine::new();
    let flags = &format!("{GOOD} -certmode manual -hostname derp.example.com");
    let app = [("DERPER_APP_DIR", "{}/app")];
    let told = |vars: &[(&str, &str)], more: &str| {
        machine
            .build(&format!("{flags} {more}"), vars, "")
            .unwrap_err()
    };
    let missing = |place: &str| {
        format!("-certmode: {place}.crt does not exist; put the certificate chain (PEM) there")
    };
    let cached = "{}/.cache/tailscale/derper-certs/derp.example.com";
    assert_eq!(told(&app, ""), missing(cached));
    machine.write("app/certs/README", 0o644, "");
    assert_eq!(told(&app, ""), missing("{}/app/certs/derp.example.com"));
    machine.write("app/cert.key", 0o600, "");
    assert_eq!(
        told(&app, ""),
        "-certmode: {}/app/cert.crt does not exist, though {}/app/cert.key does; put the \
         certificate chain (PEM) there"
    );
    // Nobody's machine but a container has such a place, and a directory that is named counts more.
    assert_eq!(told(&[], ""), missing(cached));
    assert_eq!(
        told(&app, "-certdir {}/d"),
        missing("{}/d/derp.example.com")
    );
}
