//! Certificates for tests: an authority, what it signs and takes back, and what signs itself.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevocationReason, RevokedCertParams, SerialNumber,
};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// An authority, and certificates that it signed.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    cert: rcgen::Certificate,
}

/// A certificate with its key.
pub(crate) struct Identity {
    pub(crate) cert: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Authority {
    pub(crate) fn new(organization: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert = params.self_signed(&key).expect("a certificate");
        Self {
            issuer: Issuer::new(params, key),
            cert,
        }
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert.der().clone()).expect("a root");
        roots
    }

    /// Its own certificate, as systems keep their roots.
    pub(crate) fn pem(&self) -> String {
        self.cert.pem()
    }

    /// A certificate for this host name or address, after a change.
    pub(crate) fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let (params, key) = of_server(name, change);
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        identity(&cert, &key)
    }

    /// A list of the certificates that it has taken back, by serial number.
    pub(crate) fn revoke(&self, serials: &[u64], at: SystemTime) -> Vec<u8> {
        let revoked = |&serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: at.into(),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: at.into(),
            next_update: (at + Duration::from_secs(86_400)).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("a list").der().to_vec()
    }
}

/// A certificate for this host name or address that nobody but itself vouches for.
pub(crate) fn self_signed(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
    let (params, key) = of_server(name, change);
    let cert = params.self_signed(&key).expect("a certificate");
    identity(&cert, &key)
}

/// A change that makes a certificate valid between these Unix times, in seconds.
pub(crate) fn valid(from: u64, until: u64) -> impl Fn(&mut CertificateParams) {
    move |params| {
        params.not_before = unix(from).into();
        params.not_after = unix(until).into();
    }
}

/// A change that makes a certificate name a revocation list, and gives it a serial number.
pub(crate) fn listed(url: &str, serial: u64) -> impl Fn(&mut CertificateParams) {
    move |params| {
        params.serial_number = Some(SerialNumber::from(serial));
        params.crl_distribution_points = vec![CrlDistributionPoint {
            uris: vec![url.to_owned()],
        }];
    }
}

/// A point in time.
pub(crate) fn unix(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn of_server(
    name: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> (CertificateParams, KeyPair) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    change(&mut params);
    (params, KeyPair::generate().expect("a key"))
}

fn identity(cert: &rcgen::Certificate, key: &KeyPair) -> Identity {
    Identity {
        cert: cert.der().clone(),
        key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    }
}
