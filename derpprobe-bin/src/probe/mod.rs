//! The probes themselves: one file for what each kind does.
//!
//! Each ends within its time, and says in words that an operator can act on what is wrong. When
//! they are run, and how many at a time, is decided in [`crate::run`].

mod admission;
mod bandwidth;
mod certificate;
mod connection;
mod convergence;
mod delays;
mod dial;
mod http;
mod info;
mod kept;
mod queue_delay;
mod relay;
mod reported;
mod revocation;
mod stun;
mod tls;
mod websocket;
mod witness;

use std::sync::Arc;

use derp_client::{Connector, ProxyEnvironment, Roots, Transport};
use derp_proto::MeshKey;
use thiserror::Error;

use crate::deadline::Deadline;
use crate::outcome::Findings;
use crate::plan::{FieldError, Job};
use crate::trust::Trust;
use crate::web::Web;

pub use self::http::HttpFault;
pub use admission::AdmissionFault;
pub use bandwidth::BandwidthFault;
pub use certificate::CertificateFault;
pub use connection::ConnectionFault;
pub use convergence::ConvergenceFault;
pub use dial::DialFault;
pub use info::{ExpectedKeys, InfoFault, KeyMistake};
pub use queue_delay::QueueDelayFault;
pub use relay::{PacketFault, RelayFault};
pub use reported::ReportedFault;
pub use revocation::RevocationFault;
pub use stun::StunFault;
pub use tls::TlsFault;

use info::ServerKeys;
use kept::Kept;

/// What probes need to know besides the map. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Prober {
    trust: Trust,
    web: Web,
    connector: Connector,
    mesh_key: Option<MeshKey>,
    server_keys: Arc<ServerKeys>,
    kept: Option<Arc<Kept>>,
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
    /// Of relaying at a steady rate.
    #[error(transparent)]
    QueueDelay(#[from] QueueDelayFault),
    /// Of relays that tell one another of their clients.
    #[error(transparent)]
    Convergence(#[from] ConvergenceFault),
    /// Of what a relay answers over HTTP.
    #[error(transparent)]
    Http(#[from] HttpFault),
    /// Of what a relay says of itself.
    #[error(transparent)]
    Info(#[from] InfoFault),
    /// Of whom a relay admits.
    #[error(transparent)]
    Admission(#[from] AdmissionFault),
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
            server_keys: Arc::default(),
            kept: None,
        }
    }

    /// The same, where relays must have these keys; others must keep the one that they have when
    /// they are first seen.
    #[must_use]
    pub fn with_server_keys(self, expected: ExpectedKeys) -> Self {
        Self {
            server_keys: Arc::new(ServerKeys::new(expected)),
            ..self
        }
    }

    /// The same, which keeps the connections of relaying probes open from one run to the next.
    #[must_use]
    pub fn keeping_connections(self) -> Self {
        Self {
            kept: Some(Arc::default()),
            ..self
        }
    }

    /// Fetches documents with the same roots.
    #[must_use]
    pub const fn web(&self) -> &Web {
        &self.web
    }

    /// Does the job, and notes what is found even where it fails.
    ///
    /// # Errors
    /// What is wrong, or that it was not done by the deadline.
    pub async fn run(
        &self,
        job: &Job,
        deadline: Deadline,
        findings: &mut Findings,
    ) -> Result<(), ProbeFault> {
        match job {
            Job::Impossible(err) => return Err(err.clone().into()),
            Job::Tls(node) => {
                tls::probe(node, &self.trust, &self.web, deadline, findings).await?;
            }
            Job::Stun(server) => stun::probe(*server, deadline, findings).await?,
            Job::Relay(pair) => relay::probe(self, pair, deadline, findings).await?,
            Job::Bandwidth(pair, bytes) => {
                bandwidth::probe(self, pair, *bytes, deadline, findings).await?;
            }
            Job::QueueDelay(pair, pace) => {
                queue_delay::probe(self, pair, *pace, deadline, findings).await?;
            }
            Job::Convergence(pair) => convergence::probe(self, pair, deadline, findings).await?,
            Job::Http(node) => http::probe(node, http::Port::Derp, deadline).await?,
            Job::Http80(node) => http::probe(node, http::Port::Plain(80), deadline).await?,
            Job::WebSocket(node) => websocket::probe(self, node, deadline, findings).await?,
            Job::Info(node) => info::probe(self, node, deadline, findings).await?,
            Job::Admission(node) => admission::probe(self, node, deadline, findings).await?,
        }
        Ok(())
    }

    /// Connects in WebSockets.
    fn in_websockets(&self) -> Self {
        Self {
            connector: self.connector.clone().with_transport(Transport::WebSocket),
            kept: None,
            ..self.clone()
        }
    }
}
