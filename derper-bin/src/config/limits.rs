//! How much of the relay one client, or all together, may use, and how long things may take.

use std::time::Duration;

use derp_ops::goflag;

use super::reader::Reader;
use crate::problem::chain;
use crate::rate_config;
pub use crate::rate_config::ClientRate;
use crate::settings::{
    ACCEPT_BURST, ACCEPT_LIMIT, CLIENT_BURST, CLIENT_INFO_BYTES, CLIENT_INFO_TIMEOUT, CLIENT_RATE,
    HEAD_TIMEOUT, KEEP_ALIVE, KEEP_ALIVE_JITTER, LANE_PACKETS, LOGIN_TIMEOUT, LOGINS_PENDING,
    MAX_CLIENTS, MESH_WRITE_TIMEOUT, QUEUE_BYTES, RATE_CONFIG, TCP_KEEPALIVE, TCP_USER_TIMEOUT,
    TCP_WRITE_TIMEOUT, TLS_TIMEOUT, VERIFY_TIMEOUT,
};

/// What waits for all clients together where nothing limits memory.
const QUEUE_BYTES_DEFAULT: u64 = 512 << 20;

/// How much may be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// New connections a second, and at once; `None` for no limit.
    pub accepts: Option<AcceptRate>,
    /// What each client may send; `None` for no limit.
    pub client_rate: Option<ClientRate>,
    /// The file that `client_rate` is from, to be read again on SIGHUP.
    pub rate_config: Option<std::path::PathBuf>,
    /// How many packets of each kind wait for one client.
    pub lane_packets: usize,
    /// How many bytes wait for all clients together.
    pub queue_bytes: u64,
    /// How many connections may be on their way to a login.
    pub pending_logins: usize,
    /// How many clients there may be; `None` for no limit.
    pub clients: Option<usize>,
    /// The longest ClientInfo, in bytes.
    pub client_info_bytes: u64,
}

/// How fast new connections are taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AcceptRate {
    /// Over time.
    pub per_second: f64,
    /// At once.
    pub burst: u64,
}

impl Limits {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let per_second = reader.value(&ACCEPT_LIMIT, |text| match goflag::parse_float(text) {
            Some(rate) if rate > 0.0 => Ok(rate),
            _ => Err("give a number above 0, or +Inf for no limit".to_owned()),
        });
        let burst = reader.int(&ACCEPT_BURST, 1..=i64::MAX, "a whole number above 0");
        let accepts = per_second
            .is_finite()
            .then_some(AcceptRate { per_second, burst });
        let count = "a whole number above 0";
        let clients: usize = reader.int(
            &MAX_CLIENTS,
            0..=i64::MAX,
            "a whole number, or 0 for no limit",
        );
        let unlimited = QUEUE_BYTES_DEFAULT;
        let a_quarter = reader.surroundings.memory_limit.map(|bytes| bytes / 4);
        Self {
            accepts,
            client_rate: client_rate(reader),
            rate_config: reader.path(&RATE_CONFIG),
            lane_packets: reader.int(&LANE_PACKETS, 1..=1 << 20, count),
            queue_bytes: reader
                .size(&QUEUE_BYTES, 1 << 20)
                .or(a_quarter)
                .unwrap_or(unlimited),
            pending_logins: reader.int(&LOGINS_PENDING, 1..=1 << 20, count),
            clients: (clients > 0).then_some(clients),
            client_info_bytes: reader.size(&CLIENT_INFO_BYTES, 256).unwrap_or_default(),
        }
    }
}

/// The reference's file, or our keys.
fn client_rate(reader: &mut Reader<'_>) -> Option<ClientRate> {
    let ours = [&CLIENT_RATE, &CLIENT_BURST]
        .into_iter()
        .find_map(|setting| reader.given(setting));
    let bytes_per_second = reader.size(&CLIENT_RATE, 1);
    let burst_bytes = reader
        .size(&CLIENT_BURST, ClientRate::MIN_BURST)
        .unwrap_or_default();
    if let Some(path) = reader.path(&RATE_CONFIG) {
        let theirs = reader.name_of(&RATE_CONFIG);
        if let Some(ours) = ours {
            reader.problem(format!(
                "{theirs} and {} both limit what a client may send; remove one of them",
                ours.origin
            ));
        }
        return match rate_config::load(&path) {
            Ok(rate) => rate,
            Err(err) => {
                reader.problem(format!("{theirs}: {}", chain(&err)));
                None
            }
        };
    }
    if bytes_per_second.is_none() && reader.given(&CLIENT_BURST).is_some() {
        reader.reject(
            &CLIENT_BURST,
            "it means nothing without limits.client_bytes_per_second; set that too",
        );
    }
    bytes_per_second.map(|bytes_per_second| ClientRate {
        bytes_per_second,
        burst_bytes,
    })
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From a connection's first byte to its login.
    pub login: Duration,
    /// For the TLS handshake.
    pub tls: Duration,
    /// For an HTTP request's head.
    pub http_head: Duration,
    /// From the greeting to the client's answer.
    pub client_info: Duration,
    /// For the verifier.
    pub verify: Duration,
    /// For a write to another relay.
    pub mesh_write: Duration,
    /// How often clients hear that the relay is there.
    pub keep_alive: Duration,
    /// At most so much is added to it.
    pub keep_alive_jitter: Duration,
}

/// Clients give up after this long without a frame (`derp/derphttp/derphttp_client.go`).
const CLIENT_PATIENCE: Duration = Duration::from_secs(120);

impl Timeouts {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let timeouts = Self {
            login: reader.duration_above_zero(&LOGIN_TIMEOUT),
            tls: reader.duration_above_zero(&TLS_TIMEOUT),
            http_head: reader.duration_above_zero(&HEAD_TIMEOUT),
            client_info: reader.duration_above_zero(&CLIENT_INFO_TIMEOUT),
            verify: reader.duration_above_zero(&VERIFY_TIMEOUT),
            mesh_write: reader.duration_above_zero(&MESH_WRITE_TIMEOUT),
            keep_alive: reader.duration_above_zero(&KEEP_ALIVE),
            keep_alive_jitter: reader.duration(&KEEP_ALIVE_JITTER),
        };
        let longest = timeouts
            .keep_alive
            .saturating_add(timeouts.keep_alive_jitter);
        if longest >= CLIENT_PATIENCE {
            reader.reject(
                &KEEP_ALIVE,
                "with timeouts.keep_alive_jitter this must stay below 2m0s, after which clients \
                 give up",
            );
        }
        timeouts
    }
}

/// What is set on every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tcp {
    /// Idle time before keepalive probes.
    pub keepalive: Duration,
    /// How long sent bytes may stay unacknowledged; `None` for the system's own limit.
    pub user_timeout: Option<Duration>,
    /// How long a write to a client may take; `None` for no limit.
    pub write_timeout: Option<Duration>,
}

impl Tcp {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let unless_zero = |duration: Duration| (!duration.is_zero()).then_some(duration);
        Self {
            keepalive: reader.duration(&TCP_KEEPALIVE),
            user_timeout: unless_zero(reader.duration(&TCP_USER_TIMEOUT)),
            write_timeout: unless_zero(reader.duration(&TCP_WRITE_TIMEOUT)),
        }
    }
}
