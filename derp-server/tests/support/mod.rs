//! A relay on loopback, and clients of it over every kind of connection that it serves.
//!
//! A story is an `async fn` that is given a running relay. [`over_every_kind`] makes a test of it
//! for each [`Kind`], so that the name of a failed test says which kind it was.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    unused_macros,
    reason = "each test file uses a part of it"
)]

pub mod books;
pub mod client;
pub mod kind;
pub mod raw;
pub mod relay;
pub mod request;
pub mod stream;
pub mod time;
pub mod tls;
pub mod websocket;

pub use client::TestClient;
pub use kind::{Kind, tell};
pub(crate) use kind::{over_every_kind, over_every_kind_with_a_request};
pub use raw::Raw;
pub use relay::{MESH_KEY, Relay};
pub use time::{eventually, within};

use derp_client::Login;
use derp_proto::{MeshKey, NodePrivate, NodePublic};

/// The private key of client `n`.
pub fn private(n: u8) -> NodePrivate {
    NodePrivate::from_random([n; 32])
}

/// The key of client `n`.
pub fn key(n: u8) -> NodePublic {
    private(n).public()
}

/// The login of client `n`.
pub fn login(n: u8) -> Login {
    Login::new(private(n))
}

/// The same, of another relay of the region.
pub fn mesh_login(n: u8) -> Login {
    Login::mesh(private(n), mesh_key())
}

/// The relays' shared secret.
pub fn mesh_key() -> MeshKey {
    MeshKey::from_secret_text(MESH_KEY).expect("64 digits")
}

/// A packet that looks like one of path discovery.
pub fn disco() -> Vec<u8> {
    [b"TS\xf0\x9f\x92\xac", &[5; 56][..]].concat()
}
