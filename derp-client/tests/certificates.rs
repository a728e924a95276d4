//! Which certificates are accepted, by real handshakes on loopback.

mod support;

use derp_client::{CertPin, ConnectError, Connector, Fault, PinError, Target, TargetError};
use derp_proto::DerpNode;
use rustls::CertificateError;
use rustls_pki_types::CertificateDer;
use support::server_key;
use support::talk::{connector, login, meta, served, trusting};
use support::tls::{Authority, Identity, Listener, named, self_signed};

#[tokio::test]
async fn the_certificate_must_be_for_the_host_by_somebody_trusted() {
    let authority = Authority::new();
    let listener = Listener::tls(authority.sign("derp.test"), &[meta()]).await;
    let node = |host: &str| listener.node(host);
    served(trusting(&authority), &listener, node("derp.test"))
        .await
        .unwrap();

    let why = refused(trusting(&authority), &listener, node("other.test"))
        .await
        .unwrap();
    assert!(
        matches!(why, CertificateError::NotValidForNameContext { .. }),
        "{why:?}"
    );
    let stranger = Authority::called("Stranger");
    let why = refused(trusting(&stranger), &listener, node("derp.test"))
        .await
        .unwrap();
    assert_eq!(why, CertificateError::UnknownIssuer);
    // Without any root there is nothing to check against, and no connection.
    let err = served_nobody(connector(), node("derp.test")).await;
    assert!(matches!(err.fault(), Fault::Roots(_)), "{err:?}");

    let by_address = Listener::tls(authority.sign("127.0.0.1"), &[meta()]).await;
    let node = by_address.node("127.0.0.1");
    served(trusting(&authority), &by_address, node)
        .await
        .unwrap();
}

