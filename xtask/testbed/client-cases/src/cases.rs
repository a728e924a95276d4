//! The list of cases, in the order in which they run. New ones go to the end, so that numbers
//! stay.

mod mesh;
mod relaying;
mod start;
mod staying;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::relay::Relay;

/// A case: a story that ends well, perhaps with a remark.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    pub(crate) run: fn(Arc<Relay>) -> Story,
}

/// A case that runs.
pub(crate) type Story = Pin<Box<dyn Future<Output = anyhow::Result<String>> + Send>>;

/// What a case asks of the command line, or what the command line gives.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a set of independent flags")]
pub(crate) struct Needs {
    pub(crate) tls: bool,
    pub(crate) fast_start: bool,
    pub(crate) roots: bool,
    pub(crate) mesh: bool,
    pub(crate) websocket: bool,
    pub(crate) restart: bool,
    pub(crate) slow: bool,
}

impl Needs {
    const NOTHING: Self = Self {
        tls: false,
        fast_start: false,
        roots: false,
        mesh: false,
        websocket: false,
        restart: false,
        slow: false,
    };
    const TLS: Self = Self {
        tls: true,
        ..Self::NOTHING
    };
    const FAST_START: Self = Self {
        fast_start: true,
        ..Self::NOTHING
    };
    const ROOTS: Self = Self {
        roots: true,
        ..Self::NOTHING
    };
    const MESH: Self = Self {
        mesh: true,
        ..Self::NOTHING
    };
    const WEBSOCKET: Self = Self {
        websocket: true,
        ..Self::NOTHING
    };
    const RESTART: Self = Self {
        restart: true,
        ..Self::NOTHING
    };
    const SLOW: Self = Self {
        slow: true,
        ..Self::NOTHING
    };

    pub(crate) const fn are_met_by(self, has: Self) -> bool {
        (has.tls || !self.tls)
            && (has.fast_start || !self.fast_start)
            && (has.roots || !self.roots)
            && (has.mesh || !self.mesh)
            && (has.websocket || !self.websocket)
            && (has.restart || !self.restart)
            && (has.slow || !self.slow)
    }
}

macro_rules! cases {
    ($($module:ident::$name:ident: $needs:ident,)*) => {
        &[$(Case {
            name: stringify!($name),
            needs: Needs::$needs,
            run: |relay| Box::pin(async move { $module::$name(&relay).await }),
        }),*]
    };
}

/// All cases.
pub(crate) const CASES: &[Case] = cases![
    start::a_slow_start_logs_in: NOTHING,
    start::a_fast_start_logs_in: FAST_START,
    start::a_url_logs_in: NOTHING,
    start::a_region_is_reached_past_its_dead_nodes: NOTHING,
    start::a_pinned_certificate_is_accepted: TLS,
    start::another_pin_is_refused: TLS,
    start::a_pin_that_is_none_is_an_error: TLS,
    start::a_certificate_of_a_stranger_is_refused: TLS,
    start::an_insecure_node_is_accepted: TLS,
    start::a_trusted_certificate_is_accepted: ROOTS,
    start::a_websocket_logs_in: WEBSOCKET,
    start::a_proxy_is_asked_for_the_relay: NOTHING,
    start::a_proxy_that_declines_is_reported: NOTHING,
    relaying::packets_travel_both_ways: NOTHING,
    relaying::a_packet_to_oneself_comes_back: NOTHING,
    relaying::an_empty_packet_arrives: NOTHING,
    relaying::the_largest_packet_arrives: NOTHING,
    relaying::packets_of_many_sizes_arrive_in_order: NOTHING,
    relaying::packets_travel_between_a_websocket_and_a_stream: WEBSOCKET,
    relaying::a_ping_is_answered_while_another_task_receives: NOTHING,
    relaying::a_ping_is_answered_in_a_websocket: WEBSOCKET,
    relaying::a_peer_that_leaves_is_gone: NOTHING,
    relaying::disco_to_nobody_is_answered: NOTHING,
    relaying::data_to_nobody_is_not_answered: NOTHING,
    relaying::a_home_is_noted: NOTHING,
    mesh::a_watcher_sees_who_comes_and_goes: MESH,
    mesh::a_forwarded_packet_keeps_its_source: MESH,
    mesh::a_closed_peer_is_cut_off: MESH,
    mesh::a_watch_follows_the_relay: MESH,
    mesh::a_watch_detects_its_own_relay: MESH,
    mesh::mesh_frames_without_the_key_close: NOTHING,
    staying::a_connection_that_is_cut_comes_back: NOTHING,
    staying::an_idle_connection_is_kept_alive: SLOW,
    staying::a_client_survives_a_restart: RESTART,
    staying::a_watch_survives_a_restart: RESTART_MESH,
];

impl Needs {
    const RESTART_MESH: Self = Self {
        restart: true,
        mesh: true,
        ..Self::NOTHING
    };
}
