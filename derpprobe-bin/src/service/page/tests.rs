//! Pages of fleets that are made up.

use std::sync::Arc;

use derp_proto::{DerpNode, DerpRegion};

use super::super::history::{History, PIECE, PIECES, Point};
use super::*;
use crate::outcome::{Findings, Outcome, Unit};
use crate::subject::{Class, Family, Subject};

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_400_000 + seconds)
}

fn node(name: &str) -> DerpNode {
    DerpNode {
        name: name.to_owned(),
        host_name: format!("{name}.example.com"),
        ..DerpNode::default()
    }
}

/// Adds a probe whose last run, a few seconds ago, ended so.
fn add(
    records: &mut BTreeMap<String, Record>,
    (code, from, to): (&str, &str, Option<&str>),
    class: Class,
    result: Result<u64, &str>,
) {
    let region = DerpRegion {
        region_code: code.to_owned(),
        ..DerpRegion::default()
    };
    let id = code
        .bytes()
        .fold(7, |id, byte| id * 31 % 997 + i64::from(byte));
    let mut subject = Subject::of_node(class, id, &region, &node(from));
    if let Some(to) = to {
        subject = subject.with_receiver(&node(to));
    }
    let name = format!(
        "derp/{code}/{from}/{}/{}",
        to.unwrap_or("-"),
        class.as_str()
    );
    let subject = Arc::new(subject);
    let mut history = History::default();
    for piece in (1..PIECES).rev().filter(|piece| !(40..60).contains(piece)) {
        let wave = f64::from(piece % 37) / 300.0;
        let point = match result {
            Ok(_) if class == Class::Bandwidth => Point::Rate(4e6 + 5e7 * wave),
            Ok(millis) => {
                Point::Seconds(Duration::from_millis(millis).as_secs_f64() * (1.0 + wave))
            }
            Err(_) if piece < 30 => Point::Bad,
            Err(_) => Point::Seconds(0.03 + wave / 10.0),
        };
        history.add(at(0) - PIECE * piece, point);
    }
    let mut record = Record::new(Duration::from_secs(15), Arc::clone(&subject), history);
    for run in 0..10 {
        let now = at(run * 15) - Duration::from_secs(150);
        record.begin(now);
        let mut findings = Findings::default();
        if let (Ok(millis), Class::Relay) = (result, class) {
            findings.seconds("relay_seconds", Duration::from_millis(millis));
        }
        if let (Ok(millis), Class::Stun) = (result, class) {
            findings.seconds("round_trip_seconds", Duration::from_millis(millis));
        }
        if class == Class::Bandwidth {
            findings.number("bytes_per_second", 6e6, Unit::BytesPerSecond);
        }
        if class == Class::Tls {
            let left = if result.is_ok() { 61 * 86_400 } else { 0 };
            findings.seconds("certificate_seconds_left", Duration::from_secs(left));
        }
        let is_bad = result.is_err() && run > 6;
        let outcome = Outcome {
            name: name.clone(),
            subject: Arc::clone(&subject),
            took: Duration::from_millis(result.unwrap_or(12) + 40),
            result: match result {
                Err(why) if is_bad => Err(why.to_owned()),
                _ => Ok(()),
            },
            findings,
        };
        record.end(now, outcome, 2);
    }
    records.insert(name, record);
}

/// Regions with so many nodes each; the third node of the second one has trouble.
fn fleet(regions: &[&str], nodes: usize) -> BTreeMap<String, Record> {
    let mut records = BTreeMap::new();
    for (r, code) in regions.iter().enumerate() {
        for n in 0..nodes {
            let name = format!("{}{}", 900 + r, char::from(b'a' + u8::try_from(n).unwrap()));
            let is_broken = (r, n) == (1, 2);
            let tls = if is_broken {
                Err(
                    "the certificate of derp.example.com has expired 2 days ago; renew it, and see \
                     that the relay serves the new one",
                )
            } else {
                Ok(31)
            };
            add(&mut records, (code, &name, None), Class::Tls, tls);
            add(
                &mut records,
                (code, &name, None),
                Class::Stun,
                Ok(9 + n as u64),
            );
            for m in 0..nodes {
                let to = format!("{}{}", 900 + r, char::from(b'a' + u8::try_from(m).unwrap()));
                let way = if is_broken || (r, m) == (1, 2) {
                    Err("cannot connect to the relay: no TLS: the certificate has expired")
                } else {
                    Ok(12 + 7 * n.abs_diff(m) as u64)
                };
                add(&mut records, (code, &name, Some(&to)), Class::Relay, way);
            }
            if r == 0 {
                add(
                    &mut records,
                    (code, &name, Some(&name)),
                    Class::Bandwidth,
                    Ok(0),
                );
            }
        }
    }
    records
}

fn view<'a>(records: &'a BTreeMap<String, Record>) -> View<'a> {
    View {
        records,
        now: at(0),
        started: at(0) - Duration::from_secs(100_000),
        source: "https://headscale.example.com/derpmap.json",
        map_age: Some(Duration::from_secs(7)),
    }
}

