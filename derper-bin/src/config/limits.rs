//! How much of the relay one client, or all together, may use, and how long things may take.

use std::time::Duration;

use derp_ops::goflag;
use derp_server::{AcceptLimit, DrainPlan, FrameRate, LoginRate, SocketOptions, Tunables};

use super::rates;
use super::reader::Reader;
use crate::settings::{
    ACCEPT_BURST, ACCEPT_LIMIT, CLIENT_INFO_BYTES, CLIENT_INFO_TIMEOUT, DRAIN_HARD_STOP,
    DRAIN_SPREAD, FRAME_BURST, FRAME_BYTES, FRAME_RATE, FRAME_TIMEOUT, HEAD_TIMEOUT, KEEP_ALIVE,
    KEEP_ALIVE_JITTER, KEY_BURST, KEY_CONNECTIONS, KEY_RATE, LANE_PACKETS, LOGIN_TIMEOUT,
    LOGINS_PENDING, MAX_CLIENTS, MESH_WRITE_TIMEOUT, NETWORK_BURST, NETWORK_RATE, NOT_HERE_BURST,
    NOT_HERE_RATE, PAGE_CONNECTIONS, PENDING_BYTES, PROXY_TIMEOUT, QUEUE_BYTES, Setting,
    TCP_KEEPALIVE, TCP_UNSENT, TCP_USER_TIMEOUT, TCP_WRITE_TIMEOUT, TLS_OWN_RECORDS, TLS_TIMEOUT,
    UNFINISHED_BYTES, UNKNOWN_FRAME_BYTES, VERIFY_TIMEOUT,
};

/// Go probes idle connections after so long where it is told 0.
const GO_KEEPALIVE: Duration = Duration::from_secs(15);
/// Clients give up after this long without a frame (`derp/derphttp/derphttp_client.go`).
const CLIENT_PATIENCE: Duration = Duration::from_secs(120);

/// Open files that are no client's: listeners, and connections that are on their way or want pages.
const MIN_OTHER_FILES: u64 = 256;
const MAX_OTHER_FILES: u64 = 8192;

const COUNT: &str = "a whole number above 0";

/// How fast new connections are taken; `None` for as fast as they come.
pub(super) fn accept_limit(reader: &mut Reader<'_>) -> Option<AcceptLimit> {
    let per_second = reader.value(&ACCEPT_LIMIT, |text| match goflag::parse_float(text) {
        Some(rate) if rate > 0.0 => Ok(rate),
        _ => Err("give a number above 0, or +Inf for no limit".to_owned()),
    });
    let burst: i64 = reader.int(&ACCEPT_BURST, i64::MIN..=i64::MAX, COUNT);
    if !per_second.is_finite() {
        // Without a limit there is nothing to be above of, and Go takes whatever is there.
        return None;
    }
    if burst < 1 {
        reader.reject(&ACCEPT_BURST, format_args!("out of range; give {COUNT}"));
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a burst beyond 2^53 is no limit anyway"
    )]
    let burst = burst as f64;
    Some(AcceptLimit { per_second, burst })
}

/// What can change while the relay runs.
pub(super) fn tunables(reader: &mut Reader<'_>) -> Tunables {
    let mut tunables = Tunables::default();
    tunables.lane_depth = reader.int(&LANE_PACKETS, 1..=1 << 20, COUNT);
    tunables.queue_budget_bytes =
        size_or_an_eighth(reader, &QUEUE_BYTES, tunables.queue_budget_bytes);
    rates::read(reader, &mut tunables);
    tunables.max_logins_pending = reader.int(&LOGINS_PENDING, 1..=1 << 20, COUNT);
    tunables.max_pending_bytes =
        size_or_an_eighth(reader, &PENDING_BYTES, tunables.max_pending_bytes);
    tunables.max_page_connections = reader.int(&PAGE_CONNECTIONS, 1..=1 << 20, COUNT);
    tunables.max_unfinished_bytes =
        size_or_an_eighth(reader, &UNFINISHED_BYTES, tunables.max_unfinished_bytes);
    tunables.frame_timeout = reader.duration_above_zero(&FRAME_TIMEOUT);
    tunables.frame_bytes_per_second = reader.size(&FRAME_BYTES, 1).map_or(1, to_usize);
    tunables.max_unknown_frame_len = reader.size(&UNKNOWN_FRAME_BYTES, 0).map_or(0, to_usize);
    tunables.client_frame_rate = frame_rate(reader, &FRAME_RATE, &FRAME_BURST);
    tunables.not_here_rate = frame_rate(reader, &NOT_HERE_RATE, &NOT_HERE_BURST);
    tunables.network_login_rate = login_rate(reader, &NETWORK_RATE, &NETWORK_BURST);
    tunables.key_login_rate = login_rate(reader, &KEY_RATE, &KEY_BURST);
    tunables.max_connections_per_key = reader.int(&KEY_CONNECTIONS, 1..=1 << 20, COUNT);
    let clients: usize = reader.int(
        &MAX_CLIENTS,
        0..=i64::MAX,
        "a whole number, or 0 for as many as there may be open files for",
    );
    tunables.max_clients = match clients {
        0 => clients_by_files(reader.surroundings.file_limit),
        clients => clients,
    };
    tunables.max_client_info_len = reader.size(&CLIENT_INFO_BYTES, 256).map_or(0, to_usize);
    tunables.own_record_layer = reader.switch(&TLS_OWN_RECORDS);
    tunables.notsent_low_water = unsent(reader);
    let write_timeout = reader.duration(&TCP_WRITE_TIMEOUT);
    tunables.write_timeout = (!write_timeout.is_zero()).then_some(write_timeout);
    tunables.mesh_write_timeout = reader.duration_above_zero(&MESH_WRITE_TIMEOUT);
    tunables.login_timeout = reader.duration_above_zero(&LOGIN_TIMEOUT);
    tunables.proxy_header_timeout = reader.duration_above_zero(&PROXY_TIMEOUT);
    tunables.tls_timeout = reader.duration_above_zero(&TLS_TIMEOUT);
    tunables.head_timeout = reader.duration_above_zero(&HEAD_TIMEOUT);
    tunables.client_info_timeout = reader.duration_above_zero(&CLIENT_INFO_TIMEOUT);
    tunables.verify_timeout = reader.duration_above_zero(&VERIFY_TIMEOUT);
    tunables.keep_alive = reader.duration_above_zero(&KEEP_ALIVE);
    tunables.keep_alive_jitter = reader.duration(&KEEP_ALIVE_JITTER);
    let longest = tunables
        .keep_alive
        .saturating_add(tunables.keep_alive_jitter);
    if longest >= CLIENT_PATIENCE {
        reader.reject(
            &KEEP_ALIVE,
            "with timeouts.keep_alive_jitter this must stay below 2m0s, after which clients give \
             up",
        );
    }
    tunables
}

