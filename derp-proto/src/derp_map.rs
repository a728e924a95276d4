//! The DERP map: which regions there are and how to reach their relays (`tailcfg/derpmap.go`).
//! Its JSON is read by Go's rules, for maps are written for Go's clients.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::go_struct;

/// A region's number. Tailscale reserves 900 to 999 for its users.
pub type RegionId = i64;

/// All relays that a tailnet's nodes may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DerpMap {
    /// Scores that make regions more or less likely to be chosen as a home.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_params: Option<HomeParams>,
    /// The regions by their number. `null` removes one that an earlier map had.
    pub regions: BTreeMap<RegionId, Option<DerpRegion>>,
    /// Whether the default regions of the control server are left out.
    #[serde(
        rename = "omitDefaultRegions",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub omit_default_regions: bool,
}

/// Preferences among regions.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HomeParams {
    /// A factor on a region's latency; below one makes it more attractive.
    pub region_score: BTreeMap<RegionId, f64>,
}

/// Relays that serve the same clients, in the order in which clients try them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DerpRegion {
    /// The region's number, the same as its key in the map.
    #[serde(rename = "RegionID")]
    pub region_id: RegionId,
    /// A short name, as in `tailscale ping`.
    pub region_code: String,
    /// A long name.
    pub region_name: String,
    /// Degrees north.
    #[serde(skip_serializing_if = "is_zero")]
    pub latitude: f64,
    /// Degrees east.
    #[serde(skip_serializing_if = "is_zero")]
    pub longitude: f64,
    /// Deprecated form of [`Self::no_measure_no_home`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub avoid: bool,
    /// Clients neither measure the region nor make it their home.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_measure_no_home: bool,
    /// The region's relays.
    pub nodes: Vec<DerpNode>,
}

/// One relay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DerpNode {
    /// A name that is unique in the map.
    pub name: String,
    /// The number of the region that the node is in.
    #[serde(rename = "RegionID")]
    pub region_id: RegionId,
    /// The host name, for DNS and TLS.
    pub host_name: String,
    /// The name on the certificate if it is another, or `sha256-raw:` and the certificate's hash.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert_name: String,
    /// The IPv4 address; empty for DNS, anything else that is no address for none.
    #[serde(rename = "IPv4", skip_serializing_if = "String::is_empty")]
    pub ipv4: String,
    /// The IPv6 address; empty for DNS, anything else that is no address for none.
    #[serde(rename = "IPv6", skip_serializing_if = "String::is_empty")]
    pub ipv6: String,
    /// The UDP port of STUN: 0 means 3478, -1 means none.
    #[serde(rename = "STUNPort", skip_serializing_if = "is_zero_port")]
    pub stun_port: i32,
    /// The node has STUN and no DERP.
    #[serde(rename = "STUNOnly", skip_serializing_if = "std::ops::Not::not")]
    pub stun_only: bool,
    /// The TCP port of DERP: 0 means 443.
    #[serde(rename = "DERPPort", skip_serializing_if = "is_zero_port")]
    pub derp_port: i32,
    /// Certificates are not verified.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure_for_tests: bool,
    /// Where tests send STUN requests instead.
    #[serde(rename = "STUNTestIP", skip_serializing_if = "String::is_empty")]
    pub stun_test_ip: String,
    /// Port 80 answers captive portal checks.
    #[serde(rename = "CanPort80", skip_serializing_if = "std::ops::Not::not")]
    pub can_port80: bool,
}

impl DerpNode {
    /// The TCP port of DERP, or `None` for a number that is no port.
    #[must_use]
    pub fn derp_port(&self) -> Option<u16> {
        if self.derp_port == 0 {
            Some(443)
        } else {
            u16::try_from(self.derp_port).ok()
        }
    }

    /// The UDP port of STUN, or `None` where the node has none.
    #[must_use]
    pub fn stun_port(&self) -> Option<u16> {
        if self.stun_port == 0 {
            Some(3478)
        } else {
            u16::try_from(self.stun_port).ok()
        }
    }
}

go_struct!(DerpMap {
    home_params = "HomeParams",
    regions = "Regions",
    omit_default_regions = "omitDefaultRegions",
});

go_struct!(HomeParams {
    region_score = "RegionScore",
});

go_struct!(DerpRegion {
    region_id = "RegionID",
    region_code = "RegionCode",
    region_name = "RegionName",
    latitude = "Latitude",
    longitude = "Longitude",
    avoid = "Avoid",
    no_measure_no_home = "NoMeasureNoHome",
    nodes = "Nodes",
});

