//! Maps and options in, names and errors out.

use super::*;
use crate::subject::Class;

const SECONDS_15: Option<Duration> = Some(Duration::from_secs(15));

fn all() -> PlanOptions {
    PlanOptions {
        tls: SECONDS_15,
        stun: SECONDS_15,
        mesh: SECONDS_15,
        ..PlanOptions::default()
    }
}

fn region(code: &str) -> PlanOptions {
    PlanOptions {
        region: Some(code.to_owned()),
        ..all()
    }
}

fn node(name: &str) -> DerpNode {
    DerpNode {
        name: name.to_owned(),
        host_name: format!("{name}.derp.test"),
        ipv4: "192.0.2.1".to_owned(),
        ipv6: "2001:db8::1".to_owned(),
        ..DerpNode::default()
    }
}

fn map(regions: &[(RegionId, &str, &[DerpNode])]) -> DerpMap {
    let region = |&(id, code, nodes): &(RegionId, &str, &[DerpNode])| {
        let region = DerpRegion {
            region_id: id,
            region_code: code.to_owned(),
            nodes: nodes.to_vec(),
            ..DerpRegion::default()
        };
        (id, Some(region))
    };
    DerpMap {
        regions: regions.iter().map(region).collect(),
        ..DerpMap::default()
    }
}

fn names(map: &DerpMap, options: &PlanOptions) -> Vec<String> {
    plan(map, options)
        .unwrap()
        .into_iter()
        .map(|probe| probe.name)
        .collect()
}

/// The STUN probes of a map with this node alone.
fn stun_jobs(node: DerpNode) -> Vec<(String, Job)> {
    let options = PlanOptions {
        stun: SECONDS_15,
        ..PlanOptions::default()
    };
    match plan(&map(&[(1, "r", &[node])]), &options) {
        Err(PlanError::Nothing) => Vec::new(),
        probes => probes
            .unwrap()
            .into_iter()
            .map(|probe| (probe.name, probe.job))
            .collect(),
    }
}

#[test]
fn probes_have_the_names_of_the_reference() {
    let two = map(&[
        (0, "zero", &[node("n1"), node("n2")]),
        (1, "one", &[node("n3")]),
    ]);
    let expected = [
        "derp/zero/n1/tls",
        "derp/zero/n1/udp6",
        "derp/zero/n1/udp",
        "derp/zero/n1/n1/mesh",
        "derp/zero/n1/n2/mesh",
        "derp/zero/n2/tls",
        "derp/zero/n2/udp6",
        "derp/zero/n2/udp",
        "derp/zero/n2/n1/mesh",
        "derp/zero/n2/n2/mesh",
    ];
    assert_eq!(names(&two, &region("zero")), expected);
    assert_eq!(names(&two, &region("0")), expected);
    let one = ["tls", "udp6", "udp", "n3/mesh"].map(|kind| format!("derp/one/n3/{kind}"));
    assert_eq!(names(&two, &region("one")), one);
    assert_eq!(
        names(&two, &all()),
        [&expected.map(str::to_owned)[..], &one[..]].concat()
    );
}

#[test]
fn every_ordered_pair_of_a_region_is_probed() {
    let count = |nodes: &[DerpNode]| names(&map(&[(0, "zero", nodes)]), &all()).len();
    assert_eq!(count(&[node("n1")]), 4);
    assert_eq!(count(&[node("n1"), node("n2")]), 10);
    assert_eq!(count(&[node("n1"), node("n2"), node("n3")]), 18);
}

#[test]
fn each_kind_has_its_own_interval() {
    let seconds = |n| Some(Duration::from_secs(n));
    let options = PlanOptions {
        tls: seconds(1),
        stun: None,
        mesh: seconds(2),
        bandwidth: Some((Duration::from_secs(10), 7)),
        ..PlanOptions::default()
    };
    let probes = plan(&map(&[(1, "r", &[node("n1")])]), &options).unwrap();
    let n1 = Arc::new(node("n1"));
    let pair = Pair {
        from: Arc::clone(&n1),
        to: Arc::clone(&n1),
    };
    let region = DerpRegion {
        region_code: "r".to_owned(),
        ..DerpRegion::default()
    };
    let planned = |name: &str, seconds, class, job| {
        let subject = Subject::of_node(class, 1, &region, &n1);
        let subject = match &job {
            Job::Relay(pair) | Job::Bandwidth(pair, _) => subject.with_receiver(&pair.to),
            _ => subject,
        };
        Planned {
            name: name.to_owned(),
            interval: Duration::from_secs(seconds),
            subject: Arc::new(subject),
            job,
        }
    };
    let bandwidth = Job::Bandwidth(pair.clone(), 7);
    assert_eq!(
        probes,
        [
            planned("derp/r/n1/tls", 1, Class::Tls, Job::Tls(Arc::clone(&n1))),
            planned("derp/r/n1/n1/mesh", 2, Class::Relay, Job::Relay(pair)),
            planned("derp/r/n1/n1/bw", 10, Class::Bandwidth, bandwidth),
        ]
    );
    assert_eq!(
        probes.iter().map(Planned::is_heavy).collect::<Vec<_>>(),
        [false, false, true]
    );
    let timeouts: Vec<_> = probes
        .iter()
        .map(|probe| probe.timeout().as_millis())
        .collect();
    assert_eq!(timeouts, [800, 1600, 8000]);
}

