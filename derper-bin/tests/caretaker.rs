//! Certificates in files, looked after while the relay runs: by a watchful eye, by SIGHUP, and by
//! a command of the operator's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use derp_ops::secret_file::OpenMode;
use derp_proto::NodePublic;
use derp_server::tls::SniPolicy;
use derper::clock;
use derper::config::{Config, Surroundings, Tls};
use derper::env::Vars;
use derper::gather::gather;
use derper::tls::challenges::Challenges;
use derper::tls::hook::Hook;
use derper::tls::load::load;
use derper::tls::numbers::CertNumbers;
use derper::tls::{Caretaker, CertFiles, Files, NameRule, Pair};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const HOST: &str = "derp.example.com";

/// Writes a new certificate and its key, valid from a day ago for `days` from now.
fn write(dir: &Path, stem: &str, names: &[&str], days: u32) -> CertFiles {
    let files = CertFiles {
        cert: dir.join(format!("{stem}.crt")),
        key: dir.join(format!("{stem}.key")),
    };
    let key = KeyPair::generate().expect("a key");
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.not_before = (clock::wall() - 2 * DAY).into();
    params.not_after = (clock::wall() - DAY + days * DAY).into();
    let cert = params.self_signed(&key).expect("a certificate");
    fs::write(&files.key, key.serialize_pem()).expect("a file");
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).expect("a mode");
    fs::write(&files.cert, cert.pem()).expect("a file");
    files
}

fn config(dir: &Path, file: &str) -> Result<Config, String> {
    let path = dir.join("derper.toml");
    let head = format!("hostname = {HOST:?}\nstate_dir = {:?}\n", dir.join("state"));
    fs::write(&path, head + file).expect("a file");
    let words = ["--config".to_owned(), path.display().to_string()];
    let args = derper::args::Args::parse(words, &Vars::new()).expect("good flags");
    let surroundings = Surroundings {
        vars: Vars::new(),
        is_root: false,
        now: clock::wall(),
        memory_limit: None,
        file_limit: None,
    };
    Config::build(gather(args, &Vars::new()), &surroundings).map_err(|err| err.to_string())
}

fn caretaker(tls: Tls) -> (Arc<Caretaker>, Arc<CertNumbers>) {
    let numbers = Arc::new(CertNumbers::default());
    let host = HOST.parse().expect("a host");
    let key = NodePublic::from_bytes([7; 32]);
    let challenges = Arc::new(Challenges::default());
    let caretaker = Caretaker::new(
        tls,
        &host,
        key,
        &challenges,
        Arc::clone(&numbers),
        clock::wall(),
    );
    let caretaker = caretaker.expect("good files").expect("TLS");
    (Arc::new(caretaker), numbers)
}

/// The value of a metric.
fn metric(numbers: &CertNumbers, line: &str) -> u64 {
    let mut metrics = derp_ops::exposition::Exposition::new();
    numbers.expose(&mut metrics);
    let text = metrics.to_string();
    let value = text.lines().find_map(|found| found.strip_prefix(line));
    let value = value.unwrap_or_else(|| panic!("{line} is not in {text}"));
    value.trim().parse().expect("a number")
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

#[test]
fn what_changes_in_the_files_is_counted_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let files = write(dir.path(), "one", &[HOST], 30);
    let toml = format!(
        "tls = {{ mode = \"manual\", cert = {:?}, key = {:?} }}",
        files.cert, files.key
    );
    let (caretaker, numbers) = caretaker(config(dir.path(), &toml).unwrap().tls);
    let not_after = |numbers: &CertNumbers| metric(numbers, "derper_cert_not_after_seconds ");
    let soon = seconds(clock::wall() + 29 * DAY);
    assert!(not_after(&numbers).abs_diff(soon) < 60);
    caretaker.look(clock::wall());
    assert_eq!((numbers.reloads(), numbers.rejected()), (0, 0));

    write(dir.path(), "one", &[HOST], 90);
    caretaker.look(clock::wall());
    assert_eq!((numbers.reloads(), numbers.rejected()), (1, 0));
    let later = not_after(&numbers);
    assert!(later > soon + 50 * 86_400);

    for names in [&["other.example.com"][..], &[]] {
        write(dir.path(), "one", names, 120);
        for _ in 0..4 {
            caretaker.look(clock::wall());
        }
    }
    assert_eq!((numbers.reloads(), numbers.rejected()), (1, 2));
    assert_eq!(metric(&numbers, "derper_cert_files_bad "), 1);
    assert_eq!(not_after(&numbers), later);
    write(dir.path(), "one", &[HOST], 60);
    caretaker.look(clock::wall());
    assert_eq!(metric(&numbers, "derper_cert_files_bad "), 0);
    assert_eq!(numbers.reloads(), 2);

    // SIGHUP may name other files.
    let other = write(dir.path(), "two", &[HOST], 10);
    let toml = format!(
        "tls = {{ mode = \"manual\", cert = {:?}, key = {:?} }}",
        other.cert, other.key
    );
    let tls = config(dir.path(), &toml).unwrap().tls;
    caretaker.reload(&tls, clock::wall());
    assert!(not_after(&numbers) < soon);
}

