//! Will clients take the certificate that the relay shows, and for how long?
//!
//! Checked by the rules of clients (`net/tlsdial/tlsdial.go`): a chain to an authority that this
//! machine trusts and the name, or a pin. Revocation lists are for `derpprobe`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use derp_client::CertPin;
use derp_proto::NodePublic;
use derp_proto::http::META_CERT_NAME_PREFIX;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::exchange;
use super::finding::Findings;
use super::outside::Outside;
use super::own_key;
use crate::clock;
use crate::config::Config;

const CHECK: &str = "certificate";
/// Before that a certificate should have been renewed, unless it lives for less than four times
/// as long.
const SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What to do about a certificate with which something unusual is wrong.
const GET_ANOTHER: &str = "get another certificate; derper check-config tells more of this one";

/// What the relay showed.
#[derive(Debug)]
pub(super) struct Seen {
    /// The hash of its certificate.
    pub(super) pin: String,
    /// Whether clients take it without a pin.
    pub(super) is_trusted: bool,
}

/// What is expected of a chain.
struct Expected<'a> {
    outside: &'a Outside,
    /// The relay's key, where it is known.
    key: Option<NodePublic>,
    roots: Arc<RootCertStore>,
    /// Seconds since 1970.
    now: u64,
}

pub(super) async fn look(
    outside: &Outside,
    config: Option<&Config>,
    addresses: &[SocketAddr],
    findings: &mut Findings,
) -> Option<Seen> {
    if !outside.is_tls || addresses.is_empty() {
        return None;
    }
    let stream = match exchange::tcp(addresses).await {
        Ok(stream) => stream,
        Err(err) => {
            findings.problem(
                "connect",
                format!("cannot connect to {}: {err}", outside.authority()),
                "open the TCP port in every firewall on the way, and see that the relay or its \
                 proxy listens; behind NAT that does not lead back in, look from another machine \
                 with derper doctor --url",
            );
            return None;
        }
    };
    let stream = match exchange::tls(stream, outside.host.server_name()).await {
        Ok(stream) => stream,
        Err(err) => {
            findings.problem(
                CHECK,
                format!("the TLS handshake for {} failed: {err}", outside.host),
                "whoever listens there has no certificate for this name, or speaks no TLS: compare \
                 -hostname with the DERP map, and a proxy's rules by server name with it",
            );
            return None;
        }
    };
    let expected = Expected {
        outside,
        key: config.and_then(own_key),
        roots: Arc::new(system_roots()),
        now: seconds(clock::wall()),
    };
    judge(&exchange::shown(&stream), &expected, findings)
}

