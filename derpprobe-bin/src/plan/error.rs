//! Maps, and parts of them, of which no probes can be made.

use derp_proto::RegionId;
use thiserror::Error;

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
    #[error("the map has no regions; is it a DERP map, with \"Regions\" at its top?")]
    Empty,
    /// Nobody would look at anything, which is not health.
    #[error(
        "the map leaves nothing to probe: there is no node in its regions, or none with anything \
             of what is to be probed"
    )]
    Nothing,
    /// The region that was asked for is not there.
    #[error("the map has no region with the code or number {wanted:?}; it has {known}")]
    NoSuchRegion {
        /// The code or number.
        wanted: String,
        /// The first regions that it does have.
        known: String,
    },
    /// Strangers are to be refused by something that is not there.
    #[error(
        "-expect-refused names {0:?}, which is neither the code or number of a region that is \
             probed nor the name of a node in one"
    )]
    NobodyRefuses(String),
    /// A key is expected of something that is not there.
    #[error("-server-key names {0:?}, which is no node that is probed")]
    NoSuchNode(String),
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