#[test]
fn several_certificates_are_for_the_names_that_they_cover() {
    let dir = tempfile::tempdir().unwrap();
    let text = |files: &CertFiles| format!("{}:{}", files.cert.display(), files.key.display());
    let wild = text(&write(dir.path(), "wild", &["*.example.com"], 30));
    let other = text(&write(
        dir.path(),
        "other",
        &["relay.example.org", "192.0.2.1"],
        30,
    ));
    let toml = |list: &[&String]| format!("tls.mode = \"manual\"\ntls.certificates = {list:?}\n");
    let Tls::Files(files) = config(dir.path(), &toml(&[&wild, &other])).unwrap().tls else {
        panic!("not files")
    };
    let policies: Vec<_> = files
        .pairs
        .iter()
        .map(|pair| {
            let loaded = pair.loaded.as_ref().unwrap();
            loaded.served(&pair.rule).unwrap().names
        })
        .collect();
    let one_of = |name: &str| SniPolicy::OneOf {
        names: vec![name.to_owned()],
        or_none: true,
    };
    assert_eq!(
        policies,
        [one_of("*.example.com"), one_of("relay.example.org")]
    );
    let told = config(dir.path(), &toml(&[&other])).unwrap_err();
    let end = "none of the certificates is for derp.example.com, which clients ask for";
    assert!(told.ends_with(end), "{told}");
}

#[test]
fn with_our_file_a_certificate_out_of_date_is_a_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let files = write(dir.path(), "one", &[HOST], 0);
    let toml = format!(
        "tls = {{ mode = \"manual\", cert = {:?}, key = {:?} }}",
        files.cert, files.key
    );
    let told = config(dir.path(), &toml).unwrap_err();
    let (start, end) = (
        format!("the certificate in {} expired on ", files.cert.display()),
        "; clients refuse it; put a new one there",
    );
    assert!(told.contains(&start) && told.ends_with(end), "{told}");
}

/// Go's flags start with whatever the dates are, and would take such a certificate on SIGHUP too.
#[test]
fn a_reload_does_not_exchange_a_good_certificate_for_none_or_an_expired_one() {
    let dir = tempfile::tempdir().unwrap();
    let files = write(dir.path(), "one", &[HOST], 30);
    let provider = aws_lc_rs::default_provider();
    let pair = |is_there: bool| Pair {
        files: files.clone(),
        rule: NameRule::Host(HOST.parse().unwrap()),
        loaded: is_there
            .then(|| load(&files, None, OpenMode::Refuse, clock::wall(), &provider).unwrap()),
    };
    let tls = |is_there| {
        Tls::Files(Files {
            pairs: vec![pair(is_there)],
            on_open: OpenMode::Refuse,
            hook: None,
        })
    };
    let (caretaker, numbers) = caretaker(tls(true));
    let not_after = |numbers: &CertNumbers| metric(numbers, "derper_cert_not_after_seconds ");
    let good = not_after(&numbers);
    caretaker.reload(&tls(false), clock::wall());
    assert_eq!(not_after(&numbers), good);
    write(dir.path(), "one", &[HOST], 0);
    caretaker.reload(&tls(true), clock::wall());
    assert_eq!(not_after(&numbers), good);
    write(dir.path(), "one", &[HOST], 5);
    caretaker.reload(&tls(true), clock::wall());
    assert_ne!(not_after(&numbers), good);
}

