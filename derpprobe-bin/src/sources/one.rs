//! A relay that is in no map: `HOST[:PORT]`, and behind commas its certificate's pin and its STUN
//! port.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use derp_client::{CertPin, PinError};
use derp_proto::http::CERT_PIN_PREFIX;
use derp_proto::{DerpMap, DerpNode, DerpRegion};
use rustls_pki_types::ServerName;
use thiserror::Error;
use tokio::net::{UdpSocket, lookup_host};

/// The number of the region that the relay is in, among those for tests of one's own.
const REGION_ID: i64 = 900;
/// The code of the region, which is in the names of its probes.
const REGION_CODE: &str = "relay";

/// A relay that is in no map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneRelay {
    node: DerpNode,
    /// Where STUN is asked for at addresses that DNS has.
    looks_up: bool,
}

/// Text that is no relay.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OneRelayError {
    /// No host with perhaps a port.
    #[error(
        "{0:?} is no place of a map (https://HOST/PATH, file:///PATH, /PATH, local) and no relay \
             (HOST, HOST:PORT, [IPV6]:PORT)"
    )]
    Host(String),
    /// Something that looks like a pin.
    #[error("{0:?} does not pin a certificate")]
    Pin(String, #[source] PinError),
    /// Something else behind the host.
    #[error("{0:?} is neither sha256-raw:<64 digits> nor stun:PORT nor stun:none")]
    Extra(String),
}

impl FromStr for OneRelay {
    type Err = OneRelayError;

    fn from_str(text: &str) -> Result<Self, OneRelayError> {
        let (place, extras) = match text.split_once(',') {
            Some((place, extras)) => (place, Some(extras)),
            None => (text, None),
        };
        let (host, port) = host_and_port(place).ok_or_else(|| {
            let text = text.chars().take(SHOWN).collect();
            OneRelayError::Host(text)
        })?;
        let mut node = DerpNode {
            name: place.to_owned(),
            region_id: REGION_ID,
            host_name: host.to_owned(),
            derp_port: port.into(),
            ..DerpNode::default()
        };
        let none = || "none".to_owned();
        match host.parse() {
            Ok(IpAddr::V4(ip)) => (node.ipv4, node.ipv6) = (ip.to_string(), none()),
            Ok(IpAddr::V6(ip)) => (node.ipv4, node.ipv6) = (none(), ip.to_string()),
            Err(_) => {}
        }
        for extra in extras.into_iter().flat_map(|extras| extras.split(',')) {
            read_extra(extra, &mut node)?;
        }
        let looks_up = node.ipv4.is_empty() && node.stun_port != -1;
        Ok(Self { node, looks_up })
    }
}

impl OneRelay {
    /// A map with this relay alone.
    ///
    /// STUN is asked for at addresses in maps and nowhere else. Where the relay has a name, its
    /// addresses are looked up here; where that fails, the probes say so.
    pub(crate) async fn as_map(&self) -> DerpMap {
        let mut node = self.node.clone();
        if self.looks_up
            && let Ok(found) = lookup_host((node.host_name.as_str(), 0)).await
        {
            let found: Vec<_> = found.map(|address| address.ip()).collect();
            let first = |is_family: fn(&IpAddr) -> bool| found.iter().copied().find(is_family);
            if let Some(ip) = first(IpAddr::is_ipv4) {
                node.ipv4 = ip.to_string();
            }
            // A machine without IPv6 says nothing about the relay's.
            match first(IpAddr::is_ipv6) {
                Some(ip) if is_routed(ip).await => node.ipv6 = ip.to_string(),
                Some(_) => "none".clone_into(&mut node.ipv6),
                None => {}
            }
        }
        let region = DerpRegion {
            region_id: REGION_ID,
            region_code: REGION_CODE.to_owned(),
            nodes: vec![node],
            ..DerpRegion::default()
        };
        DerpMap {
            regions: [(REGION_ID, Some(region))].into(),
            ..DerpMap::default()
        }
    }
}

/// Whether this machine has a way to the address. Nothing is sent.
async fn is_routed(ip: IpAddr) -> bool {
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await {
        Ok(socket) => socket.connect(SocketAddr::new(ip, 9)).await.is_ok(),
        Err(_) => false,
    }
}

