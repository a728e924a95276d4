//! One order, from the first request to the certificate.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, Error, Identifier, NewOrder, Order,
    OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::Der;
use zeroize::Zeroizing;

use super::Acme;
use super::challenge::{self, ChallengeKind, Presented};
use crate::authority::{Failure, FailureKind, Issued, Wanted};
use crate::subject::Subject;

/// How the authority is asked whether it has finished.
const POLLING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(90));

impl Acme {
    pub(super) async fn order(
        &self,
        account: &mut Option<Account>,
        wanted: &Wanted<'_>,
    ) -> Result<Issued, Failure> {
        let account = self.account(account).await?;
        let mut failures: Vec<Failure> = Vec::new();
        for kind in &self.options.challenges {
            match self.order_by(account, wanted, *kind).await {
                Ok(issued) => return Ok(issued),
                // The other way in may be open.
                Err(failure) if failure.kind == FailureKind::NotFound => failures.push(failure),
                // What the first check found says more than that the second came to nothing.
                Err(failure) => {
                    failures.push(failure);
                    break;
                }
            }
        }
        Err(self.all_of(&failures))
    }

    /// The failures of one attempt, of which the first tells how long to wait: a check that fails
    /// is counted by authorities, whatever happened to the next. But nothing is slower than a limit.
    fn all_of(&self, failures: &[Failure]) -> Failure {
        let kinds = || failures.iter().map(|failure| failure.kind);
        let kind = if kinds().any(|kind| kind == FailureKind::TooMany) {
            FailureKind::TooMany
        } else {
            kinds().next().unwrap_or(FailureKind::NotFound)
        };
        let messages: Vec<_> = failures.iter().map(|f| f.message.as_str()).collect();
        let retry_after = failures.iter().find_map(|failure| failure.retry_after);
        Failure {
            kind,
            message: messages.join("; "),
            retry_after: retry_after.or_else(|| self.transport.take_retry_after()),
        }
    }

    async fn order_by(
        &self,
        account: &Account,
        wanted: &Wanted<'_>,
        kind: ChallengeKind,
    ) -> Result<Issued, Failure> {
        let failed = |error: Error| self.failure(&error);
        let subject = wanted.subject;
        let identifiers = [match subject {
            Subject::Name(name) => Identifier::Dns(name.as_ref().to_ascii_lowercase()),
            Subject::Ip(ip) => Identifier::Ip(*ip),
        }];
        let mut new = NewOrder::new(&identifiers);
        if let Some(profile) = wanted.profile {
            new = new.profile(profile);
        }
        let replaced = wanted.replaces.and_then(|held| held.renewal_id());
        if let Some((key, serial)) = &replaced {
            let id = CertificateIdentifier::new(Der::from_slice(key), Der::from_slice(serial));
            new = new.replaces(id);
        }
        let mut order = match account.new_order(&new).await {
            // No renewal information here: it is an order like any other.
            Err(Error::Unsupported(_)) if replaced.is_some() => {
                let mut new = NewOrder::new(&identifiers);
                if let Some(profile) = wanted.profile {
                    new = new.profile(profile);
                }
                account.new_order(&new).await
            }
            other => other,
        }
        .map_err(failed)?;

        let presented = self.present(&mut order, subject, kind).await?;
        if order.state().status != OrderStatus::Ready {
            let status = order.poll_ready(&POLLING).await;
            if !matches!(status, Ok(OrderStatus::Ready)) {
                let problem = check_result(&mut order).await;
                return Err(match (problem, status) {
                    (Some(problem), _) => not_found(subject, kind, &problem),
                    (None, Err(error)) => self.failure(&error),
                    (None, Ok(_)) => {
                        Failure::new(FailureKind::NotFound, not_found_text(subject, kind, ""))
                    }
                });
            }
        }
        drop(presented);

        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(unlikely)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![challenge::alt_name(subject).map_err(unlikely)?];
        let request = params.serialize_request(&key).map_err(unlikely)?;
        order.finalize_csr(request.der()).await.map_err(failed)?;
        let chain = order.poll_certificate(&POLLING).await.map_err(failed)?;
        Ok(Issued {
            chain,
            key: Zeroizing::new(key.serialize_pem()),
        })
    }