#[tokio::test]
async fn another_name_may_be_on_the_certificate_if_the_map_says_so() {
    let authority = Authority::new();
    let listener = Listener::tls(authority.sign("behind.test"), &[meta()]).await;
    let node = |cert_name: &str, insecure_for_tests| DerpNode {
        cert_name: cert_name.into(),
        insecure_for_tests,
        ..listener.node("front.test")
    };
    served(trusting(&authority), &listener, node("behind.test", false))
        .await
        .unwrap();
    let why = refused(trusting(&authority), &listener, node("front.test", false))
        .await
        .unwrap();
    assert!(
        matches!(why, CertificateError::NotValidForNameContext { .. }),
        "{why:?}"
    );
    // A name is checked however insecure the node is.
    let why = refused(trusting(&authority), &listener, node("third.test", true))
        .await
        .unwrap();
    assert!(
        matches!(why, CertificateError::NotValidForNameContext { .. }),
        "{why:?}"
    );
    served(connector(), &listener, node("", true))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_pin_stands_for_one_certificate() {
    let Identity { cert, key } = self_signed("127.0.0.1", |_| ());
    let node = |listener: &Listener| pinned(listener, "127.0.0.1", &cert);
    let identity = || Identity {
        cert: cert.clone(),
        key: key.clone_key(),
    };
    let listener = Listener::tls(identity(), &[meta()]).await;
    served(connector(), &listener, node(&listener))
        .await
        .unwrap();

    // Another certificate, though the node is called insecure.
    let stranger = self_signed("127.0.0.1", |_| ());
    let seen = CertPin::of(&stranger.cert);
    let other = Listener::tls(stranger, &[meta()]).await;
    let insecure = DerpNode {
        insecure_for_tests: true,
        ..node(&other)
    };
    let why = refused(connector(), &other, insecure).await.unwrap();
    assert_eq!(pin_error(&why), Some(PinError::AnotherCertificate { seen }));

    // A chain.
    let authority = Authority::new();
    let chain = Listener::tls(identity(), &[authority.cert(), meta()]).await;
    let why = refused(connector(), &chain, node(&chain)).await.unwrap();
    assert_eq!(pin_error(&why), Some(PinError::SeveralCertificates));
}

#[tokio::test]
async fn a_pinned_certificate_must_be_the_one_that_the_server_holds_the_key_of() {
    // Certificates are public: somebody else shows the pinned one behind one of their own, which
    // is called what is passed over.
    let pinned_cert = self_signed("127.0.0.1", |_| ()).cert;
    let thief = self_signed("127.0.0.1", |params| {
        params.distinguished_name = named(&format!("derpkey{}", server_key().public().to_hex()));
    });
    let listener = Listener::tls(thief, std::slice::from_ref(&pinned_cert)).await;
    let node = pinned(&listener, "127.0.0.1", &pinned_cert);
    let why = refused(connector(), &listener, node).await.unwrap();
    assert_eq!(pin_error(&why), Some(PinError::NoCertificate));
}

#[tokio::test]
async fn a_pinned_certificate_must_be_valid_for_the_time_and_the_name() {
    let listen = async |change: fn(&mut rcgen::CertificateParams)| {
        let identity = self_signed("derp.test", change);
        let cert = identity.cert.clone();
        (Listener::tls(identity, &[meta()]).await, cert)
    };
    let (listener, cert) = listen(|_| ()).await;
    served(
        connector(),
        &listener,
        pinned(&listener, "derp.test", &cert),
    )
    .await
    .unwrap();
    let node = pinned(&listener, "other.test", &cert);
    let why = refused(connector(), &listener, node).await.unwrap();
    assert!(
        matches!(why, CertificateError::NotValidForNameContext { .. }),
        "{why:?}"
    );
    // An address is no name that a certificate would have to be for.
    served(
        connector(),
        &listener,
        pinned(&listener, "127.0.0.1", &cert),
    )
    .await
    .unwrap();

    let (listener, cert) =
        listen(|params| params.not_after = rcgen::date_time_ymd(2001, 1, 1)).await;
    let node = pinned(&listener, "derp.test", &cert);
    let why = refused(connector(), &listener, node).await.unwrap();
    assert_eq!(why, CertificateError::Expired);
    let (listener, cert) =
        listen(|params| params.not_before = rcgen::date_time_ymd(3001, 1, 1)).await;
    let node = pinned(&listener, "derp.test", &cert);
    let why = refused(connector(), &listener, node).await.unwrap();
    assert_eq!(why, CertificateError::NotValidYet);
}

#[tokio::test]
async fn a_pin_that_is_none_is_an_error_and_no_weaker_check() {
    let authority = Authority::new();
    let listener = Listener::tls(authority.sign("derp.test"), &[meta()]).await;
    let upper = CertPin::of(&authority.cert()).to_string().to_uppercase();
    let upper = upper.replace("SHA256-RAW", "sha256-raw");
    for bad in [
        "sha256-raw:",
        "sha256-raw:00",
        &upper,
        &format!("sha256-raw:{}", "0".repeat(128)),
    ] {
        let node = DerpNode {
            cert_name: bad.into(),
            insecure_for_tests: true,
            ..listener.node("derp.test")
        };
        // Nobody accepts connections: the attempt must end without one.
        let err = served_nobody(trusting(&authority), node).await;
        let Fault::Target(TargetError::Pin(named, PinError::NotAHash)) = err.fault() else {
            panic!("{bad}: {err:?}");
        };
        assert_eq!(named, bad);
    }
}

/// What makes a certificate unacceptable.
async fn refused(
    connector: Connector,
    listener: &Listener,
    node: DerpNode,
) -> Result<CertificateError, ConnectError> {
    let err = served(connector, listener, node)
        .await
        .expect_err("a refusal");
    match err.fault() {
        Fault::Certificate(rustls::Error::InvalidCertificate(why)) => Ok(why.clone()),
        _ => Err(err),
    }
}

/// Connects where nobody will accept TLS.
async fn served_nobody(connector: Connector, node: DerpNode) -> ConnectError {
    connector
        .connect(&Target::Node(node), &login())
        .await
        .expect_err("a refusal")
}

fn pin_error(why: &CertificateError) -> Option<PinError> {
    match why {
        CertificateError::Other(other) => other.0.downcast_ref().copied(),
        _ => None,
    }
}

fn pinned(listener: &Listener, host: &str, cert: &CertificateDer<'_>) -> DerpNode {
    DerpNode {
        cert_name: CertPin::of(cert).to_string(),
        ..listener.node(host)
    }
}
