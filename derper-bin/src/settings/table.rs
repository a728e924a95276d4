//! The table itself. Flags and their defaults are those of `cmd/derper/derper.go`; a setting
//! without a flag, and the long flags `--config` and `--state-dir` and so on, are our own.

use super::{Alias, Group, Kind, Setting};

/// An alias whose value means the same.
const fn same(name: &'static str) -> Alias {
    Alias {
        name,
        read: str::to_owned,
    }
}

/// The value of a variable that turns off what ours turns on. What is no boolean is left for the
/// setting to refuse.
fn unless(value: &str) -> String {
    derp_ops::goflag::parse_bool(value).map_or_else(|| value.to_owned(), |off| (!off).to_string())
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident = $setting:expr;)*) => {
        $(
            #[doc = concat!("`", stringify!($name), "`: see its help text.")]
            pub static $name: Setting = $setting;
        )*
        /// All settings, in the order of the help text.
        pub static ALL: &[&Setting] = &[$(&$name),*];
    };
}

settings! {
    // General
    CONFIG = Setting::new("config", Kind::Path, "",
        "Read the rest from this TOML file; flags and variables override it. Not to be confused \
         with -c, which is the reference's name for the key file.")
        .flag(Group::General, "config", "FILE").env("DERPER_CONFIG", &[]).not_in_file();
    VERSION = Setting::new("version", Kind::Switch, "false", "Print the version and exit.")
        .flag(Group::General, "version", "BOOL").not_in_file();
    DEV = Setting::new("dev", Kind::Switch, "false",
        "Serve plain HTTP on :3340 with a key that is thrown away, and take the mesh key from \
         TAILSCALE_DERPER_MESH_KEY: for development.")
        .flag(Group::General, "dev", "BOOL").env("DERP_DEV_MODE", &[]).not_in_file();
    STATE_DIR = Setting::new("state_dir", Kind::Path, "",
        "Where keys and self-made certificates are kept when nothing else is said. Default: \
         $STATE_DIRECTORY, else /var/lib/derper for root, else $XDG_STATE_HOME/derper or \
         ~/.local/state/derper.")
        .flag(Group::General, "state-dir", "DIR").env("DERPER_STATE_DIR", &[]);

    // Listening
    ADDRESS = Setting::new("listen.address", Kind::Text, ":443",
        "Where to listen: :port, ip:port, [ip6]:port, or unix:/path. With 0.0.0.0 as with [::] these are \
         all addresses of both families; for IPv4 alone name the machine's own. Without a configuration file TLS is \
         served on port 443 or with -certmode manual, and plain HTTP otherwise.")
        .flag(Group::Listening, "a", "ADDR")
        .env("DERP_ADDR", &[
            same("DERPER_ADDR"),
            Alias { name: "DERP_PORT_HTTPS", read: |port| format!(":{port}") },
        ]);
    HTTP_PORT = Setting::new("listen.http_port", Kind::Int, "80",
        "The port beside TLS for captive portal checks and redirects, on the address of -a; -1 \
         for none.")
        .flag(Group::Listening, "http-port", "PORT")
        .env("DERP_HTTP_PORT", &[same("DERP_PORT_HTTP"), same("DERPER_HTTP_PORT")]);
    DERP = Setting::new("listen.derp", Kind::Switch, "true",
        "Run the relay. Without it STUN, bootstrap DNS and probes still work.")
        .flag(Group::Listening, "derp", "BOOL").env("DERP_DERP", &[same("DERP_DERP_ENABLE")]);
    STUN = Setting::new("stun.enabled", Kind::Switch, "true", "Run the STUN server.")
        .flag(Group::Listening, "stun", "BOOL")
        .env("DERP_STUN", &[same("DERP_STUN_ENABLE"), same("DERP_ENABLE_STUN"), same("DERPER_STUN")]);
    STUN_PORT = Setting::new("stun.port", Kind::Int, "3478",
        "The UDP port of STUN, on the address of -a; -1 for none.")
        .flag(Group::Listening, "stun-port", "PORT")
        .env("DERP_STUN_PORT", &[same("DERP_PORT_STUN"), same("DERPER_STUN_PORT")]);
    STUN_ADDRESS = Setting::new("stun.address", Kind::Text, "",
        "The address that STUN listens on, where that is not the one of listen.address: :: for \
         all. Behind a proxy the relay listens on 127.0.0.1, and STUN must not.");
    EXTRA_LISTENERS = Setting::new("listen.extra", Kind::List, "",
        "Additional addresses to listen on: unix:/path, :port, ip:port or [ip6]:port, served like \
         listen.address; with http: in front, as http:unix:/path, plain HTTP is served there.");
    UNIX_MODE = Setting::new("listen.unix_mode", Kind::Text, "0660",
        "Who may connect to Unix sockets, as for chmod.");
    PUBLIC_PORT = Setting::new("listen.public_port", Kind::Int, "0",
        "The port that clients connect to, where a proxy has it: for redirects, and for what is \
         printed for DERP maps. 0: 443 behind a proxy, else the port of listen.address.");
    PROXY_PROTOCOL = Setting::new("listen.proxy_protocol", Kind::Text, "off",
        "Whether connections begin with a PROXY header (version 1 or 2), by which a proxy in \
         front tells where they come from: off or required. Port 80 has none.")
        .flag(Group::Listening, "proxy-protocol", "off|required").env("DERP_PROXY_PROTOCOL", &[]);
    PROXY_PROTOCOL_FROM = Setting::new("listen.proxy_protocol_from", Kind::List, "",
        "The networks of the proxies: connections from them must begin with a PROXY header, and \
         all others must not. Unix sockets always count among them.")
        .flag(Group::Listening, "proxy-protocol-from", "CIDRS")
        .env("DERP_PROXY_PROTOCOL_FROM", &[]);
    TRUSTED_PROXIES = Setting::new("listen.trusted_proxies", Kind::List, "",
        "The networks of proxies that terminate TLS, and whose HTTP header is believed about where \
         a request comes from; unix for whoever connects to a Unix socket.")
        .flag(Group::Listening, "trusted-proxies", "CIDRS").env("DERP_TRUSTED_PROXIES", &[]);
    TRUSTED_HEADER = Setting::new("listen.trusted_header", Kind::Text, "x-forwarded-for",
        "The header that they set: x-forwarded-for, x-real-ip or forwarded. The others are not \
         read, for a proxy passes them on as strangers wrote them.")
        .flag(Group::Listening, "trusted-header", "NAME").env("DERP_TRUSTED_HEADER", &[]);
    TCP_KEEPALIVE = Setting::new("tcp.keepalive", Kind::Duration, "10m0s",
        "TCP keepalive: how long a connection may be idle before it is probed; 0 for 15s, less for never.")
        .flag(Group::Listening, "tcp-keepalive-time", "DURATION")
        .env("DERP_TCP_KEEPALIVE_TIME", &[]);
    TCP_USER_TIMEOUT = Setting::new("tcp.user_timeout", Kind::Duration, "15s",
        "How long sent bytes may stay unacknowledged before the connection is dead \
         (TCP_USER_TIMEOUT); 0 for the system's own.")
        .flag(Group::Listening, "tcp-user-timeout", "DURATION").env("DERP_TCP_USER_TIMEOUT", &[]);
    TCP_WRITE_TIMEOUT = Setting::new("tcp.write_timeout", Kind::Duration, "2s",
        "How long a write to a client may take before the client is dropped; 0 for no limit.")
        .flag(Group::Listening, "tcp-write-timeout", "DURATION")
        .env("DERP_TCP_WRITE_TIMEOUT", &[]);

    TCP_UNSENT = Setting::new("tcp.unsent_bytes", Kind::Size, "128KiB",
        "How many bytes the kernel may hold for a client without having sent them; 0 for the \
         system's own limit. Larger values add latency for slow clients.");

    TCP_RTT_STATS = Setting::new("tcp.rtt_stats", Kind::Switch, "true",
        "Count the round-trip times of clients' connections every ten seconds, as the kernel \
         estimates them, and show them to operators.")
        .env("DERP_TCP_RTT_STATS", &[
            Alias { name: "TS_DERP_DISABLE_RTT_STATS", read: unless },
        ]);

    // Identity and certificates
    HOSTNAME = Setting::new("hostname", Kind::Text, "derp.tailscale.com",
        "The name, or with -certmode manual the address, that clients reach the relay by.")
        .flag(Group::Identity, "hostname", "NAME")
        .env("DERP_HOSTNAME", &[
            same("DERP_DOMAIN"),
            same("DERP_HOST"),
            same("DERPER_DOMAIN"),
            same("TAILSCALE_DERP_HOSTNAME"),
        ]);
    KEY_FILE = Setting::new("key_file", Kind::Path, "",
        "The file with the relay's private key, made if it is missing. Default without a \
         configuration file: /var/lib/derper/derper.key, for root only; with one: derper.key in \
         the state directory.")
        .flag(Group::Identity, "c", "FILE")
        .env("DERP_CONFIG", &[
            same("DERP_CONFIG_FILE"),
            same("DERP_CONFIG_PATH"),
            Alias {
                name: "DERP_STATE_DIR",
                read: |dir| format!("{}/derper.key", dir.trim_end_matches('/')),
            },
        ]);
    TLS_MODE = Setting::new("tls.mode", Kind::Text, "letsencrypt",
        "Where certificates come from: letsencrypt, manual (files in -certdir) or gcp. In the \
         configuration file: manual, self-signed, letsencrypt, gcp or off.")
        .flag(Group::Identity, "certmode", "MODE")
        .env("DERP_CERT_MODE", &[
            Alias { name: "DERP_CERTMODE", read: cert_mode },
            Alias { name: "TAILSCALE_DERP_CERTMODE", read: cert_mode },
        ]);
    CERT_DIR = Setting::new("tls.cert_dir", Kind::Path, "",
        "The directory of certificates: NAME.crt and NAME.key in manual mode. Default: \
         tailscale/derper-certs in $XDG_CACHE_HOME or ~/.cache.")
        .flag(Group::Identity, "certdir", "DIR")
        .env("DERP_CERT_DIR", &[same("DERP_CERTDIR"), same("DERP_CERTS"), same("DERPER_CERT_DIR")]);
    TLS_CERT = Setting::new("tls.cert", Kind::Path, "",
        "The certificate chain (PEM) for manual mode, wherever it is; with tls.key, instead of \
         tls.cert_dir.");
    TLS_KEY = Setting::new("tls.key", Kind::Path, "",
        "The private key (PEM) for tls.cert.");
    TLS_CERTIFICATES = Setting::new("tls.certificates", Kind::List, "",
        "Several certificates for manual mode, each as CERTIFICATE:KEY, instead of tls.cert and \
         tls.key. Each is served to clients that ask for a name that it covers, the first also to \
         those that ask for none.");
    TLS_HOOK = Setting::new("tls.hook", Kind::List, "",
        "A command that gets certificates for manual mode, with its arguments; run without a \
         shell when a certificate is missing or a third of its life is left, and every \
         tls.hook_every. It finds DERP_HOSTNAME, DERP_CERT_FILE, DERP_KEY_FILE and \
         DERP_CERT_NOT_AFTER in its environment.");
    TLS_HOOK_TIMEOUT = Setting::new("tls.hook_timeout", Kind::Duration, "10m0s",
        "How long tls.hook may take before it is killed.");
    TLS_HOOK_EVERY = Setting::new("tls.hook_every", Kind::Duration, "24h0m0s",
        "How often tls.hook is run in any case.");
    TLS_OWN_RECORDS = Setting::new("tls.own_record_layer", Kind::Switch, "true",
        "Handle TLS records in place after the handshake, which takes less memory and time than \
         the TLS library does.");
    ACME_EMAIL = Setting::new("acme.email", Kind::Text, "",
        "Contact for the certificate authority.")
        .flag(Group::Identity, "acme-email", "ADDRESS").env("DERP_ACME_EMAIL", &[]);
    ACME_EAB_KID = Setting::new("acme.eab_kid", Kind::Text, "",
        "Key id of External Account Binding.")
        .flag(Group::Identity, "acme-eab-kid", "ID")
        .env("DERP_ACME_EAB_KID", &[same("DERP_ACME_EABKID")]);
    ACME_EAB_KEY_FILE = Setting::new("acme.eab_key_file", Kind::Path, "",
        "The file with the HMAC key of External Account Binding, base64.")
        .env("DERPER_ACME_EAB_KEY_FILE", &[]);
    ACME_DIRECTORY = Setting::new("acme.directory", Kind::Text, "",
        "The URL of another authority's ACME directory, such as Let's Encrypt's for tests or one \
         of your own.")
        .env("DERPER_ACME_DIRECTORY", &[]);
    ACME_CA_FILE = Setting::new("acme.ca_file", Kind::Path, "",
        "The certificates (PEM) that the ACME directory's own may come from, instead of those \
         that the system trusts.")
        .env("DERPER_ACME_CA_FILE", &[]);
    ACME_CHALLENGES = Setting::new("acme.challenges", Kind::List, "tls-alpn-01,http-01",
        "How the authority may check that the name is this relay's: tls-alpn-01 on port 443, \
         which passes through proxies that go by the server name, and http-01 on port 80. They \
         are tried in this order.")
        .env("DERPER_ACME_CHALLENGES", &[]);
    ACME_PROFILE = Setting::new("acme.profile", Kind::Text, "",
        "The kind of certificate, by the authority's name for it, such as shortlived.")
        .env("DERPER_ACME_PROFILE", &[]);
    ACME_EAB_KEY = Setting::new("acme_eab_key", Kind::Text, "",
        "HMAC key of External Account Binding, base64.")
        .flag(Group::Identity, "acme-eab-key", "BASE64")
        .env("DERP_ACME_EAB_KEY", &[same("DERP_ACME_EABKEY")])
        .not_in_file()
        .secret();
    ACME_IP_CERTS = Setting::new("acme.ip_certs", Kind::Switch, "false",
        "Order short-lived certificates for the machine's own addresses, as clients come there.")
        .flag(Group::Identity, "acme-ip-certs", "BOOL").env("DERP_ACME_IP_CERTS", &[]);

    // Admission
    ALLOWLIST = Setting::new("verify.allowlist", Kind::Path, "",
        "Admit the clients whose keys are in this file: nodekey:… one a line, a JSON list, or the \
         output of tailscale status --json. Followed while the relay runs. A file with nothing in \
         it is refused: a line that begins with # admits nobody.")
        .flag(Group::Admission, "allowlist", "FILE")
        .env("DERP_ALLOWLIST", &[same("DERPER_ALLOWLIST")]);
    DENYLIST = Setting::new("verify.denylist", Kind::Path, "",
        "Turn away the clients whose keys are in this file, whoever else admits them. Followed \
         while the relay runs.")
        .flag(Group::Admission, "denylist", "FILE").env("DERP_DENYLIST", &[]);
    VERIFY_TAILSCALED = Setting::new("verify.tailscaled", Kind::List, "",
        "Admit the nodes that the tailscaled at this socket sees, and its own. For several \
         tailnets give it several times, or a list with commas.")
        .flag(Group::Admission, "verify-tailscaled", "SOCKET")
        .env("DERP_VERIFY_TAILSCALED", &[]).adds_up();
    VERIFY_HEADSCALE = Setting::new("verify.headscale", Kind::Text, "",
        "Admit the nodes of the Headscale server at this URL, its server_url: by its list of \
         nodes where there is an API key, else by its /verify.")
        .flag(Group::Admission, "verify-headscale", "URL").env("DERP_VERIFY_HEADSCALE", &[]);
    HEADSCALE_API_KEY_FILE = Setting::new("verify.headscale_api_key_file", Kind::Path, "",
        "The file with an API key of that server (headscale apikeys create).")
        .flag(Group::Admission, "verify-headscale-api-key-file", "FILE")
        .env("DERP_VERIFY_HEADSCALE_API_KEY_FILE", &[]);
    HEADSCALE_USERS = Setting::new("verify.headscale_users", Kind::List, "",
        "Only the nodes of these users of the Headscale server, by name or as id:N; needs an API key.");
    HEADSCALE_TAGS = Setting::new("verify.headscale_tags", Kind::List, "",
        "Only nodes that have one of these tags, such as tag:relay; needs an API key.");
    HEADSCALE_REFUSE_EXPIRED = Setting::new("verify.headscale_refuse_expired", Kind::Switch,
        "false", "Turn away nodes whose keys have expired; needs an API key.");
    VERIFY_URL = Setting::new("verify.url", Kind::List, "",
        "Admit the clients that the admission controller at this URL admits: http, https or \
         unix:///SOCKET:/PATH. May be repeated, or a list with commas.")
        .flag(Group::Admission, "verify-url", "URL").env("DERP_VERIFY_URL", &[]).adds_up();
    VERIFY_URL_BEARER_FILE = Setting::new("verify.url_bearer_file", Kind::Path, "",
        "A file whose line proves to that controller who asks: sent as a bearer token. It is \
         read anew for each request.");
    VERIFY_URL_HEADER = Setting::new("verify.url_header", Kind::Text, "",
        "The header, instead of a bearer token, that verify.url_header_file is the value of.");
    VERIFY_URL_HEADER_FILE = Setting::new("verify.url_header_file", Kind::Path, "",
        "A file with the value of verify.url_header.");
    VERIFY_CA_FILE = Setting::new("verify.ca_file", Kind::Path, "",
        "The certificates (PEM) to trust for https URLs of verifiers, in place of the system's.");
    VERIFY_PROXY = Setting::new("verify.proxy", Kind::Text, "",
        "The http URL of a proxy to reach verifiers by; none by default, whatever the \
         environment says.");
    VERIFY_POLICY = Setting::new("verify.policy", Kind::Text, "any",
        "Whether any of several verifiers may admit a client, or all must.")
        .flag(Group::Admission, "verify-policy", "any|all").env("DERP_VERIFY_POLICY", &[]);
    VERIFY_INTERVAL = Setting::new("verify.interval", Kind::Duration, "1m0s",
        "How often it is asked again whether a connected client may stay; 0 for never. Nobody \
         is cut off because a verifier does not answer.")
        .flag(Group::Admission, "verify-interval", "DURATION").env("DERP_VERIFY_INTERVAL", &[]);
    VERIFY_CACHE = Setting::new("verify.cache", Kind::Duration, "1m0s",
        "How long an admission is remembered before the verifier is asked again; 0 for not at \
         all.");
    VERIFY_STALE = Setting::new("verify.stale", Kind::Duration, "10m0s",
        "How long an admission is remembered while a verifier does not answer; 0 for not at all.");
    VERIFY_FAIL = Setting::new("verify.fail", Kind::Text, "closed",
        "Whether clients without a remembered verdict are admitted (open) or refused (closed) \
         while a verifier does not answer.");
    REQUIRE_VERIFICATION = Setting::new("verify.required", Kind::Switch, "false",
        "Refuse to start unless something decides who is admitted.")
        .flag(Group::Admission, "require-verification", "BOOL")
        .env("DERP_REQUIRE_VERIFICATION", &[]);
    VERIFY_CLIENTS = Setting::new("verify_clients", Kind::Switch, "false",
        "Admit only clients that the local tailscaled knows, by the reference's rules: each is \
         asked about once, when it connects.")
        .flag(Group::Admission, "verify-clients", "BOOL")
        .env("DERP_VERIFY_CLIENTS", &[
            same("DERPER_VERIFY_CLIENTS"),
            same("TAILSCALE_DERP_VERIFY_CLIENTS"),
            Alias { name: "DERP_AUTH_MODE", read: auth_mode },
        ])
        .not_in_file();
    SOCKET = Setting::new("socket", Kind::Path, "",
        "The socket of the tailscaled that -verify-clients asks.")
        .flag(Group::Admission, "socket", "PATH").env("DERP_SOCKET", &[]).not_in_file();
    VERIFY_CLIENT_URL = Setting::new("verify_client_url", Kind::Text, "",
        "Admit only clients that this admission controller allows, by the reference's rules.")
        .flag(Group::Admission, "verify-client-url", "URL")
        .env("DERP_VERIFY_CLIENT_URL", &[same("DERPER_VERIFY_CLIENT_URL")])
        .not_in_file();
    VERIFY_CLIENT_URL_FAIL_OPEN = Setting::new("verify_client_url_fail_open", Kind::Switch, "true",
        "Admit clients while the admission controller is unreachable.")
        .flag(Group::Admission, "verify-client-url-fail-open", "BOOL")
        .env("DERP_VERIFY_CLIENT_URL_FAIL_OPEN", &[])
        .not_in_file();

    // Limits
    ACCEPT_LIMIT = Setting::new("limits.accepts_per_second", Kind::Float, "+Inf",
        "New connections a second; what is over it is closed at once.")
        .flag(Group::Limits, "accept-connection-limit", "RATE")
        .env("DERP_ACCEPT_CONNECTION_LIMIT", &[]);
    ACCEPT_BURST = Setting::new("limits.accept_burst", Kind::Int, "9223372036854775807",
        "New connections at once, above -accept-connection-limit.")
        .flag(Group::Limits, "accept-connection-burst", "COUNT")
        .env("DERP_ACCEPT_CONNECTION_BURST", &[]);
    RATE_CONFIG = Setting::new("rate_config", Kind::Path, "",
        "A JSON file with PerClientRateLimitBytesPerSec and PerClientRateBurstBytes, read again \
         on SIGHUP.")
        .flag(Group::Limits, "rate-config", "FILE").env("DERP_RATE_CONFIG", &[]).not_in_file();
    CLIENT_RATE = Setting::new("limits.client_bytes_per_second", Kind::Size, "",
        "What one client may send a second; unlimited where it is not set. A client over it is \
         slowed down, nothing is dropped.");
    CLIENT_BURST = Setting::new("limits.client_burst_bytes", Kind::Size, "65568",
        "What one client may send at once, above limits.client_bytes_per_second; at least 65568.");
    FRAME_RATE = Setting::new("limits.client_frames_per_second", Kind::Float, "0",
        "How many frames, of whatever length, one client may send a second; 0 for no limit. A \
         client over it is slowed down, nothing is dropped.");
    FRAME_BURST = Setting::new("limits.client_frame_burst", Kind::Int, "1000",
        "How many it may send at once, above limits.client_frames_per_second.");
    NOT_HERE_RATE = Setting::new("limits.not_here_per_second", Kind::Float, "1",
        "How often a second one client hears that nobody has the key that it seeks; 0 for each \
         time.");
    NOT_HERE_BURST = Setting::new("limits.not_here_burst", Kind::Int, "3",
        "How often at once it hears that, above limits.not_here_per_second.");
    GROUP_RATES = Setting::new("limits.groups", Kind::List, "",
        "What the clients of a group may send a second, all together: GROUP=BYTES, as in \
         friends=10MiB, or GROUP=BYTES:BURST; * for every other group, each for itself. An \
         admission controller says who is in which group.");
    TOTAL_RATE = Setting::new("limits.total_bytes_per_second", Kind::Size, "",
        "What all clients together may send a second; unlimited where it is not set. They take \
         turns, nothing is dropped.");
    TOTAL_BURST = Setting::new("limits.total_burst_bytes", Kind::Size, "65568",
        "What they may send at once, above limits.total_bytes_per_second; at least 65568.");
    LANE_PACKETS = Setting::new("limits.queued_packets_per_client", Kind::Int, "32",
        "Packets of each kind (disco, other) queued for a client while its connection is blocked.")
        .env("TS_DEBUG_DERP_PER_CLIENT_SEND_QUEUE_DEPTH", &[]);
    QUEUE_BYTES = Setting::new("limits.queued_bytes", Kind::Size, "",
        "How many bytes wait for all clients together; the largest queues are cut first. Default: \
         256MiB, or an eighth of the memory that this process may use where that is less.");
    LOGINS_PENDING = Setting::new("limits.pending_logins", Kind::Int, "4096",
        "Maximum number of logins in progress; for one more, the oldest is closed that has said \
         nothing, or else that has not proven a key in a second.");
    PENDING_BYTES = Setting::new("limits.pending_login_bytes", Kind::Size, "",
        "How many bytes connections may hold that are on their way to a login, all together; \
         then the oldest are closed that have not proven a key. Default: 64MiB, or an eighth of \
         the memory that this process may use where that is less.");
    PAGE_CONNECTIONS = Setting::new("limits.page_connections", Kind::Int, "1024",
        "How many connections may ask for pages and probes one after another, those to port 80 \
         included; further ones are closed after one answer, and so is each while half of them \
         are there.");
    UNFINISHED_BYTES = Setting::new("limits.unfinished_bytes", Kind::Size, "",
        "How many bytes of frames that are not finished clients may make the relay hold, all \
         together; then those that have held the most for the longest are closed. Default: 64MiB, \
         or an eighth of the memory that this process may use where that is less.");
    FRAME_BYTES = Setting::new("limits.frame_bytes_per_second", Kind::Size, "2KiB",
        "A frame may take timeouts.frame, and a second more for each so many bytes of its length.");
    UNKNOWN_FRAME_BYTES = Setting::new("limits.unknown_frame_bytes", Kind::Size, "1MiB",
        "The longest frame of an unknown type that is skipped, 1MiB at most; a longer one ends the \
         connection.");
    NETWORK_RATE = Setting::new("limits.network_connections_per_second", Kind::Float, "50",
        "New connections a second from one IPv4 address or one IPv6 network of 64 bits; 0 for no \
         limit. Those from this machine, from private networks and from trusted proxies are not \
         counted, unless a PROXY header tells whose they are.");
    NETWORK_BURST = Setting::new("limits.network_connection_burst", Kind::Int, "500",
        "New connections at once, above limits.network_connections_per_second.");
    KEY_RATE = Setting::new("limits.key_logins_per_second", Kind::Float, "1",
        "Logins a second with one key; 0 for no limit.");
    KEY_BURST = Setting::new("limits.key_login_burst", Kind::Int, "10",
        "Logins at once with one key, above limits.key_logins_per_second.");
    KEY_CONNECTIONS = Setting::new("limits.connections_per_key", Kind::Int, "8",
        "How many connections one key may have; for one more, the oldest that is not active is \
         closed.");
    MAX_CLIENTS = Setting::new("limits.clients", Kind::Int, "0",
        "How many clients there may be; 0 for as many as the limit of open files allows, less an \
         eighth for all else.");
    CLIENT_INFO_BYTES = Setting::new("limits.client_info_bytes", Kind::Size, "16KiB",
        "The longest information that a client may send of itself.");
    LOGIN_TIMEOUT = Setting::new("timeouts.login", Kind::Duration, "15s",
        "From a connection's first byte to its login, for all steps together.");
    PROXY_TIMEOUT = Setting::new("timeouts.proxy_header", Kind::Duration, "3s",
        "For the PROXY header, where one is due.");
    TLS_TIMEOUT = Setting::new("timeouts.tls", Kind::Duration, "8s", "For the TLS handshake.");
    HEAD_TIMEOUT = Setting::new("timeouts.http_head", Kind::Duration, "5s",
        "For an HTTP request's head.");
    CLIENT_INFO_TIMEOUT = Setting::new("timeouts.client_info", Kind::Duration, "10s",
        "From the relay's greeting to the client's answer.");
    VERIFY_TIMEOUT = Setting::new("timeouts.verify", Kind::Duration, "5s",
        "For finding out whether a client is admitted.");
    FRAME_TIMEOUT = Setting::new("timeouts.frame", Kind::Duration, "10s",
        "For a client's frame from its first byte to its last; longer ones have more, by \
         limits.frame_bytes_per_second.");
    MESH_WRITE_TIMEOUT = Setting::new("timeouts.mesh_write", Kind::Duration, "30s",
        "How long a write to another relay of the region may take.");
    KEEP_ALIVE = Setting::new("timeouts.keep_alive", Kind::Duration, "1m0s",
        "How often each client hears that the relay is there; clients give up after 2m0s.");
    KEEP_ALIVE_JITTER = Setting::new("timeouts.keep_alive_jitter", Kind::Duration, "5s",
        "At most so much is added to it, so that clients do not hear of it all at once.");
    DRAIN_SPREAD = Setting::new("drain.spread", Kind::Duration, "10s",
        "When the relay stops, it closes its clients' connections one after another over this \
         time, so that they do not all come to the next relay at once.");
    DRAIN_HARD_STOP = Setting::new("drain.hard_stop", Kind::Duration, "15s",
        "When the relay stops, it waits no longer than this.");

    // Pages
    HOME = Setting::new("http.home", Kind::Text, "",
        "What / answers: empty for a page that says what this is, blank for nothing, or an http \
         or https URL to redirect to.")
        .flag(Group::Pages, "home", "blank|URL").env("DERP_HOME", &[same("DERP_HOME_PAGE")]);
    UNKNOWN_PATHS = Setting::new("http.unknown_paths", Kind::Text, "home",
        "What paths answer that lead nowhere: home for the home page, as the reference does, or \
         404.");
    BOOTSTRAP_DNS = Setting::new("bootstrap_dns.names", Kind::List, "",
        "Names whose addresses /bootstrap-dns publishes.")
        .flag(Group::Pages, "bootstrap-dns-names", "NAMES")
        .env("DERP_BOOTSTRAP_DNS_NAMES", &[]);
    UNPUBLISHED_DNS = Setting::new("bootstrap_dns.unpublished", Kind::List, "",
        "Names whose addresses /bootstrap-dns tells only those who ask for them: NAME, or \
         NAME/TXTNAME, where a TXT record of the second says how many percent of those who ask.")
        .flag(Group::Pages, "unpublished-bootstrap-dns-names", "NAMES")
        .env("DERP_UNPUBLISHED_BOOTSTRAP_DNS_NAMES", &[]);
    ACE = Setting::new("http.ace", Kind::Switch, "false",
        "Proxy CONNECT requests that come over TLS to Tailscale's control servers, for nodes that \
         cannot reach those themselves.")
        .flag(Group::Pages, "ace", "BOOL").env("DERP_ACE", &[same("DERP_ACE_ENABLE")]);
    DEBUG_IP = Setting::new("debug.allowed_ip", Kind::Text, "",
        "One more address that may see /debug/, besides this machine and the tailnet.")
        .env("TS_ALLOW_DEBUG_IP", &[]);
    DEBUG_CIDRS = Setting::new("debug.trusted", Kind::List, "",
        "Networks that may see /debug/.")
        .env("TS_DEBUG_TRUSTED_CIDRS", &[]);
    DEBUG_KEY = Setting::new("debug.key_file", Kind::Path, "",
        "A file whose content, given as ?debugkey=, opens /debug/ from anywhere.")
        .env("TS_DEBUG_KEY_PATH", &[]);

    // Mesh
    MESH_PSK_FILE = Setting::new("mesh.key_file", Kind::Path, "",
        "The file with the key that the relays of the region share, 64 hexadecimal digits; a key \
         on a second line is accepted as well. Default without a configuration file: \
         /home/derp/keys/derp-mesh.key or ~/keys/derp-mesh.key, where one exists.")
        .flag(Group::Mesh, "mesh-psk-file", "FILE").env("DERP_MESH_PSK_FILE", &[]);
    MESH_WITH = Setting::new("mesh.with", Kind::List, "",
        "The region's other relays: host, host:port, or host/address to connect to an address \
         and still want the host's certificate. This relay may be among them.")
        .flag(Group::Mesh, "mesh-with", "HOSTS").env("DERP_MESH_WITH", &[]);
    MESH_NAME = Setting::new("mesh.name", Kind::Text, "",
        "A DNS name, perhaps with a port, whose addresses are the region's relays, this one \
         among them. It is looked up every ten seconds.")
        .flag(Group::Mesh, "mesh-name", "HOST").env("DERP_MESH_NAME", &[]);
    MESH_CA_FILE = Setting::new("mesh.ca_file", Kind::Path, "",
        "Certificates of the authorities that the other relays' certificates come from, in place \
         of those that the system trusts.")
        .flag(Group::Mesh, "mesh-ca-file", "FILE").env("DERP_MESH_CA_FILE", &[]);
    MESH_KEY_TEXT = Setting::new("mesh_key", Kind::Text, "",
        "The mesh key itself, for -dev.")
        .env("TAILSCALE_DERPER_MESH_KEY", &[]).not_in_file().secret();
    SECRETS_URL = Setting::new("secrets_url", Kind::Text, "",
        "Fetch the mesh key from a setec server. Not in this version.")
        .flag(Group::Mesh, "secrets-url", "URL").env("DERP_SECRETS_URL", &[]).not_in_file();
    SECRETS_PATH_PREFIX = Setting::new("secrets_path_prefix", Kind::Text, "prod/derp",
        "Where the setec server keeps it.")
        .flag(Group::Mesh, "secrets-path-prefix", "PREFIX")
        .env("DERP_SECRETS_PATH_PREFIX", &[])
        .not_in_file();
    SECRETS_CACHE_DIR = Setting::new("secrets_cache_dir", Kind::Path, "",
        "Where to keep a copy of it.")
        .flag(Group::Mesh, "secrets-cache-dir", "DIR")
        .env("DERP_SECRETS_CACHE_DIR", &[])
        .not_in_file();

    // Logs and metrics
    METRICS_ADDRESS = Setting::new("metrics.address", Kind::Text, "",
        "A listener for operators alone, as 127.0.0.1:9090: /metrics, /healthz, /readyz and \
         /debug/. Whoever reaches it reads the metrics.")
        .flag(Group::Logs, "metrics-addr", "ADDR").env("DERP_METRICS_ADDR", &[]);
    ADMIN_SOCKET = Setting::new("admin.socket", Kind::Path, "",
        "A Unix socket for derper clients, close, reload and top: whoever may use it sees who is \
         connected, and closes connections. The relay's user and group may.")
        .flag(Group::Logs, "admin-socket", "PATH").env("DERP_ADMIN_SOCKET", &[]);
    LOG_FORMAT = Setting::new("log.format", Kind::Text, "text", "How log lines look: text or json.")
        .flag(Group::Logs, "log-format", "FORMAT").env("DERPER_LOG_FORMAT", &[]);
    LOG_FILTER = Setting::new("log.level", Kind::Text, "info",
        "What is logged: error, warn, info, debug or trace, or levels by module such as \
         info,derp_server=debug.")
        .flag(Group::Logs, "log-level", "LEVEL").env("DERPER_LOG_LEVEL", &[]);
}

/// The value of another image's variable for `-verify-clients`. Another mode than this one is left
/// for the setting to refuse: it must not become an open relay.
fn auth_mode(mode: &str) -> String {
    match mode {
        "verify-clients" => "true".to_owned(),
        mode => mode.to_owned(),
    }
}

/// The value of another image's variable for `-certmode`. A tool that fetches certificates by
/// itself leaves files behind: to the relay that is manual mode.
fn cert_mode(mode: &str) -> String {
    match mode {
        "acme.sh" => "manual".to_owned(),
        mode => mode.to_owned(),
    }
}
