//! Certificates from authorities that speak ACME (RFC 8555), such as Let's Encrypt: ordered, kept
//! in files, renewed in time.
//!
//! * A [`Keeper`] looks after the certificate for one [`Subject`]: it takes what the [`Store`]
//!   holds, hands out each new one, and decides when to order the next ([`schedule`]).
//! * [`Acme`] is the [`Authority`] that it orders from.
//! * Whoever embeds this answers the authority's checks: see [`Responder`].
//!
//! The files are those of the reference (`golang.org/x/crypto/acme/autocert` and
//! `cmd/derper/ipcert.go`), so that a relay can change programs and keep its certificate.
//!
//! # What is not here
//!
//! Nothing listens, and nothing is served: no TLS configuration, no port. Certificates that come
//! from elsewhere as files are no concern of this crate either.

mod acme;
mod authority;
mod held;
mod keeper;
pub mod schedule;
mod store;
mod subject;

pub use self::acme::{Acme, AcmeError, AcmeOptions, Challenge, ChallengeKind, Eab, EabError};
pub use self::acme::{GOOGLE, LETS_ENCRYPT, Responder};
pub use self::authority::{Authority, Failure, FailureKind, Issued, Wanted};
pub use self::held::{Held, HeldError};
pub use self::keeper::{Keeper, KeeperCounters, WallClock};
pub use self::store::{Pause, Store, StoreError};
pub use self::subject::Subject;
