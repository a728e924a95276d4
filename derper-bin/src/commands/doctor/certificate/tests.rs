use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};

use super::super::finding::Level;
use super::*;

const HOST: &str = "derp.example.com";
/// Seconds since 1970 of 2030-01-01, when the certificates of these tests begin.
const BEGIN: u64 = 1_893_456_000;
const DAY: u64 = 86_400;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(called: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = name(called);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

/// A certificate for `host` that is valid in January 2030 alone.
fn leaf(host: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.distinguished_name = name(host);
    params.not_before = rcgen::date_time_ymd(2030, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 31);
    params
}

fn issued(authority: &Authority, params: CertificateParams) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    params.signed_by(&key, authority).unwrap().der().clone()
}

fn self_signed(params: CertificateParams) -> CertificateDer<'static> {
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().clone()
}

fn meta(key: &NodePublic) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.distinguished_name = name(&format!("{META_CERT_NAME_PREFIX}{}", key.to_hex()));
    self_signed(params)
}

fn outside(pin: Option<String>) -> Outside {
    Outside {
        host: HOST.parse().unwrap(),
        port: 443,
        is_tls: true,
        stun_port: None,
        wants_port_80: false,
        pin,
        is_named: true,
    }
}

const KEY: NodePublic = NodePublic::from_bytes([7; 32]);

/// What is said of a chain on a day of January 2030: the worst finding, and all texts.
fn judged(
    chain: &[CertificateDer<'_>],
    roots: &[&Authority],
    pin: Option<String>,
    key: Option<NodePublic>,
    day: u64,
) -> (Option<Level>, String) {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.der().clone()).unwrap();
    }
    let outside = outside(pin);
    let expected = Expected {
        outside: &outside,
        key,
        roots: Arc::new(store),
        now: BEGIN + day * DAY,
    };
    let mut findings = Findings::default();
    judge(chain, &expected, &mut findings);
    let levels = findings.levels();
    let has = |level| levels.iter().any(|(_, found)| *found == level);
    let worst = [Level::Problem, Level::Warning, Level::Ok]
        .into_iter()
        .find(|level| has(*level));
    (worst, findings.text())
}

#[test]
fn a_chain_is_judged_as_clients_do() {
    let (ours, theirs) = (authority("Ours"), authority("Theirs"));
    let good = issued(&ours, leaf(HOST));
    let own = self_signed(leaf(HOST));
    let other = issued(&ours, leaf("www.example.com"));
    let meta = meta(&KEY);
    let pin = |der: &CertificateDer<'_>| Some(CertPin::of(der).to_string());
    let with_chain = vec![good.clone(), theirs.der().clone(), meta.clone()];
    let (ok, warning, problem) = (Level::Ok, Level::Warning, Level::Problem);
    // Certificates, pin, day of the month, how bad, part of what is said.
    type Case<'a> = (
        Vec<CertificateDer<'static>>,
        Option<String>,
        u64,
        Level,
        &'a str,
    );
    let cases: Vec<Case<'_>> = vec![
        (
            vec![good.clone(), meta.clone()],
            None,
            3,
            ok,
            "clients trust it",
        ),
        (
            vec![good.clone(), meta.clone()],
            None,
            25,
            warning,
            "should have been renewed",
        ),
        (
            vec![good.clone(), meta.clone()],
            None,
            40,
            problem,
            "it has expired on",
        ),
        (
            vec![good.clone()],
            None,
            3,
            warning,
            "something else than a relay terminates TLS",
        ),
        (
            vec![other, meta.clone()],
            None,
            3,
            problem,
            "it is for www.example.com",
        ),
        (
            vec![own.clone(), meta.clone()],
            None,
            3,
            problem,
            "vouches for itself",
        ),
        (
            vec![own.clone(), meta.clone()],
            pin(&own),
            3,
            ok,
            "it is the pinned one",
        ),
        (
            vec![own.clone(), meta.clone()],
            pin(&good),
            3,
            problem,
            "are told to expect",
        ),
        (with_chain, pin(&good), 3, problem, "comes with a chain"),
        (
            vec![meta.clone()],
            None,
            3,
            problem,
            "no certificate that can be read",
        ),
        (
            vec![CertificateDer::from(vec![0])],
            None,
            3,
            problem,
            "no certificate that can",
        ),
    ];
    for (chain, pin, day, level, part) in cases {
        let (worst, text) = judged(&chain, &[&ours], pin, Some(KEY), day);
        assert_eq!(worst, Some(level), "{part}\n{text}");
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn an_unknown_authority_is_told_from_a_chain_that_is_cut_short() {
    let (ours, theirs) = (authority("Ours"), authority("Theirs"));
    let good = issued(&ours, leaf(HOST));
    let (_, text) = judged(&[good.clone(), meta(&KEY)], &[&theirs], None, None, 3);
    assert!(text.contains("its authority are missing"), "{text}");
    let whole = [good, ours.der().clone(), meta(&KEY)];
    let (_, text) = judged(&whole, &[&theirs], None, None, 3);
    assert!(text.contains("this machine does not trust"), "{text}");
}

#[test]
fn another_relay_behind_the_same_name_is_told_of() {
    let ours = authority("Ours");
    let chain = [issued(&ours, leaf(HOST)), meta(&KEY)];
    let stranger = NodePublic::from_bytes([8; 32]);
    let (worst, text) = judged(&chain, &[&ours], None, Some(stranger), 3);
    assert_eq!(worst, Some(Level::Problem));
    assert!(text.contains("another relay answers there"), "{text}");
}
