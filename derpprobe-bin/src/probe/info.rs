//! Which key does the relay have, and is it still the same one? What does it say of itself?
//!
//! A relay whose key changes has lost its key file, or is several relays behind one name, or
//! somebody else. Clients do not notice. The first key of a node that is seen counts until the
//! process ends, unless the operator says which one it must be.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use derp_client::StartKind;
use derp_proto::{DerpNode, KeyError, NodePublic, ServerInfo};
use rustls::ProtocolVersion;
use thiserror::Error;
use tokio::time::Instant;

use super::Prober;
use super::connection::{ConnectionFault, End, Guise, admitted};
use crate::deadline::Deadline;
use crate::outcome::Findings;
use crate::plan::MOST_NODES;

/// What is wrong with who a relay is.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InfoFault {
    /// The relay does not take the probe.
    #[error(transparent)]
    Connection(#[from] ConnectionFault),
    /// It is not the relay that the operator means.
    #[error(
        "relay {node} has the key {seen} and not {expected}, as -server-key says; is it another \
             server, or did it lose its key file?"
    )]
    NotExpected {
        /// The node's name.
        node: String,
        /// Its key.
        seen: NodePublic,
        /// What it should be.
        expected: NodePublic,
    },
    /// It is not the relay that it was.
    #[error(
        "relay {node} had the key {before} and now has {seen}; did it lose its key file, or are \
             there relays with different keys behind its name? If it was changed on purpose, start \
             derpprobe again"
    )]
    Changed {
        /// The node's name.
        node: String,
        /// Its key.
        seen: NodePublic,
        /// The key that it had.
        before: NodePublic,
    },
}

/// The keys that relays must have (`-server-key`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpectedKeys {
    /// Of every relay that is not named; for a map with one of them.
    any: Option<NodePublic>,
    by_node: HashMap<String, NodePublic>,
}

/// Text that says of no relay which key it has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyMistake {
    /// It is no key.
    #[error("{0:?} is neither a key like nodekey:<64 digits> nor NODE=nodekey:<64 digits>")]
    Key(String, #[source] KeyError),
    /// Nobody could tell which of two keys is meant.
    #[error("there are two keys for {0}")]
    Twice(String),
}

impl FromStr for ExpectedKeys {
    type Err = KeyMistake;

    /// Reads `nodekey:…`, or `NODE=nodekey:…` with commas between several.
    fn from_str(text: &str) -> Result<Self, KeyMistake> {
        let mut keys = Self::default();
        for entry in text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            let (node, key) = match entry.split_once('=') {
                Some((node, key)) => (Some(node), key),
                None => (None, entry),
            };
            let key = key
                .parse()
                .map_err(|err| KeyMistake::Key(entry.to_owned(), err))?;
            let before = match node {
                Some(node) => keys.by_node.insert(node.to_owned(), key),
                None => keys.any.replace(key),
            };
            if before.is_some() {
                return Err(KeyMistake::Twice(node.unwrap_or("all nodes").to_owned()));
            }
        }
        Ok(keys)
    }
}

impl ExpectedKeys {
    /// Whether nothing is expected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.any.is_none() && self.by_node.is_empty()
    }

    /// The nodes that are named.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.by_node.keys().map(String::as_str)
    }

    fn of(&self, node: &str) -> Option<NodePublic> {
        self.by_node.get(node).copied().or(self.any)
    }
}

/// The keys of relays: those that they must have, and those that they were seen with.
#[derive(Debug, Default)]
pub(super) struct ServerKeys {
    expected: ExpectedKeys,
    seen: Mutex<HashMap<String, NodePublic>>,
}

impl ServerKeys {
    pub(super) fn new(expected: ExpectedKeys) -> Self {
        Self {
            expected,
            seen: Mutex::default(),
        }
    }

