//! The HTTP side of the relay: which connections become clients, and what the others see.
//!
//! ```text
//!   bytes ── read_head ──┬── Route::Upgrade ── upgrade_response ──► DERP frames
//!              │         │                                             ▲
//!              │         └── Route::Other ──── serve_pages (hyper) ────┘ a later request
//!              ▼                                    │
//!           refusal                               Pages
//! ```
//!
//! The first request's head is read here and not by hyper, because with a fast start no response
//! may be sent at all, and because of what is worth being strict about in front of a byte stream.
//! Everything else, and every later request of the same connection, is hyper's.
//!
//! [`mount()`] is for relays inside of somebody else's HTTP server.

mod guarded;
pub(crate) mod head;
mod home;
mod line_ends;
mod mount;
mod pages;
mod places;
mod serve;
mod tunnel;
mod upgrade;

pub use home::{Home, HomeError};
pub use mount::{Mounted, MountedStream, Upgrading, mount};
pub use pages::{Connect, Extra, NoExtra, Pages, PagesConfig, UnknownPaths};

pub(crate) use head::{Head, HeadReader, Route, Upgrade};
pub(crate) use places::{PagePlace, PagePlaces};
pub(crate) use serve::{Asked, Wanted, close, serve_pages, serve_port_80};
pub(crate) use tunnel::{NoTunnel, tunnel};
pub(crate) use upgrade::{refusal, upgrade_response};
