//! Will clients take these certificates, now and in some days? Pure: certificates and a time in,
//! everything that is wrong out.
//!
//! The rules are those by which clients check (`net/tlsdial/tlsdial.go`): chain and name, or a pin.
//! On top of them comes what only a probe looks at, that no certificate is about to expire.

use std::net::IpAddr;
use std::time::Duration;

use derp_client::{CertCheck, CertPin, PinError};
use derp_proto::http::META_CERT_NAME_PREFIX;
use rustls::CertificateError;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use thiserror::Error;
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

use crate::outcome::Findings;
use crate::trust::Trust;

/// How long before its end a certificate should have been renewed (`prober/tls.go`), unless it
/// lives for less than four times as long.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum CertificateFault {
    /// There is none.
    #[error("the server shows no certificate")]
    None,
    /// It is no certificate.
    #[error("the server shows a certificate that cannot be read")]
    Unreadable,
    /// It is from the future.
    #[error("the certificate of {subject} is not valid before {from}; is a clock wrong?")]
    NotYetValid {
        /// Whose it is.
        subject: String,
        /// From when on it is valid.
        from: String,
    },
    /// It is from the past.
    #[error(
        "the certificate of {subject} has expired on {on}; renew it, and see that the relay \
             serves the new one"
    )]
    Expired {
        /// Whose it is.
        subject: String,
        /// When it was over.
        on: String,
    },
    /// It is valid, but not for long.
    #[error("the certificate of {subject} expires in {left}, on {on}; it should have been renewed")]
    ExpiresSoon {
        /// Whose it is.
        subject: String,
        /// How long it is still valid.
        left: String,
        /// When that is over.
        on: String,
    },
    /// It is somebody else's.
    #[error("the certificate is not for {expected}, but for {presented}")]
    WrongName {
        /// The name that clients expect.
        expected: String,
        /// The names that it is for.
        presented: String,
    },
    /// Nobody vouches for it.
    #[error(
        "the certificate comes from no authority that this machine trusts; if it should be \
             this one, set CertName of the node to {pin}"
    )]
    UnknownIssuer {
        /// What would pin it.
        pin: CertPin,
    },
    /// It is not the pinned one.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// This machine's: nothing can be said of it.
    #[error("this machine has no root certificates to check the server's certificate with")]
    NoRoots,
    /// Anything else.
    #[error("the certificate is refused: {0}")]
    Refused(rustls::Error),
}

