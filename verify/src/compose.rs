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
pub struct AnyOf(Vec<Member>);

#[derive(Debug)]
struct Member {
    name: Option<Arc<str>>,
    verifier: Arc<dyn Verifier>,
}

impl AnyOf {
    /// Asks `verifiers`, the cheapest of which should come first.
    #[must_use]
    pub fn new(verifiers: Vec<Arc<dyn Verifier>>) -> Self {
        let member = |verifier| Member {
            name: None,
            verifier,
        };
        Self(verifiers.into_iter().map(member).collect())
    }

    /// Asks `verifiers` in the same way, and says in each admission by its name who gave it.
    ///
    /// Of a client whose [`Candidate::admitted_by`] says whose client it is, only that verifier's
    /// failure is a failure, and any other's is a denial: else one verifier that is away would keep
    /// the clients of all others in.
    #[must_use]
    pub fn named(verifiers: Vec<(Arc<str>, Arc<dyn Verifier>)>) -> Self {
        let member = |(name, verifier)| Member {
            name: Some(name),
            verifier,
        };
        Self(verifiers.into_iter().map(member).collect())
    }
}

impl Member {
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let answer = self.verifier.verify(client).await;
        let Some(name) = &self.name else {
            return answer;
        };
        match answer {
            Ok(mut verdict) if verdict.allow => {
                verdict.admitted_by = Some(Arc::clone(name));
                Ok(verdict)
            }
            Err(err) if client.admitted_by.is_some_and(|by| by != &**name) => {
                Ok(Verdict::deny(format!("{name} gives no answer: {err}")))
            }
            answer => answer,
        }
    }
}

#[async_trait]
impl Verifier for AnyOf {
    /// The first admission that comes, else an error, since who failed to answer might have
    /// admitted the client, else a denial with everybody's reasons.
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let asked = self.0.iter().map(|one| Some(Box::pin(one.verify(client))));
        let mut pending: Vec<_> = asked.collect();
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
/// They are asked in their order, and none after the first that denies the client. Where one gives
/// no answer the others are asked still, for a denial wins.
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
    /// The first denial, else the first error; else the first group named, the lowest rate and the
    /// shortest time to live.
    async fn verify(&self, client: &Candidate<'_>) -> Result<Verdict, VerifyError> {
        let mut all = None;
        for one in &self.0 {
            let answer = one.verify(client).await;
            all = match (all, answer) {
                (_, Ok(verdict)) if !verdict.allow => return Ok(verdict),
                (None, answer) => Some(answer),
                (Some(Ok(first)), Ok(second)) => Some(Ok(both(first, second))),
                (Some(Ok(_)), Err(err)) | (Some(Err(err)), _) => Some(Err(err)),
            };
        }
        all.unwrap_or_else(|| Ok(Verdict::deny("nobody admits it")))
    }
}

/// What two admissions mean together.
fn both(first: Verdict, second: Verdict) -> Verdict {
    let time_to_live = [first.time_to_live, second.time_to_live];
    Verdict {
        reason: if first.reason.is_empty() {
            second.reason
        } else {
            first.reason
        },
        group: first.group.or(second.group),
        admitted_by: first.admitted_by.or(second.admitted_by),
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