/// A host and a port, 0 where none is given.
fn host_and_port(place: &str) -> Option<(&str, u16)> {
    let (host, port) = if let Some(rest) = place.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        let _: Ipv6Addr = host.parse().ok()?;
        (
            host,
            port.strip_prefix(':')
                .or_else(|| port.is_empty().then_some(""))?,
        )
    } else if place.parse::<Ipv6Addr>().is_ok() {
        (place, "")
    } else {
        place.split_once(':').unwrap_or((place, ""))
    };
    let port = match port {
        "" if place.ends_with(':') && !host.contains(':') => return None,
        "" => 0,
        port => port.parse().ok().filter(|&port| port > 0)?,
    };
    ServerName::try_from(host).ok()?;
    Some((host, port))
}

fn read_extra(extra: &str, node: &mut DerpNode) -> Result<(), OneRelayError> {
    let bad = || OneRelayError::Extra(extra.chars().take(SHOWN).collect());
    if let Some(digits) = extra.strip_prefix(CERT_PIN_PREFIX) {
        let pin = CertPin::from_hex(digits);
        pin.map_err(|err| OneRelayError::Pin(extra.chars().take(SHOWN).collect(), err))?;
        extra.clone_into(&mut node.cert_name);
        return Ok(());
    }
    node.stun_port = match extra.strip_prefix("stun:").ok_or_else(bad)? {
        "none" => -1,
        port => match port.parse::<u16>() {
            Ok(port) if port > 0 => port.into(),
            _ => return Err(bad()),
        },
    };
    Ok(())
}

/// How many characters of an operator's text an error has.
const SHOWN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn node(text: &str) -> Result<DerpNode, String> {
        let relay: Result<OneRelay, _> = text.parse();
        relay.map(|relay| relay.node).map_err(|err| err.to_string())
    }

    #[test]
    fn a_relay_is_a_host_with_perhaps_a_port() {
        let table = [
            ("derp.test", ("derp.test", "", "", 0)),
            ("derp.test:8443", ("derp.test", "", "", 8443)),
            ("192.0.2.1", ("192.0.2.1", "192.0.2.1", "none", 0)),
            ("192.0.2.1:1", ("192.0.2.1", "192.0.2.1", "none", 1)),
            ("2001:db8::1", ("2001:db8::1", "none", "2001:db8::1", 0)),
            ("[2001:db8::1]", ("2001:db8::1", "none", "2001:db8::1", 0)),
            ("[2001:db8::1]:2", ("2001:db8::1", "none", "2001:db8::1", 2)),
        ];
        for (text, (host, ipv4, ipv6, port)) in table {
            let node = node(text).unwrap();
            let got = (&*node.host_name, &*node.ipv4, &*node.ipv6, node.derp_port);
            assert_eq!(got, (host, ipv4, ipv6, port), "{text}");
            assert_eq!(node.name, text);
        }
        for text in [
            "a b",
            "derp.test:",
            "derp.test:0",
            "derp.test:70000",
            "[::1",
            "[::1]2",
            ":1",
        ] {
            let words = node(text).unwrap_err();
            assert!(words.contains(" is no place of a map "), "{text}: {words}");
        }
    }

    #[test]
    fn pins_and_stun_ports_follow_behind_commas() {
        let pin = format!("sha256-raw:{}", "0a".repeat(32));
        let relay = node(&format!("192.0.2.1,{pin},stun:3479")).unwrap();
        assert_eq!((relay.cert_name, relay.stun_port), (pin, 3479));
        assert_eq!(node("derp.test,stun:none").unwrap().stun_port, -1);
        for (text, words) in [
            (
                "h,sha256-raw:0a",
                "\"sha256-raw:0a\" does not pin a certificate",
            ),
            (
                "h,stun:0",
                "\"stun:0\" is neither sha256-raw:<64 digits> nor ",
            ),
            (
                "h,x",
                "\"x\" is neither sha256-raw:<64 digits> nor stun:PORT nor stun:none",
            ),
        ] {
            let told = node(text).unwrap_err();
            assert!(told.starts_with(words), "{told}");
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_for_stun() {
        let relay: OneRelay = "localhost:8443".parse().unwrap();
        let map = relay.as_map().await;
        let region = map.regions[&REGION_ID].as_ref().unwrap();
        assert_eq!(region.nodes[0].ipv4, "127.0.0.1");
        let relay: OneRelay = "localhost,stun:none".parse().unwrap();
        let map = relay.as_map().await;
        let region = map.regions[&REGION_ID].as_ref().unwrap();
        assert_eq!(region.nodes[0].ipv4, "");
    }
}
