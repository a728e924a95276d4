//! Has the authority taken the certificate back (`prober/tls.go`)?
//!
//! Only the server's own certificate is looked up, in the first list that it names itself. It is
//! asked after a chain that is in order, so that whoever makes up a certificate cannot send the
//! probe anywhere.

use std::time::Duration;

use http::Uri;
use rustls::client::VerifierBuilderError;
use rustls::client::danger::ServerCertVerifier;
use rustls::{CertificateError, Error as TlsError};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use thiserror::Error;
use x509_parser::prelude::{
    CertificateRevocationList, DistributionPointName, FromDer, GeneralName, ParsedExtension,
    X509Certificate,
};

use super::certificate::{date, lifetime, named};
use crate::deadline::Deadline;
use crate::trust::Trust;
use crate::web::{Web, WebError};

/// The longest list that is read, in bytes.
const LONGEST_LIST: usize = 10 << 20;
/// An authority that names a list in each certificate that it issues since
/// 2025-05-07 00:00:00 UTC, in Unix time, and that is not [`SHORT_LIVED`].
const ALWAYS_WITH_LIST: (&str, i64) = ("Let's Encrypt", 1_746_576_000);

/// Certificates that live no longer than this need no list: they are over sooner than one of them
/// is believed (CA/Browser Forum, Baseline Requirements, 1.6.1).
const SHORT_LIVED: Duration = Duration::from_secs(10 * 24 * 60 * 60);

/// A certificate that was revoked, or of which that cannot be said.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RevocationFault {
    /// The authority took it back.
    #[error("the certificate of {subject} has been revoked on {on}; get a new one")]
    Revoked {
        /// Whose it is.
        subject: String,
        /// When.
        on: String,
    },
    /// It should name a list.
    #[error("the certificate of {0} names no revocation list, which its authority always does")]
    NoList(String),
    /// The list is nowhere to be got from.
    #[error("the certificate's revocation list is at {0:?}, which is no http or https URL")]
    Url(String),
    /// The list did not come.
    #[error("cannot fetch the certificate's revocation list")]
    Web(#[source] WebError),
    /// What came is no list, or one of a form that is not understood.
    #[error("the revocation list at {0} cannot be read")]
    Unreadable(Uri, #[source] VerifierBuilderError),
    /// The list is somebody else's, or does not cover the certificate.
    #[error("the revocation list at {0} says nothing of the certificate: it is not its issuer's")]
    NotCovered(Uri),
    /// The list's signature is wrong, or anything else.
    #[error("the revocation list at {0} is refused")]
    Refused(Uri, #[source] TlsError),
}

pub(super) async fn check(
    chain: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    trust: &Trust,
    web: &Web,
    now: UnixTime,
    deadline: Deadline,
) -> Result<(), RevocationFault> {
    let Some((first, rest)) = chain.split_first() else {
        return Ok(());
    };
    let Ok((_, cert)) = X509Certificate::from_der(first) else {
        return Ok(());
    };
    let Some(url) = first_list(&cert) else {
        return match is_always_with_list(&cert) {
            true => Err(RevocationFault::NoList(named(&cert))),
            false => Ok(()),
        };
    };
    let url: Uri = url
        .parse()
        .map_err(|_| RevocationFault::Url(url.to_owned()))?;
    let list = web
        .get(&url, LONGEST_LIST, deadline)
        .await
        .map_err(RevocationFault::Web)?;
    let der = CertificateRevocationListDer::from(list.to_vec());
    let verifier = trust
        .verifier_with_list(der)
        .map_err(|err| RevocationFault::Unreadable(url.clone(), err))?;
    match verifier.verify_server_cert(first, rest, name, &[], now) {
        Ok(_) => Ok(()),
        Err(TlsError::InvalidCertificate(CertificateError::Revoked)) => {
            let on = revoked_on(&list, &cert);
            Err(RevocationFault::Revoked {
                subject: named(&cert),
                on,
            })
        }
        Err(TlsError::InvalidCertificate(CertificateError::UnknownRevocationStatus)) => {
            Err(RevocationFault::NotCovered(url))
        }
        Err(err) => Err(RevocationFault::Refused(url, err)),
    }
}

/// Where the certificate says that its first list is.
fn first_list<'a>(cert: &'a X509Certificate<'_>) -> Option<&'a str> {
    cert.extensions().iter().find_map(|extension| {
        let ParsedExtension::CRLDistributionPoints(points) = extension.parsed_extension() else {
            return None;
        };
        points
            .points
            .iter()
            .find_map(|point| match point.distribution_point.as_ref()? {
                DistributionPointName::FullName(names) => {
                    names.iter().find_map(|name| match name {
                        GeneralName::URI(url) => Some(*url),
                        _ => None,
                    })
                }
                DistributionPointName::NameRelativeToCRLIssuer(_) => None,
            })
    })
}

fn is_always_with_list(cert: &X509Certificate<'_>) -> bool {
    let (organization, since) = ALWAYS_WITH_LIST;
    lifetime(cert) > SHORT_LIVED
        && cert.validity().not_before.timestamp() >= since
        && cert
            .issuer()
            .iter_organization()
            .any(|name| name.as_str() == Ok(organization))
}

/// When `cert` was put on `list`, on which it is.
fn revoked_on(list: &[u8], cert: &X509Certificate<'_>) -> String {
    let entry = CertificateRevocationList::from_der(list)
        .ok()
        .and_then(|(_, list)| {
            list.iter_revoked_certificates()
                .find(|entry| *entry.serial() == cert.serial)
                .map(|entry| entry.revocation_date)
        });
    entry.map_or_else(|| "a date that cannot be read".to_owned(), date)
}

#[cfg(test)]
mod tests;
