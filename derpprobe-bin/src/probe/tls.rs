//! Which certificate does the node show, and will clients take it, now and in a week
//! (`prober/tls.go`)?
//!
//! The handshake takes any certificate of which the server holds the key. What is wrong with it is
//! found afterwards, all of it at once and with dates.

use std::io;
use std::sync::Arc;

use derp_client::{CertCheck, TargetError};
use derp_proto::DerpNode;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::certificate::{self, CertificateFault};
use super::dial::{DialFault, dial};
use super::revocation::{self, RevocationFault};
use crate::deadline::{Deadline, TimedOut};
use crate::trust::{Trust, provider};
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
) -> Result<(), TlsFault> {
    let check = CertCheck::of_node(node)?;
    let host = ServerName::try_from(node.host_name.clone());
    let host = host.map_err(|_| TargetError::HostName(node.host_name.clone()))?;
    let tcp = dial(node, deadline).await?;
    let shown = handshake(tcp, host.clone());
    let shown = deadline
        .keep("waiting for the TLS handshake", shown)
        .await?;
    let chain = shown.map_err(TlsFault::Handshake)?;
    // The one reading of the time of day: all that is judged by it is judged by the same.
    let now = UnixTime::now();
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

/// The certificates that the server shows, of the first of which it holds the key.
async fn handshake(
    tcp: TcpStream,
    host: ServerName<'static>,
) -> io::Result<Vec<CertificateDer<'static>>> {
    let provider = provider();
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Witness(provider)))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(host, tcp)
        .await?;
    let (_, session) = stream.get_ref();
    Ok(session.peer_certificates().unwrap_or_default().to_vec())
}

/// Takes every certificate, but only from whom holds its key.
#[derive(Debug)]
struct Witness(Arc<CryptoProvider>);

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
