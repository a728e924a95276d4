//! What to paste where, so that a tailnet uses this relay: the region for a Tailscale policy file
//! (JSON) and for Headscale (YAML).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use derp_proto::{DerpNode, DerpRegion, RegionId};
use serde::Serialize;

use crate::host::Host;

/// The first of the numbers that Tailscale leaves to its users.
pub const REGION_ID: RegionId = 900;

/// What clients need to know of this relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The relay's name or address.
    pub host: Host,
    /// The port of DERP over TLS.
    pub derp_port: u16,
    /// The port of STUN, or `None` where it does not run.
    pub stun_port: Option<u16>,
    /// The certificate's hash, for certificates that no authority vouches for.
    pub pin: Option<String>,
    /// Whether port 80 answers captive portal checks.
    pub can_port80: bool,
}

impl Hint {
    /// The region with this relay alone.
    #[must_use]
    pub fn region(&self) -> DerpRegion {
        let name = self.host.to_string();
        let (ipv4, ipv6) = match self.host {
            Host::Ip(IpAddr::V4(ip)) => (ip.to_string(), String::new()),
            Host::Ip(IpAddr::V6(ip)) => (String::new(), ip.to_string()),
            Host::Name(_) => (String::new(), String::new()),
        };
        let node = DerpNode {
            name: format!("{REGION_ID}a"),
            region_id: REGION_ID,
            host_name: name.trim_end_matches('.').to_owned(),
            cert_name: self.pin.clone().unwrap_or_default(),
            ipv4,
            ipv6,
            // Explicit, though clients know the usual ports: whoever reads it sees what to open.
            stun_port: self.stun_port.map_or(-1, i32::from),
            derp_port: i32::from(self.derp_port),
            can_port80: self.can_port80,
            ..DerpNode::default()
        };
        DerpRegion {
            region_id: REGION_ID,
            region_code: "derpkit".to_owned(),
            region_name: "My relay".to_owned(),
            nodes: vec![node],
            ..DerpRegion::default()
        }
    }

    /// The node alone, in one line of JSON, as the reference logs it.
    #[must_use]
    pub fn node_json(&self) -> String {
        let region = self.region();
        serde_json::to_string(&region.nodes.first()).expect("a node has only text and numbers")
    }

    /// The member `derpMap` of a Tailscale policy file.
    #[must_use]
    pub fn policy_json(&self) -> String {
        // Structures of its own, for a policy file has these names and no others.
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Policy {
            derp_map: Regions,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Regions {
            regions: BTreeMap<RegionId, DerpRegion>,
        }
        let regions = BTreeMap::from([(REGION_ID, self.region())]);
        let policy = Policy {
            derp_map: Regions { regions },
        };
        serde_json::to_string_pretty(&policy).expect("a region has only text, numbers and lists")
    }

    /// A file for Headscale's `derp.paths`.
    #[must_use]
    pub fn headscale_yaml(&self) -> String {
        let region = self.region();
        let mut yaml = format!("regions:\n  {REGION_ID}:\n");
        let mut line = |indent: &str, key: &str, value: &dyn std::fmt::Display| {
            writeln!(yaml, "{indent}{key}: {value}").expect("writing to a string cannot fail");
        };
        line("    ", "regionid", &region.region_id);
        line("    ", "regioncode", &region.region_code);
        line("    ", "regionname", &region.region_name);
        line("    ", "nodes", &"");
        for node in &region.nodes {
            // In quotes what YAML could take for something else: colons, or a number.
            let quoted = |text: &str| format!("{text:?}");
            line("      - ", "name", &node.name);
            line("        ", "regionid", &node.region_id);
            line("        ", "hostname", &quoted(&node.host_name));
            for (key, text) in [
                ("certname", &node.cert_name),
                ("ipv4", &node.ipv4),
                ("ipv6", &node.ipv6),
            ] {
                if !text.is_empty() {
                    line("        ", key, &quoted(text));
                }
            }
            line("        ", "stunport", &node.stun_port);
            line("        ", "derpport", &node.derp_port);
            if node.can_port80 {
                line("        ", "canport80", &true);
            }
        }
        yaml.replace("nodes: \n", "nodes:\n")
    }

    /// Both, with where they go.
    #[must_use]
    pub fn instructions(&self) -> String {
        format!(
            "For Tailscale, add this to the policy file (Access controls) of your tailnet:\n\n\
             {}\n\n\
             For Headscale, save this as a file and add its path to derp.paths:\n\n{}",
            self.policy_json(),
            self.headscale_yaml()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint() -> Hint {
        Hint {
            host: "192.0.2.1".parse().unwrap(),
            derp_port: 8443,
            stun_port: Some(3478),
            pin: Some("sha256-raw:00ff".to_owned()),
            can_port80: false,
        }
    }

    #[test]
    fn a_policy_file_gets_json() {
        let expected = serde_json::json!({ "derpMap": { "Regions": { "900": {
            "RegionID": 900,
            "RegionCode": "derpkit",
            "RegionName": "My relay",
            "Nodes": [{
                "Name": "900a",
                "RegionID": 900,
                "HostName": "192.0.2.1",
                "CertName": "sha256-raw:00ff",
                "IPv4": "192.0.2.1",
                "STUNPort": 3478,
                "DERPPort": 8443,
            }],
        }}}});
        let json: serde_json::Value = serde_json::from_str(&hint().policy_json()).unwrap();
        assert_eq!(json, expected);
    }

    #[test]
    fn headscale_gets_yaml() {
        assert_eq!(
            hint().headscale_yaml(),
            "regions:\n  900:\n    regionid: 900\n    regioncode: derpkit\n    \
             regionname: My relay\n    nodes:\n      - name: 900a\n        regionid: 900\n        \
             hostname: \"192.0.2.1\"\n        certname: \"sha256-raw:00ff\"\n        \
             ipv4: \"192.0.2.1\"\n        stunport: 3478\n        derpport: 8443\n"
        );
    }

    #[test]
    fn only_what_is_there_is_promised() {
        let hint = Hint {
            host: "derp.example.com.".parse().unwrap(),
            derp_port: 443,
            stun_port: None,
            pin: None,
            can_port80: true,
        };
        let node = DerpNode {
            name: "900a".to_owned(),
            region_id: 900,
            host_name: "derp.example.com".to_owned(),
            stun_port: -1,
            derp_port: 443,
            can_port80: true,
            ..DerpNode::default()
        };
        assert_eq!(hint.region().nodes, [node]);
        let yaml = hint.headscale_yaml();
        assert!(
            yaml.ends_with("stunport: -1\n        derpport: 443\n        canport80: true\n"),
            "{yaml}"
        );
        let v6 = Hint {
            host: "2001:db8::1".parse().unwrap(),
            ..hint
        };
        assert_eq!(v6.region().nodes[0].ipv6, "2001:db8::1");
        assert!(
            v6.headscale_yaml()
                .contains("        ipv6: \"2001:db8::1\"\n")
        );
    }
}
