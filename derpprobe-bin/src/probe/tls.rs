//! Which certificate does the node show, and will clients take it, now and in a week
//! (`prober/tls.go`)?
//!
//! The handshake takes any certificate of which the server holds the key. What is wrong with it is
//! found afterwards, all of it at once and with dates.

use std::io;

use derp_client::{CertCheck, TargetError};
use derp_proto::DerpNode;
use rustls_pki_types::{ServerName, UnixTime};
use thiserror::Error;

use super::certificate::{self, CertificateFault};
use super::dial::{DialFault, dial};
use super::revocation::{self, RevocationFault};
use super::witness;
use crate::deadline::{Deadline, TimedOut};
use crate::outcome::Findings;
use crate::trust::Trust;
use crate::web::Web;

/// What is wrong with a node's certificate, or with the way to it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsFault {
    /// The map's: the node's description cannot be used.
    #[error("the node's description cannot be used")]
    Target(#[from] TargetError),
    /// There is no TCP connection.
    #[error(transparent)]
    Dial(#[from] DialFault),
    /// The node's: it speaks no TLS, or none that clients speak.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// The node's: clients will refuse the certificate.
    #[error("{}", joined(.0))]
    Certificate(Vec<CertificateFault>),
    /// The certificate was revoked, or that cannot be found out.
    #[error(transparent)]
    Revocation(#[from] RevocationFault),
    /// It took too long.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

fn joined(faults: &[CertificateFault]) -> String {
    faults
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

pub(super) async fn probe(
    node: &DerpNode,
    trust: &Trust,
    web: &Web,
    deadline: Deadline,
    findings: &mut Findings,
) -> Result<(), TlsFault> {
    let check = CertCheck::of_node(node)?;
    let host = ServerName::try_from(node.host_name.clone());
    let host = host.map_err(|_| TargetError::HostName(node.host_name.clone()))?;
    let tcp = dial(node, deadline).await?;
    let handshake = witness::connect(tcp, host.clone());
    let stream = deadline
        .keep("waiting for the TLS handshake", handshake)
        .await?;
    let chain = witness::shown(&stream.map_err(TlsFault::Handshake)?);
    // The one reading of the time of day: all that is judged by it is judged by the same.
    let now = UnixTime::now();
    certificate::tell(&chain, now, findings);
    let faults = certificate::judge(&chain, &check, &host, trust, now);
    if !faults.is_empty() {
        return Err(TlsFault::Certificate(faults));
    }
    // A certificate that nobody issued is revoked by nobody.
    let name = match &check {
        CertCheck::HostName => &host,
        CertCheck::OtherName(name) => name,
        CertCheck::Pin(_) | CertCheck::Insecure => return Ok(()),
    };
    Ok(revocation::check(&chain, name, trust, web, now, deadline).await?)
}
