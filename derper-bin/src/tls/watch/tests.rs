use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};

use rcgen::{CertificateParams, KeyPair};

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + 20_780 * DAY
}

/// A certificate and its key, valid from `from` to `to` days after now.
fn pair_for(name: &str, from: i64, to: i64) -> (String, String) {
    let day = |days: i64| {
        let days_off = u32::try_from(days.unsigned_abs()).unwrap() * DAY;
        if days < 0 {
            now() - days_off
        } else {
            now() + days_off
        }
    };
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_before = day(from).into();
    params.not_after = day(to).into();
    let cert = params.self_signed(&key).unwrap();
    (cert.pem(), key.serialize_pem())
}

fn pair() -> (String, String) {
    pair_for("derp.example.com", -1, 90)
}

struct Fixture {
    dir: tempfile::TempDir,
    watched: Watched,
}

impl Fixture {
    /// A pair that is served, and looked at once.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut fixture = Self {
            watched: Watched::new(&Pair {
                files: CertFiles {
                    cert: dir.path().join("live/c.crt"),
                    key: dir.path().join("live/c.key"),
                },
                rule: NameRule::Host("derp.example.com".parse().unwrap()),
                loaded: None,
            }),
            dir,
        };
        fs::create_dir(fixture.dir.path().join("live")).unwrap();
        fixture.write(&pair());
        assert_eq!(fixture.look(), "new");
        fixture
    }

    fn write(&self, (cert, key): &(String, String)) {
        self.write_cert(cert);
        self.write_key(key);
    }

    fn write_cert(&self, cert: &str) {
        fs::write(&self.watched.files.cert, cert).unwrap();
    }

    fn write_key(&self, key: &str) {
        fs::write(&self.watched.files.key, key).unwrap();
        fs::set_permissions(&self.watched.files.key, Permissions::from_mode(0o600)).unwrap();
    }

    fn look(&mut self) -> String {
        let dir = format!("{}/live/", self.dir.path().display());
        match self.watched.look(OpenMode::Refuse, now()) {
            Seen::Same => "same".to_owned(),
            Seen::New(new) => {
                assert!(!self.watched.is_bad());
                assert_eq!(self.watched.not_after(), Some(new.life.not_after));
                "new".to_owned()
            }
            Seen::Bad(err) => err.to_string().replace(&dir, ""),
        }
    }
}

#[test]
fn a_pair_is_taken_when_it_changes_and_not_before() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.look(), "same");
    fixture.write(&pair());
    assert_eq!(fixture.look(), "new");
    assert_eq!(fixture.look(), "same");
    // The same again, as a tool does that copies at each run.
    let same = fs::read_to_string(&fixture.watched.files.cert).unwrap();
    fixture.write_cert(&same);
    assert_eq!(fixture.look(), "same");
}

#[test]
fn half_of_a_new_pair_is_waited_for() {
    let mut fixture = Fixture::new();
    for _ in 0..3 {
        let (cert, key) = pair();
        fixture.write_cert(&cert[..cert.len() / 2]);
        assert_eq!(fixture.look(), "same");
        fixture.write_cert(&cert);
        assert_eq!(fixture.look(), "same");
        fixture.write_key(&key);
        assert_eq!(fixture.look(), "new");
        assert!(!fixture.watched.is_bad());
    }
}

#[test]
fn what_is_bad_is_told_once_and_the_old_one_stays() {
    let mut fixture = Fixture::new();
    let until = fixture.watched.not_after();
    fixture.write_cert(&pair().0);
    let told = "the private key in c.key does not belong to the first certificate in c.crt; the \
                relay's own certificate must come first";
    assert_eq!(fixture.look(), "same");
    assert_eq!(fixture.look(), told);
    for _ in 0..3 {
        assert_eq!(fixture.look(), "same");
    }
    assert!(fixture.watched.is_bad());
    // Other trouble is told as well.
    fixture.write_cert("");
    assert_eq!(fixture.look(), "same");
    assert_eq!(fixture.look(), "c.crt is empty");
    assert_eq!(fixture.watched.not_after(), until);
    fixture.write(&pair());
    assert_eq!(fixture.look(), "new");
}

