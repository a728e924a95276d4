//! Broken configurations: what an operator hears of them, word for word; and that a relay which
//! runs, and is to change over to one of them, goes on as it was.

use std::net::SocketAddr;
use std::time::Duration;

use derper::app::App;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use crate::machine::{GOOD, KEY, MESH_KEY, Machine};

/// Broken files: the whole text of each, and the message. `{}` stands for the home directory.
const BROKEN_FILES: &[(&str, &str)] = &[
    (
        "key_file = \"{}/derper.key\"\n",
        "tls.mode is not set; write manual, self-signed, letsencrypt, gcp or off",
    ),
    (
        "[tls]\nmode = \"sometimes\"\n",
        "{}/derper.toml:2: tls.mode = \"sometimes\": write manual, self-signed, letsencrypt, gcp or off",
    ),
    (
        "[tls]\nmode = \"self-signed\"\n",
        "hostname is not set; give the name or address that clients reach the relay by",
    ),
    (
        "hostname = \"derp.example.com\"\ntls.mode = \"letsencrypt\"\ntls.hook = [\"/h\"]\n",
        "{}/derper.toml:3: tls.hook = \"/h\": this is for manual mode only; remove it",
    ),
    (
        "hostname = \"derp.example.com\"\ntls.mode = \"manual\"\ntls.certificates = [\"/c\"]\n",
        "{}/derper.toml:3: tls.certificates = \"/c\": \"/c\" names no key; write \
         CERTIFICATE:KEY",
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
        "hostname = \"derp.example.com\"\ntls.mode = \"self-signed\"\ntls.cert = \"/c\"\n",
        "{}/derper.toml:3: tls.cert = \"/c\": this is for manual mode only; remove it",
    ),
    (
        "tls.mode = \"off\"\nstate_dir = \"{}/state\"\n",
        "-c: {}/state/derper.key holds a secret and others than its owner may read it (mode \
         0640); run: chmod 600 {}/state/derper.key",
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
        "tls.mode = \"off\"\n[limits]\ntotal_burst_bytes = \"1MiB\"\n",
        "{}/derper.toml:3: limits.total_burst_bytes = \"1MiB\": it means nothing without \
         limits.total_bytes_per_second; set that too",
    ),
    (
        "tls.mode = \"off\"\n[limits]\ngroups = [\"friends\"]\n",
        "{}/derper.toml:3: limits.groups = \"friends\": \"friends\" sets no limit; write \
         GROUP=BYTES, such as friends=10MiB, or GROUP=BYTES:BURST, and * for every other group",
    ),
    (
        "tls.mode = \"off\"\n[limits]\ngroups = [\"a=1MB\"]\n",
        "{}/derper.toml:3: limits.groups = \"a=1MB\": \"a=1MB\" holds \"1MB\", which is no \
         number of bytes; write GROUP=BYTES, such as friends=10MiB, or GROUP=BYTES:BURST, and * \
         for every other group",
    ),
    (
        "tls.mode = \"off\"\n[limits]\ngroups = [\"a=1MiB:9\"]\n",
        "{}/derper.toml:3: limits.groups = \"a=1MiB:9\": \"a=1MiB:9\" has a burst that is too \
         small; give at least 65568",
    ),
    (
        "tls.mode = \"off\"\n[limits]\ngroups = [\"*=1MiB\", \"*=2MiB\"]\n",
        "{}/derper.toml:3: limits.groups = \"*=1MiB,*=2MiB\": \"*\" has two limits; remove one \
         of them",
    ),
    (
        "tls.mode = \"off\"\n[limits]\npending_logins = 0\n",
        "{}/derper.toml:3: limits.pending_logins = \"0\": out of range; give a whole number \
         above 0",
    ),
    (
        "tls.mode = \"off\"\n[timeouts]\nlogin = \"0s\"\n",
        "{}/derper.toml:3: timeouts.login = \"0s\": it must be more than 0s",
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
    (
        "tls.mode = \"off\"\n[listen\n",
        "the configuration has 2 mistakes:\n  \
         {}/derper.toml:2: this is not TOML: unclosed table, expected `]`\n  \
         tls.mode is not set; write manual, self-signed, letsencrypt, gcp or off",
    ),
    (
        "tls.mode = \"off\"\ntls.mode = \"off\"\n",
        "the configuration has 2 mistakes:\n  \
         {}/derper.toml:2: this is not TOML: duplicate key\n  \
         tls.mode is not set; write manual, self-signed, letsencrypt, gcp or off",
    ),
    (
        "tls.mode = \"off\"\nstun.port = 65536\n",
        "{}/derper.toml:2: stun.port = \"65536\": out of range; give a port from 0 to 65535, or -1 for none",
    ),
    (
        "tls.mode = \"off\"\nstun.address = \"everywhere\"\n",
        "{}/derper.toml:2: stun.address = \"everywhere\": write an IP address, or :: for all addresses",
    ),
    (
        "tls.mode = \"off\"\nadmin.socket = \"admin.sock\"\n",
        "{}/derper.toml:2: admin.socket = \"admin.sock\": write an absolute path, such as \
         /run/derper/admin.sock",
    ),
    (
        "tls.mode = \"off\"\nlisten.unix_mode = \"rw\"\n",
        "{}/derper.toml:2: listen.unix_mode = \"rw\": write it as chmod takes it, such as 0660",
    ),
    (
        "tls.mode = \"off\"\nlisten.proxy_protocol = \"v2\"\n",
        "{}/derper.toml:2: listen.proxy_protocol = \"v2\": write off or required",
    ),
    (
        "tls.mode = \"off\"\nlisten.proxy_protocol_from = [\"10.0.0.0/8\"]\n",
        "{}/derper.toml:2: listen.proxy_protocol_from = \"10.0.0.0/8\": it means nothing without \
         listen.proxy_protocol = \"required\"; set that too",
    ),
    (
        "tls.mode = \"off\"\nlisten.trusted_header = \"x-client\"\n\
         listen.trusted_proxies = [\"::1\"]\n",
        "{}/derper.toml:2: listen.trusted_header = \"x-client\": write x-forwarded-for, x-real-ip \
         or forwarded",
    ),
    (
        "tls.mode = \"off\"\nverify.policy = \"most\"\n",
        "{}/derper.toml:2: verify.policy = \"most\": write any or all",
    ),
    (
        "tls.mode = \"off\"\nverify.required = true\n",
        "{}/derper.toml:2: verify.required: this would be an OPEN RELAY, for nothing says who may \
         use it; name a list of keys with --allowlist, or somebody to ask with \
         --verify-tailscaled, --verify-headscale or --verify-url",
    ),
    (
        "tls.mode = \"off\"\nlog.level = \"loud=very\"\n",
        "{}/derper.toml:2: log.level = \"loud=very\": write error, warn, info, debug or trace, or \
         levels by module such as info,derp_server=debug",
    ),
    (
        "tls.mode = \"off\"\nbootstrap_dns.unpublished = [\"a.example.com/b c\"]\n",
        "{}/derper.toml:2: bootstrap_dns.unpublished = \"a.example.com/b c\": \"a.example.com/b c\" is \
         not a host name; write NAME or NAME/TXTNAME",
    ),
    (
        "tls.mode = \"off\"\nhttp.ace = \"yes\"\n",
        "{}/derper.toml:2: http.ace: true or false is wanted here",
    ),
    (
        "tls.mode = \"off\"\ndebug.trusted = [\"10.0.0.1\"]\n",
        "{}/derper.toml:2: debug.trusted = \"10.0.0.1\": \"10.0.0.1\" is not a network; write it \
         like 10.0.0.0/8 or fd00::/8",
    ),
    (
        "tls.mode = \"off\"\nmesh.with = [\"b.example.com\"]\n",
        "{}/derper.toml:2: mesh.with: other relays want the key that the region shares; put it \
         into a file and name that with -mesh-psk-file",
    ),
];

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
            "-stun-port 65536",
            &[],
            "-stun-port \"65536\": out of range; give a port from 0 to 65535, or -1 for none",
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
            "DERP_HOSTNAME and DERP_HOST mean the same setting and differ; remove one of them",
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
            "-tcp-user-timeout=-1s",
            &[],
            "-tcp-user-timeout \"-1s\": a duration here cannot be negative",
        ),
        (
            "-accept-connection-limit 0",
            &[],
            "-accept-connection-limit \"0\": give a number above 0, or +Inf for no limit",
        ),
        (
            "-accept-connection-limit 5 -accept-connection-burst 0",
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
             digits, or twice as many on two lines while keys are exchanged; make one with: \
             openssl rand -hex 32: key must be exactly 64 hexadecimal digits",
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
            tls.mode is not set; write manual, self-signed, letsencrypt, gcp or off",
        ),
        (
            "--allowlist {}/none",
            &[],
            "-allowlist: cannot read {}/none: No such file or directory (os error 2)",
        ),
        (
            "-a :443",
            &[],
            "-certmode: -hostname is not set; give the name that certificates are to be ordered \
             for",
        ),
        (
            "-a :443 -hostname 192.0.2.1",
            &[],
            "-hostname \"192.0.2.1\": an authority gives certificates for addresses only with \
             -acme-ip-certs; set that, or give a name",
        ),
        (
            "-a :443 -hostname 192.0.2.1 -acme-email a@b -acme-eab-kid x -acme-eab-key c2VjcmV0",
            &[("DERP_CERT_MODE", "gcp")],
            "-hostname \"192.0.2.1\": Google gives no certificates for addresses; give a name",
        ),
        (
            "-a :443 -hostname derp.example.com -acme-email a@example.com",
            &[("DERP_CERT_MODE", "gcp")],
            "DERP_CERT_MODE: Google wants to know whose account it is; set -acme-email, \
             -acme-eab-kid and -acme-eab-key",
        ),
        (
            "-a :443 -hostname derp.example.com -acme-eab-kid x",
            &[],
            "-acme-eab-kid \"x\": -acme-eab-key is not set; both are needed",
        ),
        (
            "-a :443 -hostname derp.example.com -acme-eab-kid x -acme-eab-key =hunter2=",
            &[],
            "-acme-eab-key: the key is not base64; copy it as it was given",
        ),
        (
            "-a :443 -hostname derp.example.com",
            &[("DERPER_ACME_DIRECTORY", "http://ca.example.com/dir")],
            "DERPER_ACME_DIRECTORY \"http://ca.example.com/dir\": an ACME directory is an https:// \
             URL",
        ),
        (
            "-a :443 -hostname derp.example.com",
            &[("DERPER_ACME_CHALLENGES", "dns-01")],
            "DERPER_ACME_CHALLENGES \"dns-01\": for dns-01 use manual mode and tls.hook with a \
             tool that knows your DNS",
        ),
        (
            "-a :443 -hostname derp.example.com -http-port -1",
            &[("DERPER_ACME_CHALLENGES", "http-01")],
            "DERPER_ACME_CHALLENGES \"http-01\": http-01 needs the port for plain HTTP, which is \
             off; remove one",
        ),
        (
            "-a :443 -certmode manual -hostname 192.0.2.1 -acme-ip-certs",
            &[],
            "-acme-ip-certs \"true\": Let's Encrypt gives such certificates; set -certmode to \
             letsencrypt",
        ),
        // What this version does not do.
        (
            "-verify-client-url ftp://127.0.0.1:1/verify",
            &[],
            "-verify-client-url: bad URL: not an http, https or unix URL",
        ),
        (
            "-mesh-with derp1a.example.com",
            &[],
            "-mesh-with: other relays want the key that the region shares; put it into a file and \
             name that with -mesh-psk-file",
        ),
        (
            "-mesh-psk-file= -mesh-with derp1a.example.com",
            &[],
            "-mesh-with: other relays want the key that the region shares; put it into a file and \
             name that with -mesh-psk-file",
        ),
        // Another image's way to ask for verification: what is not understood must not be open.
        (
            "",
            &[("DERP_AUTH_MODE", "verify-url")],
            "DERP_AUTH_MODE \"verify-url\": write true or false",
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
        ("-ace=perhaps", &[], "-ace \"perhaps\": write true or false"),
        (
            "-unpublished-bootstrap-dns-names x.example.com/a/b",
            &[],
            "-unpublished-bootstrap-dns-names \"x.example.com/a/b\": \"x.example.com/a/b\" is not a \
             host name; write NAME or NAME/TXTNAME",
        ),
    ];
    assert!(cases.len() + BROKEN_FILES.len() >= 80);
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
    for (file, message) in BROKEN_FILES {
        let machine = Machine::new();
        machine.write("state/derper.key", 0o640, KEY);
        let told = machine.build("", &[], file).expect_err(message);
        assert_eq!(told, *message, "{file}");
    }
}