#[test]
fn stun_is_asked_for_at_the_addresses_in_the_map_and_nowhere_else() {
    let udp = |name: &str, server: &str| {
        (
            format!("derp/r/n1/{name}"),
            Job::Stun(server.parse().unwrap()),
        )
    };
    let both = [
        udp("udp6", "[2001:db8::1]:3478"),
        udp("udp", "192.0.2.1:3478"),
    ];
    assert_eq!(stun_jobs(node("n1")), both);
    let with_port = DerpNode {
        stun_port: 3479,
        ipv6: String::new(),
        ..node("n1")
    };
    assert_eq!(stun_jobs(with_port), [udp("udp", "192.0.2.1:3479")]);
    let none = DerpNode {
        ipv4: "none".to_owned(),
        ..node("n1")
    };
    assert_eq!(stun_jobs(none), both[..1]);
    assert_eq!(
        stun_jobs(DerpNode {
            stun_port: -1,
            ..node("n1")
        }),
        []
    );
}

#[test]
fn what_makes_no_sense_fails_by_itself() {
    let odd = DerpNode {
        ipv4: "192.0.2.300".to_owned(),
        ipv6: "192.0.2.1".to_owned(),
        ..node("n1")
    };
    let address = |kind: &str, field, value: &str| {
        let (node, value) = ("n1".to_owned(), value.to_owned());
        let err = FieldError::Address { node, field, value };
        (format!("derp/r/n1/{kind}"), Job::Impossible(err))
    };
    assert_eq!(
        stun_jobs(odd),
        [
            address("udp6", "IPv6", "192.0.2.1"),
            address("udp", "IPv4", "192.0.2.300")
        ]
    );
    let odd = DerpNode {
        stun_port: 70_000,
        ipv6: String::new(),
        ..node("n1")
    };
    let err = FieldError::StunPort {
        node: "n1".to_owned(),
        port: 70_000,
    };
    assert_eq!(
        stun_jobs(odd),
        [("derp/r/n1/udp".to_owned(), Job::Impossible(err))]
    );
}

#[test]
fn nodes_for_stun_only_are_probed_like_others() {
    let spare = DerpNode {
        stun_only: true,
        ..node("n1")
    };
    let spare = names(&map(&[(1, "r", &[spare])]), &all());
    assert_eq!(spare, names(&map(&[(1, "r", &[node("n1")])]), &all()));
}

#[test]
fn a_region_that_is_taken_out_of_the_map_is_no_region() {
    let mut with_hole = map(&[(1, "r", &[node("n1")])]);
    with_hole.regions.insert(2, None);
    assert_eq!(names(&with_hole, &all()).len(), 4);
    with_hole.regions.remove(&1);
    assert_eq!(plan(&with_hole, &all()), Err(PlanError::Empty));
}

#[test]
fn a_map_that_leaves_nothing_to_probe_is_not_a_fleet_that_is_well() {
    let bare = map(&[(1, "bare", &[]), (2, "full", &[node("n1")])]);
    assert_eq!(names(&bare, &all()).len(), 4);
    assert_eq!(plan(&bare, &region("bare")), Err(PlanError::Nothing));
    let idle = PlanOptions::default();
    assert_eq!(plan(&bare, &idle), Err(PlanError::Nothing));
}

#[test]
fn names_must_be_unique_among_the_regions_that_are_probed() {
    let twice = map(&[(1, "a", &[node("n1")]), (2, "b", &[node("n1")])]);
    let name = "n1".to_owned();
    assert_eq!(
        plan(&twice, &all()),
        Err(PlanError::DuplicateNode {
            name,
            first: 1,
            second: 2
        })
    );
    assert_eq!(names(&twice, &region("b")).len(), 4);
}

