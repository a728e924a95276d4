use std::io::{self, Read as _, Write as _};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{
    AlertDescription, CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, Error,
    HandshakeKind, NamedGroup, ProtocolVersion, ServerConnection, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::parse_x509_certificate;

use super::*;
use crate::records::RecordAligned;

const SERVER_KEY: NodePublic = NodePublic::from_bytes([0xab; 32]);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

pub(crate) fn chain(name: &str) -> CertifiedChain {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    CertifiedChain::from_der(vec![certificate.der().clone()], key).unwrap()
}

fn served(names: SniPolicy, chain: &CertifiedChain) -> ServedCertificate {
    ServedCertificate {
        names,
        chain: chain.clone(),
    }
}

pub(crate) fn for_anybody(chain: &CertifiedChain) -> ServerTls {
    ServerTls::new(SERVER_KEY, vec![served(SniPolicy::Any, chain)], now()).unwrap()
}

/// Believes everything, as it is the server that is tested.
#[derive(Debug)]
pub(crate) struct Gullible(pub(crate) CryptoProvider);

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

const TLS12: &SupportedProtocolVersion = &rustls::version::TLS12;
const TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;

/// A client of `versions` that prefers another cipher suite than the server.
pub(crate) fn client(versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites.reverse();
    ClientConfig::builder_with_provider(Arc::new(provider.clone()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible(provider)))
        .with_no_client_auth()
}

/// Shakes hands, and returns both ends or what the client hears of the failure.
pub(crate) fn shake_hands(
    server: &ServerTls,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let config = server.config_for(&ConnMeta::default()).unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(config).unwrap();
    let mut wire = Vec::new();
    // A server that keeps state would send its tickets behind the handshake.
    while client.wants_write() || server.wants_write() {
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut unread = &wire[..];
        while !unread.is_empty() {
            server.read_tls(&mut unread).unwrap();
            // The client will hear of it.
            let _failed = server.process_new_packets().is_err();
        }
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut unread = &wire[..];
        while !unread.is_empty() {
            client.read_tls(&mut unread).unwrap();
            client.process_new_packets()?;
        }
        wire.clear();
    }
    Ok((client, server))
}

fn certificates_seen(
    server: &ServerTls,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let (client, _) = shake_hands(server, client, name)?;
    Ok(client.peer_certificates().unwrap().to_vec())
}

#[test]
fn both_versions_see_the_leaf_and_the_meta_certificate() {
    let chain = chain("derp.example.com");
    let server = for_anybody(&chain);
    for (version, number) in [
        (TLS12, ProtocolVersion::TLSv1_2),
        (TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let client = Arc::new(client(&[version]));
        let (client, _) = shake_hands(&server, &client, "derp.example.com").unwrap();
        assert_eq!(client.protocol_version(), Some(number));
        let [leaf, meta] = client.peer_certificates().unwrap() else {
            panic!("not two")
        };
        assert_eq!(leaf, &chain.certificates()[0]);
        let (_, meta) = parse_x509_certificate(meta).unwrap();
        assert_eq!(
            meta.subject().to_string(),
            format!("CN=derpkey{}", SERVER_KEY.to_hex())
        );
        assert_eq!(meta.raw_serial(), [2]);
    }
}

#[test]
fn a_chain_that_others_share_is_not_modified() {
    let CertifiedChain(own) = chain("derp.example.com");
    let mut certificates = Vec::with_capacity(8);
    certificates.extend_from_slice(&own.cert);
    let shared = Arc::new(CertifiedKey::new(certificates, own.key.clone()));
    let server = for_anybody(&CertifiedChain::from(Arc::clone(&shared)));
    let client = Arc::new(client(&[TLS13]));
    std::thread::scope(|scope| {
        let reload = scope.spawn(|| {
            for day in 0..40 {
                let chain = CertifiedChain::from(Arc::clone(&shared));
                let certificates = vec![served(SniPolicy::Any, &chain)];
                server
                    .set_certificates(certificates, now() + day * DAY)
                    .unwrap();
            }
        });
        let handshakes = || {
            for _ in 0..10 {
                let seen = certificates_seen(&server, &client, "a.example").unwrap();
                assert_eq!((seen.len(), &seen[0]), (2, &shared.cert[0]));
            }
        };
        for _ in 0..4 {
            scope.spawn(handshakes);
        }
        reload.join().unwrap();
    });
    assert_eq!((shared.cert.len(), shared.cert.capacity()), (1, 8));
}

#[test]
fn a_server_name_decides_who_is_served() {
    let (one, two) = (chain("one.example"), chain("two.example"));
    let exact = |name: &str| SniPolicy::Exact(name.to_owned());
    let client = Arc::new(client(&[TLS13]));
    let refused = Error::AlertReceived(AlertDescription::AccessDenied);
    let leaf = |server: &ServerTls, name: &str| {
        certificates_seen(server, &client, name).map(|mut chain| chain.remove(0))
    };

    let manual =
        ServerTls::new(SERVER_KEY, vec![served(exact("One.Example"), &one)], now()).unwrap();
    assert_eq!(
        leaf(&manual, "one.example"),
        Ok(one.certificates()[0].clone())
    );
    assert_eq!(
        leaf(&manual, "ONE.example"),
        Ok(one.certificates()[0].clone())
    );
    assert_eq!(leaf(&manual, "two.example"), Err(refused.clone()));
    assert_eq!(leaf(&manual, "a.one.example"), Err(refused.clone()));
    // A client that connects to an address sends no name.
    assert_eq!(leaf(&manual, "192.0.2.7"), Err(refused.clone()));

    let any = for_anybody(&one);
    for name in ["one.example", "two.example", "192.0.2.7"] {
        assert_eq!(leaf(&any, name), Ok(one.certificates()[0].clone()));
    }

    let both = vec![
        served(exact("one.example"), &one),
        served(SniPolicy::Any, &two),
    ];
    let both = ServerTls::new(SERVER_KEY, both, now()).unwrap();
    assert_eq!(
        leaf(&both, "one.example"),
        Ok(one.certificates()[0].clone())
    );
    assert_eq!(leaf(&both, "192.0.2.7"), Ok(two.certificates()[0].clone()));

    let none = ServerTls::new(SERVER_KEY, vec![], now()).unwrap();
    assert_eq!(leaf(&none, "one.example"), Err(refused));
}

#[test]
fn certificates_are_replaced_for_the_next_handshake() {
    let (old, new) = (chain("derp.example.com"), chain("derp.example.com"));
    let server = for_anybody(&old);
    let client = Arc::new(client(&[TLS13]));
    let seen = || certificates_seen(&server, &client, "derp.example.com").unwrap();
    let before = seen();
    server
        .set_certificates(vec![served(SniPolicy::Any, &new)], now() + DAY)
        .unwrap();
    let after = seen();
    assert_eq!(before[0], old.certificates()[0]);
    assert_eq!(after[0], new.certificates()[0]);
    assert_eq!(before[1], after[1], "the meta certificate is still young");
}

#[test]
fn the_meta_certificate_is_renewed_in_time() {
    let chain = chain("derp.example.com");
    let server = for_anybody(&chain);
    let client = Arc::new(client(&[TLS13]));
    let seen = || certificates_seen(&server, &client, "derp.example.com").unwrap();
    let first = seen();
    server.renew_meta_certificate(now() + 6 * DAY).unwrap();
    assert_eq!(seen(), first);
    server.renew_meta_certificate(now() + 7 * DAY).unwrap();
    let renewed = seen();
    assert_eq!(renewed[0], first[0]);
    let (_, meta) = parse_x509_certificate(&renewed[1]).unwrap();
    let (_, old) = parse_x509_certificate(&first[1]).unwrap();
    let moved = meta.validity().not_after.timestamp() - old.validity().not_after.timestamp();
    assert_eq!(moved, 7 * 24 * 60 * 60);

    server
        .set_certificates(vec![served(SniPolicy::Any, &chain)], now() + 20 * DAY)
        .unwrap();
    assert_ne!(seen()[1], renewed[1]);
}

#[test]
fn the_server_chooses_the_cheapest_cipher() {
    let server = for_anybody(&chain("derp.example.com"));
    for (version, suite) in [
        (TLS12, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        (TLS13, CipherSuite::TLS13_AES_128_GCM_SHA256),
    ] {
        let client = Arc::new(client(&[version]));
        let (client, _) = shake_hands(&server, &client, "a.example").unwrap();
        assert_eq!(
            client.negotiated_cipher_suite().map(|suite| suite.suite()),
            Some(suite)
        );
    }
}

#[test]
fn recorded_traffic_is_safe_from_quantum_computers_where_the_client_can() {
    let server = for_anybody(&chain("derp.example.com"));
    let group = |client: ClientConfig| {
        let (client, _) = shake_hands(&server, &Arc::new(client), "a.example").unwrap();
        // Not even a client without it needs another round trip.
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
        client
            .negotiated_key_exchange_group()
            .map(|group| group.name())
    };
    assert_eq!(group(client(&[TLS13])), Some(NamedGroup::X25519MLKEM768));

    let mut old = rustls::crypto::aws_lc_rs::default_provider();
    old.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
    let old = ClientConfig::builder_with_provider(Arc::new(old.clone()))
        .with_protocol_versions(&[TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible(old)))
        .with_no_client_auth();
    assert_eq!(group(old), Some(NamedGroup::X25519));
}

#[test]
fn only_http11_or_nothing_can_be_agreed_on() {
    let server = for_anybody(&chain("derp.example.com"));
    let agreed = |offers: &[&str]| {
        let mut client = client(&[TLS13]);
        client.alpn_protocols = offers
            .iter()
            .map(|offer| offer.as_bytes().to_vec())
            .collect();
        let (client, _) = shake_hands(&server, &Arc::new(client), "a.example")?;
        Ok(client.alpn_protocol().map(<[u8]>::to_vec))
    };
    assert_eq!(agreed(&[]), Ok(None));
    assert_eq!(agreed(&["h2", "http/1.1"]), Ok(Some(b"http/1.1".to_vec())));
    let refused = Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(agreed(&["h2"]), Err(refused));
}

#[test]
fn no_session_is_resumed() {
    let server = for_anybody(&chain("derp.example.com"));
    for version in [TLS12, TLS13] {
        let client = Arc::new(client(&[version]));
        for _ in 0..3 {
            let (client, server) = shake_hands(&server, &client, "a.example").unwrap();
            assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(client.tls13_tickets_received(), 0);
            assert_eq!(server.received_resumption_data(), None);
        }
    }
    let config = server.config();
    assert_eq!(
        (config.send_tls13_tickets, config.max_early_data_size),
        (0, 0)
    );
}

#[test]
fn a_connection_can_leave_rustls() {
    let server = for_anybody(&chain("derp.example.com"));
    let (_, server) = shake_hands(&server, &Arc::new(client(&[TLS13])), "a.example").unwrap();
    let secrets = server.dangerous_extract_secrets().unwrap();
    assert_eq!((secrets.rx.0, secrets.tx.0), (0, 0));
}

#[test]
fn a_chain_must_fit_its_key() {
    let key = |name| {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([String::from(name)]).unwrap();
        let certificate = certificate.self_signed(&key).unwrap().der().clone();
        (
            certificate,
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
    };
    let (certificate, own) = key("a.example");
    let (_, other) = key("b.example");
    let from_der = CertifiedChain::from_der;
    assert!(matches!(
        from_der(vec![], own.clone_key()),
        Err(TlsError::EmptyChain)
    ));
    assert!(matches!(
        from_der(vec![certificate.clone()], other),
        Err(TlsError::Certificate(_))
    ));
    let chain = from_der(vec![certificate.clone(), certificate], own).unwrap();
    assert_eq!(
        format!("{chain:?}"),
        "CertifiedChain(2 certificates, key redacted)"
    );
}

/// What the relay counts on when it goes on without rustls.
#[tokio::test]
async fn rustls_holds_no_record_that_was_not_asked_for() {
    let server = for_anybody(&chain("derp.example.com"));
    let (near, far) = tokio::io::duplex(1 << 20);
    let accept = TlsAcceptor::from(server.config()).accept(RecordAligned::new(far));
    let name = ServerName::try_from("a.example").unwrap();
    let connect = TlsConnector::from(Arc::new(client(&[TLS13]))).connect(name, near);
    let (tls, peer) = tokio::join!(accept, connect);
    let (mut tls, mut peer) = (tls.unwrap(), peer.unwrap());

    let (near, client) = peer.get_mut();
    let mut wire = Vec::new();
    for packet in [&[1; 100][..], &[2; 200], &[3; 300]] {
        client.writer().write_all(packet).unwrap();
        client.write_tls(&mut wire).unwrap();
    }
    // All records at once, and half of the last only later.
    let (now, later) = wire.split_at(wire.len() - 50);
    near.write_all(now).await.unwrap();
    let mut first = [0; 100];
    tls.read_exact(&mut first).await.unwrap();

    let (aligned, mut rustls) = tls.into_inner();
    let mut more = Vec::new();
    let nothing = rustls.reader().read_to_end(&mut more).unwrap_err();
    assert_eq!((nothing.kind(), more), (io::ErrorKind::WouldBlock, vec![]));
    assert_eq!(rustls.dangerous_extract_secrets().unwrap().rx.0, 1);
    let (mut far, mut unread) = aligned.into_parts();
    near.write_all(later).await.unwrap();
    let mut rest = [0; 50];
    far.read_exact(&mut rest).await.unwrap();
    unread.extend_from_slice(&rest);
    // A record has five bytes of header, one of content type and sixteen of tag.
    assert!(
        unread == wire[100 + 22..],
        "{} bytes of {}",
        unread.len(),
        wire.len()
    );
}

#[test]
fn a_certificate_is_served_for_what_it_covers() {
    let (wild, other) = (chain("*.example.com"), chain("relay.example.org"));
    let one_of = |names: &[&str], or_none| SniPolicy::OneOf {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        or_none,
    };
    let certificates = vec![
        served(one_of(&["*.example.com", "Example.com"], false), &wild),
        served(one_of(&["relay.example.org"], true), &other),
    ];
    let server = ServerTls::new(SERVER_KEY, certificates, now()).unwrap();
    let client = Arc::new(client(&[TLS13]));
    let leaf =
        |name: &str| certificates_seen(&server, &client, name).map(|mut seen| seen.remove(0));
    let (wild, other) = (
        wild.certificates()[0].clone(),
        other.certificates()[0].clone(),
    );
    for name in ["derp.example.com", "DERP.Example.COM", "example.com"] {
        assert_eq!(leaf(name), Ok(wild.clone()), "{name}");
    }
    for name in ["relay.example.org", "192.0.2.7"] {
        assert_eq!(leaf(name), Ok(other.clone()), "{name}");
    }
    let refused = Error::AlertReceived(AlertDescription::AccessDenied);
    for name in ["a.b.example.com", "example.org", "xexample.com"] {
        assert_eq!(leaf(name), Err(refused.clone()), "{name}");
    }
}

/// RFC 8737: an authority offers its protocol alone, and sees the challenge's certificate alone.
#[test]
fn an_authority_sees_the_certificate_of_its_challenge_while_there_is_one() {
    let own = chain("derp.example.com");
    let server = for_anybody(&own);
    let challenges = AlpnChallenges::default();
    server.set_challenges(challenges.clone());
    let offering = |offers: &[&[u8]]| {
        let mut client = client(&[TLS12, TLS13]);
        client.alpn_protocols = offers.iter().map(|offer| offer.to_vec()).collect();
        Arc::new(client)
    };
    let authority = offering(&[b"acme-tls/1"]);
    let seen = |client: &Arc<ClientConfig>| certificates_seen(&server, client, "derp.example.com");
    let refused = Error::AlertReceived(AlertDescription::AccessDenied);
    assert_eq!(seen(&authority), Err(refused.clone()));

    let CertifiedChain(proof) = chain("derp.example.com");
    challenges.insert("DERP.example.com", Arc::clone(&proof));
    assert_eq!(seen(&authority), Ok(proof.cert.clone()));
    let other = certificates_seen(&server, &authority, "other.example.com");
    assert_eq!(other, Err(refused.clone()));
    // Everybody else is served as ever.
    for client in [
        offering(&[]),
        offering(&[b"http/1.1"]),
        offering(&[b"acme-tls/1", b"http/1.1"]),
    ] {
        let chain = seen(&client).unwrap();
        assert_eq!((chain.len(), &chain[0]), (2, &own.certificates()[0]));
    }
    challenges.remove("derp.example.com");
    assert_eq!(seen(&authority), Err(refused));
}
