//! The keys in tailscaled's status, read in passing.

use std::collections::HashSet;
use std::fmt;

use derp_proto::NodePublic;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

/// Whom tailscaled sees.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    /// Its own node; `None` while it is logged out.
    #[serde(rename = "Self", default, deserialize_with = "own_key")]
    pub(super) own: Option<NodePublic>,
    #[serde(rename = "Peer", default)]
    peers: Peers,
    /// `Running`, or why it does not (`ipn/backend.go`).
    #[serde(rename = "BackendState", default)]
    state: String,
}

impl Status {
    /// Why it cannot tell who is in its tailnet, if it cannot.
    ///
    /// One that has just started knows nobody until its control server has answered, and says of
    /// every node that there is no such thing. It learns of its own node and of the others at
    /// once; from then on it is `Starting` until it has a relay, which may be the one that asks.
    pub(super) fn ignorance(&self) -> Option<&str> {
        let knows = match self.state.as_str() {
            "NeedsLogin" | "NeedsMachineAuth" | "Stopped" => false,
            _ => self.own.is_some(),
        };
        (!knows).then_some(self.state.as_str())
    }

    pub(super) fn contains(&self, key: &NodePublic) -> bool {
        self.own.as_ref() == Some(key) || self.peers.0.contains(key)
    }
}

/// As many keys as the longest status holds.
#[derive(Debug, Default)]
struct Peers(HashSet<NodePublic>);

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "PublicKey", default)]
    public_key: String,
}

impl Node {
    /// A node that never logged in has the zero key, which nobody may use.
    fn key(&self) -> Option<NodePublic> {
        let key: NodePublic = self.public_key.parse().ok()?;
        key.check().ok().map(|()| key)
    }
}

fn own_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NodePublic>, D::Error> {
    let node = Option::<Node>::deserialize(deserializer)?;
    Ok(node.and_then(|node| node.key()))
}

impl<'de> Deserialize<'de> for Peers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PeersVisitor)
    }
}

struct PeersVisitor;

impl<'de> Visitor<'de> for PeersVisitor {
    type Value = Peers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("peers by their keys")
    }

    /// Go writes an empty map as `null`.
    fn visit_unit<E>(self) -> Result<Peers, E> {
        Ok(Peers::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Peers, A::Error> {
        let mut keys = HashSet::new();
        while let Some((_, node)) = map.next_entry::<IgnoredAny, Node>()? {
            keys.extend(node.key());
        }
        Ok(Peers(keys))
    }
}