/// Everything that is wrong with `chain`, which a server showed whom clients check by `check` and
/// know by the name `host`.
pub(super) fn judge(
    chain: &[CertificateDer<'_>],
    check: &CertCheck,
    host: &ServerName<'_>,
    trust: &Trust,
    now: UnixTime,
) -> Vec<CertificateFault> {
    if *check == CertCheck::Insecure {
        return Vec::new();
    }
    let Some((first, rest)) = chain.split_first() else {
        return vec![CertificateFault::None];
    };
    let certs: Result<Vec<_>, _> = chain
        .iter()
        .map(|der| X509Certificate::from_der(der))
        .collect();
    let Ok(certs) = certs else {
        return vec![CertificateFault::Unreadable];
    };
    let mut faults = Vec::new();
    for (at, (_, cert)) in certs.iter().enumerate() {
        // Roots that are shown are not used, and whoever reads the meta certificate does not
        // look at its dates.
        let is_aside = at > 0 && cert.subject().as_raw() == cert.issuer().as_raw();
        if !is_aside {
            faults.extend(validity(cert, now));
        }
    }
    let dates_are_told = !faults.is_empty();
    // Dates are checked first of all. What else is wrong shows at a time when they are right.
    let then = certs
        .first()
        .map_or(now, |(_, cert)| within_validity(cert, now));
    let refusal = match check {
        CertCheck::HostName => chained(first, rest, host, trust, then),
        CertCheck::OtherName(name) => chained(first, rest, name, trust, then),
        CertCheck::Pin(pin) => pinned(first, &certs, *pin, host),
        CertCheck::Insecure => Ok(()),
    };
    if let Err(refusal) = refusal {
        let is_about_dates = matches!(
            refusal,
            CertificateFault::Refused(rustls::Error::InvalidCertificate(
                CertificateError::Expired
                    | CertificateError::ExpiredContext { .. }
                    | CertificateError::NotValidYet
                    | CertificateError::NotValidYetContext { .. }
            ))
        );
        if !(is_about_dates && dates_are_told) {
            faults.push(refusal);
        }
    }
    faults
}

/// Notes until when the server's own certificate is valid, whoever signed it.
pub(super) fn tell(chain: &[CertificateDer<'_>], now: UnixTime, findings: &mut Findings) {
    let Some(Ok((_, cert))) = chain.first().map(|der| X509Certificate::from_der(der)) else {
        return;
    };
    let until = cert.validity().not_after;
    let end = u64::try_from(until.timestamp()).unwrap_or_default();
    let left = Duration::from_secs(end.saturating_sub(now.as_secs()));
    findings.seconds("certificate_seconds_left", left);
    findings.seconds("certificate_lifetime_seconds", lifetime(&cert));
    findings.fact("certificate_until", date(until));
}

fn validity(cert: &X509Certificate<'_>, now: UnixTime) -> Option<CertificateFault> {
    let subject = named(cert);
    let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let (from, until) = (cert.validity().not_before, cert.validity().not_after);
    if seconds < from.timestamp() {
        return Some(CertificateFault::NotYetValid {
            subject,
            from: date(from),
        });
    }
    let left = until.timestamp().saturating_sub(seconds);
    match u64::try_from(left) {
        Err(_) => Some(CertificateFault::Expired {
            subject,
            on: date(until),
        }),
        Ok(left) if Duration::from_secs(left) < should_be_renewed(cert) => {
            Some(CertificateFault::ExpiresSoon {
                subject,
                left: in_days(left),
                on: date(until),
            })
        }
        Ok(_) => None,
    }
}

/// For how long the certificate is valid in all.
pub(super) fn lifetime(cert: &X509Certificate<'_>) -> Duration {
    let (from, until) = (cert.validity().not_before, cert.validity().not_after);
    let seconds = until.timestamp().saturating_sub(from.timestamp());
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

/// How long before its end the certificate should have been renewed. Those that live for six days
/// are renewed when two of them are left.
fn should_be_renewed(cert: &X509Certificate<'_>) -> Duration {
    EXPIRES_SOON.min(lifetime(cert) / 4)
}

/// The time nearest to `now` at which the certificate is valid.
fn within_validity(cert: &X509Certificate<'_>, now: UnixTime) -> UnixTime {
    let seconds = |time: ASN1Time| u64::try_from(time.timestamp()).unwrap_or_default();
    let (from, until) = (
        seconds(cert.validity().not_before),
        seconds(cert.validity().not_after),
    );
    UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs().min(until).max(from)))
}

/// Whether an authority vouches for the certificate and its name.
fn chained(
    first: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    trust: &Trust,
    now: UnixTime,
) -> Result<(), CertificateFault> {
    let verifier = trust.verifier().map_err(|_| CertificateFault::NoRoots)?;
    let verified = verifier.verify_server_cert(first, rest, name, &[], now);
    verified.map(drop).map_err(|err| refused(err, first))
}

/// Whether the certificate is the pinned one, shown in a form that clients accept.
fn pinned(
    first: &CertificateDer<'_>,
    certs: &[(&[u8], X509Certificate<'_>)],
    pin: CertPin,
    host: &ServerName<'_>,
) -> Result<(), CertificateFault> {
    let mut is_meta = certs.iter().map(|(_, cert)| is_meta(cert));
    if is_meta.next() != Some(false) {
        return Err(PinError::NoCertificate.into());
    }
    if is_meta.any(|is_meta| !is_meta) {
        return Err(PinError::SeveralCertificates.into());
    }
    let seen = CertPin::of(first);
    if seen != pin {
        return Err(PinError::AnotherCertificate { seen }.into());
    }
    if matches!(host, ServerName::DnsName(_)) {
        let named =
            ParsedCertificate::try_from(first).and_then(|parsed| verify_server_name(&parsed, host));
        return named.map_err(|err| refused(err, first));
    }
    Ok(())
}

/// A refusal in an operator's words.
fn refused(err: rustls::Error, first: &CertificateDer<'_>) -> CertificateFault {
    match err {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            CertificateFault::UnknownIssuer {
                pin: CertPin::of(first),
            }
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected,
            ..
        }) => CertificateFault::WrongName {
            expected: expected.to_str().into_owned(),
            presented: names_of(first),
        },
        err => CertificateFault::Refused(err),
    }
}

/// The first names and addresses that a certificate is for.
fn names_of(der: &CertificateDer<'_>) -> String {
    let Ok((_, cert)) = X509Certificate::from_der(der) else {
        return "nothing".to_owned();
    };
    let all = cert.subject_alternative_name().ok().flatten();
    let all = all
        .map(|all| all.value.general_names.as_slice())
        .unwrap_or_default();
    let mut names: Vec<String> = all
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(octets) => address(octets).map(|ip| ip.to_string()),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        return "no name and no address at all".to_owned();
    }
    if names.len() > SHOWN_NAMES {
        names.truncate(SHOWN_NAMES);
        names.push("others".to_owned());
    }
    names.join(", ")
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

/// Whether the certificate is the one by which relays tell their key.
fn is_meta(cert: &X509Certificate<'_>) -> bool {
    let name = cert
        .subject()
        .iter_common_name()
        .last()
        .and_then(|name| name.as_str().ok());
    name.is_some_and(|name| name.starts_with(META_CERT_NAME_PREFIX))
}

/// How errors call a certificate.
pub(super) fn named(cert: &X509Certificate<'_>) -> String {
    match cert.subject().to_string() {
        name if name.is_empty() => format!("serial number {}", cert.raw_serial_as_string()),
        name => name,
    }
}

/// A date in UTC, to the second.
pub(super) fn date(time: ASN1Time) -> String {
    let time = time.to_datetime().to_utc();
    let (date, time) = (time.date(), time.time());
    format!(
        "{date} {:02}:{:02}:{:02} UTC",
        time.hour(),
        time.minute(),
        time.second()
    )
}

fn in_days(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600) {
        (0, 0) => "less than an hour".to_owned(),
        (0, 1) => "an hour".to_owned(),
        (0, hours) => format!("{hours} hours"),
        (1, _) => "a day".to_owned(),
        (days, _) => format!("{days} days"),
    }
}

/// How many names of a certificate an error has.
const SHOWN_NAMES: usize = 5;

#[cfg(test)]
mod tests;
