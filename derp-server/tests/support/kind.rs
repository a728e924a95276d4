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

/// Makes a test of each story for each kind.
macro_rules! over_every_kind {
    ($($story:ident,)*) => {$(
        mod $story {
            use crate::support::{Kind, tell};

            #[test]
            fn plain() {
                tell(Kind::Plain, super::$story);
            }
            #[test]
            fn tls13() {
                tell(Kind::Tls13, super::$story);
            }
            #[test]
            fn tls13_by_rustls() {
                tell(Kind::Tls13ByRustls, super::$story);
            }
            #[test]
            fn tls12() {
                tell(Kind::Tls12, super::$story);
            }
            #[test]
            fn websocket() {
                tell(Kind::WebSocket, super::$story);
            }
            #[test]
            fn websocket_tls() {
                tell(Kind::WebSocketTls, super::$story);
            }
            #[test]
            fn stream() {
                tell(Kind::Stream, super::$story);
            }
            #[test]
            fn upgraded() {
                tell(Kind::Upgraded, super::$story);
            }
            #[test]
            fn no_workers() {
                tell(Kind::NoWorkers, super::$story);
            }
            #[test]
            fn unix() {
                tell(Kind::Unix, super::$story);
            }
        }
    )*};
}
pub(crate) use over_every_kind;
