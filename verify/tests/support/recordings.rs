//! What real servers answered: the files in `recordings/`.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::collections::BTreeMap;

use derp_proto::NodePublic;
use serde::Deserialize;

use crate::support::{Reply, json};

/// What one server answered.
#[derive(Deserialize)]
pub(crate) struct Recording {
    pub(crate) server: String,
    nodes: BTreeMap<String, String>,
    exchanges: Vec<Exchange>,
}

#[derive(Deserialize)]
pub(crate) struct Exchange {
    pub(crate) name: String,
    pub(crate) request: String,
    pub(crate) answer: String,
}

impl Recording {
    pub(crate) fn read(text: &str) -> Self {
        serde_json::from_str(text).expect("a recording")
    }

    pub(crate) fn key(&self, node: &str) -> NodePublic {
        self.nodes[node].parse().expect("a key")
    }

    pub(crate) fn exchange(&self, name: &str) -> &Exchange {
        let found = self.exchanges.iter().find(|one| one.name == name);
        found.unwrap_or_else(|| panic!("{} has no {name}", self.server))
    }

    pub(crate) fn answer(&self, name: &str) -> Vec<u8> {
        self.exchange(name).answer.clone().into_bytes()
    }

    /// What the server answered to this; what it was not asked has no answer.
    pub(crate) fn reply(&self, request: &str) -> Reply {
        self.reply_in("", request)
    }

    /// The same while it was in a state, which the names of its exchanges then begin with.
    pub(crate) fn reply_in(&self, state: &str, request: &str) -> Reply {
        let mut known = self.exchanges.iter().filter(|one| {
            let name = one.name.strip_prefix(state);
            name.is_some_and(|name| !name.contains('/'))
        });
        match known.find(|one| essence(&one.request) == essence(request)) {
            Some(one) => Reply::Bytes(one.answer.clone().into_bytes()),
            None => json("599 Never asked", request),
        }
    }

    /// The body of an answer, as the JSON that it is.
    pub(crate) fn body(&self, name: &str) -> serde_json::Value {
        let (head, body) = self
            .exchange(name)
            .answer
            .split_once("\r\n\r\n")
            .expect("a head");
        let mut whole = String::new();
        if head.contains("Transfer-Encoding: chunked") {
            let mut rest = body;
            while let Some((len, chunk)) = rest.split_once("\r\n") {
                let len = usize::from_str_radix(len, 16).expect("a chunk's length");
                whole.push_str(&chunk[..len]);
                rest = chunk[len..].trim_start();
            }
        } else {
            whole.push_str(body);
        }
        serde_json::from_str(&whole).expect("JSON")
    }
}

/// The method, path and body of a request; headers tell nothing of a question.
pub(crate) fn essence(request: &str) -> (&str, &str) {
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    (head.lines().next().expect("a line"), body)
}
