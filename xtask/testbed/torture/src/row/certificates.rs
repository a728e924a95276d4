//! New certificates under load, by SIGHUP. A broken one leaves the old in place.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::args::Cli;
use crate::pairs::Pairs;
use crate::relay::{Dial, Relay};
use crate::report::Report;
use crate::tls::{self, Version};
use crate::watch::Rest;

/// Handshakes beside the rotations, at a time.
const HANDSHAKERS: usize = 8;
/// How often each of them makes one: 200 a second together. What is late is made up for.
const HANDSHAKE_EVERY: Duration = Duration::from_millis(40);
/// How many a second there should be; those of the rotations themselves are not counted.
const LEAST_PACE: f64 = 190.0;
/// One rotation in so many has a key that is another certificate's.
const BROKEN: usize = 20;
/// By when a new certificate is served.
const SERVED: Duration = Duration::from_secs(10);
/// What may stay in memory, in bytes.
const MOST_DRIFT: u64 = 8 << 20;
/// The name of the certificate with the relay's key, in front of the key (`derp/derpconst`).
const META: &str = "derpkey";

pub(super) async fn run(cli: &Cli) -> Result<Report> {
    let relay = cli.relay()?;
    let dir = cli.cert_dir.as_ref().context("--cert-dir")?;
    let rotations = cli.scale(1000, 40);
    let pairs = cli.scale(1000, 30);
    let neighbours = Pairs::start(&relay, pairs, Duration::from_millis(250), 1200).await?;
    let shared = Arc::new(Handshakes {
        relay: relay.clone(),
        stop: AtomicBool::new(false),
        done: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        without_meta: AtomicU64::new(0),
    });
    let mut handshakers = JoinSet::new();
    for _ in 0..HANDSHAKERS {
        handshakers.spawn(shake_hands(Arc::clone(&shared)));
    }
    let rest = Rest::of(&relay).await?;
    let (start, before) = (Instant::now(), shared.done.load(Ordering::Relaxed));
    let rotated = rotate(&relay, dir, rotations).await;
    let seconds = start.elapsed().as_secs_f64().max(1.0);
    let done = shared.done.load(Ordering::Relaxed) - before;
    shared.stop.store(true, Ordering::Relaxed);
    handshakers.join_all().await;
    let Rotated {
        not_served,
        replaced_by_broken,
    } = rotated?;
    let outcome = neighbours.stop().await?;

    let pace = done as f64 / seconds;
    let scale =
        format!("{rotations} rotations, {pairs} flows, {done} handshakes in {seconds:.0} s");
    let mut report = Report::new(cli.times(), scale);
    report.at_most("not served", not_served, 0);
    report.at_most("replaced by a broken one", replaced_by_broken, 0);
    report.at_most(
        "handshakes failed",
        shared.failed.load(Ordering::Relaxed),
        0,
    );
    let without_meta = shared.without_meta.load(Ordering::Relaxed);
    report.at_most("without the relay's key", without_meta, 0);
    report.at_most("lost", outcome.lost + outcome.wrong, 0);
    report.at_most("closed", outcome.closed, 0);
    let figure = format!("handshakes a second {pace:.0}");
    report.speed(figure, format!("≥ {LEAST_PACE}"), pace >= LEAST_PACE);
    rest.check(&relay, &mut report, MOST_DRIFT).await?;
    Ok(report)
}

struct Handshakes {
    relay: Relay,
    stop: AtomicBool,
    done: AtomicU64,
    failed: AtomicU64,
    without_meta: AtomicU64,
}

async fn shake_hands(shared: Arc<Handshakes>) {
    let mut due = interval(HANDSHAKE_EVERY);
    while !shared.stop.load(Ordering::Relaxed) {
        due.tick().await;
        match chain(&shared.relay).await {
            Ok(chain) => {
                shared.done.fetch_add(1, Ordering::Relaxed);
                if !ends_with_meta(&chain) {
                    shared.without_meta.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(_) => {
                shared.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The certificates that the relay shows.
async fn chain(relay: &Relay) -> Result<Vec<CertificateDer<'static>>> {
    let tcp = relay.tcp(&Dial::default()).await?;
    let connector = TlsConnector::from(tls::config(Version::Tls13)?);
    let name = ServerName::IpAddress(relay.addr.ip().into());
    let stream = connector.connect(name, tcp).await?;
    let certificates = stream.get_ref().1.peer_certificates();
    let owned = certificates.context("no certificate")?.iter();
    Ok(owned.map(|one| one.clone().into_owned()).collect())
}

fn ends_with_meta(chain: &[CertificateDer<'_>]) -> bool {
    let [_, .., last] = chain else {
        return false;
    };
    X509Certificate::from_der(last).is_ok_and(|(_, certificate)| {
        let mut names = certificate.subject().iter_common_name();
        names.any(|name| name.as_str().is_ok_and(|name| name.starts_with(META)))
    })
}

struct Rotated {
    not_served: u64,
    replaced_by_broken: u64,
}

async fn rotate(relay: &Relay, dir: &Path, rotations: usize) -> Result<Rotated> {
    let mut rotated = Rotated {
        not_served: 0,
        replaced_by_broken: 0,
    };
    for n in 0..rotations {
        let (certificate, key) = made()?;
        let is_broken = n % BROKEN == BROKEN - 1;
        let key = if is_broken { made()?.1 } else { key };
        let before = chain(relay).await?;
        replace(
            &dir.join("127.0.0.1.crt"),
            &pem("CERTIFICATE", &certificate),
        )?;
        replace(&dir.join("127.0.0.1.key"), &pem("PRIVATE KEY", &key))?;
        relay.process.signal(Signal::HUP)?;
        if is_broken {
            sleep(Duration::from_millis(300)).await;
            rotated.replaced_by_broken += u64::from(chain(relay).await?[0] != before[0]);
        } else {
            rotated.not_served += u64::from(!is_served(relay, &certificate).await?);
            ensure!(rotated.not_served < 3, "new certificates are not served");
        }
    }
    Ok(rotated)
}

async fn is_served(relay: &Relay, certificate: &[u8]) -> Result<bool> {
    let start = Instant::now();
    while start.elapsed() < SERVED {
        if *chain(relay).await?[0] == *certificate {
            return Ok(true);
        }
        sleep(Duration::from_millis(2)).await;
    }
    Ok(false)
}

/// A self-signed certificate and its key, in their binary form.
fn made() -> Result<(Vec<u8>, Vec<u8>)> {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    Ok((made.cert.der().to_vec(), made.signing_key.serialize_der()))
}

/// The text form of what is in a certificate's files (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (n, three) in der.chunks(3).enumerate() {
        if n % 16 == 0 {
            text.push('\n');
        }
        let bits = three
            .iter()
            .fold(0_usize, |bits, &byte| (bits << 8) | usize::from(byte));
        let bits = bits << (8 * (3 - three.len()));
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= three.len() {
                char::from(DIGITS[value])
            } else {
                '='
            });
        }
    }
    format!("-----BEGIN {label}-----{text}\n-----END {label}-----\n")
}

/// Puts a file into the place of another at once, as tools that fetch certificates do.
fn replace(path: &Path, text: &str) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(fs::rename(new, path)?)
}
