//! An admission controller behind TLS.
#![cfg(feature = "admission")]

mod support;

use std::fs;
use std::sync::Arc;

use derp_verify::{Admission, HttpConfigError, HttpOptions};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use self::support::{ALICE, ask, key, word};

/// A server whose certificate is for `name`; its URL and that certificate as PEM.
async fn server(name: &str) -> (String, String) {
    let cert = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let pem = cert.cert.pem();
    let private = PrivateKeyDer::try_from(cert.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.cert.der().clone()], private)
        .expect("a certificate that fits its key");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!(
        "https://localhost:{}/",
        listener.local_addr().expect("an address").port()
    );
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else {
                continue;
            };
            let mut request = [0; 4096];
            while tls.read(&mut request).await.is_ok_and(|len| len > 0) {
                let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"Allow\":true}";
                if tls.write_all(reply).await.is_err() {
                    break;
                }
            }
        }
    });
    (url, pem)
}

#[tokio::test]
async fn the_certificate_must_end_in_a_root_that_is_trusted_and_have_the_name() {
    let dir = TempDir::new().unwrap();
    let (good, pem) = server("localhost").await;
    let (misnamed, other_pem) = server("controller.example").await;
    let ca_file = dir.path().join("ca.pem");
    fs::write(&ca_file, pem + &other_pem).unwrap();
    let mut options = HttpOptions::default();
    options.ca_file = Some(ca_file.clone());
    for (url, expected) in [(&good, "allow"), (&misnamed, "unreachable")] {
        let admission = Admission::new(url, options.clone()).unwrap();
        // The second question goes over the connection of the first.
        for _ in 0..2 {
            let answer = ask(&admission, key(ALICE)).await;
            assert_eq!(word(&answer), expected, "{answer:?}");
        }
    }
    let (stranger, _) = server("localhost").await;
    let admission = Admission::new(&stranger, options.clone()).unwrap();
    assert_eq!(word(&ask(&admission, key(ALICE)).await), "unreachable");

    for bad in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        fs::write(&ca_file, bad).unwrap();
        let refused = Admission::new(&good, options.clone());
        assert!(
            matches!(refused, Err(HttpConfigError::Roots { .. })),
            "{bad:?}"
        );
    }
}
