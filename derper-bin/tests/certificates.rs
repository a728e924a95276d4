//! Certificates from files and of the relay's own making: what is served, and what an operator
//! hears of the rest.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use derp_ops::secret_file::OpenMode;
use derp_server::tls::SniPolicy;
use derper::host::Host;
use derper::tls::load::{CertError, load};
use derper::tls::self_signed::{self, ONE_YEAR};
use derper::tls::{CertFiles, Certificates, NameRule};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;

/// 2026-11-22, and a day.
const NOW: Duration = Duration::from_secs(1_795_305_600);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + NOW
}

/// A directory with a certificate and a key for `derp.example.com`, which tests then break.
struct Fixture {
    dir: tempfile::TempDir,
    files: CertFiles,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let host: Host = "derp.example.com".parse().expect("a host");
        let files = CertFiles::in_dir(dir.path(), &host);
        let (cert, key) = pair(change);
        let fixture = Self { dir, files };
        fixture.write_cert(&cert);
        fixture.write_key(&key);
        fixture
    }

    fn write_cert(&self, text: impl AsRef<[u8]>) {
        fs::write(&self.files.cert, text).expect("a certificate");
    }

    fn write_key(&self, text: impl AsRef<[u8]>) {
        fs::write(&self.files.key, text).expect("a key");
        fs::set_permissions(&self.files.key, fs::Permissions::from_mode(0o600)).expect("a mode");
    }

    fn load(&self) -> Result<Certificates, CertError> {
        self.load_for("derp.example.com")
    }

    fn load_for(&self, host: &str) -> Result<Certificates, CertError> {
        let host = host.parse().expect("a host");
        let provider = aws_lc_rs::default_provider();
        load(&self.files, Some(&host), OpenMode::Refuse, now(), &provider)
    }

    /// A message with the directory left out.
    fn told(&self, text: impl ToString) -> String {
        text.to_string()
            .replace(&format!("{}/", self.dir.path().display()), "")
    }
}

