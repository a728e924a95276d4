//! Is a stranger refused? For relays that are to serve some clients only: one that serves
//! everybody looks healthy to all other probes.

use derp_proto::{DerpNode, NodePublic};
use thiserror::Error;
use tokio::time::Instant;

use super::Prober;
use super::connection::{ConnectionFault, Guise, admitted};
use crate::deadline::Deadline;
use crate::outcome::Findings;

/// A relay that does not refuse as it is expected to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AdmissionFault {
    /// It admits everybody.
    #[error(
        "relay {node} is to refuse strangers and admits the key {key}, which was made up just \
             now; is -verify-clients or another way of verifying on, and is it not failing open?"
    )]
    Admitted {
        /// The node's name.
        node: String,
        /// The stranger's key, for a look into the relay's log.
        key: NodePublic,
    },
    /// It did not come so far that anybody could be refused.
    #[error(transparent)]
    Connection(#[from] ConnectionFault),
}

pub(super) async fn probe(
    prober: &Prober,
    node: &DerpNode,
    deadline: Deadline,
    findings: &mut Findings,
) -> Result<(), AdmissionFault> {
    let begin = Instant::now();
    let fault = match admitted(prober, node, Guise::Stranger, deadline).await {
        Ok(end) => {
            end.client.shutdown().await;
            AdmissionFault::Admitted {
                node: end.node,
                key: end.key,
            }
        }
        Err(ConnectionFault::NotAdmitted(_)) => {
            findings.seconds("refusal_seconds", begin.elapsed());
            return Ok(());
        }
        Err(fault) => fault.into(),
    };
    Err(fault)
}
