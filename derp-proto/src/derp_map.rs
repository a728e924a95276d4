//! The DERP map: which regions there are and how to reach their relays (`tailcfg/derpmap.go`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A region's number. Tailscale reserves 900 to 999 for its users.
pub type RegionId = i64;

/// All relays that a tailnet's nodes may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DerpMap {
    /// Scores that make regions more or less likely to be chosen as a home.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home_params: Option<HomeParams>,
    /// The regions by their number. `null` removes one that an earlier map had.
    #[serde(default, deserialize_with = "null_as_default")]
    pub regions: BTreeMap<RegionId, Option<DerpRegion>>,
    /// Whether the default regions of the control server are left out.
    #[serde(
        default,
        rename = "omitDefaultRegions",
        alias = "OmitDefaultRegions",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub omit_default_regions: bool,
}

/// Preferences among regions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HomeParams {
    /// A factor on a region's latency; below one makes it more attractive.
    #[serde(default, deserialize_with = "null_as_default")]
    pub region_score: BTreeMap<RegionId, f64>,
}

/// Relays that serve the same clients, in the order in which clients try them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DerpRegion {
    /// The region's number, the same as its key in the map.
    #[serde(rename = "RegionID", default)]
    pub region_id: RegionId,
    /// A short name, as in `tailscale ping`.
    #[serde(default)]
    pub region_code: String,
    /// A long name.
    #[serde(default)]
    pub region_name: String,
    /// Degrees north.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub latitude: f64,
    /// Degrees east.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub longitude: f64,
    /// Deprecated form of [`Self::no_measure_no_home`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub avoid: bool,
    /// Clients neither measure the region nor make it their home.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_measure_no_home: bool,
    /// The region's relays.
    #[serde(default, deserialize_with = "null_as_default")]
    pub nodes: Vec<DerpNode>,
}

/// One relay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DerpNode {
    /// A name that is unique in the map.
    #[serde(default)]
    pub name: String,
    /// The number of the region that the node is in.
    #[serde(rename = "RegionID", default)]
    pub region_id: RegionId,
    /// The host name, for DNS and TLS.
    #[serde(default)]
    pub host_name: String,
    /// The name on the certificate if it is another, or `sha256-raw:` and the certificate's hash.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cert_name: String,
    /// The IPv4 address; empty for DNS, anything else that is no address for none.
    #[serde(rename = "IPv4", default, skip_serializing_if = "String::is_empty")]
    pub ipv4: String,
    /// The IPv6 address; empty for DNS, anything else that is no address for none.
    #[serde(rename = "IPv6", default, skip_serializing_if = "String::is_empty")]
    pub ipv6: String,
    /// The UDP port of STUN: 0 means 3478, -1 means none.
    #[serde(rename = "STUNPort", default, skip_serializing_if = "is_zero_port")]
    pub stun_port: i32,
    /// The node has STUN and no DERP.
    #[serde(
        rename = "STUNOnly",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub stun_only: bool,
    /// The TCP port of DERP: 0 means 443.
    #[serde(rename = "DERPPort", default, skip_serializing_if = "is_zero_port")]
    pub derp_port: i32,
    /// Certificates are not verified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_for_tests: bool,
    /// Where tests send STUN requests instead.
    #[serde(
        rename = "STUNTestIP",
        default,
        skip_serializing_if = "String::is_empty"
    )]
    pub stun_test_ip: String,
    /// Port 80 answers captive portal checks.
    #[serde(
        rename = "CanPort80",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
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

/// Go writes empty lists and maps as `null`.
fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
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
    fn nulls_of_go_are_empty() {
        let map: DerpMap = serde_json::from_str(r#"{"Regions":null}"#).unwrap();
        assert_eq!(map, DerpMap::default());
    }
}