/// A certificate and its key for `derp.example.com`, valid for a day either way.
fn pair(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let names = ["derp.example.com".to_owned(), "192.0.2.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("names");
    params.not_before = (now() - DAY).into();
    params.not_after = (now() + DAY).into();
    change(&mut params);
    let cert = params.self_signed(&key).expect("a certificate");
    (cert.pem(), key.serialize_pem())
}

#[test]
fn a_good_pair_is_served_without_a_word() {
    let fixture = Fixture::new();
    let loaded = fixture.load().unwrap();
    assert_eq!(loaded.chain.len(), 1);
    assert_eq!(loaded.life.not_after, now() + DAY);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    assert!(fixture.load_for("192.0.2.1").is_ok());
    assert!(fixture.load_for("DERP.example.com.").is_ok());
}

#[test]
fn a_wildcard_covers_one_level() {
    let fixture = Fixture::with(|params| {
        params.subject_alt_names = CertificateParams::new(["*.example.com".to_owned()])
            .unwrap()
            .subject_alt_names;
    });
    assert!(fixture.load().is_ok());
    assert_eq!(
        fixture.told(fixture.load_for("a.b.example.com").unwrap_err()),
        "the certificate in derp.example.com.crt is not for a.b.example.com; it is for \
         *.example.com"
    );
}

#[test]
fn each_broken_file_has_its_own_message() {
    let (other_cert, other_key) = pair(|_| {});
    let half = |pem: &str| pem.replace("\n-----END", "AAAA*\n-----END");
    type Break<'a> = Box<dyn Fn(&Fixture) + 'a>;
    let cases: Vec<(Break<'_>, &str)> = vec![
        (
            Box::new(|f| fs::remove_file(&f.files.key).unwrap()),
            "derp.example.com.key does not exist, though derp.example.com.crt does; put the \
             certificate's private key (PEM) there",
        ),
        (
            Box::new(|f| fs::remove_file(&f.files.cert).unwrap()),
            "derp.example.com.crt does not exist, though derp.example.com.key does; put the \
             certificate chain (PEM) there",
        ),
        (
            Box::new(|f| {
                fs::remove_file(&f.files.cert).unwrap();
                fs::remove_file(&f.files.key).unwrap();
            }),
            "derp.example.com.crt does not exist; put the certificate chain (PEM) there",
        ),
        (
            Box::new(|f| {
                fs::remove_file(&f.files.cert).unwrap();
                fs::create_dir(&f.files.cert).unwrap();
            }),
            "derp.example.com.crt is a directory, not a file",
        ),
        (
            Box::new(|f| {
                fs::remove_file(&f.files.key).unwrap();
                fs::create_dir(&f.files.key).unwrap();
            }),
            "derp.example.com.key is a directory, not a file",
        ),
        (
            Box::new(|f| f.write_cert("")),
            "derp.example.com.crt is empty",
        ),
        (
            Box::new(|f| f.write_key(" \n")),
            "derp.example.com.key is empty",
        ),
        (
            Box::new(|f| f.write_cert(&other_key)),
            "derp.example.com.crt holds a private key and no certificate; are certificate and key \
             swapped?",
        ),
        (
            Box::new(|f| f.write_key(&other_cert)),
            "derp.example.com.key holds a certificate and no private key; are certificate and key \
             swapped?",
        ),
        (
            Box::new(|f| f.write_cert([0x30, 0x82, 0x01, 0x00, 0xff])),
            "derp.example.com.crt holds no certificate; a PEM file with a line \"-----BEGIN \
             …-----\" is wanted",
        ),
        (
            Box::new(|f| f.write_key([0x30, 0x82, 0x01, 0x00, 0xff])),
            "derp.example.com.key holds no private key; a PEM file with a line \"-----BEGIN \
             …-----\" is wanted",
        ),
        (
            Box::new(|f| f.write_cert(half(&other_cert))),
            "derp.example.com.crt is broken: its PEM blocks cannot be read",
        ),
        (
            Box::new(|f| f.write_key(half(&other_key))),
            "derp.example.com.key is broken: its PEM blocks cannot be read",
        ),
        (
            Box::new(|f| {
                let good = fs::read_to_string(&f.files.cert).unwrap();
                let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
                f.write_cert(good + bad);
            }),
            "certificate 2 in derp.example.com.crt is broken",
        ),
        (
            Box::new(|f| {
                f.write_key(
                    "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE \
                     KEY-----\n",
                );
            }),
            "derp.example.com.key is protected by a password, which the relay cannot type; take \
             it off with: openssl pkey -in KEY -out NEW",
        ),
        (
            Box::new(|f| {
                f.write_key(
                    "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: \
                     AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n",
                );
            }),
            "derp.example.com.key is protected by a password, which the relay cannot type; take \
             it off with: openssl pkey -in KEY -out NEW",
        ),
        (
            Box::new(|f| {
                f.write_key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
            }),
            "the private key in derp.example.com.key cannot be used; RSA, ECDSA (P-256, P-384, \
             P-521) and Ed25519 can",
        ),
        (
            Box::new(|f| f.write_key(&other_key)),
            "the private key in derp.example.com.key does not belong to the first certificate in \
             derp.example.com.crt; the relay's own certificate must come first",
        ),
        (
            Box::new(|f| {
                let own = fs::read_to_string(&f.files.cert).unwrap();
                f.write_cert(other_cert.clone() + &own);
            }),
            "the private key in derp.example.com.key does not belong to the first certificate in \
             derp.example.com.crt; the relay's own certificate must come first",
        ),
        (
            Box::new(|f| {
                fs::set_permissions(&f.files.key, fs::Permissions::from_mode(0o644)).unwrap();
            }),
            "derp.example.com.key holds a secret and others than its owner may read it (mode \
             0644); run: chmod 600 derp.example.com.key",
        ),
    ];
    for (number, (break_it, message)) in (1..).zip(cases) {
        let fixture = Fixture::new();
        break_it(&fixture);
        let err = fixture.load().expect_err(message);
        assert_eq!(fixture.told(err), message, "case {number}");
    }
}

#[test]
fn a_certificate_for_others_says_for_whom() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.told(fixture.load_for("relay.example.org").unwrap_err()),
        "the certificate in derp.example.com.crt is not for relay.example.org; it is for \
         derp.example.com, 192.0.2.1"
    );
    assert_eq!(
        fixture.told(fixture.load_for("192.0.2.2").unwrap_err()),
        "the certificate in derp.example.com.crt is not for 192.0.2.2; it is for \
         derp.example.com, 192.0.2.1"
    );
    // A common name alone has not counted for years.
    let fixture = Fixture::with(|params| {
        params.subject_alt_names.clear();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "derp.example.com");
    });
    assert_eq!(
        fixture.told(fixture.load().unwrap_err()),
        "the certificate in derp.example.com.crt is not for derp.example.com; it is for no host \
         at all (it has no subject alternative name)"
    );
}

#[test]
fn wrong_dates_are_warnings() {
    let expired = Fixture::with(|params| {
        params.not_before = (now() - 9 * DAY).into();
        params.not_after = (now() - 2 * DAY).into();
    });
    let warnings = expired.load().unwrap().warnings;
    assert_eq!(
        warnings
            .iter()
            .map(|text| expired.told(text))
            .collect::<Vec<_>>(),
        [
            "the certificate in derp.example.com.crt expired on 2026-11-20; clients refuse it; put a \
         new one there"
        ]
    );
    let early = Fixture::with(|params| params.not_before = (now() + DAY).into());
    let warnings = early.load().unwrap().warnings;
    assert_eq!(
        warnings
            .iter()
            .map(|text| early.told(text))
            .collect::<Vec<_>>(),
        [
            "the certificate in derp.example.com.crt is valid only from 2026-11-23; clients refuse it \
         until then; check this machine's clock"
        ]
    );
}

