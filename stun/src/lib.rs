//! The little of STUN (RFC 5389) that Tailscale clients and DERP servers speak, both sides of it.
//!
//! A client asks a relay "which address do you see me at?" and learns three things from the
//! answer: its address behind NAT, that UDP works at all, and how far away the relay is.
//!
//! ```text
//!   client                                              relay, UDP port 3478
//!     │  binding request, 40 bytes                        │
//!     │  SOFTWARE "tailnode", FINGERPRINT                 │
//!     ├──────────────────────────────────────────────────►│  respond()
//!     │                                                   │
//!     │  binding response, 32 bytes (IPv4), 44 (IPv6)     │
//!     │  XOR-MAPPED-ADDRESS                               │
//!     │◄──────────────────────────────────────────────────┤
//! ```
//!
//! # The subset, and why it is one
//!
//! Only requests that carry SOFTWARE `tailnode` and end in a correct FINGERPRINT are answered;
//! everything else meets silence, never an error response. UDP sources can be forged, so whatever
//! answers strangers can be aimed at third parties: here an attacker must send a 40-byte request
//! to make the relay send 32 bytes (44 over IPv6), and two relays can never be made to talk to
//! each other, because nothing but a request is answered. Authentication, ICE, TURN, TCP and the
//! 300–600 error classes are deliberately absent.
//!
//! # Where to look
//!
//! * [`BindingRequest`], [`BindingResponse`], [`TxId`]: bytes to values and back; no I/O.
//! * [`respond()`]: the whole server as a pure function that allocates nothing.
//! * [`StunServer`]: a UDP socket around it, answering from the address that was asked.
//! * [`probe`](fn@probe): one round trip as a client, with its time.
//!
//! ```
//! use std::time::Duration;
//!
//! use derp_stun::{ProbeOptions, StunServer, probe};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = StunServer::bind("127.0.0.1:0".parse()?)?;
//! let address = server.local_addr();
//! let handle = server.handle();
//! let serving = tokio::spawn(server.serve());
//!
//! let report = probe(address, ProbeOptions::within(Duration::from_secs(3))).await?;
//! assert_eq!(report.mapped.ip(), address.ip(), "no NAT on loopback");
//! assert_eq!(report.answered_by, address);
//! assert_eq!(handle.counters().success, 1);
//!
//! serving.abort();
//! # Ok(())
//! # }
//! ```
#![warn(clippy::indexing_slicing)]

mod attribute;
mod backoff;
mod counters;
mod error;
mod fingerprint;
mod message;
mod probe;
mod respond;
mod server;
mod socket;

pub use counters::{CounterSnapshot, Sample};
pub use error::{BindError, ProbeError, RequestError, ResponseError};
pub use fingerprint::fingerprint;
pub use message::{
    AddrFamily, BindingRequest, BindingResponse, MAX_RESPONSE_LEN, REQUEST_LEN, TxId, is_stun,
};
pub use probe::{ProbeOptions, ProbeReport, probe, probe_on};
pub use respond::{Outcome, respond};
pub use server::{StunHandle, StunServer};

/// The programs of the crate's README are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
