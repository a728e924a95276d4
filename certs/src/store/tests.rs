use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::DnsName;

use super::*;

fn name(name: &str) -> Subject {
    Subject::Name(DnsName::try_from(name.to_owned()).unwrap())
}

fn issued(host: &str) -> Issued {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([host.to_owned()]).unwrap();
    Issued {
        chain: params.self_signed(&key).unwrap().pem(),
        key: Zeroizing::new(key.serialize_pem()),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn leaf(held: &Held) -> Vec<u8> {
    held.leaf().to_vec()
}

#[test]
fn what_is_kept_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("a/b");
    let store = Store::open(&dir).unwrap();
    assert_eq!(mode(&dir), 0o700);
    for (subject, host, files) in [
        (
            name("Derp.example.com"),
            "derp.example.com",
            vec!["derp.example.com"],
        ),
        (
            Subject::Ip("2001:db8::1".parse().unwrap()),
            "2001:db8::1",
            vec!["2001.db8..1.crt", "2001.db8..1.key"],
        ),
    ] {
        assert!(store.load(&subject).unwrap().is_none());
        for _ in 0..2 {
            let new = issued(host);
            store.save(&subject, &new).unwrap();
            let held = store.load(&subject).unwrap().unwrap();
            let expected = Held::from_pem(new.chain.as_bytes(), new.key.as_bytes(), &subject);
            assert_eq!(leaf(&held), leaf(&expected.unwrap()));
        }
        let key = dir.join(files[files.len() - 1]);
        assert_eq!(mode(&key), 0o600, "{}", key.display());
    }
    let left: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".new-"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn what_is_broken_or_for_others_is_of_no_use() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let subject = name("derp.example.com");
    let path = store.certificate_file(&subject);
    let told = || store.load(&subject).unwrap_err().to_string();
    let expected = format!("{} is of no use and will be replaced", path.display());
    for text in ["", "nonsense", &*issued("other.example.com").chain] {
        fs::write(&path, text).unwrap();
        assert_eq!(told(), expected, "{text}");
    }
    let (one, other) = (issued("derp.example.com"), issued("derp.example.com"));
    fs::write(&path, format!("{}{}", *one.key, other.chain)).unwrap();
    assert_eq!(told(), expected);
    store.save(&subject, &issued("other.example.com")).unwrap();
    assert_eq!(told(), expected);

    // Between the two files of an address there may be a power cut.
    let ip = Subject::Ip("192.0.2.1".parse().unwrap());
    store.save(&ip, &issued("192.0.2.1")).unwrap();
    fs::remove_file(dir.path().join("192.0.2.1.key")).unwrap();
    assert!(store.load(&ip).unwrap().is_none());
}

/// An account's key as the reference writes it, in the format of RFC 5915. It is nobody's.
const KEY_OF_THE_REFERENCE: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEINFJkb22jaB1EA80m/yeVm5DsgXIhPdWLR/2kmA1ViXsoAoGCCqGSM49
AwEHoUQDQgAEm/daHVihOC5pOiygnqK131IgyqKq3h5WybdGaBapF4K8HkT3/XCx
yUxzk5g26HuloNuB8bwZ4oCQbNDkESz4Fg==
-----END EC PRIVATE KEY-----
";
/// The same kind of file, with a key of a kind that accounts here do not have.
const KEY_ON_ANOTHER_CURVE: &str = "-----BEGIN EC PRIVATE KEY-----
MIGkAgEBBDDaqOPAQjXpF5oL60IWUK796kNrK3Q1d1k5wV2MKLGWCL7Hot3xJp3t
+OLryPKGMzCgBwYFK4EEACKhZANiAATOCcpteXsI2iJzkrzptfsd2jR/vTMPA7WZ
KiHn8pRf2ejrSQwAzqgaf5N2vymUdA/lBVkYJW8ZjAAUPbBVnQ1C/9Ot6gHJvMjf
LcFUaAauX8A5G8kZ8in5ZfKeSg7qdZs=
-----END EC PRIVATE KEY-----
";

/// A relay that changes programs keeps its account, whichever way it changes.
#[test]
fn the_account_of_the_reference_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.account_key().unwrap(), None);
    let file = dir.path().join("acme_account+key");
    fs::write(&file, KEY_OF_THE_REFERENCE).unwrap();
    let key = store.account_key().unwrap().unwrap();

    store.save_account_key(&key).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), KEY_OF_THE_REFERENCE);
    assert_eq!(mode(&file), 0o600);
    assert!(dir.path().join("acme_account+key.old").exists());

    for text in [KEY_ON_ANOTHER_CURVE, "", "nonsense"] {
        fs::write(&file, text).unwrap();
        assert!(matches!(
            store.account_key(),
            Err(StoreError::AccountKey(_))
        ));
    }
}

#[test]
fn a_pause_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let subject = name("derp.example.com");
    assert_eq!(store.pause(&subject), None);
    let pause = Pause {
        failures: 7,
        until: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    };
    store.set_pause(&subject, Some(pause));
    let again = Store::open(dir.path()).unwrap();
    assert_eq!(again.pause(&subject), Some(pause));
    assert_eq!(again.pause(&name("other.example.com")), None);
    again.set_pause(&subject, None);
    again.set_pause(&subject, None);
    assert_eq!(store.pause(&subject), None);
    fs::write(dir.path().join("derp.example.com.acme-pause"), "{").unwrap();
    assert_eq!(store.pause(&subject), None);
}

#[test]
fn a_directory_that_cannot_be_written_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let told = Store::open(&file.join("certs")).unwrap_err().to_string();
    let end = "make the directory writable for the relay's user, or name another";
    assert_eq!(
        told,
        format!("cannot write {}/certs; {end}", file.display())
    );
}
