//! Configurations: what an operator hears of broken ones, word for word, and what good ones mean.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use derp_ops::logging::{Format, Logging};
use derp_server::{AcceptLimit, DrainPlan, Home, SocketOptions, Tunables, UnknownPaths};
use derp_verify::RateLimit;
use derper::args::{Args, Command};
use derper::config::{Config, KeyPlan, ListenAddr, Manner, OnBindFailure, Surroundings, Tls};
use derper::env::Vars;
use derper::gather::gather;
use derper::tls::self_signed::{ONE_YEAR, TEN_YEARS};

const KEY: &str =
    "{\"PrivateKey\":\"privkey:1011111111111111111111111111111111111111111111111111111111111151\"}";
const MESH_KEY: &str = "6d529e9d4ef632d22d4a4214cb49da8f1ba1b72697061fb24e312984c35ec8d8";

/// A home directory with files that configurations name. `{}` stands for it in every text.
struct Machine {
    home: tempfile::TempDir,
    is_root: bool,
    memory_limit: Option<u64>,
}

impl Machine {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a directory");
        let machine = Self {
            home,
            is_root: false,
            memory_limit: None,
        };
        machine.write("derper.key", 0o600, KEY);
        machine.write("mesh.key", 0o600, MESH_KEY);
        machine.write("open.key", 0o644, KEY);
        machine.write("empty", 0o600, "");
        machine.write("nodes", 0o644, "");
        machine
    }

    fn write(&self, name: &str, mode: u32, content: &str) {
        let path = self.home.path().join(name);
        fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
    }

    fn home(&self) -> String {
        self.home.path().display().to_string()
    }

    fn build(&self, flags: &str, vars: &[(&str, &str)], file: &str) -> Result<Config, String> {
        let mut flags = flags.replace("{}", &self.home());
        if !file.is_empty() {
            self.write("derper.toml", 0o644, &file.replace("{}", &self.home()));
            flags = format!("{flags} --config {}/derper.toml", self.home());
        }
        let mut all = Vars::from([("HOME".to_owned(), self.home())]);
        for (name, value) in vars {
            all.insert((*name).to_owned(), value.replace("{}", &self.home()));
        }
        let args = Args::parse(flags.split_whitespace().map(str::to_owned), &all)
            .expect("the flags are known");
        let surroundings = Surroundings {
            vars: all.clone(),
            is_root: self.is_root,
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_305_600),
            memory_limit: self.memory_limit,
        };
        Config::build(gather(args, &all), &surroundings)
            .map_err(|mistakes| mistakes.to_string().replace(&self.home(), "{}"))
    }

    fn good(&self, flags: &str, vars: &[(&str, &str)], file: &str) -> Config {
        self.build(flags, vars, file)
            .unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    fn warnings(&self, config: &Config) -> Vec<String> {
        config
            .warnings
            .iter()
            .map(|text| text.replace(&self.home(), "{}"))
            .collect()
    }
}

const OPEN_RELAY: &str = "this is an OPEN RELAY: everybody who knows its address may use it; list \
                          the keys of your nodes in a file and name it with --allowlist";
const PLAIN: &str = "plain HTTP is served on :8010, for its port is not 443 and -certmode is not \
                     manual; Tailscale clients need TLS in front of it";

/// Flags that are good by themselves.
const GOOD: &str = "-a :8010 -c {}/derper.key";