#[test]
fn a_region_that_is_not_there_is_told_with_those_that_are() {
    let two = map(&[(1, "nyc", &[node("n1")]), (2, "sfo", &[node("n2")])]);
    // Codes are case-sensitive.
    let error = plan(&two, &region("NYC")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the map has no region with the code or number \"NYC\"; it has \"nyc\" (1), \"sfo\" (2)"
    );
    let many: Vec<_> = (1..=21).map(|id| (id, "r", &[][..])).collect();
    let error = plan(&map(&many), &region("x")).unwrap_err().to_string();
    assert!(error.ends_with("\"r\" (20) and others"), "{error}");
}

#[test]
fn more_than_anybody_means_is_refused_before_it_is_made() {
    let many = |what, count, most| Err(PlanError::TooMany { what, count, most });
    let regions: Vec<_> = (1..=100_000).map(|id| (id, "r", &[][..])).collect();
    assert_eq!(
        plan(&map(&regions), &all()),
        many("regions", 100_000, MOST_REGIONS)
    );
    let nodes: Vec<_> = (1..=1_001).map(|n| node(&n.to_string())).collect();
    assert_eq!(
        plan(&map(&[(1, "r", &nodes)]), &all()),
        many("nodes", 1_001, MOST_NODES)
    );
    let crowded = map(&[(1, "r", &nodes[..99])]);
    assert_eq!(
        plan(&crowded, &all()),
        many("probes", 99 * 99 + 99 * 3, MOST_PROBES)
    );
    assert_eq!(
        names(&map(&[(1, "r", &nodes[..98])]), &all()).len(),
        98 * 98 + 98 * 3
    );
    assert_eq!(
        plan(&map(&[(-1, "r", &[])]), &all()),
        Err(PlanError::NegativeRegion(-1))
    );
}

/// Everything that the reference does not have, at this region.
fn ours() -> PlanOptions {
    PlanOptions {
        http: SECONDS_15,
        websocket: SECONDS_15,
        info: SECONDS_15,
        admission: SECONDS_15,
        convergence: SECONDS_15,
        ..PlanOptions::default()
    }
}

#[test]
fn what_the_reference_does_not_have_is_probed_where_it_makes_sense() {
    let on_80 = DerpNode {
        can_port80: true,
        ..node("n2")
    };
    let two = map(&[(1, "r", &[node("n1"), on_80])]);
    assert_eq!(
        names(&two, &ours()),
        [
            "derp/r/n1/http",
            "derp/r/n1/info",
            "derp/r/n1/ws",
            "derp/r/n1/n2/convergence",
            "derp/r/n2/http",
            "derp/r/n2/http80",
            "derp/r/n2/info",
            "derp/r/n2/ws",
            "derp/r/n2/n1/convergence",
        ]
    );
}

#[test]
fn nobody_is_both_turned_away_and_let_in() {
    let two = map(&[(1, "a", &[node("n1")]), (2, "b", &[node("n2")])]);
    let refusing = |names: &str, has_mesh_key| PlanOptions {
        refused: names.parse().unwrap(),
        mesh: SECONDS_15,
        http: None,
        has_mesh_key,
        ..ours()
    };
    let of_n1 = ["derp/a/n1/info", "derp/a/n1/ws", "derp/a/n1/n1/mesh"];
    let of_n2 = ["derp/b/n2/info", "derp/b/n2/ws", "derp/b/n2/n2/mesh"];
    for names_of_b in ["b", "2", "n2"] {
        let refused = ["derp/b/n2/admission"];
        let without_key = [&of_n1[..], &refused].concat();
        assert_eq!(names(&two, &refusing(names_of_b, false)), without_key);
        let with_key = [&of_n1[..], &refused, &of_n2].concat();
        assert_eq!(names(&two, &refusing(names_of_b, true)), with_key);
    }
    let everywhere = names(&two, &refusing("all", false));
    assert_eq!(everywhere, ["derp/a/n1/admission", "derp/b/n2/admission"]);
}

#[test]
fn names_that_are_nowhere_are_no_relays_that_are_well() {
    let one = map(&[(1, "a", &[node("n1")])]);
    let options = PlanOptions {
        refused: "n1,n2".parse().unwrap(),
        ..all()
    };
    let nobody = PlanError::NobodyRefuses("n2".to_owned());
    assert_eq!(plan(&one, &options), Err(nobody));
    let options = PlanOptions {
        keyed: vec!["n1".to_owned(), "n3".to_owned()],
        ..all()
    };
    let nobody = PlanError::NoSuchNode("n3".to_owned());
    assert_eq!(plan(&one, &options), Err(nobody));
}
