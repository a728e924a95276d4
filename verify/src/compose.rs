//! Verifiers made of verifiers. They nest as needed.

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;

use crate::Verifier;
use crate::candidate::Candidate;
use crate::verdict::{RateLimit, Verdict, VerifyError};

/// Admits whom one of several verifiers admits: a relay for several tailnets.
///
/// All are asked at once, so that one that hangs delays nobody whom another one knows. Those that
/// answer without waiting, such as lists, spare the requests of all that stand behind them.
/// Without verifiers nobody is admitted.
#[derive(Debug)]
pub struct AnyOf(Vec<Arc<dyn Verifier>>);

impl AnyOf {
    /// Asks `verifiers`, the cheapest of which should come first.
    #[must_use]
    pub fn new(verifiers: Vec<Arc<dyn Verifier>>) -> Self {
        Self(verifiers)
    }
}

#[async_trait]
impl Verifier for AnyOf {
    /// The first admission that comes, else an error, since who failed to answer might have
    /// admitted the client, else a denial with everybody's reasons.
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let mut pending: Vec<_> = self.0.iter().map(|one| Some(one.verify(client))).collect();
        let mut answers: Vec<_> = self.0.iter().map(|_| None).collect();
        // A handful of verifiers: each is polled whenever one of them has news.
        poll_fn(|cx| {
            for (slot, answer) in pending.iter_mut().zip(&mut answers) {
                let Some(question) = slot else { continue };
                let Poll::Ready(ready) = question.as_mut().poll(cx) else {
                    continue;
                };
                *slot = None;
                if ready.as_ref().is_ok_and(|verdict| verdict.allow) {
                    return Poll::Ready(ready);
                }
                *answer = Some(ready);
            }
            if pending.iter().any(Option::is_some) {
                return Poll::Pending;
            }
            Poll::Ready(nobody_admits(answers.drain(..).flatten()))
        })
        .await
    }
}

fn nobody_admits(
    answers: impl Iterator<Item = Result<Verdict, VerifyError>>,
) -> Result<Verdict, VerifyError> {
    let mut reasons: Vec<Cow<'static, str>> = Vec::new();
    for answer in answers {
        reasons.push(answer?.reason);
    }
    reasons.retain(|reason| !reason.is_empty());
    Ok(match reasons.len() {
        0 => Verdict::deny("nobody admits it"),
        1 => Verdict::deny(reasons.swap_remove(0)),
        _ => Verdict::deny(reasons.join("; ")),
    })
}

/// Admits whom all of several verifiers admit, as the reference's two flags together mean.
///
/// They are asked in their order, and none after the first that does not admit the client.
/// Without verifiers nobody is admitted: a list that lost its entries must not open the relay.
#[derive(Debug)]
pub struct AllOf(Vec<Arc<dyn Verifier>>);

impl AllOf {
    /// Asks `verifiers`, the cheapest of which should come first.
    #[must_use]
    pub fn new(verifiers: Vec<Arc<dyn Verifier>>) -> Self {
        Self(verifiers)
    }
}

#[async_trait]
impl Verifier for AllOf {
    /// The first answer that is no admission; else the first group named, the lowest rate and the
    /// shortest time to live.
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let Some((first, others)) = self.0.split_first() else {
            return Ok(Verdict::deny("nobody admits it"));
        };
        let mut all = first.verify(client).await?;
        for other in others {
            if !all.allow {
                break;
            }
            all = both(all, other.verify(client).await?);
        }
        Ok(all)
    }
}

/// What two verdicts mean together, the first of which is an admission.
fn both(first: Verdict, second: Verdict) -> Verdict {
    if !second.allow {
        return second;
    }
    let time_to_live = [first.time_to_live, second.time_to_live];
    Verdict {
        reason: if first.reason.is_empty() {
            second.reason
        } else {
            first.reason
        },
        group: first.group.or(second.group),
        rate: slower(first.rate, second.rate),
        time_to_live: time_to_live.into_iter().flatten().min(),
        ..second
    }
}

fn slower(first: Option<RateLimit>, second: Option<RateLimit>) -> Option<RateLimit> {
    let rates = [first, second].into_iter().flatten();
    rates.min_by_key(|rate| (rate.bytes_per_second, rate.burst_bytes))
}

/// Turns away whom one verifier denies, and leaves the others to a second one: deny wins.
#[derive(Debug)]
pub struct Denied<D, V> {
    denylist: D,
    others: V,
}

impl<D: Verifier, V: Verifier> Denied<D, V> {
    /// Asks `denylist` first, whose admission only means that it has nothing against the client,
    /// and `others` after it.
    #[must_use]
    pub const fn first(denylist: D, others: V) -> Self {
        Self { denylist, others }
    }
}

#[async_trait]
impl<D: Verifier, V: Verifier> Verifier for Denied<D, V> {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let verdict = self.denylist.verify(client).await?;
        if !verdict.allow {
            return Ok(verdict);
        }
        self.others.verify(client).await
    }
}