#[test]
fn a_new_host_name_waits_for_a_restart_and_so_does_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let tls = |host: &str, days| {
        let files = write(dir.path(), host, &[host], days);
        let provider = aws_lc_rs::default_provider();
        let loaded = load(&files, None, OpenMode::Refuse, clock::wall(), &provider);
        let pair = Pair {
            files,
            rule: NameRule::Host(host.parse().unwrap()),
            loaded: Some(loaded.unwrap()),
        };
        Tls::Files(Files {
            pairs: vec![pair],
            on_open: OpenMode::Refuse,
            hook: None,
        })
    };
    let (caretaker, numbers) = caretaker(tls(HOST, 30));
    let not_after = |numbers: &CertNumbers| metric(numbers, "derper_cert_not_after_seconds ");
    let good = not_after(&numbers);
    caretaker.reload(&tls("new.example.com", 60), clock::wall());
    assert_eq!(not_after(&numbers), good);
    // The old files are followed still.
    write(dir.path(), HOST, &[HOST], 90);
    caretaker.look(clock::wall());
    assert_eq!(numbers.reloads(), 1);
}

#[test]
fn a_relay_whose_main_certificate_is_good_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let provider = aws_lc_rs::default_provider();
    let pair = |stem: &str, days, is_default| {
        let files = write(dir.path(), stem, &[&format!("{stem}.example.com")], days);
        let loaded = load(&files, None, OpenMode::Refuse, clock::wall(), &provider);
        Pair {
            files,
            rule: NameRule::Covered { is_default },
            loaded: Some(loaded.unwrap()),
        }
    };
    for (days, has_expired) in [([30, 0], false), ([0, 30], true)] {
        let pairs = vec![pair("main", days[0], true), pair("more", days[1], false)];
        let (_caretaker, numbers) = caretaker(Tls::Files(Files {
            pairs,
            on_open: OpenMode::Refuse,
            hook: None,
        }));
        assert_eq!(numbers.has_expired(clock::wall()), has_expired, "{days:?}");
    }
}

/// A command that copies a pair of files to where the relay wants them.
fn copying(from: &CertFiles, to: PathBuf) -> Hook {
    let script = format!(
        "cp -p {} $DERP_KEY_FILE && cp {} $DERP_CERT_FILE && echo . >> {}",
        from.key.display(),
        from.cert.display(),
        to.display()
    );
    Hook {
        command: ["/bin/sh", "-c", &script].map(str::to_owned).to_vec(),
        timeout: Duration::from_secs(60),
        every: DAY,
    }
}

#[tokio::test]
async fn a_command_gets_the_certificate_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let made = write(dir.path(), "made", &[HOST], 90);
    let runs = dir.path().join("runs");
    let wanted = CertFiles {
        cert: dir.path().join("wanted.crt"),
        key: dir.path().join("wanted.key"),
    };
    let (caretaker, numbers) = caretaker(Tls::Files(Files {
        pairs: vec![Pair {
            files: wanted.clone(),
            rule: NameRule::Host(HOST.parse().unwrap()),
            loaded: None,
        }],
        on_open: OpenMode::Refuse,
        hook: Some(copying(&made, runs.clone())),
    }));
    assert_eq!(metric(&numbers, "derper_certs_served "), 0);
    let task = tokio::spawn(caretaker.run());
    while metric(&numbers, "derper_certs_served ") == 0 {
        tokio::task::yield_now().await;
    }
    task.abort();
    assert_eq!(metric(&numbers, "derper_cert_hook_runs "), 1);
    assert_eq!(metric(&numbers, "derper_cert_hook_failures "), 0);
    assert_eq!(fs::read_to_string(runs).unwrap(), ".\n");
    let provider = aws_lc_rs::default_provider();
    let loaded = load(&wanted, None, OpenMode::Refuse, clock::wall(), &provider);
    assert!(loaded.is_ok());
}
