//! Our records against rustls's: what either seals, the other opens, through key updates of
//! both, however long messages are and however they are cut.

use std::io::{Read, Write};
use std::sync::Arc;

use proptest::prelude::*;
use rustls::ClientConnection;

use super::{
    CapturedSecrets, MAX_CONTENT, Opened, Opener, RECORD_HEADER, RECORD_TRAILER, Sealer,
    SecretCapture, record_len,
};
use crate::tls::tests::{chain, client, for_anybody, shake_hands};

/// A client of rustls's, and our server's half of its connection.
fn connect(prefer_first_suite: bool) -> (ClientConnection, Sealer, Opener) {
    let server = for_anybody(&chain("derp.example.com"));
    let mut config = client(&[&rustls::version::TLS13]);
    if !prefer_first_suite {
        // The server chooses by its own order among what is offered.
        let mut provider = (**config.crypto_provider()).clone();
        provider.cipher_suites.retain(|suite| {
            suite.suite() == rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                || suite.suite() == rustls::CipherSuite::TLS13_AES_256_GCM_SHA384
        });
        config = rustls::ClientConfig::builder_with_provider(Arc::new(provider.clone()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(crate::tls::tests::Gullible(provider)))
            .with_no_client_auth();
    }
    let config = Arc::new(config);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let handshake = async { shake_hands(&server, &config, "derp.example.com").unwrap() };
    let ((client, server), secrets) = runtime.block_on(SecretCapture::run(handshake));
    let CapturedSecrets {
        client: Some(from_client),
        server: Some(from_server),
    } = secrets
    else {
        panic!("the handshake logs both secrets");
    };
    let suite = server.negotiated_cipher_suite().unwrap().suite();
    let numbers = server.dangerous_extract_secrets().unwrap();
    let sealer = Sealer::new(suite, from_server, numbers.tx.0).unwrap();
    let opener = Opener::new(suite, from_client, numbers.rx.0).unwrap();
    (client, sealer, opener)
}

#[derive(Debug, Clone)]
enum Step {
    ClientSays(Vec<u8>),
    WeSay(Vec<u8>),
    ClientUpdatesItsKey,
    WeUpdateOurs,
}

fn step() -> impl Strategy<Value = Step> {
    let message = || {
        prop_oneof![
            4 => prop::collection::vec(any::<u8>(), 0..64),
            2 => (0..3 * MAX_CONTENT).prop_map(|len| vec![7; len]),
        ]
    };
    prop_oneof![
        5 => message().prop_map(Step::ClientSays),
        5 => message().prop_map(Step::WeSay),
        1 => Just(Step::ClientUpdatesItsKey),
        1 => Just(Step::WeUpdateOurs),
    ]
}

/// Opens all records that the client has written.
fn open_all(client: &mut ClientConnection, opener: &mut Opener) -> (Vec<u8>, usize) {
    let mut wire = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut wire).unwrap();
    }
    let (mut content, mut updates, mut at) = (Vec::new(), 0, 0);
    while let Some(len) = record_len(&wire[at..]).unwrap() {
        let record = &mut wire[at..at + len];
        match opener.open(record).unwrap() {
            Opened::Data(n) => content.extend_from_slice(&record[RECORD_HEADER..][..n]),
            Opened::KeyUpdate(_) => updates += 1,
            Opened::Closed => panic!("nobody said goodbye"),
        }
        at += len;
    }
    assert_eq!(at, wire.len(), "only whole records");
    (content, updates)
}

/// Has the client read these records, and returns what they say.
fn read_all(client: &mut ClientConnection, mut wire: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while !wire.is_empty() {
        client.read_tls(&mut wire).unwrap();
        let state = client.process_new_packets().unwrap();
        let start = content.len();
        content.resize(start + state.plaintext_bytes_to_read(), 0);
        client.reader().read_exact(&mut content[start..]).unwrap();
    }
    content
}

fn run(steps: Vec<Step>, prefer_first_suite: bool) {
    let (mut client, mut sealer, mut opener) = connect(prefer_first_suite);
    for step in steps {
        match step {
            Step::ClientSays(message) => {
                // rustls takes no more than its buffer has room for at a time.
                for piece in message.chunks(MAX_CONTENT) {
                    client.writer().write_all(piece).unwrap();
                    let (content, _) = open_all(&mut client, &mut opener);
                    assert_eq!(content, piece);
                }
            }
            Step::WeSay(message) => {
                let mut wire = Vec::new();
                for piece in message.chunks(MAX_CONTENT) {
                    if sealer.wants_key_update() {
                        sealer.key_update(&mut wire).unwrap();
                    }
                    let start = wire.len();
                    wire.extend_from_slice(&[0; RECORD_HEADER]);
                    wire.extend_from_slice(piece);
                    wire.extend_from_slice(&[0; RECORD_TRAILER]);
                    sealer.seal(&mut wire[start..]);
                }
                assert_eq!(read_all(&mut client, &wire), message);
            }
            Step::ClientUpdatesItsKey => {
                client.refresh_traffic_keys().unwrap();
                client.writer().write_all(b"after").unwrap();
                let (content, updates) = open_all(&mut client, &mut opener);
                assert_eq!((content, updates), (b"after".to_vec(), 1));
            }
            Step::WeUpdateOurs => sealer.want_key_update(),
        }
    }
    let mut goodbye = Vec::new();
    sealer.close_notify(&mut goodbye);
    client.read_tls(&mut &goodbye[..]).unwrap();
    assert!(client.process_new_packets().unwrap().peer_has_closed());
    client.send_close_notify();
    let mut wire = Vec::new();
    client.write_tls(&mut wire).unwrap();
    assert_eq!(opener.open(&mut wire), Ok(Opened::Closed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rustls_and_we_understand_each_other(
        steps in prop::collection::vec(step(), 0..40),
        prefer_first_suite in any::<bool>(),
    ) {
        run(steps, prefer_first_suite);
    }
}
