//! A client that has logged in and is not served yet: what the login hands over.

use std::sync::Arc;
use std::time::Duration;

use crate::hub::Hub;
use crate::inbound::Inbound;
use crate::limiter::Terms;
use crate::peer::Peer;
use crate::tls13::Opener;

/// A client that has logged in.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) peer: Arc<Peer>,
    /// The encoded frame that tells the client so. It goes out before anything else.
    pub(crate) server_info: Vec<u8>,
    /// Where the connection is TLS that the relay handles itself.
    pub(crate) opener: Option<Box<Opener>>,
    /// What the client sent behind its login: first bytes that are open, then TLS records.
    pub(crate) rest: Rest,
    /// Limits of its own, from the verifier.
    pub(crate) terms: Option<Box<Terms>>,
    /// How often it hears that the relay is there.
    pub(crate) keep_alive: Duration,
}

impl Admitted {
    /// The client is to be reached from now on.
    pub(crate) fn enter(&self, hub: &Hub) {
        // First, for a client that leaves is counted out whatever becomes of the rest of this.
        if self.peer.is_not_ideal() {
            hub.metrics.gauges().not_ideal_connections.add(1);
        }
        hub.metrics.tls_versions.comes(self.peer.tls);
        // What tells the client that it is admitted waits in front of all that others send it
        // from the moment on in which it is registered.
        self.peer
            .push(|lanes| lanes.push_encoded(&self.server_info));
        if let Some(surplus) = hub.registry.register(&self.peer) {
            tracing::debug!(conn = %surplus.id, client = ?surplus.key, "one connection too many");
            hub.metrics.gauges().displaced_connections.add(1);
            surplus.close();
        }
        // Whoever ends the server closes all that is registered, and it may have begun before.
        if hub.is_stopping() {
            self.peer.close();
        }
    }

    /// The receiving half of the client.
    pub(crate) fn inbound(&self, hub: &Hub, now: std::time::Instant) -> Inbound {
        let peer = Arc::clone(&self.peer);
        Inbound::new(peer, self.terms.clone(), hub, now)
    }
}

/// Bytes of a connection that wait for more: the beginning of a frame, and behind it, where the
/// connection is TLS, the beginning of a record. No longer than a read and a frame; all together
/// keep to [`Tunables::max_unfinished_bytes`](crate::Tunables::max_unfinished_bytes).
#[derive(Debug, Default)]
pub(crate) struct Rest {
    bytes: Box<[u8]>,
    plain: usize,
}

impl Rest {
    pub(crate) fn new(plain: &[u8], sealed: &[u8]) -> Self {
        Self {
            bytes: [plain, sealed].concat().into(),
            plain: plain.len(),
        }
    }

    /// Where the record begins, or all ends.
    pub(crate) const fn plain_len(&self) -> usize {
        self.plain
    }

    pub(crate) const fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
