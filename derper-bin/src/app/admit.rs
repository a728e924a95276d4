//! Who is admitted now: whom the reference's verifiers admit, or else a list of keys, or
//! everybody. The list can be exchanged while the relay runs.

use std::sync::{Arc, PoisonError, RwLock};

use derp_proto::PeerPresentFlags;
use derp_server::Server;
use derp_verify::{Allowlist, Candidate, Verdict, Verifier, VerifyError, async_trait};

/// The rule, which can be replaced.
#[derive(Debug)]
pub(super) struct Admit {
    /// The lock is held for a clone of the pointer or its exchange only.
    list: RwLock<Option<Arc<Allowlist>>>,
    /// Whom the reference's flags ask; never together with a list.
    go: Option<Arc<dyn Verifier>>,
}

impl Admit {
    pub(super) const fn new(list: Option<Arc<Allowlist>>, go: Option<Arc<dyn Verifier>>) -> Self {
        Self {
            list: RwLock::new(list),
            go,
        }
    }

    fn list(&self) -> Option<Arc<Allowlist>> {
        self.list
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Admits by `list` from now on, and closes the clients that are not on it; returns how many.
    /// Relays of the region stay: they are admitted by their key.
    pub(super) fn replace(&self, list: Option<Arc<Allowlist>>, server: &Server) -> usize {
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = list.clone();
        let Some(list) = list else { return 0 };
        let clients = server.clients();
        let gone = clients.iter().filter(|client| {
            !client.flags.contains(PeerPresentFlags::MESH_PEER) && !list.contains(&client.key)
        });
        gone.map(|client| server.close_client(&client.key, "no longer on the allowlist"))
            .sum()
    }
}

#[async_trait]
impl Verifier for Admit {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        if let Some(go) = &self.go {
            return go.verify(client).await;
        }
        match self.list() {
            Some(list) => list.verify(client).await,
            None => Ok(Verdict::allow()),
        }
    }
}
