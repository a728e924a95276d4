//! A DERP relay as a library.
//!
//! (crate docs are being written)

//mod accept;
mod admitted;
mod budget;
mod client_set;
mod clock;
mod error;
mod forwarder;
//mod http;
mod hub;
mod inbound;
mod inbox;
mod lanes;
//mod listener;
//mod metacert;
mod metrics;
mod packet;
mod parcel;
mod peer;
mod rate_limit;
mod receive;
//mod records;
mod registry;
mod sent_to;
//mod server;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod sim_tests;
mod stream;
mod tally;
mod timers;
//pub mod tls;
mod tls13;
mod tunables;
mod turn;
mod tx;
//mod websocket;
mod wire;
mod worker;

/// What a packet carries on its way to a client: a frame header and the sender's key.
pub(crate) const FRAME_OVERHEAD: usize = derp_proto::HEADER_LEN + derp_proto::KEY_LEN;
