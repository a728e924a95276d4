//! The parts of the program `derper`, so that its tests and other programs can use them.
//!
//! What an operator gives travels one way:
//!
//! ```text
//!   words ──── args ─┐
//!   variables ─ env ─┼─ gather ─► Sources ─ config ─► Config ─ app ─► a relay that runs
//!   file ───── file ─┘
//!                └── all by the one table in settings: flags, variables, keys, defaults
//! ```
//!
//! * [`args`], [`mod@env`] and [`mod@file`] read text; [`mod@gather`] brings it together.
//! * [`config`] judges it, and tells every [`problem`] at once. It reads files and changes none.
//! * [`commands`] print something and end.
//! * [`app`] binds ports, makes what keys and certificates are missing ([`tls`]), and serves.
//!
//! # What is not here
//!
//! The relay itself is `derp-server`, STUN is `derp-stun`, who may use the relay is `derp-verify`;
//! flag syntax, key files and the text of metrics are `derp-ops`.

pub mod ace;
pub mod app;
pub mod args;
pub mod bootstrap_dns;
pub mod commands;
pub mod config;
pub mod derpmap_hint;
pub mod env;
pub mod file;
pub mod gather;
pub mod host;
pub mod look;
pub mod memory;
pub mod problem;
pub mod process;
pub mod quickstart;
mod random;
pub mod rate_config;
mod round_trips;
pub mod service_manager;
pub mod settings;
pub mod signals;
pub mod sources;
pub mod start;
pub mod tls;
mod usage;

pub use derp_ops::clock;
