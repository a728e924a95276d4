//! DERPSPEC: numbered cases that say what a DERP server does, and check it, from outside.
//!
//! A [`Target`] is any server that can be reached; [`all`] are the cases, in [`SECTIONS`]; [`run`]
//! runs them. Each case opens its own connections, has its own keys, and is over in seconds, so
//! that cases can run at the same time and in any order, beside a server's other clients.
//!
//! The client in here is its own: TCP and rustls, and bytes by hand. It shares constants and key
//! types with derpkit, and no code that builds or reads frames, so that it can send what is wrong
//! and notices what is wrong.
//!
//! Where derpkit and Go's derper differ on purpose, a case knows both behaviours and tells which
//! one it saw. DEVIATIONS.md has the reasons.

mod case;
mod conn;
mod context;
mod datagram;
mod fault;
mod frame;
mod http;
mod open;
mod peer;
mod runner;
mod sections;
mod target;
mod trust;
mod verdict;
mod websocket;
mod wire;

pub use case::{Case, Level, Needs};
pub use fault::Fault;
pub use runner::{Outcome, Pace, Report, run};
pub use sections::{Numbered, SECTIONS, Section, all};
pub use target::Target;
pub use trust::Trust;
pub use verdict::{Failure, Side};
