//! The parts of the program `derper`, so that its tests and `derper doctor` can use them.
//!
//! What an operator gives travels one way: [`args`], [`env`] and [`file`] read text into
//! [`sources`], by the table in [`settings`]; [`config`] judges it.

pub mod app;
pub mod args;
pub mod bootstrap_dns;
pub mod clock;
pub mod config;
pub mod derpmap_hint;
pub mod env;
pub mod file;
pub mod gather;
pub mod host;
pub mod memory;
pub mod problem;
pub mod process;
pub mod quickstart;
mod random;
pub mod rate_config;
pub mod settings;
pub mod signals;
pub mod sources;
pub mod start;
pub mod tls;