fn seconds(time: std::time::SystemTime) -> u64 {
    time.duration_since(std::time::SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // What cannot be used is not trusted, and there are always some.
    let _usable = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn judge(
    chain: &[CertificateDer<'_>],
    expected: &Expected<'_>,
    findings: &mut Findings,
) -> Option<Seen> {
    let parsed: Vec<_> = chain
        .iter()
        .filter_map(|der| Some((der, X509Certificate::from_der(der).ok()?.1)))
        .collect();
    let (metas, certs): (Vec<_>, Vec<_>) = parsed.into_iter().partition(|(_, cert)| is_meta(cert));
    let Some(((first, leaf), rest)) = certs.split_first() else {
        findings.problem(
            CHECK,
            "the server shows no certificate that can be read",
            "see the relay's log for what it serves",
        );
        return None;
    };
    let pin = CertPin::of(first).to_string();
    dates(leaf, expected.now, findings);
    let rest: Vec<CertificateDer<'_>> = rest.iter().map(|(der, _)| (*der).clone()).collect();
    let trust = trust(first, &rest, expected);
    tell_trust(leaf, rest.len(), &trust, &pin, expected, findings);
    tell_key(metas.first().map(|(_, cert)| cert), expected, findings);
    Some(Seen {
        pin,
        is_trusted: trust.is_ok(),
    })
}

fn dates(leaf: &X509Certificate<'_>, now: u64, findings: &mut Findings) {
    let validity = leaf.validity();
    let at = |time: i64| u64::try_from(time).unwrap_or(0);
    let (from, until) = (
        at(validity.not_before.timestamp()),
        at(validity.not_after.timestamp()),
    );
    let soon = SOON.as_secs().min(until.saturating_sub(from) / 4);
    if now < from {
        findings.problem(
            CHECK,
            format!("it is not valid before {}", validity.not_before),
            "this machine's clock is behind, or the one of whoever issued it was ahead: compare \
             both with a time server",
        );
    } else if until < now {
        findings.problem(
            CHECK,
            format!("it has expired on {}", validity.not_after),
            "renew it, and see that the relay serves the new one: files that change are served \
             within seconds, orders that fail are in the relay's log",
        );
    } else if until - now < soon {
        findings.warn(
            CHECK,
            format!(
                "it expires on {}, and should have been renewed",
                validity.not_after
            ),
            "see the relay's log for failed orders (derper_acme_failures_in_a_row), or whatever \
             renews the files",
        );
    } else {
        findings.ok(CHECK, format!("it is valid until {}", validity.not_after));
    }
}

/// Whether clients accept the chain without a pin.
fn trust(
    first: &CertificateDer<'_>,
    rest: &[CertificateDer<'_>],
    expected: &Expected<'_>,
) -> Result<(), rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let roots = Arc::clone(&expected.roots);
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
    let verifier = verifier.map_err(|err| rustls::Error::General(err.to_string()))?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(expected.now));
    let name = expected.outside.host.server_name();
    verifier
        .verify_server_cert(first, rest, &name, &[], now)
        .map(drop)
}

fn tell_trust(
    leaf: &X509Certificate<'_>,
    others: usize,
    trust: &Result<(), rustls::Error>,
    pin: &str,
    expected: &Expected<'_>,
    findings: &mut Findings,
) {
    let host = &expected.outside.host;
    match (&expected.outside.pin, trust) {
        (Some(wanted), _) if wanted != pin => findings.problem(
            CHECK,
            format!("it is {pin}, and clients are told to expect {wanted}"),
            "put what derper derpmap prints now into the DERP map; was the certificate made anew?",
        ),
        (Some(_), _) if others > 0 => findings.problem(
            CHECK,
            "it is pinned, and comes with a chain; clients want the one certificate alone",
            "serve the certificate without its chain, or drop CertName from the DERP map",
        ),
        (Some(_), _) => findings.ok(CHECK, format!("it is the pinned one ({pin})")),
        (None, Ok(())) => findings.ok(CHECK, format!("clients trust it for {host}")),
        (None, Err(rustls::Error::InvalidCertificate(fault))) => {
            let (what, remedy) = said(fault, leaf, others, pin, expected);
            // Dates have been told.
            if !what.is_empty() {
                findings.problem(CHECK, what, remedy);
            }
        }
        (None, Err(err)) => {
            findings.problem(CHECK, format!("clients refuse it: {err}"), GET_ANOTHER);
        }
    }
}

fn said(
    fault: &CertificateError,
    leaf: &X509Certificate<'_>,
    others: usize,
    pin: &str,
    expected: &Expected<'_>,
) -> (String, String) {
    match fault {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => (String::new(), String::new()),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!(
                "it is for {}, and clients want {}",
                names(leaf),
                expected.outside.host
            ),
            "give the relay a certificate for this name (-hostname), or use a name that the \
             certificate has; behind a proxy, this may be the proxy's own: it is to pass TLS on \
             unopened"
                .to_owned(),
        ),
        CertificateError::UnknownIssuer if leaf.subject() == leaf.issuer() => (
            "it vouches for itself, so clients refuse it unless it is pinned".to_owned(),
            format!(
                "set CertName of the node to {pin} in the DERP map, as derper derpmap prints it"
            ),
        ),
        CertificateError::UnknownIssuer if others == 0 => (
            "the certificates between it and its authority are missing".to_owned(),
            "serve the full chain: fullchain.pem, and not cert.pem".to_owned(),
        ),
        CertificateError::UnknownIssuer => (
            "it comes from an authority that this machine does not trust".to_owned(),
            format!(
                "nodes that do not trust it either refuse it; a single certificate can be pinned \
                 by CertName {pin}"
            ),
        ),
        fault => (
            format!("clients refuse it: {}", rustls::Error::from(fault.clone())),
            GET_ANOTHER.to_owned(),
        ),
    }
}

/// The certificate behind the chain that names the relay's key.
fn tell_key(meta: Option<&X509Certificate<'_>>, expected: &Expected<'_>, findings: &mut Findings) {
    let shown = meta.and_then(|cert| {
        let name = common_name(cert)?.strip_prefix(META_CERT_NAME_PREFIX)?;
        NodePublic::from_hex(name).ok()
    });
    match (shown, expected.key) {
        (None, _) => findings.warn(
            CHECK,
            "the chain does not end with the relay's key, so something else than a relay \
             terminates TLS",
            "a proxy that terminates TLS costs clients a round trip, and shows the relay its own \
             address unless it is named by --trusted-proxies; docs/sharing-port-443.md has it pass TLS on",
        ),
        (Some(shown), Some(own)) if shown != own => findings.problem(
            CHECK,
            format!("another relay answers there: its key is {shown}, and ours is {own}"),
            "the name, the proxy or the port leads to another relay, or this configuration is not \
             the one that runs",
        ),
        (Some(_), _) => {}
    }
}

fn is_meta(cert: &X509Certificate<'_>) -> bool {
    common_name(cert).is_some_and(|name| name.starts_with(META_CERT_NAME_PREFIX))
}

fn common_name<'a>(cert: &'a X509Certificate<'_>) -> Option<&'a str> {
    cert.subject().iter_common_name().last()?.as_str().ok()
}

fn names(cert: &X509Certificate<'_>) -> String {
    let Ok(Some(names)) = cert.subject_alternative_name() else {
        return "nobody".to_owned();
    };
    let names = names.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => address(bytes),
        other => other.to_string(),
    });
    names.collect::<Vec<_>>().join(", ")
}

fn address(bytes: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return std::net::Ipv4Addr::from(v4).to_string();
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => std::net::Ipv6Addr::from(v6).to_string(),
        Err(_) => "what is no address".to_owned(),
    }
}

#[cfg(test)]
mod tests;
