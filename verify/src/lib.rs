//! May this client use the relay? One trait, and backends that answer it.
//!
//! A relay asks a [`Verifier`] once for each client that has proved which key it holds, before it
//! admits the client. An embedder's own answer is ten lines:
//!
//! ```
//! use derp_verify::{Candidate, Verdict, Verifier, VerifyError, async_trait};
//!
//! #[derive(Debug)]
//! struct OnlyFromLoopback;
//!
//! #[async_trait]
//! impl Verifier for OnlyFromLoopback {
//!     async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
//!         let from = client.conn.client_addr().map(|addr| addr.ip());
//!         Ok(match from {
//!             Some(ip) if ip.is_loopback() => Verdict::allow(),
//!             _ => Verdict::deny("not from this machine"),
//!         })
//!     }
//! }
//! ```
//!
//! # Features
//!
//! * `allowlist` (default): `Allowlist` and `Denylist`, lists of keys in files.
//! * `watch`: `watch_file`, which notices that such a file has changed.
//! * `tailscaled`: `Tailscaled` asks the tailscaled of this machine.
//! * `headscale`: `Headscale` asks a Headscale server.
//! * `admission`: `Admission` asks a URL, as the reference's `-verify-client-url` does.
//! * `cached`: `Cached` remembers another verifier's answers, bounds what it is asked and counts;
//!   `Counted` only counts, which is for lists.
//!
//! [`AnyOf`], [`AllOf`] and [`Denied`] combine verifiers, and each other.
//!
//! # What is not here
//!
//! No relay: a backend compiles without one, and knows nothing of sessions or sockets.

#[cfg(feature = "admission")]
mod admission;
#[cfg(feature = "allowlist")]
mod allowlist;
#[cfg(feature = "cached")]
mod breaker;
#[cfg(feature = "cached")]
mod cache;
#[cfg(feature = "cached")]
mod cached;
mod candidate;
mod compose;
#[cfg(feature = "cached")]
mod counted;
#[cfg(feature = "cached")]
mod counters;
#[cfg(feature = "allowlist")]
mod denylist;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "headscale")]
mod headscale;
#[cfg(feature = "_http")]
mod http;
#[cfg(feature = "tailscaled")]
mod tailscaled;
mod verdict;
#[cfg(feature = "watch")]
mod watch;

pub use async_trait::async_trait;

#[cfg(feature = "admission")]
pub use admission::{Admission, AnswerError, Reading, parse_answer};
#[cfg(feature = "allowlist")]
pub use allowlist::{Allowlist, AllowlistChange, AllowlistError, BadEntry, Place};
#[cfg(feature = "cached")]
pub use cached::{CacheOptions, Cached};
pub use candidate::{Candidate, ConnMeta, ListenerId, TlsVersion};
pub use compose::{AllOf, AnyOf, Denied};
#[cfg(feature = "cached")]
pub use counted::Counted;
#[cfg(feature = "cached")]
pub use counters::{VerifyCounters, VerifyResult};
#[cfg(feature = "allowlist")]
pub use denylist::Denylist;
#[cfg(feature = "headscale")]
pub use headscale::{
    Headscale, HeadscaleOptions, HeadscaleVerify, NodeListError, NodeRules, parse_nodes,
};
#[cfg(feature = "_tls")]
pub use http::{Credentials, HttpConfigError, HttpOptions, SecretError, TargetError};
#[cfg(feature = "tailscaled")]
pub use tailscaled::Tailscaled;
pub use verdict::{FailMode, RateLimit, Verdict, VerifyError};
#[cfg(feature = "watch")]
pub use watch::watch_file;

use std::fmt::Debug;
use std::sync::Arc;

/// Decides whether a client that has proved it holds `client.key` may use the relay.
///
/// Asked once per connection, after the handshake and before the client is registered. Mesh
/// peers, which proved themselves with the mesh key, are never asked about.
///
/// The relay puts a deadline on the answer and drops the future when the client hangs up, so
/// that an implementation needs neither of its own; it must be safe to drop at any await.
#[async_trait]
pub trait Verifier: Debug + Send + Sync + 'static {
    /// Allows or denies.
    ///
    /// # Errors
    /// Says that no answer was to be had, which is not a denial: what becomes of the client then
    /// is the operator's choice.
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError>;
}

/// Admits everybody: an open relay.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

#[async_trait]
impl Verifier for AllowAll {
    async fn verify(&self, _: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        Ok(Verdict::allow())
    }
}

#[async_trait]
impl<V: Verifier + ?Sized> Verifier for Arc<V> {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        (**self).verify(client).await
    }
}

/// The programs of the crate's README are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
