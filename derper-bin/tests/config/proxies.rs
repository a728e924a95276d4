//! Sharing a port: proxies in front, Unix sockets, and what connections may cost.

use std::path::Path;
use std::time::Duration;

use derp_server::{ForwardedHeader, FrameRate, LoginRate, ProxyProtocol, TrustedProxies, Tunables};
use derper::config::{ExtraPlace, ListenAddr, Place};

use crate::machine::{GOOD, Machine};

const PLAIN: &str = "tls.mode = \"off\"\nverify.allowlist = \"{}/nodes\"\n";

#[test]
fn proxy_headers_are_due_from_whom_is_named() {
    let machine = Machine::new();
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let config = machine.good(GOOD, &[], "");
    assert_eq!(config.proxy_protocol, ProxyProtocol::Off);

    let flags = "-a 127.0.0.1:8443 --proxy-protocol required --proxy-protocol-from \
                 10.0.0.0/8,192.0.2.7";
    let from = ProxyProtocol::From(networks(&["10.0.0.0/8", "192.0.2.7/32"]));
    let stun = "stun.address = \"::\"\n";
    let file = format!("{PLAIN}{stun}");
    assert_eq!(machine.good(flags, &[], &file).proxy_protocol, from);
    let vars = [
        ("DERP_PROXY_PROTOCOL", "required"),
        ("DERP_PROXY_PROTOCOL_FROM", "10.0.0.0/8,192.0.2.7"),
    ];
    let config = machine.good("-a :8443", &vars, &file);
    assert_eq!(config.proxy_protocol, from);
    assert_eq!(machine.warnings(&config), Vec::<String>::new());
    let keys = "listen.proxy_protocol = \"required\"\n\
                listen.proxy_protocol_from = [\"10.0.0.0/8\", \"192.0.2.7\"]\n";
    let config = machine.good("-a :8443", &[], &format!("{file}{keys}"));
    assert_eq!(config.proxy_protocol, from);
}

#[test]
fn whoever_reaches_an_open_port_can_claim_any_address() {
    let machine = Machine::new();
    let file = format!(
        "{PLAIN}stun.enabled = false\nlisten.proxy_protocol = \"required\"\n\
         listen.unix_mode = \"0600\"\n"
    );
    for closed in ["127.0.0.1:8443", "[::1]:8443", "unix:/run/derper.sock"] {
        let config = machine.good(&format!("-a {closed}"), &[], &file);
        assert_eq!(config.proxy_protocol, ProxyProtocol::FromAll);
        assert_eq!(machine.warnings(&config), Vec::<String>::new(), "{closed}");
    }
    let warning = "whoever reaches :8443 can claim any address by a PROXY header; name the \
                   proxies with --proxy-protocol-from, or listen on 127.0.0.1 or a Unix socket";
    assert_eq!(
        machine.warnings(&machine.good("-a :8443", &[], &file)),
        [warning]
    );
    let extra = format!("{file}listen.extra = [\":8443\"]\n");
    let config = machine.good("-a 127.0.0.1:1", &[], &extra);
    assert_eq!(machine.warnings(&config), [warning]);
}

#[test]
fn headers_are_believed_of_whom_is_named() {
    let machine = Machine::new();
    let config = machine.good(GOOD, &[], "");
    assert_eq!(config.trusted_proxies, TrustedProxies::default());
    let mut trusted = TrustedProxies::default();
    trusted.networks = vec!["127.0.0.1/32".parse().unwrap()];
    trusted.on_unix_sockets = true;
    let config = machine.good(&format!("{GOOD} --trusted-proxies 127.0.0.1,unix"), &[], "");
    assert_eq!(config.trusted_proxies, trusted);
    for (name, header) in [
        ("x-forwarded-for", ForwardedHeader::XForwardedFor),
        ("X-Real-IP", ForwardedHeader::XRealIp),
        ("Forwarded", ForwardedHeader::Forwarded),
    ] {
        trusted.header = header;
        let vars = [
            ("DERP_TRUSTED_PROXIES", "127.0.0.1,unix"),
            ("DERP_TRUSTED_HEADER", name),
        ];
        assert_eq!(machine.good(GOOD, &vars, "").trusted_proxies, trusted);
        let keys = format!(
            "{PLAIN}listen.trusted_proxies = [\"127.0.0.1\", \"unix\"]\n\
             listen.trusted_header = {name:?}\n"
        );
        assert_eq!(machine.good("", &[], &keys).trusted_proxies, trusted);
    }
}

