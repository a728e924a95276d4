//! The chain that a relay shows, and the certificate in it that tells its key
//! (`derp/derpserver/derpserver.go`).

use std::net::{Ipv4Addr, Ipv6Addr};

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::case::{Case, Needs, must, should};
use crate::context::Cx;
use crate::fault::Fault;
use crate::peer::Login;
use crate::verdict::{Checked, Failure, ensure, same};
use crate::wire::{Hello, TLS12, TLS13, Versions};

const SOURCE: &str = "derp/derpserver/derpserver.go";
const CLIENT: &str = "derp/derphttp/derphttp_client.go";
const DAY: i64 = 24 * 60 * 60;

pub(super) const CASES: &[Case] = &[
    must!(
        comes_last(TLS13),
        "The last certificate of the chain is the meta certificate.",
        SOURCE
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::NoLastCertificate, Fault::ReverseChain]),
    must!(comes_last(TLS12), "So it is with TLS 1.2.", SOURCE)
        .needs(Needs::TLS)
        .red_by(&[Fault::NoLastCertificate, Fault::ReverseChain]),
    must!(
        one_leaf(),
        "A relay that is known by its address shows one certificate besides, so that it \
         can be pinned.",
        "net/tlsdial/tlsdial.go"
    )
    .needs(Needs::TLS.and(Needs::IP))
    .red_by(&[Fault::NoLastCertificate]),
    must!(
        subject(),
        "Its subject is the common name `derpkey` with 64 digits of the relay's key, \
         and nothing else.",
        CLIENT
    )
    .needs(Needs::TLS)
    .red_by(&[
        Fault::Certificate(b"derpkey", b"derpkex"),
        Fault::Certificate(b"\x55\x04\x03", b"\x55\x04\x0a"),
        Fault::FlipFrame(1, 8),
    ]),
    must!(issuer(), "Its issuer is its subject.", SOURCE)
        .needs(Needs::TLS)
        .red_by(&[Fault::Certificate(b"derpkey", b"derpkex")]),
    must!(
        serial(),
        "Its serial number is the protocol version, 2.",
        CLIENT
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::Certificate(b"\x02\x01\x02", b"\x02\x01\x03")]),
    must!(
        extensions(),
        "It has one extension: critical basic constraints, for no authority.",
        SOURCE
    )
    .needs(Needs::TLS)
    .red_by(&[
        Fault::Certificate(b"\x55\x1d\x13", b"\x55\x1d\x0e"),
        Fault::Certificate(b"\x01\x01\xff", b"\x01\x01\x00"),
    ]),
    must!(
        x509_version(),
        "It is an X.509 certificate of version 3.",
        SOURCE
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::Certificate(
        b"\xa0\x03\x02\x01\x02",
        b"\xa0\x03\x02\x01\x01",
    )]),
    must!(signature(), "It is signed by its own Ed25519 key.", SOURCE)
        .needs(Needs::TLS)
        .red_by(&[
            Fault::Certificate(b"derpkey", b"derpkex"),
            Fault::Certificate(b"\x2b\x65\x70", b"\x2b\x65\x71"),
        ]),
    must!(is_valid(), "It is valid now.", SOURCE)
        .needs(Needs::TLS)
        .red_by(&[Fault::NoLastCertificate]),
    should!(validity(), "It is valid for 60 days.", SOURCE)
        .needs(Needs::TLS)
        .red_by(&[Fault::NoLastCertificate]),
    must!(same_for_all(), "All connections see the same.", SOURCE)
        .needs(Needs::TLS)
        .red_by(&[Fault::OtherCertificates]),
    must!(
        fast_start_key(),
        "A login that is sealed for its key is admitted without a look at the greeting.",
        CLIENT
    )
    .needs(Needs::TLS)
    .red_by(&[
        Fault::Certificate(b"derpkey", b"derpkex"),
        Fault::LoseFrame(3),
    ]),
    must!(
        leaf_names_host(),
        "The first certificate is for the host.",
        "net/tlsdial/tlsdial.go, RFC 9525"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::ReverseChain]),
    must!(
        leaf_is_valid(),
        "The first certificate is valid now, and is not the meta certificate.",
        "net/tlsdial/tlsdial.go"
    )
    .needs(Needs::TLS)
    .red_by(&[Fault::ReverseChain]),
];

async fn chain(cx: &Cx, versions: Versions) -> Checked<Vec<CertificateDer<'static>>> {
    let hello = Hello {
        versions,
        ..Hello::default()
    };
    let conn = cx.open_by(&hello).await?;
    Ok(conn.handshake.map(|seen| seen.chain).unwrap_or_default())
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Checked<X509Certificate<'a>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Failure::new("a certificate", "one and more bytes")),
        Err(err) => Err(Failure::new("a certificate", err.to_string())),
    }
}

/// The certificate's common name, where it begins as the meta certificate's.
fn meta_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let name = certificate.subject().iter_common_name().next()?;
    let name = name.as_str().ok()?;
    name.starts_with("derpkey").then(|| name.to_owned())
}

/// The last certificate, for a closer look.
async fn last(cx: &Cx) -> Checked<CertificateDer<'static>> {
    let mut chain = chain(cx, TLS13).await?;
    let len = chain.len();
    match chain.pop() {
        Some(last) if len > 1 => Ok(last),
        _ => Err(Failure::new("two certificates or more", format!("{len}"))),
    }
}

