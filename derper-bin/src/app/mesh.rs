//! The links to the region's other relays, as configured, and their numbers.

use derp_client::{CertCheck, Connector, Target, UrlTarget};
use derp_mesh::{LinkStatus, Mesh, Name, Peer};
use derp_ops::exposition::{Exposition, Kind};
use derp_proto::NodePrivate;
use derp_server::Server;

use crate::config;

/// The links that are configured; `None` for a relay on its own.
pub(super) fn links(config: &config::Mesh, server: &Server, key: NodePrivate) -> Option<Mesh> {
    let mesh_key = config.key.clone().filter(|_| config.has_others())?;
    let connector = Connector::new().with_roots(config.roots.clone());
    let mut mesh = Mesh::new(server.clone(), key, mesh_key, connector);
    for peer in &config.with {
        let target = UrlTarget {
            url: peer.url.clone(),
            dial_host: peer.dial.clone(),
            check: CertCheck::HostName,
        };
        mesh = mesh.with_peer(Peer::new(&peer.text, Target::Url(target)));
    }
    if let Some(url) = &config.name {
        mesh = mesh.with_name(Name::new(url.clone()));
    }
    Some(mesh)
}

/// Tells of each link but that to this relay itself.
pub(super) fn expose(links: &[LinkStatus], metrics: &mut Exposition) {
    type Number = fn(&LinkStatus) -> u64;
    let numbers: [(&str, Kind, Number); 6] = [
        ("derper_mesh_link_up", Kind::Gauge, |link| {
            u64::from(link.is_up())
        }),
        ("derper_mesh_clients", Kind::Gauge, |link| {
            link.clients as u64
        }),
        ("derper_mesh_link_failures_total", Kind::Counter, |link| {
            link.failures
        }),
        ("derper_mesh_clients_ignored_total", Kind::Counter, |link| {
            link.ignored
        }),
        (
            "derper_mesh_packets_forwarded_total",
            Kind::Counter,
            |link| link.forwarded,
        ),
        ("derper_mesh_packets_dropped_total", Kind::Counter, |link| {
            link.dropped
        }),
    ];
    for (name, kind, number) in numbers {
        for link in links.iter().filter(|link| !link.is_self) {
            let labels = [("peer", link.name.as_str())];
            metrics.sample(name, kind, &labels, number(link));
        }
    }
}