/// As many clients as may have files open beside all else: without any left, nobody could log in, and
/// nothing else would work either.
fn clients_by_files(file_limit: Option<u64>) -> usize {
    let Some(files) = file_limit else {
        return usize::MAX;
    };
    let others = (files / 8).clamp(MIN_OTHER_FILES, MAX_OTHER_FILES);
    to_usize(files.saturating_sub(others).max(1))
}

/// How often something may happen, and how often at once; `None` for 0 times a second, which is no
/// limit.
fn login_rate(
    reader: &mut Reader<'_>,
    rate: &'static Setting,
    burst: &'static Setting,
) -> Option<LoginRate> {
    let per_second = reader.value(rate, |text| match goflag::parse_float(text) {
        Some(rate) if rate.is_finite() && rate >= 0.0 => Ok(rate),
        _ => Err("give a number above 0, or 0 for no limit".to_owned()),
    });
    let burst: u32 = reader.int(burst, 1..=1 << 30, COUNT);
    (per_second > 0.0).then_some(LoginRate {
        per_second,
        burst: burst.into(),
    })
}

/// The same of what has to do with frames.
fn frame_rate(
    reader: &mut Reader<'_>,
    rate: &'static Setting,
    burst: &'static Setting,
) -> Option<FrameRate> {
    login_rate(reader, rate, burst)
        .map(|LoginRate { per_second, burst }| FrameRate { per_second, burst })
}

/// What was given, or else so many bytes, or an eighth of the memory that there is where that is
/// less: the allocator and the kernel's buffers want as much again each.
fn size_or_an_eighth(reader: &mut Reader<'_>, setting: &Setting, bytes: usize) -> usize {
    if let Some(given) = reader.size(setting, 1 << 20) {
        return to_usize(given);
    }
    let limit = reader.surroundings.memory_limit;
    limit.map_or(bytes, |limit| bytes.min(to_usize(limit / 8)))
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn unsent(reader: &mut Reader<'_>) -> Option<u32> {
    let bytes = reader.size(&TCP_UNSENT, 0)?;
    (bytes > 0).then(|| u32::try_from(bytes).unwrap_or(u32::MAX))
}

/// What is set on every connection.
pub(super) fn socket_options(reader: &mut Reader<'_>) -> SocketOptions {
    let mut options = SocketOptions::default();
    let keepalive = reader.duration_or_never(&TCP_KEEPALIVE);
    options.keep_alive_time =
        keepalive.map(|time| if time.is_zero() { GO_KEEPALIVE } else { time });
    options.user_timeout = reader.duration(&TCP_USER_TIMEOUT);
    options
}

/// How the relay stops.
pub(super) fn drain_plan(reader: &mut Reader<'_>) -> DrainPlan {
    let spread = reader.duration(&DRAIN_SPREAD);
    let hard_stop = reader.duration(&DRAIN_HARD_STOP);
    if hard_stop < spread {
        reader.reject(&DRAIN_HARD_STOP, "it must not be shorter than drain.spread");
    }
    DrainPlan {
        spread,
        try_for: hard_stop,
        hard_stop,
    }
}
