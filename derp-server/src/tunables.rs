//! What can be changed while the relay runs.

use std::time::Duration;

use derp_verify::RateLimit;

/// Limits and times that may change at any moment, for all clients at once.
///
/// The defaults are those of the reference where it has them, and otherwise what keeps a public
/// relay of a gigabyte of memory alive.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Tunables {
    /// How many packets of each kind wait for a client whose connection takes none.
    pub lane_depth: usize,
    /// How many bytes wait for all clients together; the largest queues are cut first.
    pub queue_budget_bytes: usize,
    /// A client whose connection takes no byte for so long is disconnected; `None` for never.
    pub write_timeout: Option<Duration>,
    /// The same for mesh peers.
    pub mesh_write_timeout: Duration,
    /// How fast each client may send, if that is limited; mesh peers never are.
    pub client_rate: Option<RateLimit>,
    /// How often each client hears that the relay is there.
    pub keep_alive: Duration,
    /// At most so much is added to it, chosen once for each connection.
    pub keep_alive_jitter: Duration,
    /// From the first byte to the login, for all steps together.
    pub login_timeout: Duration,
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
    /// How many connections may be on their way to a login.
    pub max_logins_pending: usize,
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

impl Default for Tunables {
    fn default() -> Self {
        Self {
            lane_depth: 32,
            queue_budget_bytes: 512 << 20,
            write_timeout: Some(Duration::from_secs(2)),
            mesh_write_timeout: Duration::from_secs(30),
            client_rate: None,
            keep_alive: Duration::from_secs(60),
            keep_alive_jitter: Duration::from_secs(5),
            login_timeout: Duration::from_secs(15),
            tls_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            client_info_timeout: Duration::from_secs(10),
            verify_timeout: Duration::from_secs(5),
            max_client_info_len: derp_proto::MAX_CLIENT_INFO_LEN,
            max_logins_pending: 4096,
            max_clients: usize::MAX,
            verify_fail_open: false,
            own_record_layer: true,
            notsent_low_water: Some(128 << 10),
        }
    }
}
