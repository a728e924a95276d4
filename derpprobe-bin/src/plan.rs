//! Which probes a DERP map asks for: map and options in, a list out (`prober/derp.go`).
//!
//! Nothing is connected to here, and nothing is probed that is not in the list. What is odd about
//! a single address or port becomes a probe that cannot run, so that the others still do.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use derp_proto::{DerpMap, DerpNode, DerpRegion, RegionId};

use crate::subject::Subject;

mod error;
mod place;
mod refused;

pub use error::{FieldError, PlanError};
use place::Place;
pub use refused::Refused;

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
    /// The same with packets at a steady rate.
    pub queue_delay: Option<(Duration, Pace)>,
    /// How soon a relay knows a client of another of its region.
    pub convergence: Option<Duration>,
    /// What relays answer over HTTP.
    pub http: Option<Duration>,
    /// Relaying in a WebSocket, at each node.
    pub websocket: Option<Duration>,
    /// The relays' keys, and what they say of themselves.
    pub info: Option<Duration>,
    /// That strangers are refused, at the nodes where that is expected.
    pub admission: Option<Duration>,
    /// Where strangers are to be refused.
    pub refused: Refused,
    /// The nodes that are to have a key which the operator gave.
    pub keyed: Vec<String>,
    /// Whether there is a mesh key, with which every relay admits the probe.
    pub has_mesh_key: bool,
}

/// How packets are sent that show a queue's delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How many a second.
    pub packets_per_second: u32,
    /// When a packet counts as lost.
    pub packet_timeout: Duration,
}

/// A probe that is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// Its name, as the reference's.
    pub name: String,
    /// How often it would run.
    pub interval: Duration,
    /// What it is about.
    pub subject: Arc<Subject>,
    /// What it does.
    pub job: Job,
}

impl Planned {
    /// How long a run may take (`prober/prober.go`).
    #[must_use]
    pub fn timeout(&self) -> Duration {
        four_fifths(self.interval)
    }

    /// Whether it sends so much that nothing else should be measured meanwhile.
    #[must_use]
    pub const fn is_heavy(&self) -> bool {
        matches!(self.job, Job::Bandwidth(..))
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
    /// Sends packets at this pace that way.
    QueueDelay(Pair, Pace),
    /// Looks how soon the first node knows a client that comes to the second.
    Convergence(Pair),
    /// Asks for the pages that clients ask for.
    Http(Arc<DerpNode>),
    /// Asks for what clients ask for on port 80.
    Http80(Arc<DerpNode>),
    /// Sends a packet through the node in WebSockets.
    WebSocket(Arc<DerpNode>),
    /// Logs in, and looks at the node's key.
    Info(Arc<DerpNode>),
    /// Logs in as nobody knows whom, and is to be refused.
    Admission(Arc<DerpNode>),
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
    options.refused.all_exist(&regions)?;
    keyed_nodes_exist(&regions, &options.keyed)?;
    let mut probes = Vec::new();
    for (id, region) in regions {
        let nodes: Vec<_> = region
            .nodes
            .iter()
            .map(|node| Arc::new(node.clone()))
            .collect();
        let mut place = Place {
            id,
            region,
            options,
            probes: &mut probes,
        };
        for from in &nodes {
            place.node(from);
            for to in &nodes {
                place.pair(from, to);
            }
        }
    }
    if probes.is_empty() {
        return Err(PlanError::Nothing);
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

/// A name with a mistake in it must not pass for a relay whose key is right.
fn keyed_nodes_exist(regions: &Regions<'_>, keyed: &[String]) -> Result<(), PlanError> {
    let nodes = regions.iter().flat_map(|(_, region)| &region.nodes);
    match keyed
        .iter()
        .find(|name| !nodes.clone().any(|node| node.name == **name))
    {
        Some(name) => Err(PlanError::NoSuchNode(name.clone())),
        None => Ok(()),
    }
}

fn numbers_are_sane(regions: &Regions<'_>, options: &PlanOptions) -> Result<(), PlanError> {
    let negative = |(id, region): &&(RegionId, &DerpRegion)| *id < 0 || region.region_id < 0;
    if let Some((id, region)) = regions.iter().find(negative) {
        return Err(PlanError::NegativeRegion(region.region_id.min(*id)));
    }
    let per_pair = options.kinds_of_pairs();
    let per_node = options.kinds_of_nodes();
    let (mut nodes, mut probes) = (0_usize, 0_usize);
    for (_, region) in regions {
        let count = region.nodes.len();
        nodes = nodes.saturating_add(count);
        let pairs = count.saturating_mul(count).saturating_mul(per_pair);
        probes = probes
            .saturating_add(count.saturating_mul(per_node))
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