#[test]
fn every_mistake_has_its_own_message() {
    // Flags after GOOD; variables; the message.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: &[Case<'_>] = &[
        (
            "-http-port eighty",
            &[],
            "-http-port \"eighty\": not a whole number; give a port from 0 to 65535, or -1 for none",
        ),
        (
            "-http-port 65536",
            &[],
            "-http-port \"65536\": out of range; give a port from 0 to 65535, or -1 for none",
        ),
        (
            "-stun-port -1",
            &[],
            "-stun-port \"-1\": out of range; give a port from 0 to 65535",
        ),
        ("-stun=maybe", &[], "-stun \"maybe\": write true or false"),
        (
            "",
            &[("DERP_ENABLE_STUN", "yes")],
            "DERP_ENABLE_STUN \"yes\": write true or false",
        ),
        (
            "-a 8010",
            &[],
            "-a \"8010\": there is no port; write it like :443, 192.0.2.1:443 or \
             [2001:db8::1]:443",
        ),
        (
            "",
            &[("DERP_DOMAIN", "https://derp.example.com")],
            "DERP_DOMAIN \"https://derp.example.com\": only a host name or an IP address is wanted \
             here, without scheme, port or path",
        ),
        (
            "-hostname derp_!",
            &[],
            "-hostname \"derp_!\": not a host name: letters, digits and hyphens are allowed, in \
             parts of at most 63 characters between dots",
        ),
        (
            "",
            &[
                ("DERP_HOSTNAME", "a.example.com"),
                ("DERP_HOST", "b.example.com"),
            ],
            "DERP_HOSTNAME and DERP_HOST mean the same setting and differ (\"a.example.com\" and \
             \"b.example.com\"); remove one of them",
        ),
        (
            "-tcp-write-timeout 5",
            &[],
            "-tcp-write-timeout \"5\": missing unit in duration; write it like 15s, 100ms or 1m30s",
        ),
        (
            "-tcp-user-timeout 1day",
            &[],
            "-tcp-user-timeout \"1day\": unknown unit \"day\" in duration; write it like 15s, \
             100ms or 1m30s",
        ),
        (
            "-tcp-keepalive-time=-1s",
            &[],
            "-tcp-keepalive-time \"-1s\": a duration here cannot be negative",
        ),
        (
            "-accept-connection-limit 0",
            &[],
            "-accept-connection-limit \"0\": give a number above 0, or +Inf for no limit",
        ),
        (
            "-accept-connection-burst 0",
            &[],
            "-accept-connection-burst \"0\": out of range; give a whole number above 0",
        ),
        (
            "-home page.html",
            &[],
            "-home \"page.html\": write blank, or a URL that begins with http:// or https://",
        ),
        (
            "-bootstrap-dns-names a.example.com,-",
            &[],
            "-bootstrap-dns-names \"a.example.com,-\": \"-\" is not a host name",
        ),
        (
            "-c {}/nodes/x",
            &[],
            "-c: cannot read {}/nodes/x: Not a directory (os error 20)",
        ),
        ("-c {}", &[], "-c: {} is a directory, not a file"),
        (
            "-c {}/empty",
            &[],
            "-c: {}/empty is empty; restore it from a backup, or remove it to get a new key",
        ),
        (
            "-c {}/mesh.key",
            &[],
            "-c: {}/mesh.key is not a key file (line 1, column 1): it must be JSON like \
             {\"PrivateKey\":\"privkey:…\"}",
        ),
        (
            "-mesh-psk-file {}/none",
            &[],
            "-mesh-psk-file: {}/none does not exist",
        ),
        (
            "-mesh-psk-file {}/derper.key",
            &[],
            "-mesh-psk-file: {}/derper.key does not hold a mesh key: exactly 64 hexadecimal \
             digits; make one with: openssl rand -hex 32: key must be exactly 64 hexadecimal digits",
        ),
        (
            "-rate-config {}/empty",
            &[],
            "-rate-config: {}/empty is not a rate file (line 1, column 0); it must be JSON like \
             {\"PerClientRateLimitBytesPerSec\":1000000,\"PerClientRateBurstBytes\":2000000}",
        ),
        (
            "-rate-config {}/none",
            &[],
            "-rate-config: cannot read {}/none: No such file or directory (os error 2)",
        ),
        (
            "",
            &[("TS_DEBUG_TRUSTED_CIDRS", "10.0.0.0/8,10.0.0.1")],
            "TS_DEBUG_TRUSTED_CIDRS \"10.0.0.0/8,10.0.0.1\": \"10.0.0.1\" is not a network; write \
             it like 10.0.0.0/8 or fd00::/8",
        ),
        (
            "",
            &[("TS_ALLOW_DEBUG_IP", "me")],
            "TS_ALLOW_DEBUG_IP \"me\": not an IP address",
        ),
        (
            "",
            &[("TS_DEBUG_KEY_PATH", "{}/empty")],
            "TS_DEBUG_KEY_PATH: {}/empty is empty",
        ),
        (
            "--log-level inof",
            &[],
            "-log-level \"inof\": write error, warn, info, debug or trace, or levels by module \
             such as info,derp_server=debug",
        ),
        (
            "--log-format xml",
            &[],
            "-log-format \"xml\": write text or json",
        ),
        (
            "-certmode manual -certdir {}",
            &[],
            "-certmode: {}/derp.tailscale.com.crt does not exist; put the certificate chain (PEM) \
             there",
        ),
        (
            "-a :443 -certmode acme.sh",
            &[],
            "-certmode \"acme.sh\": write letsencrypt, manual or gcp",
        ),
        (
            "-a :443 -certmode self-signed",
            &[],
            "-certmode \"self-signed\": this mode needs a configuration file; see --config",
        ),
        (
            "--config {}/none.toml",
            &[],
            "-config: {}/none.toml does not exist\n  \
            tls.mode is not set; write manual, self-signed, acme or off",
        ),
        (
            "--allowlist {}/none",
            &[],
            "-allowlist: cannot read {}/none: No such file or directory (os error 2)",
        ),
        // What this version does not do.
        (
            "-a :443 -hostname derp.example.com",
            &[],
            "-certmode: this version cannot get certificates from Let's Encrypt; get one for \
             derp.example.com with another tool and use manual mode, or use a self-signed one \
             (derper quickstart)",
        ),
        (
            "-a :443 -hostname derp.example.com",
            &[("DERP_CERT_MODE", "gcp")],
            "DERP_CERT_MODE: this version cannot get certificates from Google; get one for \
             derp.example.com with another tool and use manual mode, or use a self-signed one \
             (derper quickstart)",
        ),
        (
            "-acme-ip-certs",
            &[],
            "-acme-ip-certs: this version cannot order certificates for addresses; use -certmode \
             manual with an address as -hostname, which makes a self-signed one",
        ),
        (
            "",
            &[("DERP_VERIFY_CLIENTS", "true")],
            "DERP_VERIFY_CLIENTS: this version cannot ask tailscaled, and would be an open relay; \
             list the keys of your nodes with --allowlist (tailscale status --json makes such a \
             list)",
        ),
        (
            "-verify-client-url http://127.0.0.1:1/verify",
            &[],
            "-verify-client-url: this version cannot ask an admission controller, and would be an \
             open relay; list the keys of your nodes with --allowlist",
        ),
        (
            "-mesh-with derp1a.example.com",
            &[],
            "-mesh-with: this version cannot connect to other relays; give each relay a region of \
             its own",
        ),
        (
            "-mesh-with a/b/c",
            &[],
            "-mesh-with \"a/b/c\": \"a/b/c\" is not a relay; write host, or host/where-to-connect",
        ),
        (
            "-secrets-url https://setec.example.com",
            &[],
            "-secrets-url: this version cannot fetch secrets; put the mesh key into a file and \
             name it with -mesh-psk-file",
        ),
        (
            "-ace",
            &[],
            "-ace: this version is no CONNECT proxy; remove the flag",
        ),
        (
            "-unpublished-bootstrap-dns-names x.example.com/txt.example.com",
            &[],
            "-unpublished-bootstrap-dns-names: this version can only publish names; use \
             -bootstrap-dns-names",
        ),
    ];
    for (flags, vars, message) in cases {
        let machine = Machine::new();
        let flags = format!("{GOOD} {flags}");
        let told = machine.build(&flags, vars, "").expect_err(message);
        let expected = match message.split_once("\n  ") {
            Some(_) => format!("the configuration has 2 mistakes:\n  {message}"),
            None => (*message).to_owned(),
        };
        assert_eq!(told, expected, "{flags} {vars:?}");
    }
}

