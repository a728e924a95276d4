//! Files as Headscale has them, and as nobody should.

use derp_proto::{DerpNode, DerpRegion};

use super::*;

fn words(text: &str) -> String {
    parse(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn a_map_of_headscale_is_read() {
    let text = r#"
# A relay of our own, and one of Tailscale's that is taken out.
regions:
  1: null
  900:
    regionid: 900
    regioncode: custom
    regionname: "My: Region"
    latitude: 48.1
    unknown: [ignored]
    nodes:
      - name: 900a
        regionid: 900
        hostname: derp.example.com
        certname: 'sha256-raw:00ff'
        ipv4: 198.51.100.1
        ipv6: none
        stunport: 3479
        stunonly: false
        derpport: 0
        canport80: true
      - {name: 900, hostname: "192.0.2.1", stunport: -1, ipv6: ~}
---
regions: {2: {}}
"#;
    let map = parse(text.as_bytes()).unwrap();
    let node = DerpNode {
        name: "900a".to_owned(),
        region_id: 900,
        host_name: "derp.example.com".to_owned(),
        cert_name: "sha256-raw:00ff".to_owned(),
        ipv4: "198.51.100.1".to_owned(),
        ipv6: "none".to_owned(),
        stun_port: 3479,
        can_port80: true,
        ..DerpNode::default()
    };
    let other = DerpNode {
        name: "900".to_owned(),
        host_name: "192.0.2.1".to_owned(),
        stun_port: -1,
        ..DerpNode::default()
    };
    let region = DerpRegion {
        region_id: 900,
        region_code: "custom".to_owned(),
        region_name: "My: Region".to_owned(),
        latitude: 48.1,
        nodes: vec![node, other],
        ..DerpRegion::default()
    };
    let expected = DerpMap {
        regions: [(1, None), (900, Some(region))].into(),
        ..DerpMap::default()
    };
    assert_eq!(map, expected);
    assert_eq!(parse(b"").unwrap_err().to_string(), "it holds nothing");
}

#[test]
fn what_is_no_map_says_where() {
    for (text, expected) in [
        (
            "regions: 7",
            "regions of the map must be regions by their numbers",
        ),
        (
            "regions: {a: {}}",
            "the key of region a must be a whole number",
        ),
        (
            "regions: {1: {nodes: [{stunport: many}]}}",
            "stunport of node 1 of nodes of region 1 must be a whole number",
        ),
        (
            "regions: {1: {avoid: perhaps}}",
            "avoid of region 1 must be true or false",
        ),
        ("[regions]", "the map must be fields with values"),
        (
            "regions: {1: {}, 1: {}}",
            "line 1: the key \"1\" is there twice",
        ),
        ("? [a]\n: b", "line 1: a key is not a word"),
    ] {
        assert_eq!(words(text), expected, "{text}");
    }
    let number = format!("regions: {{1: {{nodes: [{{stunport: {}}}]}}}}", i64::MAX);
    assert!(words(&number).contains("i32"), "{}", words(&number));
    assert!(!words("regions: {").is_empty());
    assert_eq!(parse(b"\xff").unwrap_err(), YamlError::NotText);
}

#[test]
fn a_few_lines_do_not_become_gigabytes() {
    let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
    let refused = "line 1: anchors and aliases are not read in a map; write it out";
    assert_eq!(words(bomb), refused);
    let deep = "[".repeat(100);
    assert!(words(&deep).ends_with("there is more in it than in any map"));
    let wide = format!("[{}]", "x,".repeat(MOST));
    assert!(words(&wide).ends_with("there is more in it than in any map"));
}

/// More than a tree holds.
const MOST: usize = 500_001;
