use std::process::Command;

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

/// A relay that changes programs keeps account and certificate, whichever way it changes. The
/// reference writes keys in the format of RFC 5915, which OpenSSL writes too.
#[test]
fn the_files_of_the_reference_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let file = dir.path().join("acme_account+key");
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").args(arguments.split(' ')).output();
        let output = output.expect("openssl, which the tests of other crates need too");
        assert!(output.status.success(), "{arguments}");
        output.stdout
    };
    fs::write(&file, openssl("ecparam -name prime256v1 -genkey -noout")).unwrap();
    let begins = |path: &Path| {
        fs::read_to_string(path)
            .unwrap()
            .lines()
            .next()
            .map(str::to_owned)
    };
    assert_eq!(begins(&file).unwrap(), "-----BEGIN EC PRIVATE KEY-----");
    let key = store.account_key().unwrap().unwrap();

    store.save_account_key(&key).unwrap();
    assert_eq!(begins(&file).unwrap(), "-----BEGIN EC PRIVATE KEY-----");
    assert_eq!(mode(&file), 0o600);
    assert!(dir.path().join("acme_account+key.old").exists());
    assert_eq!(store.account_key().unwrap().unwrap(), key);
    openssl(&format!("ec -in {} -noout -check", file.display()));

    fs::write(&file, openssl("ecparam -name secp384r1 -genkey -noout")).unwrap();
    assert!(matches!(
        store.account_key(),
        Err(StoreError::AccountKey(_))
    ));
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
