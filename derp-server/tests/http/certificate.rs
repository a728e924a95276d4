//! The certificate that tells a TLS 1.3 client the relay's key (`derp/derpserver/derpserver.go`).

use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::support::{Kind, Relay, tell, tls, within};

/// The chain that a client sees.
async fn chain(
    addr: std::net::SocketAddr,
    version: &'static rustls::SupportedProtocolVersion,
) -> Vec<CertificateDer<'static>> {
    let tcp = TcpStream::connect(addr).await.expect("a connection");
    let stream = within("the handshake", tls::connect(tcp, version))
        .await
        .expect("TLS");
    let (_, session) = stream.get_ref();
    session.peer_certificates().expect("a chain").to_vec()
}

async fn it_is_the_last_of_the_chain(relay: &Relay) {
    let name = format!("CN=derpkey{}", relay.server.public_key().to_hex());
    let mut seen = Vec::new();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let chain = chain(relay.tls, version).await;
        let [leaf, meta] = &chain[..] else {
            panic!("{} certificates", chain.len())
        };
        assert_eq!(leaf, tls::certificate());
        let (rest, parsed) = X509Certificate::from_der(meta).expect("a certificate");
        assert_eq!(rest, b"");
        assert_eq!(parsed.subject().to_string(), name);
        assert_eq!(parsed.issuer().to_string(), name);
        assert_eq!(parsed.raw_serial(), [2]);
        let extensions: Vec<_> = parsed
            .extensions()
            .iter()
            .map(|found| found.oid.to_id_string())
            .collect();
        assert_eq!(
            extensions,
            ["2.5.29.19"],
            "basic constraints, and nothing else"
        );
        assert!(!parsed.is_ca());
        assert!(parsed.validity().is_valid());
        assert_eq!(
            parsed.verify_signature(None),
            Ok(()),
            "it is signed by itself"
        );
        seen.push(chain);
    }
    assert_eq!(seen[0], seen[1]);

    // However many connect at a time, each sees the same.
    let mut handshakes = JoinSet::new();
    for _ in 0..20 {
        handshakes.spawn(chain(relay.tls, &rustls::version::TLS13));
    }
    while let Some(chain) = handshakes.join_next().await {
        assert_eq!(chain.expect("no panic"), seen[0]);
    }
}

#[test]
fn the_certificate_with_the_relays_key() {
    tell(Kind::Tls13, it_is_the_last_of_the_chain);
}
