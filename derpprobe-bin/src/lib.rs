//! Checks a fleet of relays from the outside: takes a DERP map, and does with each relay in it
//! what clients do.
//!
//! ```text
//!   args ─► config ─┬─► derpmap ─► plan ─► run ─► report ─► output
//!                   │   sources             │
//!                   └─► probe::Prober ──────┘
//!                         tls   stun   relay   bandwidth   http   info   …
//! ```
//!
//! [`plan`], [`report`] and [`output`] are pure; [`probe`] has a file for each kind of probe. The
//! program is the reference's `derpprobe` with the reference's flags, names of probes and metrics,
//! output and exit code: [`run`] is `-once`, [`service`] all the time. It knows what the reference does not: nodes whose certificate is pinned or that
//! are known by their address, families of addresses that a node does not have, and kinds of
//! probes, sources of maps and forms of output besides the reference's.

pub mod args;
pub mod config;
mod connect;
pub mod deadline;
pub mod derpmap;
pub mod outcome;
pub mod output;
pub mod plan;
pub mod probe;
pub mod progress;
pub mod report;
pub mod run;
pub mod service;
pub mod sources;
pub mod subject;
pub mod trust;
pub mod web;

pub use derp_ops::clock;

#[cfg(test)]
#[path = "../tests/support/authority.rs"]
mod authority;
