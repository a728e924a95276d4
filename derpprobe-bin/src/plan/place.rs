//! The probes of one region's nodes and of the ways between them.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use derp_proto::{DerpNode, DerpRegion, RegionId};

use super::{Job, Pair, PlanOptions, Planned, stun_address};
use crate::subject::{Class, Family, Subject};

/// A region, and where its probes go.
pub(super) struct Place<'a> {
    pub(super) id: RegionId,
    pub(super) region: &'a DerpRegion,
    pub(super) options: &'a PlanOptions,
    pub(super) probes: &'a mut Vec<Planned>,
}

impl Place<'_> {
    /// The probes of one node.
    pub(super) fn node(&mut self, node: &Arc<DerpNode>) {
        let options = self.options;
        let own = || Arc::clone(node);
        if let Some(interval) = options.tls {
            self.add(node, "tls", Class::Tls, interval, Job::Tls(own()));
        }
        if let Some(interval) = options.stun {
            self.stun(node, interval);
        }
        if let Some(interval) = options.http {
            self.add(node, "http", Class::Http, interval, Job::Http(own()));
            // Maps say where clients may ask on port 80.
            if node.can_port80 {
                self.add(node, "http80", Class::Http, interval, Job::Http80(own()));
            }
        }
        let refuses = self.refuses(node);
        if let Some(interval) = options.admission.filter(|_| refuses) {
            let job = Job::Admission(own());
            self.add(node, "admission", Class::Admission, interval, job);
        }
        if refuses && !options.has_mesh_key {
            return;
        }
        if let Some(interval) = options.info {
            self.add(node, "info", Class::Info, interval, Job::Info(own()));
        }
        if let Some(interval) = options.websocket {
            let job = Job::WebSocket(own());
            self.add(node, "ws", Class::WebSocket, interval, job);
        }
    }

    /// The probes from one node to one that may be another.
    pub(super) fn pair(&mut self, from: &Arc<DerpNode>, to: &Arc<DerpNode>) {
        // Nobody can be both turned away and let in.
        if (self.refuses(from) || self.refuses(to)) && !self.options.has_mesh_key {
            return;
        }
        let options = self.options;
        let pair = || Pair {
            from: Arc::clone(from),
            to: Arc::clone(to),
        };
        let mut add = |kind: &str, class, interval, job| {
            let subject = Subject::of_node(class, self.id, self.region, from).with_receiver(to);
            self.probes.push(Planned {
                name: format!(
                    "derp/{}/{}/{}/{kind}",
                    self.region.region_code, from.name, to.name
                ),
                interval,
                subject: Arc::new(subject),
                job,
            });
        };
        if let Some(interval) = options.mesh {
            add("mesh", Class::Relay, interval, Job::Relay(pair()));
        }
        if let Some((interval, bytes)) = options.bandwidth {
            let job = Job::Bandwidth(pair(), bytes);
            add("bw", Class::Bandwidth, interval, job);
        }
        if let Some((interval, pace)) = options.queue_delay {
            let job = Job::QueueDelay(pair(), pace);
            add("qd", Class::QueueDelay, interval, job);
        }
        if let Some(interval) = options.convergence.filter(|_| from.name != to.name) {
            let job = Job::Convergence(pair());
            add("convergence", Class::Convergence, interval, job);
        }
    }

    fn refuses(&self, node: &DerpNode) -> bool {
        self.options.refused.includes(self.id, self.region, node)
    }

    fn add(&mut self, node: &DerpNode, kind: &str, class: Class, interval: Duration, job: Job) {
        let subject = Subject::of_node(class, self.id, self.region, node);
        self.push(node, kind, interval, subject, job);
    }

    fn push(
        &mut self,
        node: &DerpNode,
        kind: &str,
        interval: Duration,
        subject: Subject,
        job: Job,
    ) {
        self.probes.push(Planned {
            name: format!("derp/{}/{}/{kind}", self.region.region_code, node.name),
            interval,
            subject: Arc::new(subject),
            job,
        });
    }

    fn stun(&mut self, node: &DerpNode, interval: Duration) {
        let ipv6 = stun_address::<Ipv6Addr>(node, "IPv6", &node.ipv6);
        let ipv4 = stun_address::<Ipv4Addr>(node, "IPv4", &node.ipv4);
        for (kind, family, address) in [("udp6", Family::Ipv6, ipv6), ("udp", Family::Ipv4, ipv4)] {
            let job = match address {
                Ok(None) => continue,
                Ok(Some(server)) => Job::Stun(server),
                Err(err) => Job::Impossible(err),
            };
            let subject = Subject::of_node(Class::Stun, self.id, self.region, node);
            self.push(node, kind, interval, subject.with_family(family), job);
        }
    }
}

impl PlanOptions {
    /// How many probes a node may get.
    pub(super) fn kinds_of_nodes(&self) -> usize {
        let own = [self.websocket, self.info, self.admission];
        let own = own.iter().flatten().count();
        // A certificate and two families of addresses, and both ports of HTTP.
        3 + 2 * usize::from(self.http.is_some()) + own
    }

    /// How many probes the way from one node to another may get.
    pub(super) fn kinds_of_pairs(&self) -> usize {
        usize::from(self.mesh.is_some())
            + usize::from(self.bandwidth.is_some())
            + usize::from(self.queue_delay.is_some())
            + usize::from(self.convergence.is_some())
    }
}
