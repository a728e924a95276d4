//! TLS to a server whose certificate must end in a root that is trusted.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Trusts the certificates in `ca_file` and no others, or those that the system trusts.
///
/// Blocks while files are read.
pub(super) fn config(ca_file: Option<&Path>) -> io::Result<Arc<ClientConfig>> {
    let roots = match ca_file {
        Some(path) => from_file(path)?,
        None => system()?,
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn from_file(path: &Path) -> io::Result<RootCertStore> {
    let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(&std::fs::read(path)?) {
        let cert = cert.map_err(|err| bad(format!("not PEM: {err}")))?;
        roots
            .add(cert)
            .map_err(|err| bad(format!("not a certificate: {err}")))?;
    }
    if roots.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    Ok(roots)
}

fn system() -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Systems hold roots that nobody can use any more; the others still count.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.into_iter().next().map_or_else(
            || io::Error::from(io::ErrorKind::NotFound),
            io::Error::other,
        );
        return Err(why);
    }
    Ok(roots)
}
