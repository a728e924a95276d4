//! The time that there is for a connection, spent step by step.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::error::{Fault, Stage};

/// The time that is left for a connection.
pub(crate) struct Budget {
    until: Instant,
}

impl Budget {
    pub(crate) fn begin(total: Duration) -> Self {
        Self {
            until: Instant::now() + total,
        }
    }

    /// Runs a step within what is left.
    pub(crate) async fn spend<T>(
        &self,
        stage: Stage,
        step: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        self.spend_at_most(Duration::MAX, stage, step).await
    }

    /// Runs a step within `most` or what is left.
    pub(crate) async fn spend_at_most<T>(
        &self,
        most: Duration,
        stage: Stage,
        step: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let within = most.min(self.until.saturating_duration_since(Instant::now()));
        match timeout(within, step).await {
            Ok(done) => done,
            Err(_) => Err(Fault::Timeout { stage, within }),
        }
    }
}
