//! The kinds of connections that a relay serves, and how a story is told over each.

use super::relay::Relay;

/// What a client is connected by, and who serves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TCP without TLS; a worker.
    Plain,
    /// TLS 1.3 with a fast start; a worker, which handles the records itself.
    Tls13,
    /// TLS 1.3; a task, where the relay leaves the records to rustls.
    Tls13ByRustls,
    /// TLS 1.2; a task.
    Tls12,
    /// A WebSocket over TCP; a task.
    WebSocket,
    /// A WebSocket over TLS 1.3; a task.
    WebSocketTls,
    /// A pipe in memory that begins with a request; a task.
    Stream,
    /// A pipe in memory that was upgraded elsewhere; a task.
    Upgraded,
    /// TCP; a task, for the relay has no workers.
    NoWorkers,
    /// A Unix socket; a worker.
    Unix,
}

impl Kind {
    /// Those that one relay can serve at a time.
    pub const TOGETHER: [Self; 8] = [
        Self::Plain,
        Self::Tls13,
        Self::Tls12,
        Self::WebSocket,
        Self::WebSocketTls,
        Self::Stream,
        Self::Upgraded,
        Self::Unix,
    ];

    /// Whether DERP is inside of WebSocket messages.
    pub const fn is_websocket(self) -> bool {
        matches!(self, Self::WebSocket | Self::WebSocketTls)
    }
}

/// Tells a story to a relay, over connections of this kind, and then looks whether the relay has
/// kept its books, lost nothing and ends.
pub fn tell(kind: Kind, story: impl AsyncFnOnce(&Relay)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let relay = Relay::start(kind).await;
        story(&relay).await;
        relay.end().await;
    });
}

/// Makes a test of a story for each of these kinds.
macro_rules! over_kinds {
    ($story:ident: $($name:ident = $kind:ident,)*) => {
        mod $story {
            use crate::support::{Kind, tell};

            $(
                #[test]
                fn $name() {
                    tell(Kind::$kind, super::$story);
                }
            )*
        }
    };
}
pub(crate) use over_kinds;

/// Makes a test of each story for each kind.
macro_rules! over_every_kind {
    ($($story:ident,)*) => {$(
        $crate::support::kind::over_kinds! { $story:
            plain = Plain,
            tls13 = Tls13,
            tls13_by_rustls = Tls13ByRustls,
            tls12 = Tls12,
            websocket = WebSocket,
            websocket_tls = WebSocketTls,
            stream = Stream,
            upgraded = Upgraded,
            no_workers = NoWorkers,
            unix = Unix,
        }
    )*};
}
pub(crate) use over_every_kind;

/// The same for each kind that begins with a request and is what the request says then.
macro_rules! over_every_kind_with_a_request {
    ($($story:ident,)*) => {$(
        $crate::support::kind::over_kinds! { $story:
            plain = Plain,
            tls13 = Tls13,
            tls13_by_rustls = Tls13ByRustls,
            tls12 = Tls12,
            stream = Stream,
            no_workers = NoWorkers,
            unix = Unix,
        }
    )*};
}
pub(crate) use over_every_kind_with_a_request;
