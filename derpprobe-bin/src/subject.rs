//! What a probe is about: its kind, its region and its nodes, as metrics label it and pages show
//! it. The names of kinds and labels are the reference's where it has them (`prober/derp.go`).

use derp_proto::{DerpNode, DerpRegion, RegionId};

/// What a probe is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// What kind of probe it is.
    pub class: Class,
    /// The region; only the map's own probe has none.
    pub region: Option<RegionName>,
    /// The node, or of two nodes the one that sends.
    pub node: Option<NodeName>,
    /// The node that receives, which may be the same one. Only probes of a way have it.
    pub to: Option<NodeName>,
    /// The family of addresses, where the probe is about one.
    pub family: Option<Family>,
}

/// A region as people and metrics call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionName {
    /// Its number.
    pub id: RegionId,
    /// Its code, as in `nyc`.
    pub code: String,
}

/// A node as people and metrics call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName {
    /// Its name in the map.
    pub name: String,
    /// Its host name.
    pub host: String,
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// The value of the label `address_family`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// A kind of probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Class {
    /// Getting the map.
    Map,
    /// A node's certificate.
    Tls,
    /// STUN.
    Stun,
    /// One packet through one relay or two.
    Relay,
    /// Many packets the same way.
    Bandwidth,
    /// How long packets take that way.
    QueueDelay,
    /// What a relay answers over HTTP.
    Http,
    /// One packet through one relay, in a WebSocket.
    WebSocket,
    /// The relay's key, and what it says of itself.
    Info,
    /// That a stranger is refused.
    Admission,
    /// How soon a relay knows another one's clients.
    Convergence,
}

impl Class {
    /// The value of the label `class`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Map => "derp_map",
            Self::Tls => "tls",
            Self::Stun => "derp_udp",
            Self::Relay => "derp_mesh",
            Self::Bandwidth => "derp_bw",
            Self::QueueDelay => "derp_qd",
            Self::Http => "derp_http",
            Self::WebSocket => "derp_ws",
            Self::Info => "derp_info",
            Self::Admission => "derp_admission",
            Self::Convergence => "derp_convergence",
        }
    }
}

impl Subject {
    /// Getting the map.
    #[must_use]
    pub const fn map() -> Self {
        Self {
            class: Class::Map,
            region: None,
            node: None,
            to: None,
            family: None,
        }
    }

    /// A probe of a node.
    #[must_use]
    pub fn of_node(class: Class, id: RegionId, region: &DerpRegion, node: &DerpNode) -> Self {
        Self {
            class,
            region: Some(RegionName {
                id,
                code: region.region_code.clone(),
            }),
            node: Some(named(node)),
            ..Self::map()
        }
    }

    /// The same of one family of addresses.
    #[must_use]
    pub fn with_family(self, family: Family) -> Self {
        Self {
            family: Some(family),
            ..self
        }
    }

    /// The same of the way to this node.
    #[must_use]
    pub fn with_receiver(self, to: &DerpNode) -> Self {
        Self {
            to: Some(named(to)),
            ..self
        }
    }

    /// The labels of the reference's metrics besides the probe's name and class.
    #[must_use]
    pub fn labels(&self) -> Vec<(&'static str, String)> {
        let mut labels = Vec::new();
        if let Some(region) = &self.region {
            labels.push(("region", region.code.clone()));
            labels.push(("region_id", region.id.to_string()));
        }
        if let Some(node) = &self.node {
            labels.push(("hostname", node.host.clone()));
        }
        if let Some(family) = self.family {
            labels.push(("address_family", family.as_str().to_owned()));
        }
        if let (Some(from), Some(to)) = (&self.node, &self.to) {
            let path = if from.name == to.name {
                "single"
            } else {
                "mesh"
            };
            labels.push(("derp_path", path.to_owned()));
        }
        if self.class == Class::Bandwidth {
            labels.push(("tcp_in_tcp", "false".to_owned()));
        }
        labels
    }
}

fn named(node: &DerpNode) -> NodeName {
    NodeName {
        name: node.name.clone(),
        host: node.host_name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_the_reference() {
        let region = DerpRegion {
            region_code: "nyc".to_owned(),
            ..DerpRegion::default()
        };
        let node = |name: &str| DerpNode {
            name: name.to_owned(),
            host_name: format!("{name}.test"),
            ..DerpNode::default()
        };
        let (a, b) = (node("a"), node("b"));
        let of = |class| Subject::of_node(class, 7, &region, &a);
        let words = |subject: Subject| {
            let labels = subject.labels();
            let pairs = labels.iter().map(|(name, value)| format!("{name}={value}"));
            pairs.collect::<Vec<_>>().join(" ")
        };
        let node = "region=nyc region_id=7 hostname=a.test";
        assert_eq!(words(Subject::map()), "");
        assert_eq!(words(of(Class::Tls)), node);
        assert_eq!(
            words(of(Class::Stun).with_family(Family::Ipv6)),
            format!("{node} address_family=ipv6")
        );
        assert_eq!(
            words(of(Class::Relay).with_receiver(&b)),
            format!("{node} derp_path=mesh")
        );
        assert_eq!(
            words(of(Class::Bandwidth).with_receiver(&a)),
            format!("{node} derp_path=single tcp_in_tcp=false")
        );
    }
}
