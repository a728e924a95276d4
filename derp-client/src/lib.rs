//! A client for DERP relays: connect to one, and exchange packets with the other clients of the
//! region by their keys.
//!
//! # Connecting
//!
//! A [`Connector`] leads from a [`Target`], which is a region or a node of a DERP map or a URL, to
//! a [`Client`]. On the way are name lookup and TCP, perhaps a proxy, TLS, an HTTP upgrade and the
//! login:
//!
//! ```text
//!   Target ─dial─► TCP ─proxy─► tunnel ─tls─► TLS ─upgrade─► stream ─client─► Client
//!                                        └─metacert: the server's key is known──┘
//! ```
//!
//! ```no_run
//! use derp_client::{Connector, Login, Received, ServerUrl};
//! use derp_proto::{NodePrivate, NodePublic};
//!
//! # async fn example(key: NodePrivate, peer: NodePublic) -> Result<(), Box<dyn std::error::Error>> {
//! let url: ServerUrl = "https://derp.example.com".parse()?;
//! let mut client = Connector::new().connect(&url.into(), &Login::new(key)).await?;
//! client.send(peer, b"hello").await?;
//! loop {
//!     if let Received::Packet { src, packet } = client.recv().await? {
//!         println!("{} bytes from {src}", packet.len());
//!     }
//! }
//! # }
//! ```
//!
//! [`Client::handshake_over`] skips all that and logs in on a stream of the caller's.
//!
//! # Staying connected
//!
//! A [`Client`] is one connection, and ends with it. [`Reconnecting`] goes on with the next one,
//! with waits that a server which accepts everybody and drops them again cannot shorten. [`Watch`]
//! does so for a relay that follows which clients another relay of its region has.
//!
//! # What a server cannot do
//!
//! Whatever a server sends, the client does not panic, does not hold more of it than a frame of
//! 1 MiB and the bytes read behind it, and reconnects twelve times a minute at most.
//!
//! # What is not here
//!
//! STUN, the choice of a home region, WireGuard: those are the caller's. Nothing is spawned and
//! nothing runs in the background: connections live while their futures are polled.

mod backoff;
mod budget;
mod client;
mod connector;
mod dial;
mod endpoint;
mod error;
mod forward;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod inbound;
mod link;
mod login;
mod metacert;
mod outbound;
mod pings;
mod proxy;
mod random;
mod rate;
mod reader;
mod received;
mod reconnect;
mod response;
mod session;
mod target;
mod tls;
mod trust;
mod upgrade;
mod url;
mod watch;
mod websocket;
mod writer;

pub use backoff::{Backoff, Policy};
pub use client::{Client, ConnectionInfo, StartKind};
pub use connector::{Connector, Transport};
pub use error::{
    CloseReason, ConnectError, Fault, LoginError, PingError, RecvError, SendError, Stage,
};
pub use forward::ForwardBatch;
pub use login::Login;
pub use proxy::{Proxy, ProxyEnvironment, ProxyError};
pub use reader::ClientReader;
pub use received::Received;
pub use reconnect::{Cause, Connect, Connecting, Event, Reconnecting, ReconnectingWriter};
pub use response::HeadError;
pub use target::{Target, TargetError, UrlTarget};
pub use tls::{CertCheck, CertPin, PinError, Roots};
pub use upgrade::UpgradeError;
pub use url::{Host, ServerUrl};
pub use watch::{SelfConnect, Watch, WatchEvent};
pub use websocket::{Reason, WebSocketError};
pub use writer::ClientWriter;

/// The programs of the crate's README are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
