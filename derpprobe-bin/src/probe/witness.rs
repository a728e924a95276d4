//! TLS with whoever shows any certificate and holds its key.
//!
//! What is wrong with a certificate is one fault, told by one probe. The others go on behind it, so
//! that what else is wrong shows too. Nothing that is secret is said over such a connection.

use std::io;
use std::sync::Arc;

use derp_ops::any_certificate;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Does the handshake with a server that is called `host`.
pub(super) async fn connect(
    tcp: TcpStream,
    host: ServerName<'static>,
) -> io::Result<TlsStream<TcpStream>> {
    TlsConnector::from(Arc::new(any_certificate::client_config()))
        .connect(host, tcp)
        .await
}

/// The certificates that the server showed.
pub(super) fn shown(stream: &TlsStream<TcpStream>) -> Vec<CertificateDer<'static>> {
    let (_, session) = stream.get_ref();
    session.peer_certificates().unwrap_or_default().to_vec()
}
