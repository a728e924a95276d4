//! One certificate for all relays of the tests, and clients that trust it.

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use derp_proto::NodePublic;
use derp_server::tls::{CertifiedChain, ServedCertificate, ServerTls, SniPolicy};
use rcgen::{CertificateParams, DistinguishedName, Issuer, KeyPair};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The relays' certificate, self-signed for 127.0.0.1, and its key.
static IDENTITY: LazyLock<(CertificateDer<'static>, PrivateKeyDer<'static>)> =
    LazyLock::new(|| {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a name");
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        (made.cert.der().clone(), key)
    });

/// The certificate that relays show first.
pub fn certificate() -> &'static CertificateDer<'static> {
    &IDENTITY.0
}

/// Another certificate that clients of these tests trust, for whoever comes.
pub fn issue() -> ServedCertificate {
    let params = || CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let authority = KeyPair::try_from(&IDENTITY.1).expect("a key");
    let authority = Issuer::new(params(), authority);
    let key = KeyPair::generate().expect("a key");
    let mut leaf = params();
    leaf.distinguished_name = DistinguishedName::new();
    let leaf = leaf.signed_by(&key, &authority).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let chain = CertifiedChain::from_der(vec![leaf.der().clone()], key).expect("a certificate");
    ServedCertificate {
        names: SniPolicy::Any,
        chain,
    }
}

/// What a relay with this key serves TLS with.
pub fn server(key: NodePublic) -> ServerTls {
    let chain = vec![certificate().clone()];
    let chain = CertifiedChain::from_der(chain, IDENTITY.1.clone_key()).expect("a certificate");
    let served = ServedCertificate {
        names: SniPolicy::Any,
        chain,
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "the certificate is valid around now"
    )]
    let now = SystemTime::now();
    ServerTls::new(key, vec![served], now).expect("a meta certificate")
}

/// Trusts the relays' certificate alone.
pub fn roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate().clone()).expect("a certificate");
    Arc::new(roots)
}

/// Connects to a relay over a stream, by this version of TLS.
pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    version: &'static SupportedProtocolVersion,
) -> std::io::Result<TlsStream<S>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("cipher suites for the version")
        .with_root_certificates(roots())
        .with_no_client_auth();
    let name = "127.0.0.1".try_into().expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}
