//! A DERP relay as a library: it takes packets from clients and hands each to the client whose
//! public key it names.
//!
//! ```no_run
//! use std::sync::Arc;
//! use derp_proto::NodePrivate;
//! use derp_server::{ListenOptions, Server};
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let key = NodePrivate::from_random(rand());
//!     let server = Server::builder(key).start()?;
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3340").await?;
//!     println!("http://127.0.0.1:3340/derp of {}", server.public_key());
//!     server.serve(listener, ListenOptions::plain("http")).await;
//!     Ok(())
//! }
//! # fn rand() -> [u8; 32] { [7; 32] }
//! ```
//!
//! # In a service that you have already
//!
//! A relay beside the routes of an axum service, for the nodes that are in a file, one
//! `nodekey:…` to a line. It needs `derp-server`, `derp-proto`, `derp-verify`, `axum`, `getrandom`
//! and `tokio` with the features `macros`, `net` and `rt-multi-thread`:
//!
//! ```no_run
//! use std::net::SocketAddr;
//!
//! use axum::Router;
//! use axum::body::Body;
//! use axum::extract::{ConnectInfo, Request, State};
//! use axum::response::Response;
//! use axum::routing::{any, get};
//! use derp_proto::NodePrivate;
//! use derp_server::{Mounted, Server, mount};
//! use derp_verify::{Allowlist, ConnMeta};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     // Who holds the key is the relay: keep `to_secret_text` of it, readable by you alone.
//!     let mut random = [0; 32];
//!     getrandom::fill(&mut random)?;
//!     let key = NodePrivate::from_random(random);
//!     let nodes = Allowlist::from_file("nodes.txt")?;
//!     let server = Server::builder(key).verifier(nodes).start()?;
//!     let app = Router::new()
//!         .route("/", get(|| async { "my own page" }))
//!         .route("/derp", any(derp))
//!         .route("/derp/{*probe}", any(derp))
//!         .with_state(server);
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:3340").await?;
//!     let app = app.into_make_service_with_connect_info::<SocketAddr>();
//!     axum::serve(listener, app).await?;
//!     Ok(())
//! }
//!
//! async fn derp(
//!     State(server): State<Server>,
//!     ConnectInfo(peer): ConnectInfo<SocketAddr>,
//!     mut request: Request,
//! ) -> Response {
//!     let response = match mount(&mut request, &server.public_key()) {
//!         Mounted::Respond(response) => response,
//!         Mounted::Upgrade { response, upgrading } => {
//!             tokio::spawn(async move {
//!                 let mut conn = ConnMeta::default();
//!                 conn.socket_peer = Some(peer);
//!                 // There is a stream once the response has been sent.
//!                 let Ok(stream) = upgrading.stream().await else { return };
//!                 if let Err(why) = server.serve_upgraded(stream, conn).await {
//!                     eprintln!("{peer}: {why}");
//!                 }
//!             });
//!             response
//!         }
//!     };
//!     response.map(Body::from)
//! }
//! ```
//!
//! Tailscale's clients want HTTPS: let the service, or a proxy in front of it, have a certificate,
//! and put its name and port into the tailnet's DERP map. To see that it relays without a tailnet,
//! run the example `derpcat` of `derp-client` twice: it has a new key each time, so it is refused
//! until you leave out the verifier.
//!
//! # What goes in
//!
//! * [`Server::serve`]: listeners, with TLS ([`tls::ServerTls`]) or without. Clients over plain TCP
//!   and TLS 1.3 are served by threads of the relay's own, which is where it is fast.
//! * [`Server::serve_stream`]: any stream that begins with an HTTP request.
//! * [`mount`] and [`Server::serve_upgraded`]: connections of an HTTP server that you have already.
//! * [`ServerBuilder::verifier`]: who may use the relay. Without one, everybody may.
//!
//! # What comes out
//!
//! [`Server::metrics`] has all numbers, [`Server::clients`] who is connected,
//! [`Server::set_tunables`] changes limits while clients stay connected, and [`Server::drain`]
//! empties the relay politely.
//!
//! # What is not here
//!
//! No flags, no files, no signals, and no concrete verifier: programs have those. See
//! `ARCHITECTURE.md` of the repository for a packet's trip through the code.

mod accept;
mod admitted;
mod budget;
mod client_set;
mod clock;
mod delivered;
mod driver;
mod error;
mod forwarded;
mod forwarder;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod hub;
mod inbound;
mod inbox;
mod lanes;
mod ledger;
mod limiter;
mod listener;
mod login;
mod login_rates;
#[cfg(feature = "measuring")]
#[doc(hidden)]
pub mod measuring;
mod metacert;
mod metrics;
mod network;
mod outcomes;
mod packet;
mod parcel;
mod peer;
mod pending;
mod proxy_protocol;
mod rate_limit;
mod receive;
mod recent_mean;
mod records;
mod refusals;
mod registry;
mod sent_to;
mod server;
mod shared;
mod shared_rates;
#[cfg(test)]
mod sharing_tests;
#[cfg(any(test, feature = "fuzzing"))]
mod sim;
#[cfg(test)]
mod sim_tests;
mod socket;
mod stream;
mod tally;
mod timers;
pub mod tls;
mod tls13;
mod tls_versions;
mod tunables;
mod turn;
mod tx;
mod websocket;
mod wire;
mod worker;

pub use error::{AcceptError, Budget, SessionError};
pub use forwarded::{ForwardedHeader, TrustedProxies};
pub use forwarder::{Forwarder, Refused};
pub use http::{
    Connect, Extra, Home, HomeError, Mounted, MountedStream, NoExtra, Pages, PagesConfig,
    UnknownPaths, Upgrading, mount,
};
pub use listener::{AcceptLimit, ListenOptions, Listener};
pub use login_rates::LoginRate;
pub use metrics::{Gauge, Gauges, MetricKind, MetricVisitor, Metrics, PacketCounts, Sample, Value};
pub use outcomes::{Outcome, Outcomes};
pub use packet::{DropReason, PacketKind};
pub use peer::ConnId;
pub use proxy_protocol::{ProxyCounts, ProxyHeaderError, ProxyProtocol};
pub use server::{ClientSnapshot, DrainPlan, DrainReport, Server, ServerBuilder};
pub use socket::SocketOptions;
pub use tls_versions::TlsVersions;
pub use tunables::{FrameRate, GroupRates, Tunables};

/// What a packet carries on its way to a client: a frame header and the sender's key.
pub(crate) const FRAME_OVERHEAD: usize = derp_proto::HEADER_LEN + derp_proto::KEY_LEN;

/// The programs of the crate's README are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