#[test]
fn a_key_that_go_would_not_look_at_is_a_warning() {
    let fixture = Fixture::new();
    fs::set_permissions(&fixture.files.key, fs::Permissions::from_mode(0o640)).unwrap();
    let provider = aws_lc_rs::default_provider();
    let loaded = load(&fixture.files, None, OpenMode::Warn, now(), &provider).unwrap();
    assert_eq!(
        fixture.told(loaded.too_open.unwrap()),
        "derp.example.com.key holds a secret and others than its owner may read it (mode 0640); \
         run: chmod 600 derp.example.com.key"
    );
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn keys_of_every_common_kind_and_form_are_read() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ] {
        let fixture = Fixture::new();
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(["derp.example.com".to_owned()]).unwrap();
        fixture.write_cert(params.self_signed(&key).unwrap().pem());
        fixture.write_key(key.serialize_pem());
        assert!(fixture.load().is_ok(), "{algorithm:?}");
    }
}

#[test]
fn only_a_lone_certificate_can_be_pinned() {
    let fixture = Fixture::new();
    let lone = fixture.load().unwrap();
    let pin = lone.pin().unwrap();
    let digits = pin.strip_prefix("sha256-raw:").unwrap();
    assert_eq!(digits.len(), 64);
    assert!(
        digits
            .bytes()
            .all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
    );

    let root_key = KeyPair::generate().unwrap();
    let root = CertificateParams::new(Vec::new()).unwrap();
    let root_cert = root.self_signed(&root_key).unwrap();
    let issuer = Issuer::new(root, root_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(["derp.example.com".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    fixture.write_cert(leaf.pem() + &root_cert.pem());
    fixture.write_key(key.serialize_pem());
    let chain = fixture.load().unwrap();
    assert_eq!((chain.chain.len(), chain.pin()), (2, None));
}

fn make(host: &str, dir: &std::path::Path) -> (Host, CertFiles) {
    let host: Host = host.parse().expect("as tests make them");
    let files = CertFiles::in_dir(dir, &host);
    self_signed::create(&files, &host, now(), ONE_YEAR, [0xff; 16]).expect("as tests make them");
    (host, files)
}

fn mode(path: &PathBuf) -> u32 {
    fs::metadata(path)
        .expect("as tests make them")
        .permissions()
        .mode()
        & 0o7777
}

#[test]
fn a_self_made_certificate_is_what_the_reference_makes() {
    let dir = tempfile::tempdir().unwrap();
    let made_dir = dir.path().join("certs");
    for (text, stem) in [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001db81"),
        ("derp.example.com", "derp.example.com"),
    ] {
        let (host, files) = make(text, &made_dir);
        assert_eq!(files.cert, made_dir.join(format!("{stem}.crt")));
        assert_eq!((mode(&files.cert), mode(&files.key)), (0o644, 0o600));
        assert_eq!(mode(&made_dir), 0o700);
        let provider = aws_lc_rs::default_provider();
        let loaded = load(&files, Some(&host), OpenMode::Refuse, now(), &provider).unwrap();
        assert_eq!(loaded.warnings, Vec::<String>::new());
        assert_eq!(loaded.life.not_after, now() + ONE_YEAR);
        assert!(loaded.pin().is_some());

        let (_, cert) = x509_parser::parse_x509_certificate(&loaded.chain[0]).unwrap();
        assert_eq!(cert.subject().to_string(), format!("CN={text}"));
        assert_eq!(cert.raw_serial(), {
            let mut serial = [0xff; 16];
            serial[0] = 0x7f;
            serial
        });
        let constraints = cert.basic_constraints().unwrap().unwrap().value;
        assert!(!constraints.ca);
        let usage = cert.key_usage().unwrap().unwrap().value;
        assert_eq!(usage.to_string(), "Digital Signature, Key Encipherment");
        let extended = cert.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.server_auth && !extended.client_auth && !extended.any);
        assert_eq!(
            cert.subject_alternative_name()
                .unwrap()
                .unwrap()
                .value
                .general_names
                .len(),
            1
        );
    }
}

#[test]
fn a_self_made_certificate_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (host, files) = make("192.0.2.1", dir.path());
    let before = fs::read(&files.cert).unwrap();
    let again = self_signed::create(&files, &host, now(), ONE_YEAR, [1; 16]).unwrap_err();
    assert_eq!(
        again.to_string(),
        format!(
            "cannot write {}; make the directory writable, or name another",
            files.key.display()
        )
    );
    assert_eq!(fs::read(&files.cert).unwrap(), before);
}

#[test]
fn a_name_is_served_to_those_who_ask_for_it_and_an_address_to_all() {
    let fixture = Fixture::new();
    let loaded = fixture.load().unwrap();
    let names = |host: &str| {
        loaded
            .served(&NameRule::Host(host.parse().unwrap()))
            .unwrap()
            .names
    };
    assert_eq!(
        names("derp.example.com."),
        SniPolicy::Exact("derp.example.com".to_owned())
    );
    assert_eq!(names("192.0.2.1"), SniPolicy::Any);
}
