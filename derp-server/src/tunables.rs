//! What can be changed while the relay runs.

use std::collections::BTreeMap;
use std::time::Duration;

use derp_verify::RateLimit;

use crate::login_rates::LoginRate;
use crate::registry::MAX_PER_KEY;

/// How fast the clients of a group may send, all of them together. Which group a client belongs to
/// is for the verifier to say, in [`derp_verify::Verdict::group`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupRates {
    /// The groups that have a limit of their own, by name.
    pub named: BTreeMap<String, RateLimit>,
    /// The limit of every other group, each for itself.
    pub others: Option<RateLimit>,
}

impl GroupRates {
    pub(crate) fn of(&self, group: &str) -> Option<RateLimit> {
        self.named.get(group).copied().or(self.others)
    }
}

/// How often something may happen that has to do with a client's frames.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrameRate {
    /// Times a second.
    pub per_second: f64,
    /// How many times at once; at least one.
    pub burst: f64,
}

/// Limits and times that may change at any moment, for all clients at once.
///
/// The defaults are those of the reference where it has them, and otherwise what keeps a public
/// relay of a gigabyte of memory alive.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Tunables {
    /// How many packets of each kind wait for a client whose connection takes none.
    pub lane_depth: usize,
    /// How many bytes wait for all clients together; the largest queues are cut first. What the
    /// allocator keeps for itself comes on top, up to as much again where many threads share it.
    pub queue_budget_bytes: usize,
    /// A client whose connection takes no byte for so long is disconnected; `None` for never.
    /// Whether one over TLS 1.2, WebSocket or an embedder's stream takes any shows only once it has
    /// taken some ten thousand.
    pub write_timeout: Option<Duration>,
    /// The same for mesh peers.
    pub mesh_write_timeout: Duration,
    /// How fast each client may send, if that is limited; mesh peers never are.
    pub client_rate: Option<RateLimit>,
    /// How many frames of any type each client may send, if that is limited; mesh peers never are.
    pub client_frame_rate: Option<FrameRate>,
    /// How fast the clients of each group may send together, if that is limited.
    pub group_rates: GroupRates,
    /// How fast all clients may send together, if that is limited.
    pub total_rate: Option<RateLimit>,
    /// How often each client hears that the relay is there.
    pub keep_alive: Duration,
    /// At most so much is added to it, chosen once for each connection.
    pub keep_alive_jitter: Duration,
    /// From the first byte to the login, for all steps together.
    pub login_timeout: Duration,
    /// For the PROXY header, where one is due.
    pub proxy_header_timeout: Duration,
    /// For the TLS handshake.
    pub tls_timeout: Duration,
    /// For the request.
    pub head_timeout: Duration,
    /// From the greeting to the client's answer.
    pub client_info_timeout: Duration,
    /// For the verifier's answer.
    pub verify_timeout: Duration,
    /// The longest ClientInfo frame, in bytes. The reference takes 262,144.
    pub max_client_info_len: usize,
    /// How many connections may be on their way to a login. For one more, the oldest goes that has
    /// said nothing, or else that has not proven a key in a second.
    pub max_logins_pending: usize,
    /// How many bytes connections may hold that are on their way to a login, all together. Beyond
    /// it, the oldest go that have not proven a key.
    pub max_pending_bytes: usize,
    /// How many connections pages may be served on; others have one answer each, which counts among
    /// logins. Where half of them are there, no connection is kept after an answer.
    pub max_page_connections: usize,
    /// How many bytes of frames that they have not finished clients may make the relay hold, all
    /// together. Beyond it, those that have held the most for the longest are closed.
    pub max_unfinished_bytes: usize,
    /// How long a frame may take from its first byte to its last.
    pub frame_timeout: Duration,
    /// A frame has a second more for each so many bytes of its length.
    pub frame_bytes_per_second: usize,
    /// The longest frame of an unknown type that is skipped, in bytes; a longer one ends the
    /// connection. More than [`derp_proto::MAX_SKIPPED_LEN`] means just that.
    pub max_unknown_frame_len: usize,
    /// How often each client may hear that nobody has the key that it seeks; `None` for each time.
    pub not_here_rate: Option<FrameRate>,
    /// How often connections may come from one IPv4 address or one IPv6 network of 64 bits;
    /// `None` for as often as they like. It does not count those from this machine, from private
    /// networks and from trusted proxies, behind which there may be many.
    pub network_login_rate: Option<LoginRate>,
    /// How often one key may log in, unless it is a mesh peer's; `None` for as often as it likes.
    pub key_login_rate: Option<LoginRate>,
    /// How many connections one key may have; for one more, the oldest that is not active goes.
    pub max_connections_per_key: usize,
    /// How many clients there may be.
    pub max_clients: usize,
    /// Whether a client is admitted when the verifier has no answer.
    pub verify_fail_open: bool,
    /// Whether TLS records are handled in place after the handshake. Without it, rustls does
    /// all of TLS, which takes more memory and time.
    pub own_record_layer: bool,
    /// For how many bytes the kernel may hold for a client that it has not sent, in bytes;
    /// `None` leaves it to the system. Without a limit, what a slow client gets is seconds old.
    pub notsent_low_water: Option<u32>,
}

impl Tunables {
    /// For how long a client's connection may take nothing, if that has an end.
    pub(crate) const fn write_patience(&self, is_mesh_peer: bool) -> Option<Duration> {
        if is_mesh_peer {
            Some(self.mesh_write_timeout)
        } else {
            self.write_timeout
        }
    }
}

impl Default for Tunables {
    fn default() -> Self {
        Self {
            lane_depth: 32,
            queue_budget_bytes: 256 << 20,
            write_timeout: Some(Duration::from_secs(2)),
            mesh_write_timeout: Duration::from_secs(30),
            client_rate: None,
            client_frame_rate: None,
            group_rates: GroupRates::default(),
            total_rate: None,
            keep_alive: Duration::from_secs(60),
            keep_alive_jitter: Duration::from_secs(5),
            login_timeout: Duration::from_secs(15),
            proxy_header_timeout: Duration::from_secs(3),
            tls_timeout: Duration::from_secs(8),
            head_timeout: Duration::from_secs(5),
            client_info_timeout: Duration::from_secs(10),
            verify_timeout: Duration::from_secs(5),
            max_client_info_len: derp_proto::MAX_CLIENT_INFO_LEN,
            max_logins_pending: 4096,
            max_pending_bytes: 64 << 20,
            max_page_connections: 1024,
            max_unfinished_bytes: 64 << 20,
            frame_timeout: Duration::from_secs(10),
            frame_bytes_per_second: 2048,
            max_unknown_frame_len: derp_proto::MAX_SKIPPED_LEN,
            not_here_rate: Some(FrameRate {
                per_second: 1.0,
                burst: 3.0,
            }),
            network_login_rate: Some(LoginRate {
                per_second: 50.0,
                burst: 500.0,
            }),
            key_login_rate: Some(LoginRate {
                per_second: 1.0,
                burst: 10.0,
            }),
            max_connections_per_key: MAX_PER_KEY,
            max_clients: usize::MAX,
            verify_fail_open: false,
            own_record_layer: true,
            notsent_low_water: Some(128 << 10),
        }
    }
}
