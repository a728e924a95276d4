//! Chains in, everything that is wrong with them out.

use rcgen::{CertificateParams, DnType};
use rustls::RootCertStore;

use super::*;
use crate::authority::{Authority, Identity, self_signed, valid};

/// 2027-01-15 08:00:00 UTC.
const NOW: u64 = 1_800_000_000;
const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;
/// When a certificate began that lives long enough to be renewed a week before its end.
const LONG_AGO: u64 = NOW - 84 * DAY;
/// Dates of a certificate with which nothing is wrong.
const GOOD: (u64, u64) = (NOW - DAY, NOW + YEAR);

fn host(name: &str) -> ServerName<'static> {
    name.to_owned().try_into().unwrap()
}

/// What is wrong with a chain that `derp.test` shows, in words.
fn words(chain: &[&Identity], check: &CertCheck, roots: RootCertStore) -> Vec<String> {
    words_of(chain, check, "derp.test", roots)
}

fn words_of(
    chain: &[&Identity],
    check: &CertCheck,
    name: &str,
    roots: RootCertStore,
) -> Vec<String> {
    let chain: Vec<_> = chain.iter().map(|identity| identity.cert.clone()).collect();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
    let faults = judge(&chain, check, &host(name), &Trust::of(roots), now);
    faults.iter().map(ToString::to_string).collect()
}

fn pin_of(identity: &Identity) -> CertCheck {
    CertCheck::Pin(CertPin::of(&identity.cert))
}

/// The certificate that tells a relay's key, which is long over.
fn meta() -> Identity {
    self_signed("derp.test", |params: &mut CertificateParams| {
        params.subject_alt_names.clear();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("derpkey{}", "0".repeat(64)));
        valid(NOW - YEAR, NOW - DAY)(params);
    })
}

#[test]
fn the_time_that_a_certificate_has_left_decides() {
    let authority = Authority::new("Test");
    let of = "the certificate of CN=derp.test";
    let soon = |left: &str, on: &str| {
        vec![format!(
            "{of} expires in {left}, on {on} UTC; it should have been renewed"
        )]
    };
    let expired = |on: &str| {
        let then = "renew it, and see that the relay serves the new one";
        vec![format!("{of} has expired on {on} UTC; {then}")]
    };
    let table = [
        (GOOD, vec![]),
        ((LONG_AGO, NOW + 7 * DAY), vec![]),
        (
            (LONG_AGO, NOW + 7 * DAY - 1),
            soon("6 days", "2027-01-22 07:59:59"),
        ),
        ((LONG_AGO, NOW + DAY), soon("a day", "2027-01-16 08:00:00")),
        (
            (LONG_AGO, NOW + HOUR),
            soon("an hour", "2027-01-15 09:00:00"),
        ),
        (
            (NOW - DAY, NOW),
            soon("less than an hour", "2027-01-15 08:00:00"),
        ),
        ((NOW - DAY, NOW - 1), expired("2027-01-15 07:59:59")),
        (
            (NOW + 1, NOW + YEAR),
            vec![format!(
                "{of} is not valid before 2027-01-15 08:00:01 UTC; is a clock wrong?"
            )],
        ),
    ];
    for ((from, until), expected) in table {
        let leaf = authority.sign("derp.test", valid(from, until));
        let chained = words(&[&leaf, &meta()], &CertCheck::HostName, authority.roots());
        assert_eq!(chained, expected, "{from} {until}");
        // A pin changes nothing about dates.
        let leaf = self_signed("derp.test", valid(from, until));
        let pinned = words(&[&leaf, &meta()], &pin_of(&leaf), RootCertStore::empty());
        assert_eq!(pinned, expected, "{from} {until}");
    }
}

#[test]
fn certificates_of_six_days_are_good_for_three_quarters_of_them() {
    let authority = Authority::new("Test");
    let is_good = |hours: u64, left: u64| {
        let dates = valid(NOW - (hours - left) * HOUR, NOW + left * HOUR);
        let leaf = authority.sign("derp.test", dates);
        words(&[&leaf], &CertCheck::HostName, authority.roots()).is_empty()
    };
    let table = [
        (160, 160, true),
        (160, 100, true),
        (160, 40, true),
        (160, 39, false),
        (160, 30, false),
        (90 * 24, 7 * 24, true),
        (90 * 24, 6 * 24, false),
    ];
    for (hours, left, expected) in table {
        assert_eq!(is_good(hours, left), expected, "{left} of {hours} hours");
    }
}

