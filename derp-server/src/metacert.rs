//! The certificate that tells clients the relay's key during the TLS handshake.
//!
//! It stands last in the chain, is no link of it, and is never verified: a client of TLS 1.3
//! reads the relay's public key from its name and the protocol version from its serial number,
//! and saves the round trip of asking for them (`derp/derpserver/derpserver.go`, `initMetacert`).

use std::time::{Duration, SystemTime};

use derp_proto::NodePublic;
use derp_proto::http::META_CERT_NAME_PREFIX;
use rcgen::string::PrintableString;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue, IsCa, KeyPair,
    PKCS_ED25519,
};
use rustls_pki_types::CertificateDer;

/// How long before and after the time it is made a meta certificate is valid.
const VALIDITY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How old a meta certificate may get. Clients do not look at its dates, but whoever checks a
/// chain for certificates that expire does.
const MAX_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The object identifier of Basic Constraints (RFC 5280, 4.2.1.9).
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];

/// An empty sequence: in DER, `cA` is left out where it is false.
const NOT_A_CA: &[u8] = &[0x30, 0x00];

/// A meta certificate, and when it was made.
#[derive(Debug, Clone)]
pub(crate) struct MetaCert {
    der: CertificateDer<'static>,
    made_at: SystemTime,
}

impl MetaCert {
    /// Signs a certificate for `server_key` with a key that nobody keeps.
    ///
    /// # Errors
    /// Where the cipher provider fails, which it has no reason to.
    pub(crate) fn new(server_key: &NodePublic, now: SystemTime) -> Result<Self, rcgen::Error> {
        let name = format!("{META_CERT_NAME_PREFIX}{}", server_key.to_hex());
        let mut subject = DistinguishedName::new();
        let name = PrintableString::try_from(name)?;
        subject.push(DnType::CommonName, DnValue::PrintableString(name));

        // Go's tools take a certificate with neither of the key identifiers for self-signed and
        // look no further. So Basic Constraints are the only extension, and rcgen, which adds an
        // identifier where it writes them itself, must not know of them.
        let mut basic_constraints =
            CustomExtension::from_oid_content(BASIC_CONSTRAINTS, NOT_A_CA.to_vec());
        basic_constraints.set_criticality(true);

        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        params.serial_number = Some(u64::from(derp_proto::PROTOCOL_VERSION).into());
        params.not_before = (now - VALIDITY).into();
        params.not_after = (now + VALIDITY).into();
        params.is_ca = IsCa::NoCa;
        params.custom_extensions = vec![basic_constraints];

        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            der: certificate.der().clone(),
            made_at: now,
        })
    }

    pub(crate) const fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Whether it is time for another one.
    pub(crate) fn is_old(&self, now: SystemTime) -> bool {
        // A clock that went back by more than its validity makes it as useless as age does.
        match now.duration_since(self.made_at) {
            Ok(age) => age >= MAX_AGE,
            Err(ahead) => ahead.duration() >= MAX_AGE,
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    use x509_parser::parse_x509_certificate;
    use x509_parser::prelude::{BasicConstraints, ParsedExtension, X509Version};

    use super::*;

    const NOW: Duration = Duration::from_secs(1_800_000_000);
    const DAY: i64 = 24 * 60 * 60;

    #[test]
    fn the_certificate_has_the_form_that_go_clients_and_tools_expect() {
        let key = NodePublic::from_bytes([0xab; 32]);
        let meta = MetaCert::new(&key, SystemTime::UNIX_EPOCH + NOW).unwrap();
        let (rest, cert) = parse_x509_certificate(meta.der()).unwrap();
        assert!(rest.is_empty());

        assert_eq!(cert.version(), X509Version::V3);
        assert_eq!(cert.raw_serial(), [2]);
        let name = format!("CN=derpkey{}", "ab".repeat(32));
        assert_eq!(cert.subject().to_string(), name);
        assert_eq!(cert.issuer().to_string(), name);
        let now = i64::try_from(NOW.as_secs()).unwrap();
        assert_eq!(cert.validity().not_before.timestamp(), now - 30 * DAY);
        assert_eq!(cert.validity().not_after.timestamp(), now + 30 * DAY);

        let [extension] = cert.extensions() else {
            panic!("extensions: {:?}", cert.extensions());
        };
        assert_eq!(extension.oid.to_id_string(), "2.5.29.19");
        assert!(extension.critical);
        let constraints = BasicConstraints {
            ca: false,
            path_len_constraint: None,
        };
        assert_eq!(
            extension.parsed_extension(),
            &ParsedExtension::BasicConstraints(constraints)
        );
    }

    #[test]
    fn the_certificate_is_signed_by_its_own_ed25519_key() {
        let key = NodePublic::from_bytes([7; 32]);
        let meta = MetaCert::new(&key, SystemTime::UNIX_EPOCH + NOW).unwrap();
        let (_, cert) = parse_x509_certificate(meta.der()).unwrap();
        assert_eq!(
            cert.signature_algorithm.algorithm.to_id_string(),
            "1.3.101.112"
        );
        let own_key = UnparsedPublicKey::new(&ED25519, &cert.public_key().subject_public_key.data);
        own_key
            .verify(cert.tbs_certificate.as_ref(), &cert.signature_value.data)
            .expect("self-signed");
    }

    #[test]
    fn a_certificate_grows_old_in_a_week() {
        let made_at = SystemTime::UNIX_EPOCH + NOW;
        let meta = MetaCert::new(&NodePublic::from_bytes([7; 32]), made_at).unwrap();
        let second = Duration::from_secs(1);
        assert!(!meta.is_old(made_at));
        assert!(!meta.is_old(made_at + MAX_AGE - second));
        assert!(meta.is_old(made_at + MAX_AGE));
        assert!(meta.is_old(made_at - MAX_AGE));
    }
}