/// A relay that runs by this file, and is told of each broken one. Nothing that it can be asked about
/// changes, and each time it says what is wrong.
#[tokio::test]
async fn a_relay_that_runs_is_changed_by_none_of_them() {
    let machine = Machine::new();
    machine.write("state/derper.key", 0o640, KEY);
    machine.write("nodes", 0o644, "[]");
    let good = "tls.mode = \"off\"\nlisten.address = \"127.0.0.1:0\"\nstun.enabled = false\n\
                state_dir = \"{}\"\nlimits.clients = 7\nverify.allowlist = \"{}/nodes\"\n\
                http.home = \"blank\"\nmetrics.address = \"127.0.0.1:0\"\n";
    let config = machine.good("", &[], good);
    let app = App::bind(config, derper::clock::wall()).unwrap();
    let [relay, operators] = [app.port(), app.metrics_port().unwrap()]
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let server = app.server().clone();
    let before = server.tunables();
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async {
        drop(stopped.await);
    };
    let (reload, reloads) = mpsc::channel(1);
    let task = tokio::spawn(app.run(shutdown, reloads));
    let metrics = || async {
        let text = get(operators, "/metrics").await;
        let of_interest = |line: &&str| {
            [
                "derper_open_relay",
                "derper_config_rejected",
                "derper_config_reloads",
            ]
            .iter()
            .any(|name| line.starts_with(name))
        };
        text.lines()
            .filter(of_interest)
            .collect::<Vec<_>>()
            .join("\n")
    };
    for (count, (file, message)) in BROKEN_FILES.iter().enumerate() {
        let mistakes = machine.reload("", &[], file).expect_err(message);
        assert_eq!(machine.told(&mistakes), *message);
        for news in [Err(mistakes.clone()), Err(mistakes)] {
            reload.send(news).await.unwrap();
        }
        let rejected = (count + 1) * 2;
        let expected = format!(
            "derper_config_rejected 1\nderper_config_reloads{{result=\"ok\"}} 0\n\
             derper_config_reloads{{result=\"rejected\"}} {rejected}\nderper_open_relay 0"
        );
        let counted = async { while metrics().await != expected {} };
        let counted = tokio::time::timeout(Duration::from_secs(30), counted).await;
        counted.unwrap_or_else(|_| panic!("{file}: not\n{expected}"));
        assert_eq!(server.tunables(), before, "{file}");
        assert!(get(relay, "/").await.ends_with("\r\n\r\n"), "{file}");
    }
    stop.send(()).unwrap();
    task.await.unwrap().unwrap();
}