#[test]
fn a_certificate_whose_time_is_not_now_does_not_replace_one_whose_time_is() {
    let mut fixture = Fixture::new();
    fixture.write(&pair_for("derp.example.com", -90, -1));
    assert_eq!(fixture.look(), "same");
    let told = fixture.look();
    assert!(
        told.starts_with("the certificate in c.crt expired on "),
        "{told}"
    );
    fixture.write(&pair_for("derp.example.com", 1, 90));
    assert_eq!(fixture.look(), "same");
    let told = fixture.look();
    assert!(
        told.starts_with("the certificate in c.crt is valid only from "),
        "{told}"
    );
    fixture.write(&pair_for("other.example.com", -1, 90));
    assert_eq!(fixture.look(), "same");
    assert_eq!(
        fixture.look(),
        "the certificate in c.crt is not for derp.example.com; it is for other.example.com"
    );
}

#[test]
fn files_that_are_gone_for_a_moment_are_no_trouble() {
    let mut fixture = Fixture::new();
    let (cert, key) = pair();
    fs::remove_file(&fixture.watched.files.cert).unwrap();
    assert_eq!(fixture.look(), "same");
    fs::remove_file(&fixture.watched.files.key).unwrap();
    assert_eq!(fixture.look(), "same");
    fixture.write_key(&key);
    assert_eq!(fixture.look(), "same");
    fixture.write_cert(&cert);
    assert_eq!(fixture.look(), "new");
}

/// As certbot: `live` holds links into `archive`, which are exchanged one after the other.
#[test]
fn links_that_are_exchanged_one_by_one_are_followed() {
    let mut fixture = Fixture::new();
    let archive = fixture.dir.path().join("archive");
    fs::create_dir(&archive).unwrap();
    for round in 1..=3 {
        let (cert, key) = pair();
        for (name, text) in [("crt", cert), ("key", key)] {
            let file = archive.join(format!("c{round}.{name}"));
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            let link = fixture.dir.path().join("live").join(format!("c.{name}"));
            fs::remove_file(&link).unwrap();
            symlink(&file, &link).unwrap();
            let expected = if name == "key" { "new" } else { "same" };
            assert_eq!(fixture.look(), expected, "{round} {name}");
        }
    }
}

/// As Kubernetes: the files are links to `..data/…`, and `..data` is a link that is exchanged.
#[test]
fn a_directory_that_is_exchanged_as_a_whole_is_followed() {
    let mut fixture = Fixture::new();
    let live = fixture.dir.path().join("live");
    for name in ["c.crt", "c.key"] {
        fs::remove_file(live.join(name)).unwrap();
        symlink(format!("..data/{name}"), live.join(name)).unwrap();
    }
    for round in 1..=3 {
        let (cert, key) = pair();
        let folder = live.join(format!("..{round}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("c.crt"), cert).unwrap();
        fs::write(folder.join("c.key"), key).unwrap();
        fs::set_permissions(folder.join("c.key"), Permissions::from_mode(0o600)).unwrap();
        symlink(format!("..{round}"), live.join("..data_tmp")).unwrap();
        fs::rename(live.join("..data_tmp"), live.join("..data")).unwrap();
        assert_eq!(fixture.look(), "new", "{round}");
        assert_eq!(fixture.look(), "same", "{round}");
    }
}

#[test]
fn a_mode_that_is_mended_is_noticed() {
    let mut fixture = Fixture::new();
    fixture.write(&pair());
    fs::set_permissions(&fixture.watched.files.key, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(fixture.look(), "same");
    let told = fixture.look();
    assert!(told.contains("others than its owner may read it"), "{told}");
    fs::set_permissions(&fixture.watched.files.key, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fixture.look(), "new");
}