#[test]
fn stun_is_not_behind_the_proxy() {
    let machine = Machine::new();
    let file = format!("{PLAIN}listen.address = \"127.0.0.1:3340\"\n");
    let trusting = format!("{file}listen.trusted_proxies = [\"127.0.0.1\"]\n");
    let config = machine.good("", &[], &trusting);
    assert_eq!(
        machine.warnings(&config),
        [
            "STUN listens on 127.0.0.1:3478 alone, where no client reaches it, and clients will \
             take this relay for slow; set stun.address = \"::\""
        ]
    );
    assert_eq!(
        machine.warnings(&machine.good("", &[], &file)),
        Vec::<String>::new()
    );
    for (address, ip) in [
        ("::", ""),
        ("0.0.0.0", "0.0.0.0"),
        ("192.0.2.1", "192.0.2.1"),
    ] {
        let own = format!("{trusting}stun.address = {address:?}\n");
        let config = machine.good("", &[], &own);
        assert_eq!(machine.warnings(&config), Vec::<String>::new());
        let (ip, port) = (ip.parse().ok(), 3478);
        assert_eq!(config.stun.unwrap().address, ListenAddr { ip, port });
    }
}

#[test]
fn the_relay_listens_on_sockets_and_in_several_places() {
    let machine = Machine::new();
    let unix = |path: &str| Place::Unix(Path::new(path).to_owned());
    let config = machine.good("-a unix:/run/derper.sock -c {}/derper.key", &[], "");
    assert_eq!(
        (config.listen.main(), config.listen.unix_mode),
        (unix("/run/derper.sock"), 0o660)
    );
    let file = format!(
        "{PLAIN}listen.address = \":8443\"\nlisten.unix_mode = \"0600\"\n\
         listen.extra = [\"http:unix:/run/derper.sock\", \"127.0.0.1:3340\"]\n"
    );
    let listen = machine.good("", &[], &file).listen;
    assert_eq!(listen.unix_mode, 0o600);
    let extra = [
        (unix("/run/derper.sock"), true),
        ("127.0.0.1:3340".parse().unwrap(), false),
    ];
    let extra = extra.map(|(place, is_plain)| ExtraPlace { place, is_plain });
    assert_eq!(listen.extra, extra);
}

#[test]
fn clients_come_to_the_proxys_port() {
    let machine = Machine::new();
    let file = format!("{PLAIN}stun.enabled = false\n");
    let port = |key: &str, address: &str| {
        let keys = format!("{file}{key}listen.address = {address:?}\n");
        machine.good("", &[], &keys).public_port
    };
    let required = "listen.proxy_protocol = \"required\"\n";
    assert_eq!(port("", "127.0.0.1:8443"), None);
    assert_eq!(port(required, "127.0.0.1:8443"), Some(443));
    assert_eq!(
        port(required, ":8443"),
        None,
        "clients may come to it as well"
    );
    assert_eq!(port("", "unix:/run/derper.sock"), Some(443));
    assert_eq!(port("listen.public_port = 9443\n", ":8443"), Some(9443));
}

