//! A certificate that the relay makes and signs itself, for relays without a domain.
//!
//! No authority vouches for it: clients know it by its hash, which the DERP map carries
//! ([`Certificates::pin`](super::Certificates::pin)). So it is made once and kept, and lasts long:
//! with a new one every client would need a new map.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use derp_ops::keyfile;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use thiserror::Error;

use super::CertFiles;
use crate::host::Host;

/// How long the reference's self-made certificates last.
pub const ONE_YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How long ours last: nobody renews them, and clients refuse an expired one even by its hash.
pub const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A certificate that could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SelfSignError {
    /// The library refused.
    #[error("cannot make a certificate for {0}")]
    Certificate(Host, #[source] rcgen::Error),
    /// No file could be written.
    #[error("cannot write {0}; make the directory writable, or name another")]
    Write(PathBuf, #[source] io::Error),
}

/// Makes a key and a certificate for `host`, valid from an hour before `now` (clocks differ), and
/// writes both files, the key readable for its owner only. `serial` is random.
///
/// # Errors
/// A file could not be written, or is there already.
pub fn create(
    files: &CertFiles,
    host: &Host,
    now: SystemTime,
    lifetime: Duration,
    serial: [u8; 16],
) -> Result<(), SelfSignError> {
    let (cert, key) = make(host, now, lifetime, serial)
        .map_err(|err| SelfSignError::Certificate(host.clone(), err))?;
    let failed = |path: &PathBuf| {
        let path = path.clone();
        |err| SelfSignError::Write(path, err)
    };
    // The key first: a certificate without its key would have to be cleared away by hand.
    keyfile::write_new(&files.key, key.as_bytes()).map_err(failed(&files.key))?;
    keyfile::write_new_public(&files.cert, cert.as_bytes()).map_err(failed(&files.cert))
}

/// Certificate and key as PEM, with the fields that `cmd/derper/cert.go` sets.
fn make(
    host: &Host,
    now: SystemTime,
    lifetime: Duration,
    mut serial: [u8; 16],
) -> Result<(String, zeroize::Zeroizing<String>), rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    // A number with the top bit set would be negative.
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    let name = host.to_string();
    params
        .distinguished_name
        .push(DnType::CommonName, name.trim_end_matches('.'));
    params.subject_alt_names = vec![match host {
        Host::Ip(ip) => SanType::IpAddress(*ip),
        Host::Name(name) => SanType::DnsName(name.trim_end_matches('.').try_into()?),
    }];
    params.not_before = (now - Duration::from_secs(60 * 60)).into();
    params.not_after = (now + lifetime).into();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let cert = params.self_signed(&key)?;
    Ok((cert.pem(), zeroize::Zeroizing::new(key.serialize_pem())))
}
