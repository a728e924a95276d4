//! Who is admitted now. The verifiers can be exchanged while the relay runs.

use std::sync::Arc;

use derp_verify::{Candidate, Verdict, Verifier, VerifyError, async_trait};
use tokio::sync::watch;

use super::verifiers::Verifiers;

/// The verifiers that count, which can be replaced.
#[derive(Debug)]
pub(super) struct Admit {
    /// The lock inside is held for a clone of the pointer or its exchange only.
    current: watch::Sender<Arc<Verifiers>>,
}

impl Admit {
    pub(super) fn new(verifiers: Verifiers) -> Self {
        Self {
            current: watch::Sender::new(Arc::new(verifiers)),
        }
    }

    /// The verifiers as they are.
    pub(super) fn current(&self) -> Arc<Verifiers> {
        Arc::clone(&self.current.borrow())
    }

    /// The verifiers from now on, and whenever they are replaced.
    pub(super) fn follow(&self) -> watch::Receiver<Arc<Verifiers>> {
        self.current.subscribe()
    }

    /// Admits by `verifiers` from now on.
    pub(super) fn replace(&self, verifiers: Verifiers) {
        self.current.send_replace(Arc::new(verifiers));
    }
}

#[async_trait]
impl Verifier for Admit {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        self.current().verify(client).await
    }
}