async fn comes_last(cx: &Cx, versions: Versions) -> Checked {
    let chain = chain(cx, versions).await?;
    let metas: Vec<bool> = chain
        .iter()
        .map(|der| Ok(meta_name(&parse(der)?).is_some()))
        .collect::<Checked<_>>()?;
    let mut expected = vec![false; chain.len().max(2)];
    *expected.last_mut().expect("it has two elements") = true;
    same("places of meta certificates", metas, expected)
}

async fn one_leaf(cx: &Cx) -> Checked {
    let chain = chain(cx, TLS13).await?;
    same("number of certificates", chain.len(), 2)
}

async fn subject(cx: &Cx) -> Checked {
    let last = last(cx).await?;
    let (_, server) = cx.greeted(&Login::new()).await?;
    let expected = format!("CN=derpkey{}", server.to_hex());
    same("subject", parse(&last)?.subject().to_string(), expected)
}

async fn issuer(cx: &Cx) -> Checked {
    let last = last(cx).await?;
    let certificate = parse(&last)?;
    let subject = certificate.subject().to_string();
    same("issuer", certificate.issuer().to_string(), subject)
}

async fn serial(cx: &Cx) -> Checked {
    let last = last(cx).await?;
    same("serial number", parse(&last)?.raw_serial(), &[2][..])
}

async fn extensions(cx: &Cx) -> Checked {
    let last = last(cx).await?;
    let certificate = parse(&last)?;
    let seen: Vec<_> = certificate
        .extensions()
        .iter()
        .map(|extension| (extension.oid.to_id_string(), extension.critical))
        .collect();
    same("extensions", seen, vec![("2.5.29.19".to_owned(), true)])?;
    ensure(!certificate.is_ca(), "no authority", "one")
}

async fn x509_version(cx: &Cx) -> Checked {
    let last = last(cx).await?;
    same("version", parse(&last)?.version().0, 2)
}

async fn signature(cx: &Cx) -> Checked {
    let last = last(cx).await?;
    let certificate = parse(&last)?;
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    same("algorithm", algorithm.as_str(), "1.3.101.112")?;
    let verified = certificate.verify_signature(None);
    ensure(
        verified.is_ok(),
        "its own signature",
        format!("{verified:?}"),
    )
}

async fn is_valid(cx: &Cx) -> Checked {
    let last = last(cx).await?;
    let certificate = parse(&last)?;
    let validity = certificate.validity();
    ensure(
        validity.is_valid(),
        "a certificate of today",
        format!("{} to {}", validity.not_before, validity.not_after),
    )
}

async fn validity(cx: &Cx) -> Checked {
    let last = last(cx).await?;
    let certificate = parse(&last)?;
    let validity = certificate.validity();
    let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
    same("days", seconds / DAY, 60)
}

async fn same_for_all(cx: &Cx) -> Checked {
    let (first, second) = (last(cx).await?, last(cx).await?);
    ensure(first == second, "the same certificate", "another one")
}

/// The first certificate, for a closer look.
async fn leaf(cx: &Cx) -> Checked<CertificateDer<'static>> {
    let chain = chain(cx, TLS13).await?;
    let leaf = chain.into_iter().next();
    leaf.ok_or_else(|| Failure::new("a certificate", "none"))
}

async fn leaf_names_host(cx: &Cx) -> Checked {
    let leaf = leaf(cx).await?;
    let certificate = parse(&leaf)?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<String> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            GeneralName::IPAddress(octets) => told_address(octets),
            other => other.to_string(),
        })
        .collect();
    let host = &cx.target().host;
    let parent = host
        .split_once('.')
        .map(|(_, parent)| format!("*.{parent}"));
    ensure(
        names
            .iter()
            .any(|name| name.eq_ignore_ascii_case(host) || Some(name) == parent.as_ref()),
        format!("a certificate for {host}"),
        format!("one for {names:?}"),
    )
}

/// An address of a certificate as it stands in URLs.
fn told_address(octets: &[u8]) -> String {
    match (<[u8; 4]>::try_from(octets), <[u8; 16]>::try_from(octets)) {
        (Ok(v4), _) => Ipv4Addr::from(v4).to_string(),
        (_, Ok(v6)) => Ipv6Addr::from(v6).to_string(),
        _ => format!("{octets:?}"),
    }
}

async fn leaf_is_valid(cx: &Cx) -> Checked {
    let leaf = leaf(cx).await?;
    let certificate = parse(&leaf)?;
    same("meta certificate", meta_name(&certificate), None)?;
    let validity = certificate.validity();
    ensure(
        validity.is_valid(),
        "a certificate of today",
        format!("{} to {}", validity.not_before, validity.not_after),
    )
}

async fn fast_start_key(cx: &Cx) -> Checked {
    use crate::frame::client_info;
    use crate::peer::PLAIN_INFO;
    let mut conn = cx.open().await?;
    let chain = conn.handshake.as_ref().map(|seen| seen.chain.clone());
    let last = chain.and_then(|mut chain| chain.pop());
    let last = last.ok_or_else(|| Failure::new("a chain", "none"))?;
    let name = meta_name(&parse(&last)?);
    let server = name
        .as_ref()
        .and_then(|name| name.strip_prefix("derpkey"))
        .and_then(|digits| derp_proto::NodePublic::from_hex(digits).ok())
        .ok_or_else(|| Failure::new("a key in the common name", format!("{name:?}")))?;
    let private = Login::new().private;
    let hello = client_info(&private.public(), &private, &server, PLAIN_INFO.as_bytes());
    let request = crate::http::upgrade(cx.target(), "Derp-Fast-Start: 1\r\n");
    conn.send([request.as_bytes(), &hello].concat()).await;
    conn.greeting(cx).await?;
    conn.admitted(cx, &private, &server).await.map(|_| ())
}