#[test]
fn mistakes_in_the_file_are_told_with_their_lines() {
    // A whole file each; the message.
    let cases: &[(&str, &str)] = &[
        (
            "key_file = \"{}/derper.key\"\n",
            "tls.mode is not set; write manual, self-signed, acme or off",
        ),
        (
            "[tls]\nmode = \"sometimes\"\n",
            "{}/derper.toml:2: tls.mode = \"sometimes\": write manual, self-signed, acme or off",
        ),
        (
            "[tls]\nmode = \"self-signed\"\n",
            "hostname is not set; give the name or address that clients reach the relay by",
        ),
        (
            "hostname = \"derp.example.com\"\n[tls]\nmode = \"acme\"\n",
            "{}/derper.toml:3: tls.mode: this version cannot get certificates from Let's Encrypt; \
             get one for derp.example.com with another tool and use manual mode, or use a \
             self-signed one (derper quickstart)",
        ),
        (
            "hostname = \"derp.example.com\"\ntls.mode = \"manual\"\ntls.cert = \"/c\"\n",
            "{}/derper.toml:3: tls.cert = \"/c\": tls.key is not set; the certificate's key is \
             needed too",
        ),
        (
            "hostname = \"derp.example.com\"\ntls.mode = \"manual\"\ntls.key = \"/k\"\n",
            "{}/derper.toml:3: tls.key = \"/k\": tls.cert is not set; the key's certificate is \
             needed too",
        ),
        (
            "tls.mode = \"off\"\nkey_file = \"{}/open.key\"\n",
            "{}/derper.toml:2: key_file: {}/open.key holds a secret and others than its owner may \
             read it (mode 0644); run: chmod 600 {}/open.key",
        ),
        (
            "tls.mode = \"off\"\n[limits]\nclient_burst_bytes = \"1MiB\"\n",
            "{}/derper.toml:3: limits.client_burst_bytes = \"1MiB\": it means nothing without \
             limits.client_bytes_per_second; set that too",
        ),
        (
            "tls.mode = \"off\"\n[limits]\nclient_bytes_per_second = \"1MB\"\n",
            "{}/derper.toml:3: limits.client_bytes_per_second = \"1MB\": not a number of bytes; \
             write it like 65536, 64KiB, 512MiB or 1GiB",
        ),
        (
            "tls.mode = \"off\"\n[limits]\nclient_bytes_per_second = 1000\nclient_burst_bytes = 9\n",
            "{}/derper.toml:4: limits.client_burst_bytes = \"9\": too small; give at least 65568",
        ),
        (
            "tls.mode = \"off\"\n[limits]\npending_logins = 0\n",
            "{}/derper.toml:3: limits.pending_logins = \"0\": out of range; give a whole number \
             above 0",
        ),
        (
            "tls.mode = \"off\"\n[timeouts]\nlogin = \"0s\"\n",
            "{}/derper.toml:3: timeouts.login = \"0s\": with no time at all nobody could connect; \
             give more than 0s",
        ),
        (
            "tls.mode = \"off\"\n[timeouts]\nkeep_alive = \"2m\"\n",
            "{}/derper.toml:3: timeouts.keep_alive = \"2m\": with timeouts.keep_alive_jitter this \
             must stay below 2m0s, after which clients give up",
        ),
        (
            "tls.mode = \"off\"\n[http]\nunknown_paths = \"500\"\n",
            "{}/derper.toml:3: http.unknown_paths = \"500\": write home or 404",
        ),
        (
            "tls.mode = \"off\"\n[listen]\nadress = \":1\"\n",
            "{}/derper.toml:3: listen.adress is not a key of this file; did you mean \
             listen.address?",
        ),
        (
            "tls.mode = \"off\"\n[listen]\nhttp_port = \"80\"\n",
            "{}/derper.toml:3: listen.http_port: a whole number is wanted here",
        ),
    ];
    for (file, message) in cases {
        let machine = Machine::new();
        let told = machine.build("", &[], file).expect_err(message);
        assert_eq!(told, *message, "{file}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_from_everywhere() {
    let machine = Machine::new();
    let told = machine.build(
        "-stun=no -verify-clients",
        &[
            ("DERP_HTTP_PORT", "x"),
            ("DERP_DOMAIN", "a"),
            ("DERP_HOST", "b"),
        ],
        "hostnam = \"c\"\n[tls]\nmode = \"off\"\n[tcp]\nkeepalive = \"soon\"\n",
    );
    assert_eq!(
        told.unwrap_err(),
        "the configuration has 6 mistakes:\n  \
         DERP_DOMAIN and DERP_HOST mean the same setting and differ (\"a\" and \"b\"); remove one \
         of them\n  \
         {}/derper.toml:1: hostnam is not a key of this file; did you mean hostname?\n  \
         DERP_HTTP_PORT \"x\": not a whole number; give a port from 0 to 65535, or -1 for none\n  \
         -stun \"no\": write true or false\n  \
         {}/derper.toml:5: tcp.keepalive = \"soon\": not a duration; write it like 15s, 100ms or \
         1m30s\n  \
         -verify-clients: this version cannot ask tailscaled, and would be an open relay; list \
         the keys of your nodes with --allowlist (tailscale status --json makes such a list)"
    );
}

#[test]
fn verification_flags_of_the_reference_do_not_mix_with_ours() {
    let machine = Machine::new();
    let told = machine
        .build(
            "-verify-clients",
            &[],
            "tls.mode = \"off\"\n[verify]\nallowlist = \"{}/nodes\"\n",
        )
        .unwrap_err();
    assert!(
        told.contains(
            "\n  -verify-clients and {}/derper.toml:3: verify.allowlist cannot be combined: the \
             first follows the reference's rules and the second ours; remove one of them\n"
        ),
        "{told}"
    );
    let told = machine
        .build(
            &format!("{GOOD} --allowlist {{}}/nodes -verify-client-url http://x"),
            &[],
            "",
        )
        .unwrap_err();
    assert!(
        told.contains("\n  -verify-client-url and -allowlist cannot be combined: "),
        "{told}"
    );
}

#[test]
fn one_limit_for_clients_is_enough() {
    let machine = Machine::new();
    machine.write("rate.json", 0o644, "{}");
    let file = "tls.mode = \"off\"\nlimits.client_bytes_per_second = 1000\n";
    assert_eq!(
        machine
            .build("-rate-config {}/rate.json", &[], file)
            .unwrap_err(),
        "-rate-config and {}/derper.toml:2: limits.client_bytes_per_second both limit what a \
         client may send; remove one of them"
    );
}

#[test]
fn secrets_are_not_repeated_in_messages() {
    let machine = Machine::new();
    let secret = "6d529e9d4ef632d2";
    let told = machine
        .build("-dev", &[("TAILSCALE_DERPER_MESH_KEY", secret)], "")
        .unwrap_err();
    assert_eq!(
        told,
        "TAILSCALE_DERPER_MESH_KEY: a mesh key is exactly 64 hexadecimal digits"
    );
    let config = machine.good("-dev", &[("TAILSCALE_DERPER_MESH_KEY", MESH_KEY)], "");
    assert!(config.mesh.key.is_some());
    assert!(!format!("{config:?}").contains(secret));
}

#[test]
fn dev_is_the_references() {
    let machine = Machine::new();
    // The address, key file and mesh key file of others do not count.
    let flags = "-dev -a :443 -c {}/empty -mesh-psk-file {}/none";
    let config = machine.good(flags, &[], "");
    assert_eq!(
        config.listen.address,
        ListenAddr {
            ip: None,
            port: 3340
        }
    );
    assert_eq!(config.listen.http, None);
    assert!(matches!(config.tls, Tls::Off));
    assert!(matches!(config.key, KeyPlan::Ephemeral));
    assert!(config.mesh.key.is_none());
    assert_eq!(machine.warnings(&config), [OPEN_RELAY]);
    // Manual mode serves TLS even there.
    let config = machine.good(
        "-dev -certmode manual -hostname 127.0.0.1 -certdir {}",
        &[],
        "",
    );
    assert!(matches!(
        config.tls,
        Tls::Create {
            lifetime: ONE_YEAR,
            ..
        }
    ));
    assert_eq!(config.listen.address.port, 3340);
}

#[test]
fn the_references_flags_give_its_behaviour() {
    let machine = Machine::new();
    let config = machine.good(GOOD, &[], "");
    assert_eq!(config.manner, Manner::Go);
    assert_eq!(
        config.listen.address,
        ListenAddr {
            ip: None,
            port: 8010
        }
    );
    assert_eq!(
        config.listen.http, None,
        "port 80 is for what cannot be asked over TLS"
    );
    assert!(config.listen.derp);
    let stun = config.stun.unwrap();
    assert_eq!(
        (stun.address.port, stun.on_bind_failure),
        (3478, OnBindFailure::Warn)
    );
    assert_eq!(config.host.to_string(), "derp.tailscale.com");
    assert!(matches!(&config.key, KeyPlan::Loaded { path, .. } if path.ends_with("derper.key")));
    assert_eq!(config.pages.home, Home::Default);
    assert_eq!(config.pages.unknown_paths, UnknownPaths::Home);
    assert_eq!(config.accept_limit, None);
    assert_eq!(config.tunables, Tunables::default());
    assert_eq!(config.socket, SocketOptions::default());
    assert!(config.admission.is_open() && config.admission.go.url_fail_open);
    assert_eq!(config.logging, Logging::default());
    assert_eq!(machine.warnings(&config), [PLAIN, OPEN_RELAY]);
}

#[test]
fn tls_follows_the_port_or_manual_mode_without_a_file() {
    let machine = Machine::new();
    let flags = "-c {}/derper.key -hostname 192.0.2.1 -certmode manual -certdir {}/certs";
    for address in [":443", ":https", ":8443", "192.0.2.1:8443"] {
        let config = machine.good(&format!("{flags} -a {address}"), &[], "");
        assert_eq!(machine.warnings(&config), [OPEN_RELAY]);
        let Tls::Create {
            files, lifetime, ..
        } = &config.tls
        else {
            panic!("{:?}", config.tls)
        };
        assert_eq!(
            files.cert,
            Path::new(&machine.home()).join("certs/192.0.2.1.crt")
        );
        assert_eq!(*lifetime, ONE_YEAR);
        let http = config.listen.http.unwrap();
        assert_eq!((http.ip, http.port), (config.listen.address.ip, 80));
    }
    for flag in ["-http-port -1", "-http-port=-7"] {
        assert_eq!(
            machine
                .good(&format!("{flags} {flag}"), &[], "")
                .listen
                .http,
            None
        );
    }
    // A mode that makes no difference is not judged: images set all sorts there.
    let config = machine.good(&format!("{GOOD} -certmode none"), &[], "");
    assert!(matches!(config.tls, Tls::Off));
}

#[test]
fn tls_follows_the_mode_with_a_file() {
    let machine = Machine::new();
    let file = "hostname = \"derp.example.com\"\nlisten.address = \":8443\"\n";
    let config = machine.good("", &[], &format!("{file}tls.mode = \"self-signed\"\n"));
    assert_eq!(config.manner, Manner::Ours);
    let state = Path::new(&machine.home()).join(".local/state/derper");
    let Tls::Create {
        files, lifetime, ..
    } = &config.tls
    else {
        panic!("{:?}", config.tls)
    };
    assert_eq!(files.key, state.join("certs/derp.example.com.key"));
    assert_eq!(*lifetime, TEN_YEARS);
    assert!(
        matches!(&config.key, KeyPlan::Create { path, .. } if *path == state.join("derper.key"))
    );
    assert_eq!(config.stun.unwrap().on_bind_failure, OnBindFailure::Stop);
    assert_eq!(machine.warnings(&config), [OPEN_RELAY]);

    let config = machine.good("-a :443", &[], "tls.mode = \"off\"\n");
    assert!(matches!(config.tls, Tls::Off));
    assert_eq!(config.listen.http, None);
}

#[test]
fn flags_count_before_variables_before_the_file() {
    let machine = Machine::new();
    let file = "tls.mode = \"off\"\n[listen]\naddress = \":1001\"\n[stun]\nport = 2001\n\
                [http]\nhome = \"blank\"\n";
    let vars = [
        ("DERP_ADDR", ":1002"),
        ("DERP_STUN_PORT", "2002"),
        ("DERP_HOME", ""),
    ];
    let config = machine.good("-a :1003", &vars, file);
    assert_eq!(config.listen.address.port, 1003);
    assert_eq!(config.stun.unwrap().address.port, 2002);
    assert_eq!(config.pages.home, Home::Blank);
    let with_variable = [("DERPER_CONFIG", "{}/derper.toml")];
    assert_eq!(
        machine.good("", &with_variable, "").listen.address.port,
        1001
    );
}

#[test]
fn our_own_keys_are_applied() {
    let machine = Machine {
        memory_limit: Some(1 << 30),
        ..Machine::new()
    };
    let file = "tls.mode = \"off\"\ntls.own_record_layer = false\nhostname = \"192.0.2.1\"\nstate_dir = \"{}/s\"\n\
        mesh.key_file = \"{}/mesh.key\"\nverify.allowlist = \"{}/nodes\"\n\
        [stun]\nenabled = false\n\
        [limits]\naccepts_per_second = 5\naccept_burst = 10\nclient_bytes_per_second = \"1MiB\"\n\
        clients = 100\nqueued_packets_per_client = 8\n\
        [timeouts]\nlogin = \"20s\"\nkeep_alive_jitter = \"0s\"\n\
        [tcp]\nuser_timeout = \"0s\"\nwrite_timeout = \"0s\"\nkeepalive = \"0s\"\n\
        unsent_bytes = 0\n\
        [drain]\nspread = \"1s\"\nhard_stop = \"2s\"\n\
        [http]\nunknown_paths = \"404\"\nhome = \"https://example.com/\"\n\
        [bootstrap_dns]\nnames = [\"a.example.com\"]\n\
        [debug]\nallowed_ip = \"192.0.2.7\"\ntrusted = [\"10.0.0.0/8\"]\n\
        [log]\nformat = \"json\"\nlevel = \"warn\"\nframes = true\n";
    let config = machine.good("", &[], file);
    assert_eq!(config.host.ip(), "192.0.2.1".parse::<IpAddr>().ok());
    assert!(config.mesh.key.is_some());
    assert!(!config.admission.is_open());
    assert_eq!(config.stun, None);
    assert_eq!(
        config.accept_limit,
        Some(AcceptLimit {
            per_second: 5.0,
            burst: 10.0
        })
    );
    let mut tunables = Tunables::default();
    tunables.client_rate = Some(RateLimit {
        bytes_per_second: 1 << 20,
        burst_bytes: 65_568,
    });
    tunables.max_clients = 100;
    tunables.lane_depth = 8;
    tunables.queue_budget_bytes = 256 << 20; // a quarter of the memory
    tunables.login_timeout = Duration::from_secs(20);
    tunables.keep_alive_jitter = Duration::ZERO;
    tunables.write_timeout = None;
    tunables.notsent_low_water = None;
    tunables.own_record_layer = false;
    assert_eq!(config.tunables, tunables);
    let mut socket = SocketOptions::default();
    socket.user_timeout = Duration::ZERO;
    socket.keep_alive_time = Some(Duration::from_secs(15));
    assert_eq!(config.socket, socket);
    let seconds = Duration::from_secs;
    let plan = DrainPlan {
        spread: seconds(1),
        try_for: seconds(2),
        hard_stop: seconds(2),
    };
    assert_eq!(config.drain, plan);
    assert_eq!(config.pages.unknown_paths, UnknownPaths::NotFound);
    assert_eq!(
        config.pages.home,
        Home::Redirect("https://example.com/".parse().unwrap())
    );
    assert_eq!(config.pages.bootstrap_dns, ["a.example.com"]);
    assert_eq!(config.debug.allowed_ip, "192.0.2.7".parse().ok());
    assert_eq!(config.debug.trusted.len(), 1);
    let filter = "warn,derp_server=trace".to_owned();
    assert_eq!(
        config.logging,
        Logging {
            format: Format::Json,
            filter
        }
    );
    assert!(matches!(&config.key, KeyPlan::Create { path, .. }
        if *path == Path::new(&machine.home()).join("s/derper.key")));
    assert_eq!(machine.warnings(&config), Vec::<String>::new());
}

#[test]
fn only_root_has_a_key_file_by_default() {
    let mut machine = Machine::new();
    assert_eq!(
        machine.build("-a :8010", &[], "").unwrap_err(),
        "-c: no key file is named; only root has a default (/var/lib/derper/derper.key)"
    );
    machine.is_root = true;
    let config = machine.good("-a :8010", &[("DERP_STATE_DIR", "{}/state")], "");
    assert!(matches!(&config.key, KeyPlan::Create { path, .. }
        if *path == Path::new(&machine.home()).join("state/derper.key")));
}

#[test]
fn a_key_that_others_may_read_is_a_warning_for_the_references_flags() {
    let machine = Machine::new();
    let config = machine.good("-a :8010 -c {}/open.key", &[], "");
    assert_eq!(
        machine.warnings(&config),
        [
            PLAIN,
            "{}/open.key holds a secret and others than its owner may read it (mode 0644); run: chmod \
         600 {}/open.key",
            OPEN_RELAY,
        ]
    );
}

#[test]
fn the_mesh_key_is_looked_for_where_the_reference_looks() {
    let machine = Machine::new();
    assert!(machine.good(GOOD, &[], "").mesh.key.is_none());
    machine.write("keys/derp-mesh.key", 0o600, MESH_KEY);
    assert!(machine.good(GOOD, &[], "").mesh.key.is_some());
    let config = machine.good(GOOD, &[("TAILSCALE_DERPER_MESH_KEY", MESH_KEY)], "");
    assert!(machine.warnings(&config).contains(
        &"TAILSCALE_DERPER_MESH_KEY counts only with -dev, as in the reference; put the key into \
          a file and name it with -mesh-psk-file"
            .to_owned()
    ));
}

#[test]
fn words_that_go_ignores_are_pointed_out() {
    let machine = Machine::new();
    let config = machine.good(&format!("{GOOD} -stun false -derp=false"), &[], "");
    assert!(config.listen.derp && config.stun.is_some());
    assert_eq!(
        machine.warnings(&config)[0],
        "\"false\" and all after it is ignored, as the \
        reference does: it is no flag (a switch is turned off by -name=false)"
    );
}

#[test]
fn without_a_relay_nobody_is_warned_of_an_open_one() {
    let machine = Machine::new();
    let config = machine.good(&format!("{GOOD} -derp=false"), &[], "");
    assert_eq!(machine.warnings(&config), [PLAIN]);
}

#[test]
fn quickstart_needs_nothing_and_leaves_everything_open_to_change() {
    let machine = Machine::new();
    let config = machine.good("quickstart 192.0.2.1", &[], "");
    assert_eq!(
        config.listen.address,
        ListenAddr {
            ip: None,
            port: 8443
        }
    );
    assert_eq!(config.listen.http, None);
    let stun = config.stun.unwrap();
    assert_eq!(
        (stun.address.port, stun.on_bind_failure),
        (3478, OnBindFailure::AnyPort)
    );
    assert!(matches!(
        config.tls,
        Tls::Create {
            lifetime: TEN_YEARS,
            ..
        }
    ));
    assert_eq!(config.host.to_string(), "192.0.2.1");
    assert_eq!(machine.warnings(&config), [OPEN_RELAY]);

    let flags = "quickstart 192.0.2.1 -a :9443 -stun-port 9478 --state-dir {}/here";
    let config = machine.good(flags, &[("DERP_HTTP_PORT", "8080")], "");
    assert_eq!(config.listen.address.port, 9443);
    assert_eq!(config.listen.http.unwrap().port, 8080);
    assert_eq!(config.stun.unwrap().on_bind_failure, OnBindFailure::Stop);
    assert!(matches!(&config.key, KeyPlan::Create { path, .. }
        if *path == Path::new(&machine.home()).join("here/derper.key")));
    assert_eq!(
        machine
            .build("quickstart 192.0.2.1:8443", &[], "")
            .unwrap_err(),
        "quickstart \"192.0.2.1:8443\": only a host name or an IP address is wanted here, without \
         scheme, port or path"
    );
}

#[test]
fn checking_changes_nothing() {
    let machine = Machine::new();
    let before = listing(machine.home.path());
    let args = Args::parse(["check-config".to_owned()], &Vars::new()).unwrap();
    assert_eq!(args.command, Command::CheckConfig);
    machine.good("quickstart 192.0.2.1", &[], "");
    machine.good(
        "-c {}/new/derper.key -certmode manual -hostname ::1 -certdir {}/new",
        &[],
        "",
    );
    assert_eq!(listing(machine.home.path()), before);
}

fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
