//! TCP to a node, at the addresses that its clients use.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use derp_proto::DerpNode;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};

use crate::connect;
use crate::deadline::{Deadline, TimedOut};

/// A node that TCP does not reach.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DialFault {
    /// The map's: not a port.
    #[error("DERPPort {0} is no port")]
    Port(i32),
    /// The resolver's.
    #[error("{0} cannot be looked up")]
    Dns(String, #[source] io::Error),
    /// The map's or the resolver's: nowhere to connect to.
    #[error("{0} has no address: neither in the map nor by DNS")]
    NoAddress(String),
    /// The network's or the node's.
    #[error("cannot connect to {0} by TCP")]
    Tcp(SocketAddr, #[source] io::Error),
    /// It took too long.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
}

/// Connects to the first address of the node that answers, IPv4 before IPv6.
pub(super) async fn dial(node: &DerpNode, deadline: Deadline) -> Result<TcpStream, DialFault> {
    let port = node.derp_port().ok_or(DialFault::Port(node.derp_port))?;
    let looking = deadline.keep("looking up the node's name", addresses(node, port));
    let connecting = connect::first(looking.await??);
    let connected = deadline.keep("connecting to the node by TCP", connecting);
    connected.await?.map_err(|fault| match fault {
        Some((address, err)) => DialFault::Tcp(address, err),
        None => DialFault::NoAddress(node.host_name.clone()),
    })
}

async fn addresses(node: &DerpNode, port: u16) -> Result<Vec<SocketAddr>, DialFault> {
    let ipv4 = Field::<Ipv4Addr>::of(&node.ipv4);
    let ipv6 = Field::<Ipv6Addr>::of(&node.ipv6);
    let has_literal = ipv4.given().is_some() || ipv6.given().is_some();
    let mut found = Vec::new();
    if matches!(ipv4, Field::Lookup) || matches!(ipv6, Field::Lookup) {
        match lookup_host((node.host_name.as_str(), port)).await {
            Ok(addresses) => found.extend(addresses),
            // The map's own address of the other family is enough.
            Err(_) if has_literal => {}
            Err(err) => return Err(DialFault::Dns(node.host_name.clone(), err)),
        }
    }
    let of_family = |given: Option<IpAddr>, by_dns: bool, is_member: fn(&SocketAddr) -> bool| {
        let looked_up = found
            .iter()
            .copied()
            .filter(move |addr| by_dns && is_member(addr));
        given
            .map(|ip| SocketAddr::new(ip, port))
            .into_iter()
            .chain(looked_up.take(MOST_ADDRESSES))
    };
    let ipv4 = of_family(
        ipv4.given(),
        matches!(ipv4, Field::Lookup),
        SocketAddr::is_ipv4,
    );
    let ipv6 = of_family(
        ipv6.given(),
        matches!(ipv6, Field::Lookup),
        SocketAddr::is_ipv6,
    );
    Ok(ipv4.chain(ipv6).collect())
}

/// What a map says of a node's addresses of one family (`derp/derphttp/derphttp_client.go`).
enum Field<A> {
    /// Ask DNS.
    Lookup,
    /// This one.
    Literal(A),
    /// There is none.
    Off,
}

impl<A: FromStr + Copy + Into<IpAddr>> Field<A> {
    fn of(text: &str) -> Self {
        match text.parse() {
            Ok(ip) => Self::Literal(ip),
            Err(_) if text.is_empty() => Self::Lookup,
            Err(_) => Self::Off,
        }
    }

    fn given(&self) -> Option<IpAddr> {
        match self {
            Self::Literal(ip) => Some((*ip).into()),
            Self::Lookup | Self::Off => None,
        }
    }
}

/// How many addresses of a family are tried, whatever the resolver says.
const MOST_ADDRESSES: usize = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn node(host: &str, ipv4: &str, ipv6: &str) -> DerpNode {
        DerpNode {
            host_name: host.to_owned(),
            ipv4: ipv4.to_owned(),
            ipv6: ipv6.to_owned(),
            ..DerpNode::default()
        }
    }

    #[tokio::test]
    async fn addresses_are_those_that_clients_use() {
        let table: [(DerpNode, &[&str]); 6] = [
            (
                node("derp.invalid", "192.0.2.1", "none"),
                &["192.0.2.1:443"],
            ),
            (
                node("derp.invalid", "192.0.2.1", "2001:db8::1"),
                &["192.0.2.1:443", "[2001:db8::1]:443"],
            ),
            (node("192.0.2.1", "", ""), &["192.0.2.1:443"]),
            (node("2001:db8::1", "none", ""), &["[2001:db8::1]:443"]),
            (node("192.0.2.1", "none", ""), &[]),
            (node("derp.invalid", "none", "none"), &[]),
        ];
        for (node, expected) in table {
            let expected: Vec<SocketAddr> = expected.iter().map(|a| a.parse().unwrap()).collect();
            assert_eq!(addresses(&node, 443).await.unwrap(), expected, "{node:?}");
        }
    }

    #[tokio::test]
    async fn a_node_that_cannot_be_reached_says_why() {
        let deadline = Deadline::after(Duration::from_secs(10));
        let odd = DerpNode {
            derp_port: -1,
            ..node("derp.invalid", "192.0.2.1", "")
        };
        let fault = dial(&odd, deadline).await.unwrap_err();
        assert_eq!(fault.to_string(), "DERPPort -1 is no port");
        let fault = dial(&node("derp.invalid", "none", "none"), deadline)
            .await
            .unwrap_err();
        let expected = "derp.invalid has no address: neither in the map nor by DNS";
        assert_eq!(fault.to_string(), expected);
    }
}
