//! HTTP/1.1 as a client that asks small questions of one server: requests as Go's client writes
//! them, answers of bounded size, connections that are kept.
//!
//! No redirects, no cookies, no caches, no proxies of the environment, no HTTP/2: whoever asks
//! whether a client may come in wants the answer of that server and of no other.

mod answer;
mod body;
#[cfg(feature = "_tls")]
mod client;
#[cfg(feature = "_tls")]
mod connect;
mod exchange;
#[cfg(feature = "_tls")]
mod pool;
#[cfg(feature = "_tls")]
mod secret;
#[cfg(feature = "_tls")]
mod target;
#[cfg(feature = "_tls")]
mod tls;

#[cfg(feature = "tailscaled")]
pub(crate) use answer::{Answer, excerpt};
#[cfg(feature = "_tls")]
pub(crate) use client::{HttpClient, Question};
#[cfg(feature = "_tls")]
pub use client::{HttpConfigError, HttpOptions};
#[cfg(any(feature = "tailscaled", feature = "fuzzing"))]
pub(crate) use exchange::{Fault, Request, exchange};
#[cfg(feature = "_tls")]
pub use secret::{Credentials, SecretError};
#[cfg(feature = "_tls")]
pub use target::TargetError;
