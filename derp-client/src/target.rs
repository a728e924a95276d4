//! Which server to connect to, as a caller says it.

use derp_proto::{DerpNode, DerpRegion};
use thiserror::Error;

use crate::tls::{CertCheck, PinError};
use crate::url::{Host, ServerUrl};

/// A server to connect to, or several of which the first that can be reached will do.
#[derive(Debug, Clone)]
pub enum Target {
    /// The nodes of a region in their order, `STUNOnly` ones left out.
    Region(DerpRegion),
    /// One node of a map.
    Node(DerpNode),
    /// A server that is in no map.
    Url(UrlTarget),
}

/// A server that is known by its URL.
#[derive(Debug, Clone)]
pub struct UrlTarget {
    /// Its URL.
    pub url: ServerUrl,
    /// Another name or address to connect to; TLS and HTTP go on using the URL's.
    pub dial_host: Option<Host>,
    /// How its certificate is checked.
    pub check: CertCheck,
}

impl From<ServerUrl> for Target {
    fn from(url: ServerUrl) -> Self {
        Self::Url(UrlTarget {
            url,
            dial_host: None,
            check: CertCheck::HostName,
        })
    }
}

/// A server's description that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TargetError {
    /// The region has no nodes.
    #[error("region {0} has no nodes")]
    NoNodes(String),
    /// The region's nodes have STUN and no DERP.
    #[error("region {0} has only nodes without DERP")]
    OnlyStun(String),
    /// Neither a DNS name nor an address.
    #[error("{0:?} is no host name")]
    HostName(String),
    /// Not a port.
    #[error("{0} is no port")]
    Port(i32),
    /// A certificate's name that is neither a host name nor a pin.
    #[error("certificate name {0:?} is no host name")]
    CertName(String),
    /// A pin that is none. Nothing is connected to without it.
    #[error("certificate pin {0:?} is not usable")]
    Pin(String, #[source] PinError),
    /// Neither IPv4 nor IPv6 may be used.
    #[error("both IPv4 and IPv6 are disabled")]
    NoFamily,
    /// Not the URL of a server.
    #[error("{0:?} is no http or https URL of a server")]
    Url(String),
}

/// Text of somebody else's, fit for an error message.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}

/// How errors and logs call a node.
pub(crate) fn node_name(node: &DerpNode) -> String {
    let (name, host) = (printable(&node.name), printable(&node.host_name));
    match node.derp_port {
        0 => format!("node {name} ({host})"),
        port => format!("node {name} ({host}, port {port})"),
    }
}

/// How errors and logs call a region.
pub(crate) fn region_name(region: &DerpRegion) -> String {
    format!("{} ({})", region.region_id, printable(&region.region_code))
}
