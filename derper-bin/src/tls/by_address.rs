//! Certificates for the machine's own addresses, ordered when the first client comes there
//! (`cmd/derper/ipcert.go`).
//!
//! Only the address that a connection came to is ever ordered, whatever the client says in its
//! hello: a stranger cannot make the relay order for others.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use derp_proto::NodePublic;
use derp_server::tls::{AlpnChallenges, ConfigFor, ServedCertificate};
use derp_verify::ConnMeta;
use rustls::ServerConfig;
use tokio::sync::mpsc;

use super::serving::Serving;
use crate::clock;
use crate::problem::chain;

/// How many addresses get a certificate. Machines have a few; one that takes connections to whole
/// networks (as with AnyIP) must not order for all of them.
const MOST_ADDRESSES: usize = 16;

/// The place of the certificate for the relay's name, and that for the address.
pub(super) const NAME: usize = 0;
pub(super) const ADDRESS: usize = 1;

/// What is served at each address.
pub(super) struct ByAddress {
    key: NodePublic,
    challenges: AlpnChallenges,
    /// Orders only for addresses that the whole internet can reach.
    only_public: bool,
    state: Mutex<State>,
    /// Addresses to order for.
    wanted: mpsc::Sender<IpAddr>,
}

#[derive(Default)]
struct State {
    name: Option<ServedCertificate>,
    /// At most [`MOST_ADDRESSES`].
    addresses: BTreeMap<IpAddr, Arc<Serving>>,
    /// The name alone, at all addresses beyond those.
    elsewhere: Option<Arc<Serving>>,
}

impl fmt::Debug for ByAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByAddress")
            .field("only_public", &self.only_public)
            .finish_non_exhaustive()
    }
}

impl ByAddress {
    /// Nothing is served yet. Addresses to order for come out of the channel.
    pub(super) fn new(
        key: NodePublic,
        challenges: AlpnChallenges,
        only_public: bool,
    ) -> (Self, mpsc::Receiver<IpAddr>) {
        let (wanted, addresses) = mpsc::channel(MOST_ADDRESSES);
        let by_address = Self {
            key,
            challenges,
            only_public,
            state: Mutex::default(),
            wanted,
        };
        (by_address, addresses)
    }

    /// Serves `certificate` for the relay's name, at every address.
    pub(super) fn set_name(&self, certificate: &ServedCertificate, now: SystemTime) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.name = Some(certificate.clone());
        for serving in state.addresses.values().chain(&state.elsewhere) {
            report(serving.set(NAME, certificate.clone(), now));
        }
    }

    /// Serves `certificate` at `ip`, where somebody has come before it was ordered.
    pub(super) fn set_address(&self, ip: IpAddr, certificate: ServedCertificate, now: SystemTime) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(serving) = state.addresses.get(&ip) {
            report(serving.set(ADDRESS, certificate, now));
        }
    }

    /// What is served at `ip`; orders a certificate if this is the first that is heard of it.
    pub(super) fn serving(&self, ip: IpAddr, now: SystemTime) -> Option<Arc<Serving>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(serving) = state.addresses.get(&ip) {
            return Some(Arc::clone(serving));
        }
        if state.addresses.len() >= MOST_ADDRESSES
            && let Some(serving) = &state.elsewhere
        {
            return Some(Arc::clone(serving));
        }
        let places = vec![state.name.clone(), None];
        let serving = match Serving::new(self.key, places, &self.challenges, now) {
            Ok(serving) => Arc::new(serving),
            Err(err) => {
                tracing::error!(error = chain(&err), "cannot serve TLS");
                return None;
            }
        };
        if state.addresses.len() >= MOST_ADDRESSES {
            state.elsewhere = Some(Arc::clone(&serving));
            return Some(serving);
        }
        state.addresses.insert(ip, Arc::clone(&serving));
        if !self.only_public || is_public(ip) {
            // There is room for as many as can get here.
            let _full = self.wanted.try_send(ip);
        }
        Some(serving)
    }

    /// Everything that is served, to renew what is common to all.
    pub(super) fn all(&self) -> Vec<Arc<Serving>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let all = state.addresses.values().chain(&state.elsewhere);
        all.cloned().collect()
    }
}

impl ConfigFor for ByAddress {
    fn config_for(&self, conn: &ConnMeta) -> Option<Arc<ServerConfig>> {
        let ip = conn.local_addr?.ip().to_canonical();
        let serving = self.serving(ip, clock::wall())?;
        serving.tls().config_for(conn)
    }
}

fn report(result: Result<(), derp_server::tls::TlsError>) {
    if let Err(err) = result {
        tracing::error!(error = chain(&err), "the old certificate stays");
    }
}

/// Whether an authority on the internet could connect to it.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.is_documentation()
                || shared)
        }
        // Global unicast addresses are 2000::/3.
        IpAddr::V6(ip) => ip.segments()[0] & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: NodePublic = NodePublic::from_bytes([7; 32]);

    fn by_address(only_public: bool) -> (ByAddress, mpsc::Receiver<IpAddr>) {
        ByAddress::new(KEY, AlpnChallenges::default(), only_public)
    }

    fn ordered(addresses: &mut mpsc::Receiver<IpAddr>) -> Vec<String> {
        std::iter::from_fn(|| addresses.try_recv().ok())
            .map(|ip| ip.to_string())
            .collect()
    }

    fn connect(to: &ByAddress, ip: &str) -> bool {
        let mut conn = ConnMeta::default();
        conn.local_addr = Some((ip.parse::<IpAddr>().unwrap(), 443).into());
        to.config_for(&conn).is_some()
    }

    #[test]
    fn an_address_is_ordered_for_when_somebody_comes_there_and_once() {
        let (by_address, mut orders) = by_address(true);
        for ip in [
            "8.8.8.8",
            "8.8.8.8",
            "::ffff:8.8.8.8",
            "2001:4860::8",
            "10.0.0.1",
            "::1",
        ] {
            assert!(connect(&by_address, ip), "{ip}");
        }
        for ip in [
            "127.0.0.1",
            "100.64.0.1",
            "169.254.0.1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(connect(&by_address, ip), "{ip}");
        }
        assert_eq!(ordered(&mut orders), ["8.8.8.8", "2001:4860::8"]);
        assert!(by_address.config_for(&ConnMeta::default()).is_none());
    }

    #[test]
    fn a_private_authority_may_know_private_addresses() {
        let (by_address, mut orders) = by_address(false);
        assert!(connect(&by_address, "10.0.0.1") && connect(&by_address, "127.0.0.1"));
        assert_eq!(ordered(&mut orders), ["10.0.0.1", "127.0.0.1"]);
    }

    #[test]
    fn a_machine_that_answers_for_a_whole_network_does_not_order_for_it() {
        let (by_address, mut orders) = by_address(true);
        let served = (1..=99).filter(|n| connect(&by_address, &format!("8.8.8.{n}")));
        assert_eq!(served.count(), 99, "the name is served everywhere");
        assert_eq!(ordered(&mut orders).len(), MOST_ADDRESSES);
        // The one beyond them stands for all.
        assert_eq!(by_address.all().len(), MOST_ADDRESSES + 1);
    }
}