/// The whole answer to a request.
async fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    answer
}

#[test]
fn a_certificate_is_in_one_place() {
    let machine = Machine::new();
    let file = "hostname = \"derp.example.com\"\n[tls]\nmode = \"manual\"\ncert = \"{}/c\"\n\
                key = \"{}/k\"\ncert_dir = \"{}\"\n";
    assert_eq!(
        machine.build("", &[], file).unwrap_err(),
        "the configuration has 2 mistakes:\n  \
         {}/derper.toml:4: tls.cert = \"{}/c\": {}/derper.toml:6: tls.cert_dir is set too; remove \
         one\n  \
         {}/derper.toml:3: tls.mode: {}/c does not exist; put the certificate chain (PEM) there"
    );
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
        "the configuration has 5 mistakes:\n  \
         DERP_DOMAIN and DERP_HOST mean the same setting and differ; remove one of them\n  \
         {}/derper.toml:1: hostnam is not a key of this file; did you mean hostname?\n  \
         DERP_HTTP_PORT \"x\": not a whole number; give a port from 0 to 65535, or -1 for none\n  \
         -stun \"no\": write true or false\n  \
         {}/derper.toml:5: tcp.keepalive = \"soon\": not a duration; write it like 15s, 100ms or \
         1m30s"
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
            "-verify-clients and {}/derper.toml:3: verify.allowlist cannot be combined: the \
             first follows the reference's rules and the second ours; remove one of them"
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
        told.contains("-verify-client-url and -allowlist cannot be combined: "),
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
