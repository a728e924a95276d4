//! TLS 1.3 handshakes between two parties of rustls's that are alike each time: no randomness,
//! no key exchange and no signature, so that a fuzzer sees the same records whenever it tries the
//! same bytes, and thousands of them each second. Everything behind the key exchange is real.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, GetRandomFailed, SharedSecret};
use rustls::crypto::{SecureRandom, SupportedKxGroup};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, Error, NamedGroup,
    ServerConfig, ServerConnection, SignatureAlgorithm, SignatureScheme, SupportedCipherSuite,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use zeroize::Zeroizing;

use crate::tls13::CapturedSecrets;

/// The cipher suites of TLS 1.3.
pub(crate) const SUITES: [SupportedCipherSuite; 3] = [
    rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
    rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
    rustls::crypto::aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// Both ends of a connection, and what its records are protected with.
pub(crate) struct Connected {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
    pub(crate) suite: CipherSuite,
    pub(crate) from_client: Zeroizing<Vec<u8>>,
    pub(crate) from_server: Zeroizing<Vec<u8>>,
}

/// Shakes hands over `suite`, one of [`SUITES`]; neither has sent a record with its final key.
pub(crate) fn connect(suite: usize) -> Connected {
    let party = &PARTIES[suite];
    let name = ServerName::try_from("fuzz.example.com").expect("a name is a name");
    let mut client =
        ClientConnection::new(Arc::clone(&party.client), name).expect("the configuration is whole");
    let mut server =
        ServerConnection::new(Arc::clone(&party.server)).expect("the configuration is whole");
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        client.write_tls(&mut wire).expect("a vector takes all");
        server.read_tls(&mut &wire[..]).expect("flights are short");
        server.process_new_packets().expect("the client is honest");
        wire.clear();
        server.write_tls(&mut wire).expect("a vector takes all");
        client.read_tls(&mut &wire[..]).expect("flights are short");
        client.process_new_packets().expect("the server is honest");
    }
    let secrets = party.log.0.lock().unwrap_or_else(PoisonError::into_inner);
    let known = "the handshake logs both secrets";
    Connected {
        client,
        server,
        suite: SUITES[suite].suite(),
        from_client: secrets.client.clone().expect(known),
        from_server: secrets.server.clone().expect(known),
    }
}

/// How a cipher suite is used, and the secrets of each connection with it.
struct Party {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    log: Arc<Log>,
}

static PARTIES: LazyLock<[Party; 3]> = LazyLock::new(|| SUITES.map(party));

fn party(suite: SupportedCipherSuite) -> Party {
    let provider = Arc::new(CryptoProvider {
        cipher_suites: vec![suite],
        kx_groups: vec![&NoExchange],
        secure_random: &NoRandomness,
        ..rustls::crypto::aws_lc_rs::default_provider()
    });
    let versions = &[&rustls::version::TLS13];
    let whole = "the provider has all that TLS 1.3 needs";
    let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect(whole)
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(NoIdentity))
        .with_no_client_auth();
    client.resumption = rustls::client::Resumption::disabled();
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect(whole)
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoIdentity));
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let log = Arc::new(Log::default());
    server.key_log = Arc::<Log>::clone(&log);
    Party {
        client: Arc::new(client),
        server: Arc::new(server),
        log,
    }
}

#[derive(Debug)]
struct NoRandomness;

impl SecureRandom for NoRandomness {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        buf.fill(0x5a);
        Ok(())
    }
}

/// A key exchange that everybody knows the result of.
#[derive(Debug)]
struct NoExchange;

impl SupportedKxGroup for NoExchange {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        Ok(Box::new(Self))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for NoExchange {
    fn complete(self: Box<Self>, _: &[u8]) -> Result<SharedSecret, Error> {
        Ok(SharedSecret::from(&[7; 32][..]))
    }

    fn pub_key(&self) -> &[u8] {
        &[9; 32]
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// A server that proves nothing, and a client that believes it.
#[derive(Debug, Clone, Copy)]
struct NoIdentity;

impl ResolvesServerCert for NoIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificate = CertificateDer::from(vec![0x30, 0]);
        Some(Arc::new(CertifiedKey::new(
            vec![certificate],
            Arc::new(*self),
        )))
    }
}

impl SigningKey for NoIdentity {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(*self))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for NoIdentity {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![1; 64])
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

impl ServerCertVerifier for NoIdentity {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// The secrets of the latest handshake, which are those of each.
#[derive(Default)]
struct Log(Mutex<CapturedSecrets>);

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl rustls::KeyLog for Log {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let secret = Some(Zeroizing::new(secret.to_vec()));
        match label {
            "CLIENT_TRAFFIC_SECRET_0" => log.client = secret,
            "SERVER_TRAFFIC_SECRET_0" => log.server = secret,
            _ => {}
        }
    }
}
