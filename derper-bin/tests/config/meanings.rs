//! Good configurations: what they mean.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use derp_ops::logging::{Format, Logging};
use derp_server::{
    AcceptLimit, DrainPlan, GroupRates, Home, SocketOptions, Tunables, UnknownPaths,
};
use derp_verify::RateLimit;
use derper::args::{Args, Command};
use derper::config::{KeyPlan, ListenAddr, Manner, OnBindFailure, Tls};
use derper::env::Vars;
use derper::tls::self_signed::{ONE_YEAR, TEN_YEARS};

use crate::machine::{GOOD, MESH_KEY, Machine};

const OPEN_RELAY: &str = "this is an OPEN RELAY: everybody who knows its address may use it; list \
                          the keys of your nodes in a file and name it with --allowlist";
const PLAIN: &str = "plain HTTP is served on :8010, for its port is not 443 and -certmode is not \
                     manual; Tailscale clients need TLS in front of it";

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
        groups = [\"friends=10MiB\", \"a=b = 1MiB : 2MiB\", \"*=1000\"]\n\
        total_bytes_per_second = \"100MiB\"\ntotal_burst_bytes = \"1MiB\"\n\
        [timeouts]\nlogin = \"20s\"\nkeep_alive_jitter = \"0s\"\n\
        [tcp]\nuser_timeout = \"0s\"\nwrite_timeout = \"0s\"\nkeepalive = \"0s\"\n\
        unsent_bytes = 0\n\
        [drain]\nspread = \"1s\"\nhard_stop = \"2s\"\n\
        [http]\nunknown_paths = \"404\"\nhome = \"https://example.com/\"\n\
        [bootstrap_dns]\nnames = [\"a.example.com\"]\n\
        [debug]\nallowed_ip = \"192.0.2.7\"\ntrusted = [\"10.0.0.0/8\"]\n\
        [log]\nformat = \"json\"\nlevel = \"warn\"\n";
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
    let rate = |bytes_per_second, burst_bytes| RateLimit {
        bytes_per_second,
        burst_bytes,
    };
    tunables.group_rates = GroupRates {
        named: [
            ("friends".to_owned(), rate(10 << 20, 65_568)),
            ("a=b".to_owned(), rate(1 << 20, 2 << 20)),
        ]
        .into(),
        others: Some(rate(1000, 65_568)),
    };
    tunables.total_rate = Some(rate(100 << 20, 1 << 20));
    tunables.max_clients = 100;
    tunables.lane_depth = 8;
    // An eighth of the memory.
    tunables.queue_budget_bytes = 128 << 20;
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
    assert_eq!(config.pages.bootstrap_dns.published, ["a.example.com"]);
    assert_eq!(config.debug.allowed_ip, "192.0.2.7".parse().ok());
    assert_eq!(config.debug.trusted.len(), 1);
    let filter = "warn".to_owned();
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
    let config = machine.good("-a :8010 --state-dir {}/state", &[], "");
    assert!(matches!(&config.key, KeyPlan::Create { path, .. }
        if *path == Path::new(&machine.home()).join("state/derper.key")));
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
fn a_flag_can_say_that_there_is_no_mesh_key() {
    let machine = Machine::new();
    machine.write("keys/derp-mesh.key", 0o600, MESH_KEY);
    let none = machine.good(&format!("{GOOD} -mesh-psk-file="), &[], "");
    assert!(none.mesh.key.is_none());
    // A variable that is empty says nothing.
    let config = machine.good(GOOD, &[("DERP_MESH_PSK_FILE", "")], "");
    assert!(config.mesh.key.is_some());
}

#[test]
fn numbers_that_mean_nothing_to_go_are_taken_as_it_takes_them() {
    let machine = Machine::new();
    let flags = "-tcp-keepalive-time=-1s -stun-port=-1 -accept-connection-burst=0 \
                 -unpublished-bootstrap-dns-names=a.example.com/";
    let config = machine.good(&format!("{GOOD} {flags}"), &[], "");
    assert_eq!(config.socket.keep_alive_time, None);
    assert_eq!(config.stun, None);
    assert_eq!(config.accept_limit, None);
    let told = &config.pages.bootstrap_dns.unpublished[0];
    assert_eq!((told.name.as_str(), &told.txt), ("a.example.com", &None));
}

#[test]
fn all_addresses_of_ipv4_are_all_addresses_as_in_go() {
    let machine = Machine::new();
    let flags = "-c {}/derper.key -certmode manual -hostname 192.0.2.1 -certdir {}/certs \
                 -a 0.0.0.0:443";
    let config = machine.good(flags, &[], "");
    let all = |port| ListenAddr { ip: None, port };
    assert_eq!(config.listen.address, all(443));
    assert_eq!(config.listen.http, Some(all(80)));
    assert_eq!(config.stun.map(|stun| stun.address), Some(all(3478)));
}

#[test]
fn the_reference_s_variable_for_the_depth_of_queues_is_read() {
    let machine = Machine::new();
    let depth = [("TS_DEBUG_DERP_PER_CLIENT_SEND_QUEUE_DEPTH", "64")];
    assert_eq!(machine.good(GOOD, &depth, "").tunables.lane_depth, 64);
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
        .expect("a directory of text names")
        .map(|entry| {
            entry
                .expect("a directory of text names")
                .file_name()
                .into_string()
                .expect("a directory of text names")
        })
        .collect();
    names.sort();
    names
}

#[test]
fn there_are_no_more_clients_than_open_files_allow() {
    let clients = |file_limit, file: &str| {
        let machine = Machine {
            file_limit,
            ..Machine::new()
        };
        let file = format!("tls.mode = \"off\"\nstate_dir = \"{{}}/s\"\n{file}");
        machine.good("", &[], &file).tunables.max_clients
    };
    assert_eq!(clients(None, ""), usize::MAX);
    assert_eq!(clients(Some(100), ""), 1);
    assert_eq!(clients(Some(1024), ""), 768);
    assert_eq!(clients(Some(1 << 14), ""), (1 << 14) - (1 << 11));
    assert_eq!(clients(Some(1 << 20), ""), (1 << 20) - (1 << 13));
    // Who says a number knows what it is for.
    assert_eq!(clients(Some(1024), "limits.clients = 5000\n"), 5000);
}
