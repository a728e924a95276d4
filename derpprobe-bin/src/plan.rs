//! Which probes a DERP map asks for: map and options in, a list out (`prober/derp.go`).
//!
//! Nothing is connected to here, and nothing is probed that is not in the list. What is odd about
//! a single address or port becomes a probe that cannot run, so that the others still do.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use derp_proto::{DerpMap, DerpNode, DerpRegion, RegionId};
use thiserror::Error;

/// The most regions that are probed; the largest map in use has some dozens.
pub const MOST_REGIONS: usize = 1_000;
/// The most nodes that are probed.
pub const MOST_NODES: usize = 1_000;
/// The most probes. A region needs as many as the square of its nodes.
pub const MOST_PROBES: usize = 10_000;

/// What is to be probed, and how often. A kind without an interval is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanOptions {
    /// The code or the number of the only region that is probed.
    pub region: Option<String>,
    /// Certificates.
    pub tls: Option<Duration>,
    /// STUN, at the addresses that stand in the map.
    pub stun: Option<Duration>,
    /// Relaying, between every two nodes of a region and at each of them.
    pub mesh: Option<Duration>,
    /// The same with so many bytes.
    pub bandwidth: Option<(Duration, u64)>,
}

/// A probe that is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its name, as the reference's.
    pub name: String,
    /// How often it would run.
    pub interval: Duration,
    /// What it does.
    pub job: Job,
}

impl Planned {
    /// How long a run may take (`prober/prober.go`).
    #[must_use]
    pub fn timeout(&self) -> Duration {
        four_fifths(self.interval)
    }
}

/// The part of an interval that a run may take.
#[must_use]
pub fn four_fifths(interval: Duration) -> Duration {
    interval / 5 * 4
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Looks at the node's certificate.
    Tls(Arc<DerpNode>),
    /// Asks for a STUN answer.
    Stun(SocketAddr),
    /// Sends a packet from a client of one node to a client of the other, or of the same.
    Relay(Pair),
    /// Sends so many bytes that way.
    Bandwidth(Pair, u64),
    /// Fails: what the map says makes no sense.
    Impossible(FieldError),
}

/// Two nodes of a region, which may be the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The node of the client that sends.
    pub from: Arc<DerpNode>,
    /// The node of the client that receives.
    pub to: Arc<DerpNode>,
}

/// A field of a node that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FieldError {
    /// Neither an address of its family nor `none`.
    #[error(
        "{field} of node {node} is {value:?}, which is neither an {field} address nor \"none\""
    )]
    Address {
        /// The node's name.
        node: String,
        /// `IPv4` or `IPv6`.
        field: &'static str,
        /// What stands there.
        value: String,
    },
    /// A number that is no port.
    #[error("STUNPort of node {node} is {port}; it must be a port, 0 for 3478 or -1 for no STUN")]
    StunPort {
        /// The node's name.
        node: String,
        /// What stands there.
        port: i32,
    },
}

/// A map of which no plan can be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// There is nothing in it.
    #[error("the map has no regions")]
    Empty,
    /// The region that was asked for is not there.
    #[error("the map has no region with the code or number {wanted:?}; it has {known}")]
    NoSuchRegion {
        /// The code or number.
        wanted: String,
        /// The first regions that it does have.
        known: String,
    },
    /// A number that is none of a region.
    #[error("region {0} has a negative number; numbers of regions are positive")]
    NegativeRegion(RegionId),
    /// Clients and results could not tell the two apart.
    #[error("two nodes have the name {name:?}: one in region {first}, one in region {second}")]
    DuplicateNode {
        /// The name.
        name: String,
        /// The region of the first.
        first: RegionId,
        /// The region of the other.
        second: RegionId,
    },
    /// More than anybody means to probe.
    #[error(
        "the map asks for {count} {what}, of which there may be {most}; choose a region with \
             -region-code"
    )]
    TooMany {
        /// Regions, nodes or probes.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
}

/// Lists the probes for `map`, in the order of regions and nodes.
///
/// Nodes that are marked `STUNOnly` are probed like any other, so that a relay can be watched that
/// clients are not to use yet.
///
/// # Errors
/// [`PlanError`] where the map as a whole makes no sense.
pub fn plan(map: &DerpMap, options: &PlanOptions) -> Result<Vec<Planned>, PlanError> {
    let regions = wanted_regions(map, options.region.as_deref())?;
    names_are_unique(&regions)?;
    numbers_are_sane(&regions, options)?;
    let mut probes = Vec::new();
    for (_, region) in regions {
        let nodes: Vec<_> = region
            .nodes
            .iter()
            .map(|node| Arc::new(node.clone()))
            .collect();
        for from in &nodes {
            of_node(region, from, options, &mut probes);
            for to in &nodes {
                of_pair(region, from, to, options, &mut probes);
            }
        }
    }
    Ok(probes)
}

type Regions<'a> = Vec<(RegionId, &'a DerpRegion)>;