#[test]
fn what_is_bad_comes_first_and_in_words() {
    let records = fleet(&["nyc", "fra"], 3);
    let page = html(&view(&records));
    assert!(
        page.contains("<p class=\"summary bad\">6 of 33 probes are bad</p>"),
        "{page}"
    );
    let (bad, regions) = (
        page.find("Bad now").unwrap(),
        page.find("<h2>Regions").unwrap(),
    );
    assert!(bad < regions);
    assert!(page.contains("<a href=\"/region/fra\">derp/fra/901c/-/tls</a>"));
    assert!(page.contains("<p>the certificate of derp.example.com has expired 2 days ago"));
    let dead = "<p>cannot connect to the relay";
    assert_eq!(page.matches(dead).count(), 1, "the same is said once");
    let good = fleet(&["nyc"], 2);
    let page = html(&view(&good));
    assert!(
        page.contains("<p class=\"summary good\">All 10 probes are good</p>"),
        "{page}"
    );
    assert!(!page.contains("Bad now"));
}

#[test]
fn a_region_has_its_day_its_ways_and_its_probes() {
    let records = fleet(&["nyc", "fra"], 3);
    let page = region_html(&view(&records), "fra").unwrap();
    for part in [
        "<h1>Region fra</h1>",
        "<figcaption>Relay: a packet through the relay",
        "<table class=\"matrix\">",
        "<td class=\"h4\">19 ms",
        "<td class=\"bad\" title=\"bad\">✗",
        "<dt>certificate<dd>for 61 days",
        "/debug/probe-run?name=derp%2Ffra%2F901a%2F%2D%2Ftls",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(!page.contains("900a"), "other regions are elsewhere");
    assert!(region_html(&view(&records), "nowhere").is_none());
}

#[test]
fn both_families_of_addresses_have_a_column() {
    let mut records = fleet(&["nyc"], 1);
    let page = html(&view(&records));
    assert!(page.contains("<th scope=\"col\">STUN<"), "{page}");
    assert!(!page.contains("STUN v6"), "{page}");
    add(
        &mut records,
        ("nyc", "900a", Some("v6")),
        Class::Stun,
        Err("no answer"),
    );
    let of_v6 = records.get_mut("derp/nyc/900a/v6/derp_udp").unwrap();
    of_v6.subject = Arc::new(Subject {
        family: Some(Family::Ipv6),
        to: None,
        ..(*of_v6.subject).clone()
    });
    let page = html(&view(&records));
    let head = "<th scope=\"col\">STUN<th scope=\"col\">STUN v6<";
    assert!(page.contains(head), "{page}");
    let one_of_each = "\">✓ 9.0 ms<td class=\"bad\" title=\"answers to STUN: bad\">✗";
    assert!(page.contains(one_of_each), "{page}");
}

#[test]
fn what_maps_and_relays_say_does_not_become_markup() {
    const EVIL: &str = "<script>'\"&";
    let mut records = BTreeMap::new();
    add(
        &mut records,
        (EVIL, EVIL, Some(EVIL)),
        Class::Relay,
        Err(EVIL),
    );
    add(&mut records, (EVIL, EVIL, None), Class::Tls, Ok(1));
    let mut view = view(&records);
    view.source = EVIL;
    let region = region_html(&view, EVIL).unwrap();
    for page in [html(&view), region] {
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("'\"&"), "{page}");
        assert!(page.contains("&lt;script&gt;"));
    }
}

#[test]
fn probes_that_have_not_run_are_not_good() {
    let mut records = BTreeMap::new();
    let page = html(&view(&records));
    assert!(page.contains("No probe has run yet"), "{page}");
    let subject = Arc::new(Subject::map());
    let record = Record::new(Duration::from_secs(15), subject, History::default());
    records.insert("derpmap-probe".to_owned(), record);
    let page = html(&view(&records));
    assert!(page.contains("No probe has run yet"), "{page}");
    add(&mut records, ("nyc", "a", None), Class::Tls, Ok(1));
    let page = html(&view(&records));
    assert!(
        page.contains("1 of 2 probes are good, 1 have not run yet"),
        "{page}"
    );
    let later = View {
        now: at(600),
        ..view(&records)
    };
    let page = html(&later);
    assert!(
        page.contains("<td class=\"stale\""),
        "nothing came for minutes"
    );
    let summary = "<p class=\"summary stale\">0 of 2 probes are good, 1 have not run yet, 1 had no \
                   result for a while</p>";
    assert!(page.contains(summary), "{page}");
}

#[test]
fn a_large_fleet_is_a_page_that_browsers_can_show() {
    let codes: Vec<_> = (0..100).map(|n| format!("r{n:03}")).collect();
    let codes: Vec<_> = codes.iter().map(String::as_str).collect();
    let records = fleet(&codes, 5);
    assert_eq!(records.len(), 100 * 5 * 7 + 5);
    let page = html(&view(&records));
    assert!(page.len() < 1 << 20, "{}", page.len());
}