#[test]
fn whatever_is_shown_besides_must_not_run_out_either() {
    let (authority, other) = (Authority::new("Test"), Authority::new("Other"));
    let leaf = authority.sign("derp.test", valid(GOOD.0, GOOD.1));
    let stale = other.sign("between.test", valid(LONG_AGO, NOW + DAY));
    assert_eq!(
        words(&[&leaf, &stale], &CertCheck::HostName, authority.roots()),
        [
            "the certificate of CN=between.test expires in a day, on 2027-01-16 08:00:00 UTC; it \
          should have been renewed"
        ]
    );
    // Roots are not used as they are shown.
    let old_root = self_signed("root.test", valid(NOW - YEAR, NOW - DAY));
    let chained = words(&[&leaf, &old_root], &CertCheck::HostName, authority.roots());
    assert_eq!(chained, Vec::<String>::new());
}

#[test]
fn somebody_must_vouch_for_the_name() {
    let authority = Authority::new("Test");
    let leaf = authority.sign("derp.test", valid(GOOD.0, GOOD.1));
    let check = |check: &CertCheck, name, roots| words_of(&[&leaf], check, name, roots);
    let none = Vec::<String>::new();
    assert_eq!(
        check(&CertCheck::HostName, "derp.test", authority.roots()),
        none
    );
    let fronted = CertCheck::OtherName(host("derp.test"));
    assert_eq!(check(&fronted, "front.test", authority.roots()), none);
    assert_eq!(
        check(&CertCheck::HostName, "front.test", authority.roots()),
        ["the certificate is not for front.test, but for derp.test"]
    );
    assert_eq!(
        check(
            &CertCheck::HostName,
            "derp.test",
            Authority::new("Other").roots()
        ),
        [format!(
            "the certificate comes from no authority that this machine trusts; if it should be \
             this one, set CertName of the node to {}",
            CertPin::of(&leaf.cert)
        )]
    );
    assert_eq!(
        check(&CertCheck::HostName, "derp.test", RootCertStore::empty()),
        ["this machine has no root certificates to check the server's certificate with"]
    );
    assert_eq!(
        check(&CertCheck::Insecure, "front.test", RootCertStore::empty()),
        none
    );
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let authority = Authority::new("Test");
    let leaf = self_signed("other.test", valid(NOW - DAY, NOW - 1));
    let faults = words(&[&leaf], &CertCheck::HostName, authority.roots());
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("has expired"), "{faults:?}");
    assert!(faults[1].contains("no authority"), "{faults:?}");
}

#[test]
fn a_pin_is_for_one_certificate_alone() {
    let none = Vec::<String>::new();
    let leaf = self_signed("derp.test", valid(GOOD.0, GOOD.1));
    let other = self_signed("derp.test", valid(GOOD.0, GOOD.1));
    let pinned = |chain: &[&Identity], name: &str| {
        words_of(chain, &pin_of(&leaf), name, RootCertStore::empty())
    };
    assert_eq!(pinned(&[&leaf], "derp.test"), none);
    assert_eq!(pinned(&[&leaf, &meta()], "derp.test"), none);
    // An address is not looked for in the certificate, a name is.
    assert_eq!(pinned(&[&leaf], "192.0.2.1"), none);
    assert_eq!(
        pinned(&[&leaf], "other.test"),
        ["the certificate is not for other.test, but for derp.test"]
    );
    let seen = CertPin::of(&other.cert);
    assert_eq!(
        pinned(&[&other], "derp.test"),
        [format!(
            "the server's certificate is {seen}, not the pinned one"
        )]
    );
    assert_eq!(
        pinned(&[&leaf, &other], "derp.test"),
        ["the server shows several certificates"]
    );
    let meta = meta();
    assert!(pinned(&[&meta], "derp.test").contains(&PinError::NoCertificate.to_string()));
}

#[test]
fn names_and_addresses_of_a_certificate_are_told() {
    let names = |change: &dyn Fn(&mut CertificateParams)| {
        names_of(&self_signed("192.0.2.1", |params| change(params)).cert)
    };
    assert_eq!(names(&|_| ()), "192.0.2.1");
    let many = |params: &mut CertificateParams| {
        let more = (1..=9).map(|n| format!("n{n}.test"));
        let dns = |name: String| rcgen::SanType::DnsName(name.try_into().unwrap());
        params.subject_alt_names.extend(more.map(dns));
    };
    assert_eq!(
        names(&many),
        "192.0.2.1, n1.test, n2.test, n3.test, n4.test, others"
    );
    let none = |params: &mut CertificateParams| params.subject_alt_names.clear();
    assert_eq!(names(&none), "no name and no address at all");
}

#[test]
fn what_is_no_certificate_is_a_fault() {
    let shown = |chain: &[CertificateDer<'_>]| {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW));
        let trust = Trust::of(RootCertStore::empty());
        judge(chain, &CertCheck::HostName, &host("derp.test"), &trust, now)
    };
    assert_eq!(shown(&[]), [CertificateFault::None]);
    assert_eq!(
        shown(&[vec![0x30, 0x82, 0xff].into()]),
        [CertificateFault::Unreadable]
    );
}
