//! A verifier whose answers are counted and nothing else: for lists, which answer at once and
//! whose every change has to count at once.

use std::sync::Arc;

use async_trait::async_trait;

use crate::Verifier;
use crate::candidate::Candidate;
use crate::counters::{VerifyCounters, VerifyResult};
use crate::verdict::{Verdict, VerifyError};

/// Counts the answers of `V`.
#[derive(Debug)]
pub struct Counted<V> {
    inner: V,
    counters: Arc<VerifyCounters>,
}

impl<V: Verifier> Counted<V> {
    /// Counts what `inner` answers in `counters`.
    #[must_use]
    pub const fn new(counters: Arc<VerifyCounters>, inner: V) -> Self {
        Self { inner, counters }
    }
}

#[async_trait]
impl<V: Verifier> Verifier for Counted<V> {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let answer = self.inner.verify(client).await;
        self.counters.count(match &answer {
            Ok(verdict) if verdict.allow => VerifyResult::Allow,
            Ok(_) => VerifyResult::Deny,
            Err(_) => VerifyResult::Error,
        });
        answer
    }
}