    /// Answers every check of the order that is still open, and tells the authority so.
    async fn present(
        &self,
        order: &mut Order,
        subject: &Subject,
        kind: ChallengeKind,
    ) -> Result<Vec<Presented>, Failure> {
        let failed = |error: Error| self.failure(&error);
        let mut presented = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(failed)?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let Some(mut challenge) = authorization.challenge(kind.wire()) else {
                let kind = kind.name();
                let message = format!("the authority does not check {subject} by {kind}");
                return Err(Failure::new(FailureKind::NotFound, message));
            };
            let answer = challenge::answer(
                kind,
                subject,
                &challenge.token,
                &challenge.key_authorization(),
            )
            .map_err(|message| Failure::new(FailureKind::Refused, message))?;
            presented.push(Presented::new(&self.responder, answer));
            challenge.set_ready().await.map_err(failed)?;
        }
        Ok(presented)
    }
}

/// What the authority found when it looked.
async fn check_result(order: &mut Order) -> Option<Problem> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if authorization.refresh().await.is_err() {
            return None;
        }
        let error = authorization
            .challenges
            .iter()
            .find_map(|challenge| challenge.error.clone());
        if error.is_some() {
            return error;
        }
    }
    None
}

fn not_found(subject: &Subject, kind: ChallengeKind, problem: &Problem) -> Failure {
    let detail = problem.detail.as_deref().unwrap_or_default();
    let advice = match problem_type(problem) {
        "dns" => format!("does {subject} have an address record in the public DNS?"),
        "caa" => format!("the CAA record of {subject} must allow this authority"),
        "unauthorized" => format!("does {subject} lead to this machine, and to no other?"),
        _ => not_found_text(subject, kind, ""),
    };
    let message = format!("{}: {advice} The authority says: {detail}", kind.name());
    Failure::new(FailureKind::NotFound, message)
}

fn not_found_text(subject: &Subject, kind: ChallengeKind, end: &str) -> String {
    let port = kind.port();
    format!("the authority must be able to connect to {subject} on port {port}{end}")
}

fn problem_type(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.rsplit(':').next().unwrap_or(kind)
}

fn unlikely(error: rcgen::Error) -> Failure {
    let message = format!("cannot make a certificate request: {error}");
    Failure::new(FailureKind::Refused, message)
}

/// An error of the library, in words for an operator.
pub(super) fn failure(error: &Error, host: &str, retry_after: Option<Duration>) -> Failure {
    let (kind, message) = match error {
        Error::Api(problem) => {
            let detail = problem.detail.as_deref().unwrap_or("no reason given");
            let name = problem_type(problem);
            let kind = match name {
                "rateLimited" => FailureKind::TooMany,
                "serverInternal" | "badNonce" => FailureKind::Unreachable,
                _ if problem.status.is_some_and(|status| status >= 500) => FailureKind::Unreachable,
                _ => FailureKind::Refused,
            };
            let advice = match name {
                "externalAccountRequired" => {
                    " (give -acme-eab-kid and -acme-eab-key, which the authority's console shows)"
                }
                _ => "",
            };
            (kind, format!("{host} refuses{advice}: {detail} ({name})"))
        }
        Error::Timeout(_) => (
            FailureKind::Unreachable,
            format!("{host} has not finished the order in time"),
        ),
        Error::Json(_) => (
            FailureKind::Unreachable,
            format!("{host} answers with something that is not ACME"),
        ),
        other => (
            FailureKind::Unreachable,
            format!("cannot ask {host}: {other}"),
        ),
    };
    Failure {
        kind,
        message,
        retry_after,
    }
}