fn wanted_regions<'a>(map: &'a DerpMap, wanted: Option<&str>) -> Result<Regions<'a>, PlanError> {
    let all = || {
        map.regions
            .iter()
            .filter_map(|(&id, region)| Some((id, region.as_ref()?)))
    };
    if all().next().is_none() {
        return Err(PlanError::Empty);
    }
    let Some(wanted) = wanted else {
        return Ok(all().collect());
    };
    let is_wanted = |(id, region): &(RegionId, &DerpRegion)| {
        region.region_code == wanted
            || region.region_id.to_string() == wanted
            || id.to_string() == wanted
    };
    let found: Regions<'_> = all().filter(is_wanted).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let some = all()
        .take(SHOWN_REGIONS)
        .map(|(id, region)| format!("{:?} ({id})", region.region_code));
    let mut known = some.collect::<Vec<_>>().join(", ");
    if all().count() > SHOWN_REGIONS {
        known.push_str(" and others");
    }
    Err(PlanError::NoSuchRegion {
        wanted: wanted.to_owned(),
        known,
    })
}

fn names_are_unique(regions: &Regions<'_>) -> Result<(), PlanError> {
    let mut seen = BTreeMap::new();
    for (id, region) in regions {
        for node in &region.nodes {
            if let Some(first) = seen.insert(&node.name, *id) {
                let name = node.name.clone();
                return Err(PlanError::DuplicateNode {
                    name,
                    first,
                    second: *id,
                });
            }
        }
    }
    Ok(())
}

fn numbers_are_sane(regions: &Regions<'_>, options: &PlanOptions) -> Result<(), PlanError> {
    let negative = |(id, region): &&(RegionId, &DerpRegion)| *id < 0 || region.region_id < 0;
    if let Some((id, region)) = regions.iter().find(negative) {
        return Err(PlanError::NegativeRegion(region.region_id.min(*id)));
    }
    let per_pair = usize::from(options.mesh.is_some()) + usize::from(options.bandwidth.is_some());
    let (mut nodes, mut probes) = (0_usize, 0_usize);
    for (_, region) in regions {
        let count = region.nodes.len();
        nodes = nodes.saturating_add(count);
        let pairs = count.saturating_mul(count).saturating_mul(per_pair);
        probes = probes
            .saturating_add(count.saturating_mul(3))
            .saturating_add(pairs);
    }
    for (what, count, most) in [
        ("regions", regions.len(), MOST_REGIONS),
        ("nodes", nodes, MOST_NODES),
        ("probes", probes, MOST_PROBES),
    ] {
        if count > most {
            return Err(PlanError::TooMany { what, count, most });
        }
    }
    Ok(())
}

/// The probes of one node.
fn of_node(
    region: &DerpRegion,
    node: &Arc<DerpNode>,
    options: &PlanOptions,
    probes: &mut Vec<Planned>,
) {
    let prefix = format!("derp/{}/{}", region.region_code, node.name);
    if let Some(interval) = options.tls {
        probes.push(Planned {
            name: format!("{prefix}/tls"),
            interval,
            job: Job::Tls(Arc::clone(node)),
        });
    }
    let Some(interval) = options.stun else { return };
    for (kind, address) in [
        ("udp6", stun_address::<Ipv6Addr>(node, "IPv6", &node.ipv6)),
        ("udp", stun_address::<Ipv4Addr>(node, "IPv4", &node.ipv4)),
    ] {
        let job = match address {
            Ok(None) => continue,
            Ok(Some(server)) => Job::Stun(server),
            Err(err) => Job::Impossible(err),
        };
        probes.push(Planned {
            name: format!("{prefix}/{kind}"),
            interval,
            job,
        });
    }
}

/// The probes from one node of a region to one that may be another.
fn of_pair(
    region: &DerpRegion,
    from: &Arc<DerpNode>,
    to: &Arc<DerpNode>,
    options: &PlanOptions,
    probes: &mut Vec<Planned>,
) {
    let prefix = format!("derp/{}/{}/{}", region.region_code, from.name, to.name);
    let pair = || Pair {
        from: Arc::clone(from),
        to: Arc::clone(to),
    };
    if let Some(interval) = options.mesh {
        probes.push(Planned {
            name: format!("{prefix}/mesh"),
            interval,
            job: Job::Relay(pair()),
        });
    }
    if let Some((interval, bytes)) = options.bandwidth {
        probes.push(Planned {
            name: format!("{prefix}/bw"),
            interval,
            job: Job::Bandwidth(pair(), bytes),
        });
    }
}

/// Where the node is asked for STUN in one family, or `None` where it is not.
///
/// An empty field leaves the address to DNS, which the reference does not probe either; `none`
/// says that there is no such address.
fn stun_address<A>(
    node: &DerpNode,
    field: &'static str,
    value: &str,
) -> Result<Option<SocketAddr>, FieldError>
where
    A: FromStr + Into<IpAddr>,
{
    if value.is_empty() || value == "none" || node.stun_port == -1 {
        return Ok(None);
    }
    let name = || node.name.clone();
    let Ok(ip) = value.parse::<A>() else {
        return Err(FieldError::Address {
            node: name(),
            field,
            value: value.to_owned(),
        });
    };
    match node.stun_port() {
        Some(port) => Ok(Some(SocketAddr::new(ip.into(), port))),
        None => Err(FieldError::StunPort {
            node: name(),
            port: node.stun_port,
        }),
    }
}

/// How many regions an error names.
const SHOWN_REGIONS: usize = 20;

#[cfg(test)]
mod tests;
