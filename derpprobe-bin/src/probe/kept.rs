//! Connections that stay open from one run to the next: then a probe of relaying costs two packets
//! and no handshake.
//!
//! There are two for each node, whatever the number of its pairs: one that sends and one that
//! receives. A run has both of its own while it lasts. They are given back only if everything was
//! as it should be, so that nothing of one run is found by the next.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use derp_proto::DerpNode;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use super::connection::End;

/// For how long a node is remembered that no run asks for: it has left the map.
const FORGET: Duration = Duration::from_secs(600);

/// The connections of all nodes, bounded by the map.
#[derive(Debug, Default)]
pub(super) struct Kept(std::sync::Mutex<HashMap<String, Node>>);

#[derive(Debug)]
struct Node {
    /// As the map had it when the connections were made.
    node: DerpNode,
    sends: Place,
    receives: Place,
    used: Instant,
}

/// Where a connection is kept, or nothing.
pub(super) type Place = Arc<Mutex<Option<End>>>;
/// The right to use a [`Place`].
pub(super) type Held = OwnedMutexGuard<Option<End>>;

impl Kept {
    /// The places of `from`'s client that sends and of `to`'s that receives, once no other run has
    /// them.
    pub(super) async fn hold(&self, from: &DerpNode, to: &DerpNode) -> (Held, Held) {
        let sends = self.of(from, |node| &node.sends);
        let receives = self.of(to, |node| &node.receives);
        // Whoever has a receiver has its sender already and waits for nothing more.
        let sends = sends.lock_owned().await;
        (sends, receives.lock_owned().await)
    }

    fn of(&self, node: &DerpNode, which: fn(&Node) -> &Place) -> Place {
        let now = Instant::now();
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|_, node| now.duration_since(node.used) < FORGET);
        let name = format!("{}/{}", node.region_id, node.name);
        let known = nodes
            .entry(name)
            .and_modify(|known| {
                known.used = now;
                // It has moved, perhaps: what leads to where it was is worth nothing.
                if known.node != *node {
                    *known = Node::new(node, now);
                }
            })
            .or_insert_with(|| Node::new(node, now));
        Arc::clone(which(known))
    }
}

impl Node {
    fn new(node: &DerpNode, now: Instant) -> Self {
        Self {
            node: node.clone(),
            sends: Place::default(),
            receives: Place::default(),
            used: now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, port: i32) -> DerpNode {
        DerpNode {
            name: name.to_owned(),
            derp_port: port,
            ..DerpNode::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_that_moved_or_left_get_other_places() {
        let kept = Kept::default();
        let of = |node: &DerpNode| kept.of(node, |node| &node.sends);
        let (a, b) = (of(&node("a", 1)), of(&node("b", 1)));
        assert!(Arc::ptr_eq(&a, &of(&node("a", 1))));
        assert!(!Arc::ptr_eq(&a, &b));
        assert!(!Arc::ptr_eq(&a, &of(&node("a", 2))), "it has moved");
        tokio::time::advance(FORGET / 2).await;
        let moved = of(&node("a", 2));
        tokio::time::advance(FORGET / 2).await;
        assert!(Arc::ptr_eq(&moved, &of(&node("a", 2))));
        assert!(!kept.0.lock().unwrap().contains_key("0/b"), "it has left");
    }

    #[tokio::test]
    async fn a_place_is_one_runs_at_a_time() {
        let kept = Kept::default();
        let (a, b) = (node("a", 1), node("b", 1));
        let held = kept.hold(&a, &b).await;
        // The way back needs other connections.
        let back = kept.hold(&b, &a).await;
        let mut again = Box::pin(kept.hold(&a, &b));
        tokio::select! {
            biased;
            _ = &mut again => panic!("they are in use"),
            () = std::future::ready(()) => {}
        }
        drop(held);
        let _again = again.await;
        drop(back);
    }
}
