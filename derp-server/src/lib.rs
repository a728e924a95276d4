//! A DERP relay as a library.
//!
//! (crate docs are being written)

mod accept;
mod admitted;
mod budget;
mod client_set;
mod clock;
mod error;
mod forwarder;
mod http;
mod hub;
mod inbound;
mod inbox;
mod lanes;
mod listener;
mod login;
mod metacert;
mod metrics;
mod packet;
mod parcel;
mod peer;
mod rate_limit;
mod receive;
mod records;
mod registry;
mod sent_to;
mod server;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod sim_tests;
mod socket;
mod stream;
mod tally;
mod timers;
pub mod tls;
mod tls13;
mod tunables;
mod turn;
mod tx;
mod websocket;
mod wire;
mod worker;

pub use error::{AcceptError, SessionError};
pub use forwarder::{Forwarder, Refused};
pub use http::{Extra, Home, HomeError, Mounted, MountedStream, NoExtra, Pages, PagesConfig, UnknownPaths, Upgrading, mount};
pub use listener::{AcceptLimit, ListenOptions, Listener};
pub use metrics::{Gauge, Gauges, MetricKind, MetricVisitor, Metrics, PacketCounts, Sample, Value};
pub use packet::{DropReason, PacketKind};
pub use peer::ConnId;
pub use server::{ClientSnapshot, DrainPlan, DrainReport, Server, ServerBuilder};
pub use socket::SocketOptions;
pub use tunables::Tunables;

/// What a packet carries on its way to a client: a frame header and the sender's key.
pub(crate) const FRAME_OVERHEAD: usize = derp_proto::HEADER_LEN + derp_proto::KEY_LEN;