go_struct!(DerpNode {
    name = "Name",
    region_id = "RegionID",
    host_name = "HostName",
    cert_name = "CertName",
    ipv4 = "IPv4",
    ipv6 = "IPv6",
    stun_port = "STUNPort",
    stun_only = "STUNOnly",
    derp_port = "DERPPort",
    insecure_for_tests = "InsecureForTests",
    stun_test_ip = "STUNTestIP",
    can_port80 = "CanPort80",
});

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero(n: &f64) -> bool {
    *n == 0.0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_zero_port(n: &i32) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_survives_a_round_trip_with_gos_names() {
        let json = r#"{"HomeParams":{"RegionScore":{"900":0.5}},"Regions":{"900":{"RegionID":900,"RegionCode":"home","RegionName":"Home","Nodes":[{"Name":"900a","RegionID":900,"HostName":"derp.example.com","CertName":"sha256-raw:00","IPv4":"192.0.2.1","IPv6":"none","STUNPort":-1,"DERPPort":8443,"CanPort80":true}]},"901":null},"omitDefaultRegions":true}"#;
        let map: DerpMap = serde_json::from_str(json).unwrap();
        let region = map.regions[&900].as_ref().unwrap();
        let node = &region.nodes[0];
        assert_eq!((node.derp_port(), node.stun_port()), (Some(8443), None));
        assert_eq!(
            (region.region_code.as_str(), &map.regions[&901]),
            ("home", &None)
        );
        assert_eq!(serde_json::to_string(&map).unwrap(), json);
    }

    #[test]
    fn ports_have_defaults_and_odd_numbers_are_none() {
        let node = |stun_port, derp_port| DerpNode {
            stun_port,
            derp_port,
            ..DerpNode::default()
        };
        let ports = |node: DerpNode| (node.stun_port(), node.derp_port());
        assert_eq!(ports(node(0, 0)), (Some(3478), Some(443)));
        assert_eq!(ports(node(-1, -1)), (None, None));
        assert_eq!(ports(node(65_536, 70_000)), (None, None));
    }

    #[test]
    fn a_map_is_read_as_gos_clients_read_it() {
        let node = |node: &str| format!(r#"{{"Regions":{{"1":{{"Nodes":[{node}]}}}}}}"#);
        let one = node(r#"{"Name":"1a","HostName":"h.test"}"#);
        let nothing = r#"{"Regions":{}}"#.to_owned();
        let table = [
            // However names are spelled.
            (
                r#"{"regions":{"1":{"nodes":[{"name":"1a","hostname":"h.test"}]}}}"#.to_owned(),
                &one,
            ),
            (
                r#"{"REGIONS":{"1":{"NODES":[{"NAME":"1a","HOSTNAME":"h.test"}]}}}"#.to_owned(),
                &one,
            ),
            // Whatever else is there.
            (
                node(r#"{"Name":"1a","HostName":"h.test","Future":[{"a":null}]}"#),
                &one,
            ),
            // A plain value that is null is as if it were not there, the last of several counts.
            (
                node(
                    r#"{"Name":"1a","Name":null,"HostName":"old.test","hostName":"h.test",
                    "IPv4":null,"STUNPort":null,"DERPPort":null,"STUNOnly":null}"#,
                ),
                &one,
            ),
            (
                r#"{"Regions":{"1":{"RegionCode":null,"Latitude":null,"Avoid":null,"RegionID":null,
                "Nodes":[{"Name":"1a","HostName":"h.test"}]}},"OmitDefaultRegions":null}"#
                    .to_owned(),
                &one,
            ),
            (
                r#"{"Regions":{"1":{"Nodes":[{"Name":"other"}],
                "nodes":[{"Name":"1a","HostName":"h.test"}]}}}"#
                    .to_owned(),
                &one,
            ),
            // Empty lists and maps.
            (r#"{"Regions":null}"#.to_owned(), &nothing),
            (
                r#"{"Regions":{"1":{}},"regions":null,"HomeParams":null}"#.to_owned(),
                &nothing,
            ),
        ];
        for (json, as_if) in table {
            let read = |json: &str| serde_json::from_str::<DerpMap>(json).unwrap();
            assert_eq!(read(&json), read(as_if), "{json}");
        }
        let map: DerpMap = serde_json::from_str(&one).unwrap();
        let nodes = &map.regions[&1].as_ref().unwrap().nodes;
        assert_eq!((nodes.len(), nodes[0].host_name.as_str()), (1, "h.test"));
    }

    #[test]
    fn regions_that_are_given_twice_are_all_there() {
        let json = r#"{"Regions":{"1":{"RegionCode":"a"},"1":{"RegionCode":"b"}},
            "regions":{"2":{},"3":null},"homeParams":{"regionScore":{"1":2}}}"#;
        let map: DerpMap = serde_json::from_str(json).unwrap();
        assert_eq!(map.regions.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(map.regions[&1].as_ref().unwrap().region_code, "b");
        assert_eq!(map.home_params.unwrap().region_score[&1], 2.0);
    }

    #[test]
    fn what_go_refuses_is_no_map() {
        for json in [
            r#"{"Regions":[]}"#,
            r#"{"Regions":{"x":{}}}"#,
            r#"{"Regions":{"1":{"Nodes":{}}}}"#,
            r#"{"Regions":{"1":{"Nodes":[["1a"]]}}}"#,
            r#"{"Regions":{"1":{"Nodes":[{"STUNPort":"3478"}]}}}"#,
            r#"{"Regions":{"1":{"Nodes":[{"Name":7}]}}}"#,
        ] {
            assert!(serde_json::from_str::<DerpMap>(json).is_err(), "{json}");
        }
    }
}