#[test]
fn what_connections_may_cost_can_be_set() {
    let machine = Machine::new();
    let file = format!(
        "{PLAIN}[limits]\npending_login_bytes = \"1MiB\"\nunfinished_bytes = \"2MiB\"\npage_connections = 7\nnetwork_connections_per_second = 5\n\
         network_connection_burst = 50\nkey_logins_per_second = 0\nconnections_per_key = 2\n\
         client_frames_per_second = 9\nnot_here_per_second = 0\nunknown_frame_bytes = 7\n\
         frame_bytes_per_second = 8\n\
         [timeouts]\nproxy_header = \"1s\"\nframe = \"2s\"\n"
    );
    let mut tunables = Tunables::default();
    tunables.client_frame_rate = Some(FrameRate {
        per_second: 9.0,
        burst: 1000.0,
    });
    tunables.not_here_rate = None;
    tunables.max_unknown_frame_len = 7;
    tunables.frame_bytes_per_second = 8;
    tunables.frame_timeout = Duration::from_secs(2);
    tunables.max_pending_bytes = 1 << 20;
    tunables.max_unfinished_bytes = 2 << 20;
    tunables.max_page_connections = 7;
    tunables.network_login_rate = Some(LoginRate {
        per_second: 5.0,
        burst: 50.0,
    });
    tunables.key_login_rate = None;
    tunables.max_connections_per_key = 2;
    tunables.proxy_header_timeout = Duration::from_secs(1);
    assert_eq!(machine.good("", &[], &file).tunables, tunables);
}

#[test]
fn every_mistake_has_its_own_message() {
    let machine = Machine::new();
    let cases = [
        (
            "--proxy-protocol on",
            "-proxy-protocol \"on\": write off or required",
        ),
        (
            "--proxy-protocol-from 10.0.0.0/8",
            "-proxy-protocol-from \"10.0.0.0/8\": it means nothing without \
             listen.proxy_protocol = \"required\"; set that too",
        ),
        (
            "--proxy-protocol required --proxy-protocol-from 10.0.0.0/33",
            "-proxy-protocol-from \"10.0.0.0/33\": \"10.0.0.0/33\" is not a network; write it \
             like 10.0.0.0/8 or fd00::1",
        ),
        (
            "--proxy-protocol required --proxy-protocol-from unix",
            "-proxy-protocol-from \"unix\": \"unix\" is not a network; write it like 10.0.0.0/8 \
             or fd00::1",
        ),
        (
            "--trusted-header forwarded",
            "-trusted-header \"forwarded\": it means nothing without listen.trusted_proxies; set \
             that too",
        ),
        (
            "--trusted-proxies 10.0.0.0/8 --trusted-header x-client",
            "-trusted-header \"x-client\": write x-forwarded-for, x-real-ip or forwarded",
        ),
        (
            "-a unix:derper.sock",
            "-a \"unix:derper.sock\": a Unix socket needs an absolute path, such as \
             unix:/run/derper/derper.sock",
        ),
    ];
    for (flags, message) in cases {
        let mistakes = machine
            .build(&format!("{GOOD} {flags}"), &[], "")
            .unwrap_err();
        assert_eq!(mistakes, message, "{flags}");
    }
    let cases = [
        (
            "listen.unix_mode = \"rw-\"",
            "{}/derper.toml:3: listen.unix_mode = \"rw-\": write it as chmod takes it, such as 0660",
        ),
        (
            "listen.public_port = 65536",
            "{}/derper.toml:3: listen.public_port = \"65536\": out of range; give a port from 1 to 65535, or 0",
        ),
        (
            "stun.address = \"all\"",
            "{}/derper.toml:3: stun.address = \"all\": write an IP address, or :: for all addresses",
        ),
        (
            "limits.key_logins_per_second = -1.0",
            "{}/derper.toml:3: limits.key_logins_per_second = \"-1.0\": give a number above 0, or 0 \
             for no limit",
        ),
        (
            "limits.connections_per_key = 0",
            "{}/derper.toml:3: limits.connections_per_key = \"0\": out of range; give a whole \
             number above 0",
        ),
    ];
    for (key, message) in cases {
        let mistakes = machine
            .build("", &[], &format!("{PLAIN}{key}\n"))
            .unwrap_err();
        assert_eq!(mistakes, message, "{key}");
    }
}

/// What operators copy has no mistakes.
#[test]
fn the_files_for_proxies_are_good() {
    let machine = Machine::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/proxy");
    for (name, is_tls) in [
        ("derper-passthrough.toml", true),
        ("derper-http.toml", false),
    ] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let config = machine.good("--allowlist {}/nodes", &[], &text);
        assert_eq!(machine.warnings(&config), Vec::<String>::new(), "{name}");
        assert_eq!(config.listen.http.is_some(), is_tls, "{name}");
        assert_eq!(config.stun.unwrap().address.ip, None, "{name}");
    }
}