    /// Whether the node may have this key, which is remembered where it is the first one.
    fn check(&self, node: &str, key: NodePublic) -> Result<(), InfoFault> {
        let node_name = || node.to_owned();
        if let Some(expected) = self.expected.of(node) {
            return if key == expected {
                Ok(())
            } else {
                Err(InfoFault::NotExpected {
                    node: node_name(),
                    seen: key,
                    expected,
                })
            };
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get(node) {
            Some(&before) if before != key => Err(InfoFault::Changed {
                node: node_name(),
                seen: key,
                before,
            }),
            Some(_) => Ok(()),
            None => {
                // Maps change; one that never ends must not fill the memory.
                if seen.len() < MOST_REMEMBERED {
                    seen.insert(node_name(), key);
                }
                Ok(())
            }
        }
    }
}

pub(super) async fn probe(
    prober: &Prober,
    node: &DerpNode,
    deadline: Deadline,
    findings: &mut Findings,
) -> Result<(), InfoFault> {
    let begin = Instant::now();
    let end = admitted(prober, node, Guise::Prober, deadline).await?;
    findings.seconds("login_seconds", begin.elapsed());
    tell(&end, findings);
    let key = end.client.info().server_key;
    end.client.shutdown().await;
    prober.server_keys.check(&end.node, key)
}

/// Notes what the relay says of itself.
fn tell(end: &End, findings: &mut Findings) {
    let info = end.client.info();
    findings.fact("protocol", end.greeting.version.to_string());
    let tls = match info.tls_version {
        Some(ProtocolVersion::TLSv1_3) => "1.3",
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        Some(_) => "of another version",
        None => "none",
    };
    findings.fact("tls", tls);
    let start = match info.start {
        StartKind::Fast => "fast",
        StartKind::Slow => "slow",
        StartKind::WebSocket => "WebSocket",
        StartKind::Direct => "direct",
    };
    findings.fact("start", start);
    findings.fact("limit", limit(end.greeting));
    findings.fact("key", info.server_key.to_string());
}

/// The rate that the relay lets its clients send.
fn limit(greeting: ServerInfo) -> String {
    match greeting.token_bucket_bytes_per_second {
        0 => "none".to_owned(),
        rate => format!("{rate} bytes/s"),
    }
}

/// How many nodes' keys are remembered.
const MOST_REMEMBERED: usize = 10 * MOST_NODES;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> NodePublic {
        NodePublic::from_bytes([n; 32])
    }

    #[test]
    fn keys_are_for_all_nodes_or_for_one() {
        let keys: ExpectedKeys = format!("{}, b={}", key(1), key(2)).parse().unwrap();
        assert_eq!([keys.of("a"), keys.of("b")], [Some(key(1)), Some(key(2))]);
        assert_eq!(keys.nodes().collect::<Vec<_>>(), ["b"]);
        let keys: ExpectedKeys = format!("b={}", key(2)).parse().unwrap();
        assert_eq!([keys.of("a"), keys.of("b")], [None, Some(key(2))]);
        assert!("".parse::<ExpectedKeys>().unwrap().is_empty());
        for (text, start) in [
            ("mykey", "\"mykey\" is neither a key like nodekey:"),
            (&format!("a={0},a={0}", key(1)), "there are two keys for a"),
            (
                &format!("{0},{0}", key(1)),
                "there are two keys for all nodes",
            ),
        ] {
            let words = text.parse::<ExpectedKeys>().unwrap_err().to_string();
            assert!(words.starts_with(start), "{words}");
        }
    }

    #[test]
    fn the_first_key_that_is_seen_counts() {
        let keys = ServerKeys::default();
        keys.check("a", key(1)).unwrap();
        keys.check("a", key(1)).unwrap();
        keys.check("b", key(2)).unwrap();
        let changed = keys.check("a", key(2)).unwrap_err();
        assert!(matches!(changed, InfoFault::Changed { .. }), "{changed}");
        // It is not forgotten for having been another one once.
        keys.check("a", key(1)).unwrap();
    }

    #[test]
    fn an_expected_key_counts_from_the_beginning() {
        let keys = ServerKeys::new(format!("a={}", key(1)).parse().unwrap());
        let fault = keys.check("a", key(2)).unwrap_err();
        assert!(matches!(fault, InfoFault::NotExpected { .. }), "{fault}");
        keys.check("a", key(1)).unwrap();
        keys.check("b", key(2)).unwrap();
    }
}
