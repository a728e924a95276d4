//! The probes themselves: one file for what each kind does.
//!
//! Each ends within its time, and says in words that an operator can act on what is wrong. When
//! they are run, and how many at a time, is decided in [`crate::run`].

mod bandwidth;
mod certificate;
mod connection;
mod dial;
mod relay;
mod revocation;
mod stun;
mod tls;

use derp_client::{Connector, ProxyEnvironment, Roots};
use derp_proto::MeshKey;
use thiserror::Error;

use crate::deadline::Deadline;
use crate::plan::{FieldError, Job};
use crate::trust::Trust;
use crate::web::Web;

pub use bandwidth::BandwidthFault;
pub use certificate::CertificateFault;
pub use connection::ConnectionFault;
pub use dial::DialFault;
pub use relay::{PacketFault, RelayFault};
pub use revocation::RevocationFault;
pub use stun::StunFault;
pub use tls::TlsFault;

/// What probes need to know besides the map. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prober {
    trust: Trust,
    web: Web,
    connector: Connector,
    mesh_key: Option<MeshKey>,
}

/// What is wrong with what was probed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProbeFault {
    /// The map's.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// Of a node's certificate.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// Of a node's STUN.
    #[error(transparent)]
    Stun(#[from] StunFault),
    /// Of relaying.
    #[error(transparent)]
    Relay(#[from] RelayFault),
    /// Of relaying much.
    #[error(transparent)]
    Bandwidth(#[from] BandwidthFault),
}

impl Prober {
    /// Probes with these roots of trust and perhaps the relays' mesh key. Relays are reached
    /// through the proxies in `proxies`; certificates and STUN are probed without any.
    #[must_use]
    pub fn new(trust: Trust, mesh_key: Option<MeshKey>, proxies: ProxyEnvironment) -> Self {
        let connector = Connector::new()
            .with_roots(Roots::Custom(trust.roots()))
            .with_proxy_environment(proxies);
        Self {
            web: Web::new(&trust),
            trust,
            connector,
            mesh_key,
        }
    }

    /// Fetches documents with the same roots.
    #[must_use]
    pub const fn web(&self) -> &Web {
        &self.web
    }

    /// Does the job.
    ///
    /// # Errors
    /// What is wrong, or that it was not done by the deadline.
    pub async fn run(&self, job: &Job, deadline: Deadline) -> Result<(), ProbeFault> {
        match job {
            Job::Impossible(err) => Err(err.clone().into()),
            Job::Tls(node) => Ok(tls::probe(node, &self.trust, &self.web, deadline).await?),
            Job::Stun(server) => Ok(stun::probe(*server, deadline).await?),
            Job::Relay(pair) => Ok(relay::probe(self, pair, deadline).await?),
            Job::Bandwidth(pair, bytes) => {
                Ok(bandwidth::probe(self, pair, *bytes, deadline).await?)
            }
        }
    }
}
