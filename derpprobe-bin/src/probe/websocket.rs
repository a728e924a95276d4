//! Does the relay work for clients in browsers, and for those whose network lets nothing but
//! WebSockets through (`cmd/derper/websocket.go`)?

use std::sync::Arc;

use derp_proto::DerpNode;

use super::Prober;
use super::relay::{self, RelayFault};
use crate::deadline::Deadline;
use crate::outcome::Findings;
use crate::plan::Pair;

/// Sends a packet from one client of the node to another, both of which are in WebSockets.
pub(super) async fn probe(
    prober: &Prober,
    node: &Arc<DerpNode>,
    deadline: Deadline,
    findings: &mut Findings,
) -> Result<(), RelayFault> {
    let pair = Pair {
        from: Arc::clone(node),
        to: Arc::clone(node),
    };
    relay::probe(&prober.in_websockets(), &pair, deadline, findings).await
}
