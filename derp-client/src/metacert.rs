//! Finds the server's DERP key among the certificates that it showed.
//!
//! Relays append a self-signed certificate to their chain that names their key, so that a client
//! knows it when the TLS handshake is done and saves a round trip
//! (`derp/derphttp/derphttp_client.go`). It proves nothing by itself: in TLS 1.3 the whole chain is
//! signed by the key of the first certificate, and that one is verified. Before TLS 1.3 it travels
//! in the clear, and is not looked for.

use derp_proto::NodePublic;
use derp_proto::http::META_CERT_NAME_PREFIX;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The server's key, if a certificate names it and offers to start without a greeting.
pub(crate) fn server_key(chain: &[CertificateDer<'_>]) -> Option<NodePublic> {
    let (key, version) = chain.iter().find_map(|der| read(der))?;
    // Zero is what a server says that has no version that can be started with.
    (version != 0).then_some(key)
}

/// Whether the subject's name marks this as a meta certificate.
pub(crate) fn is_meta(cert: &X509Certificate<'_>) -> bool {
    common_name(cert).is_some_and(|name| name.starts_with(META_CERT_NAME_PREFIX))
}

/// Key and protocol version, where `der` is a meta certificate that is whole.
fn read(der: &CertificateDer<'_>) -> Option<(NodePublic, u8)> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let digits = common_name(&cert)?.strip_prefix(META_CERT_NAME_PREFIX)?;
    let key = NodePublic::from_hex(digits).ok()?;
    // The serial number is the version; one that needs more than eight bits is something else.
    let serial = cert.raw_serial();
    let significant = serial
        .iter()
        .position(|&byte| byte != 0)
        .map_or(&[][..], |at| &serial[at..]);
    match *significant {
        [] => Some((key, 0)),
        [version] => Some((key, version)),
        _ => None,
    }
}

/// The last common name of the subject, which is the one that Go calls *the* common name.
fn common_name<'a>(cert: &'a X509Certificate<'_>) -> Option<&'a str> {
    cert.subject().iter_common_name().last()?.as_str().ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, SerialNumber};

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn cert(common_name: &str, serial: &[u8]) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        params.serial_number = Some(SerialNumber::from_slice(serial));
        params.is_ca = IsCa::NoCa;
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        params.self_signed(&key).unwrap().into()
    }

    fn meta(serial: &[u8]) -> CertificateDer<'static> {
        cert(
            &format!("derpkey{}", NodePublic::from_bytes(KEY).to_hex()),
            serial,
        )
    }

    #[test]
    fn the_key_is_found_wherever_the_certificate_is() {
        let leaf = cert("derp.test", &[1; 16]);
        let key = Some(NodePublic::from_bytes(KEY));
        assert_eq!(server_key(&[leaf.clone(), meta(&[2])]), key);
        assert_eq!(server_key(&[leaf.clone(), meta(&[2]), leaf.clone()]), key);
        assert_eq!(server_key(&[leaf]), None);
        assert_eq!(server_key(&[]), None);
    }

    #[test]
    fn the_serial_number_is_a_version_of_eight_bits_that_is_not_zero() {
        let key = Some(NodePublic::from_bytes(KEY));
        let table: [(&[u8], _); 5] = [
            (&[1], key),
            (&[2], key),
            (&[0, 0xff], key),
            (&[0], None),
            (&[1, 0], None),
        ];
        for (serial, expected) in table {
            assert_eq!(server_key(&[meta(serial)]), expected, "{serial:?}");
        }
        // One that is something else does not hide the one that is meant; a zero does.
        assert_eq!(server_key(&[meta(&[1, 0]), meta(&[2])]), key);
        assert_eq!(server_key(&[meta(&[0]), meta(&[2])]), None);
    }

    #[test]
    fn names_and_bytes_that_are_no_meta_certificate_are_passed_over() {
        let digits = NodePublic::from_bytes(KEY).to_hex();
        for name in [
            format!("derpkey{digits}0"),
            "derpkey".into(),
            digits,
            "derpkeyzz".into(),
        ] {
            assert_eq!(server_key(&[cert(&name, &[2])]), None, "{name}");
        }
        let garbage = CertificateDer::from(vec![0x30, 0x82, 0xff, 0xff]);
        let key = Some(NodePublic::from_bytes(KEY));
        assert_eq!(server_key(&[garbage, meta(&[2])]), key);
    }
}
