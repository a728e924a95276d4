//! Certificates and TLS for the scripted relay, and the HTTP in front of it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use derp_proto::{DerpNode, NodePublic};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    SerialNumber,
};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Peer;

/// An authority, and certificates that it signed.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: CertificateDer<'static>,
}

/// A certificate with its key.
pub struct Identity {
    pub cert: CertificateDer<'static>,
    pub key: PrivateKeyDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        Self::called("Test Authority")
    }

    pub fn called(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).expect("a certificate").into();
        Self {
            issuer: Issuer::new(params, key),
            cert,
        }
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.clone()).expect("a root");
        Arc::new(roots)
    }

    pub fn cert(&self) -> CertificateDer<'static> {
        self.cert.clone()
    }

    /// A certificate for a host name or an address.
    pub fn sign(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let cert = params
            .signed_by(&key, &self.issuer)
            .expect("a certificate")
            .into();
        Identity {
            cert,
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        }
    }
}

/// A certificate that nobody but itself vouches for.
pub fn self_signed(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name = named(name);
    change(&mut params);
    let cert = params.self_signed(&key).expect("a certificate").into();
    Identity {
        cert,
        key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    }
}

/// The certificate that tells a relay's key.
pub fn meta_cert(server: &NodePublic) -> CertificateDer<'static> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("derpkey{}", server.to_hex()));
    params.serial_number = Some(SerialNumber::from_slice(&[2]));
    params.self_signed(&key).expect("a certificate").into()
}

pub fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// A relay's listening socket.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    pub async fn plain() -> Self {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a port");
        Self { tcp, tls: None }
    }

    /// Shows the certificate of `identity` and then `rest`.
    pub async fn tls(identity: Identity, rest: &[CertificateDer<'static>]) -> Self {
        Self::tls_versions(identity, rest, rustls::DEFAULT_VERSIONS).await
    }

    pub async fn tls_versions(
        identity: Identity,
        rest: &[CertificateDer<'static>],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let chain = [&[identity.cert], rest].concat();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, identity.key)
            .expect("a certificate with its key");
        Self {
            tls: Some(TlsAcceptor::from(Arc::new(config))),
            ..Self::plain().await
        }
    }

    pub fn port(&self) -> u16 {
        self.tcp.local_addr().expect("a bound socket").port()
    }

    /// This relay as a node of a map.
    pub fn node(&self, host_name: &str) -> DerpNode {
        DerpNode {
            name: "1a".into(),
            host_name: host_name.into(),
            ipv4: "127.0.0.1".into(),
            ipv6: "none".into(),
            derp_port: self.port().into(),
            ..DerpNode::default()
        }
    }

    pub async fn accept_tcp(&self) -> TcpStream {
        self.tcp.accept().await.expect("a connection").0
    }

    /// The next connection, with its TLS handshake done.
    pub async fn accept_tls(&self) -> std::io::Result<Peer<TlsStream<TcpStream>>> {
        let acceptor = self.tls.as_ref().expect("a TLS listener");
        Ok(Peer::new(acceptor.accept(self.accept_tcp().await).await?))
    }

    pub async fn accept_plain(&self) -> Peer<TcpStream> {
        Peer::new(self.accept_tcp().await)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// Reads the head of a request; what follows it stays in the buffer.
    pub async fn request(&mut self) -> String {
        loop {
            if let Some(at) = self.buf.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.buf.split_to(at + 4);
                return String::from_utf8(head.to_vec()).expect("an ASCII head");
            }
            assert!(
                self.io.read_buf(&mut self.buf).await.expect("a request") > 0,
                "no request"
            );
        }
    }

    /// Answers an upgrade to DERP as the Go server does.
    pub async fn upgrade(&mut self) -> String {
        let head = self.request().await;
        self.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\n\r\n")
            .await;
        head
    }
}
